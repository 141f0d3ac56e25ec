/** What the commands share: where the service is, how rows are shown, which words options take. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { FleetClient } from '../../client';
import type { Keyboard } from './keyboard';
import { type Address, httpSend } from './transport';

/** The world as commands see it. They touch nothing else. */
export interface Terminal {
	version: string;
	env: Record<string, string | undefined>;
	out(text: string | Uint8Array): void;
	err(text: string | Uint8Array): void;
	now(): number;
	/** A person reads what goes to `err`. */
	isTerminal?: boolean;
	/** For commands that type into jobs. */
	keyboard?: Keyboard;
	/** Keeps the process alive while it waits. */
	sleep(ms: number): Promise<void>;
	/** Whether this Node and this SQLite can carry the service. */
	nodeIsTooOld(version: string): boolean;
	sqliteIsSafe(version: string): boolean;
}

/** A mistake of the person at the keyboard: exit code 2. */
export class UsageMistake extends Error {}

export function dataFolderOf(env: Terminal['env'], data: string | undefined): string {
	return data ?? (env.ROBOT_FLEET_DATA || join(homedir(), '.robot-fleet'));
}

/** n8n notes in the data folder that it starts the service there. */
export const isOfN8n = (folder: string) => existsSync(join(folder, 'autostart'));

/** What starts the service of this folder. */
export const startOf = (folder: string) =>
	isOfN8n(folder) ? 'n8n start (the service starts with it)' : 'robot-fleet serve';

/** ROBOT_FLEET_URL and ROBOT_FLEET_KEY; what is missing is read from the data folder. --data wins over both. */
export function addressOf({ env }: Terminal, data: string | undefined): Address {
	const folder = dataFolderOf(env, data);
	const given = data === undefined ? env.ROBOT_FLEET_URL : undefined;
	const here = given === undefined ? serviceIn(folder) : undefined;
	const url = given ?? here?.url;
	const key = (data === undefined ? env.ROBOT_FLEET_KEY?.trim() : undefined) ?? keyIn(folder);
	if (url === undefined) {
		throw new UsageMistake(
			`No service is running from ${folder}; start it with: ${startOf(folder)}, or say where it is: --data ~/.n8n/robot-fleet of one inside n8n, ROBOT_FLEET_URL and ROBOT_FLEET_KEY of any other.`,
		);
	}
	if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
		throw new UsageMistake(
			`ROBOT_FLEET_URL is "${url}", it must be an http:// or https:// address.`,
		);
	}
	if (key === undefined) {
		throw new UsageMistake(
			`There is no ${join(folder, 'admin.key')}; set ROBOT_FLEET_KEY to an API key.`,
		);
	}
	if (!/^[\x21-\x7e]*$/.test(key)) {
		throw new UsageMistake('The API key has characters that no key has; copy it again.');
	}
	const certificate = here?.certificate;
	return { url, key, ...(certificate !== undefined && { certificate }) };
}

export function clientOf(terminal: Terminal, data: string | undefined): FleetClient {
	return new FleetClient(httpSend(addressOf(terminal, data)));
}

interface ServiceFile {
	url: string;
	certificate?: string;
}

/** What the service that runs from this folder says about itself. */
function serviceIn(folder: string): ServiceFile | undefined {
	try {
		return JSON.parse(readFileSync(join(folder, 'service.json'), 'utf8')) as ServiceFile;
	} catch {
		return undefined;
	}
}

export function urlIn(folder: string): string | undefined {
	return serviceIn(folder)?.url;
}

export function keyIn(folder: string): string | undefined {
	const file = join(folder, 'admin.key');
	return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

/** One table: columns as wide as their widest cell; control characters in other people's text are not printed. */
export function table(head: string[], rows: (string | number | null | undefined)[][]): string {
	const cells = [head, ...rows].map((row) =>
		row.map((cell) => printable(String(cell ?? '') || '-')),
	);
	const widths = head.map((_title, column) => Math.max(...cells.map((row) => row[column]!.length)));
	return cells
		.map(
			(row) =>
				`${row
					.map((cell, i) => cell.padEnd(widths[i]!))
					.join('  ')
					.trimEnd()}\n`,
		)
		.join('');
}

/** Name and value, one per line. */
export function card(facts: Record<string, unknown>): string {
	const width = Math.max(...Object.keys(facts).map((name) => name.length));
	return Object.entries(facts)
		.map(([name, value]) => `${name.padEnd(width)}  ${printable(shown(value))}\n`)
		.join('');
}

export const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

export const when = (at: number | null | undefined) =>
	at === null || at === undefined ? '-' : new Date(at).toISOString().replace('T', ' ').slice(0, 19);

export const pairs = (labels: Record<string, string>) =>
	Object.entries(labels)
		.map(([name, value]) => `${name}=${value}`)
		.join(',');

function shown(value: unknown): string {
	if (value === null || value === undefined) return '-';
	return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** A robot's name or message must not be able to drive the terminal. */
export function printable(text: string): string {
	return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) =>
		character === '\n' || character === '\t' ? ' ' : '�',
	);
}

/** `500ms`, `30s`, `15m`, `2h`, `1d`. The unit is required: everyone reads a bare 15 differently. */
export function durationOf(text: string): number {
	const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
	if (!match)
		throw new InvalidArgumentError('Write a number with a unit: 500ms, 30s, 15m, 2h or 1d.');
	const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
	return Math.round(Number(match[1]) * units[match[2]!]!);
}

/** A time as people write it: `2h` is two hours ago, anything else a date. */
export function instantOf(text: string, now: number): number {
	if (/^[\d.]+(ms|s|m|h|d)$/.test(text)) return now - durationOf(text);
	const at = Date.parse(text);
	if (Number.isNaN(at)) {
		throw new UsageMistake(`"${text}" is not a time; write 2h (ago) or 2026-05-01T06:00.`);
	}
	return at;
}

/** `18:00` is the next one on the clock of this machine; anything else is a date. */
export function momentOf(text: string, now: number): number {
	const [, hour, minute] = /^(\d{1,2}):(\d{2})$/.exec(text) ?? [];
	if (hour === undefined) {
		const at = Date.parse(text);
		if (!Number.isNaN(at)) return at;
	} else if (Number(hour) < 24 && Number(minute) < 60) {
		const at = new Date(now);
		at.setHours(Number(hour), Number(minute), 0, 0);
		if (at.getTime() <= now) at.setDate(at.getDate() + 1);
		return at.getTime();
	}
	throw new UsageMistake(`"${text}" is not a time; write 18:00 or 2026-05-01T18:00.`);
}

export const plural = (count: number, word: string) => `${count} ${word}${count === 1 ? '' : 's'}`;

/** Collects `k=v` options; a repeated name is a mistake, and does not silently win. */
export function pairOf(text: string, before: Record<string, string> = {}): Record<string, string> {
	const at = text.indexOf('=');
	if (at < 1) throw new InvalidArgumentError('Write it as NAME=VALUE.');
	const name = text.slice(0, at);
	if (Object.hasOwn(before, name)) throw new InvalidArgumentError(`"${name}" is given twice.`);
	return { ...before, [name]: text.slice(at + 1) };
}

export const listOf = (text: string, before: string[] = []) => [...before, text];

export function wholeOf(text: string): number {
	if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Write a whole number.');
	return Number(text);
}

/** `robot-fleet-agent status`: reads what the agent writes about itself, and prints it. */
import { type Condition, isAlive, readCondition } from '../condition';
import type { Machine } from './machine';
import { findInstalled, type Terminal } from './verbs';

/** As in the init scripts of Linux, where 3 is "not running". */
export const statusExit = { connected: 0, unconnected: 1, unreadable: 2, notRunning: 3 } as const;

export interface StatusOrder {
	/** Named by flag or environment; else that of the installation, else the default. */
	data: string | undefined;
	fallback: string;
	json: boolean;
	machine: Machine;
	terminal: Terminal;
	now: number;
}

export interface Shown {
	/** `system`, `user` or null. */
	installed: string | null;
	running: boolean;
	connected: boolean;
	data: string;
	agent: Condition | null;
}

export function status({ data, fallback, json, machine, terminal, now }: StatusOrder): number {
	const installed = findInstalled(machine);
	const folder = data ?? installed?.data ?? fallback;
	let agent: Condition | undefined;
	try {
		agent = readCondition(folder);
	} catch (error) {
		const { code, message } = error as NodeJS.ErrnoException;
		terminal.err(
			code === 'EACCES'
				? `${folder} may be read by its owner only; run this as that user, or with sudo.\n`
				: `The status in ${folder} cannot be read (${message}).\n`,
		);
		return statusExit.unreadable;
	}
	const running = agent !== undefined && isAlive(agent);
	const connected = running && agent!.connected;
	const shown: Shown = {
		installed: installed?.scope ?? null,
		running,
		connected,
		data: folder,
		agent: agent ?? null,
	};
	terminal.out(json ? `${JSON.stringify(shown)}\n` : text(shown, installed?.places.service, now));
	return connected
		? statusExit.connected
		: running
			? statusExit.unconnected
			: statusExit.notRunning;
}

function text(
	{ running, connected, data, agent, installed }: Shown,
	service: unknown,
	now: number,
) {
	const rows: [string, string][] = [
		['installed', installed === null ? 'no' : `yes, for the ${scopes[installed]} (${service})`],
		['running', running ? `yes, process ${agent!.pid}, for ${ago(now - agent!.startedAt)}` : 'no'],
	];
	if (agent !== null) {
		rows.push(
			[
				'connected',
				connected
					? `yes, for ${ago(now - agent.since)}${agent.transport === 'poll' ? ', by polling' : ''}`
					: `no, since ${new Date(running ? agent.since : agent.at).toISOString()}`,
			],
			['server', agent.server],
			['robot', agent.robotId === null ? 'not enrolled yet' : `${agent.name} (${agent.robotId})`],
			['version', agent.version],
		);
		if (running) {
			const jobs = agent.jobs.length === 0 ? 'none' : agent.jobs.join(', ');
			rows.push(['state', agent.status], ['jobs', jobs]);
		}
		if (agent.lastError !== null) {
			const { at, text: what } = agent.lastError;
			rows.push(['last error', `${what} (${ago(now - at)} ago)`]);
		}
	}
	rows.push(['data', data]);
	return rows.map(([name, value]) => `${name.padEnd(11)} ${value}\n`).join('');
}

const scopes: Record<string, string> = { system: 'machine', user: 'user' };

function ago(ms: number): string {
	const seconds = Math.max(0, Math.round(ms / 1_000));
	if (seconds < 120) return `${seconds} s`;
	if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
	return seconds < 172_800
		? `${Math.round(seconds / 3_600)} h`
		: `${Math.round(seconds / 86_400)} days`;
}

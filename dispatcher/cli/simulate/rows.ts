/**
 * What to send, from a file: CSV as spreadsheets write it (comma, semicolon or tab), or one JSON object per line. Columns
 * go by their names: robot, command, wait; all others are ignored. All mistakes are reported at once.
 */
import { durationOf } from '../terminal';

export interface Row {
	/** By name, id, or number from 1; absent = any. */
	robot?: string;
	command: string;
	/** Before the next row. */
	waitMs: number;
}

const names = {
	robot: ['robot', 'device', 'device number', 'number'],
	command: ['command'],
	wait: ['wait', 'wait time'],
};
type Column = keyof typeof names;

export function rowsOf(file: string, text: string): { rows: Row[]; mistakes: string[] } {
	const mistakes: string[] = [];
	const read = /\.(jsonl|ndjson)$/i.test(file) ? lines(text, mistakes) : table(text, mistakes);
	const rows = read.flatMap(({ line, cells }) => {
		const mistake = (what: string) => void mistakes.push(`line ${line}: ${what}`);
		const robot = cells.robot?.trim() ?? '';
		const command = cells.command?.trim() ?? '';
		if (command === '') mistake('command is empty');
		const waitMs = waitOf(cells.wait?.trim() ?? '');
		if (waitMs === undefined) {
			mistake(`wait is "${cells.wait}", it must be seconds, or a duration: 500ms, 2s, 1m`);
		}
		const anyone = robot === '' || robot === '*';
		return [{ ...(anyone ? {} : { robot }), command, waitMs: waitMs ?? 0 }];
	});
	if (rows.length === 0 && mistakes.length === 0) mistakes.push('there is no row in it');
	return { rows, mistakes };
}

/** A plain number, as spreadsheets hold it, is seconds. */
function waitOf(text: string): number | undefined {
	if (text === '') return 0;
	if (/^\d+([.,]\d+)?$/.test(text)) return Math.round(Number(text.replace(',', '.')) * 1_000);
	try {
		return durationOf(text);
	} catch {
		return undefined;
	}
}

interface Read {
	/** Where it begins, from 1. */
	line: number;
	cells: Partial<Record<Column, string>>;
}

function lines(text: string, mistakes: string[]): Read[] {
	return text.split(/\r?\n/).flatMap((written, i) => {
		if (written.trim() === '') return [];
		const line = i + 1;
		let value: unknown;
		try {
			value = JSON.parse(written);
		} catch {
			value = undefined;
		}
		if (typeof value !== 'object' || value === null || Array.isArray(value)) {
			mistakes.push(`line ${line}: it is not a JSON object`);
			return [];
		}
		const cells: Read['cells'] = {};
		for (const [name, given] of Object.entries(value)) {
			const column = columnOf(name);
			if (!column || given === null) continue;
			if (typeof given === 'string' || typeof given === 'number') cells[column] = String(given);
			else mistakes.push(`line ${line}: ${name} must be text or a number`);
		}
		return [{ line, cells }];
	});
}

function table(text: string, mistakes: string[]): Read[] {
	const [head, ...body] = recordsOf(text.replace(/^\uFEFF/, ''));
	if (!head) return [];
	const columns = head.cells.map((name) => columnOf(name));
	if (!columns.includes('command')) {
		mistakes.push(
			`line ${head.line}: no column is called "command"; the first line names the columns: robot, command, wait`,
		);
		return [];
	}
	return body.map(({ line, cells }) => {
		const read: Read = { line, cells: {} };
		for (const [i, column] of columns.entries()) {
			if (column && cells[i] !== undefined) read.cells[column] = cells[i];
		}
		return read;
	});
}

function columnOf(name: string): Column | undefined {
	const plain = name.trim().toLowerCase().replace(/[_-]/g, ' ');
	return (Object.keys(names) as Column[]).find((column) => names[column].includes(plain));
}

interface Written {
	line: number;
	cells: string[];
}

/** RFC 4180: a cell in quotes may hold anything, with quotes in it doubled. Empty lines do not count. */
function recordsOf(text: string): Written[] {
	const separator = separatorOf(text);
	const records: Written[] = [];
	let record: Written = { line: 1, cells: [] };
	let cell = '';
	let quoted = false;
	let line = 1;
	const endCell = () => {
		record.cells.push(cell);
		cell = '';
	};
	const endRecord = () => {
		endCell();
		if (record.cells.some((one) => one.trim() !== '')) records.push(record);
		record = { line, cells: [] };
	};
	for (let i = 0; i < text.length; i += 1) {
		const character = text[i]!;
		if (character === '\n') line += 1;
		if (quoted) {
			if (character !== '"') cell += character;
			else if (text[i + 1] === '"') cell += text[(i += 1)];
			else quoted = false;
		} else if (character === '"' && cell.trim() === '') {
			cell = '';
			quoted = true;
		} else if (character === separator) endCell();
		else if (character === '\n') endRecord();
		else if (character !== '\r') cell += character;
	}
	endRecord();
	return records;
}

/** Whichever of them occurs most often in the first line. */
function separatorOf(text: string): string {
	const [head = ''] = text.split('\n', 1);
	const often = (one: string) => head.split(one).length;
	return [',', ';', '\t'].reduce((best, one) => (often(one) > often(best) ? one : best));
}

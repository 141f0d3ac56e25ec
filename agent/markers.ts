/**
 * What a program tells the fleet in lines of its output, from either stream:
 *
 *   ::fleet:progress 40 compiling        percent, and a text if there is one
 *   ::fleet:output {"version":"1.4.2"}   merged into result.outputs; the last value of a name counts
 *
 * The lines stay where they are: output is stored byte by byte as it was printed. A line that begins like
 * one but is wrong does no harm; the result mentions it.
 */
import { limits } from '../protocol';
import type { Stream } from '../protocol/frames';

const head = Buffer.from('::fleet:');
/** A longer line is no marker. */
const maxLineBytes = 64 * 1024;
const maxLogs = 20;

export interface MarkerListener {
	progress(percent: number, text: string | undefined): void;
}

export class Markers {
	readonly #listener: MarkerListener;
	readonly #lines: Record<Stream, OpenLine> = { stdout: new OpenLine(), stderr: new OpenLine() };
	readonly #outputs: Record<string, unknown> = {};
	/** The size of each as JSON, with a comma, and of all: what is known is not serialized again with every line. */
	readonly #sizes = new Map<string, number>();
	#size = 1;
	readonly #logs: string[] = [];
	#unsaid = 0;

	constructor(listener: MarkerListener) {
		this.#listener = listener;
	}

	push(stream: Stream, chunk: Uint8Array): void {
		const line = this.#lines[stream];
		// A flood is searched once as a whole: only its first and its last line can be parts of a marker.
		const none = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).indexOf(head) < 0;
		for (let at = 0; at < chunk.length;) {
			const end = chunk.indexOf(10, at);
			line.push(chunk.subarray(at, end < 0 ? chunk.length : end));
			if (end < 0) return;
			const text = line.take();
			if (text !== undefined) this.#read(text);
			at = none ? chunk.lastIndexOf(10) + 1 : end + 1;
		}
	}

	/** The last line needs no end. */
	finish(): void {
		for (const line of Object.values(this.#lines)) {
			const text = line.take();
			if (text !== undefined) this.#read(text);
		}
	}

	get outputs(): Record<string, unknown> {
		return { ...this.#outputs };
	}

	/** Mistakes in marker lines, for people. */
	get logs(): string[] {
		const more = this.#unsaid > 0 ? [`${this.#unsaid} more marker lines could not be read.`] : [];
		return [...this.#logs, ...more];
	}

	#read(line: string): void {
		const [, name = '', rest = ''] = /^::fleet:(\S*)\s*(.*)$/s.exec(line) ?? [];
		if (name === 'progress') this.#progress(rest, line);
		else if (name === 'output') this.#output(rest, line);
		else this.#complain(line, 'it is neither progress nor output');
	}

	#progress(rest: string, line: string): void {
		const [, number, text] = /^(\d{1,3}(?:\.\d+)?)%?(?:\s+(.*))?$/s.exec(rest) ?? [];
		const percent = Number(number);
		if (number === undefined || percent > 100) {
			return this.#complain(line, 'progress is a number from 0 to 100, and a text if you like');
		}
		this.#listener.progress(percent, text?.slice(0, 1_000) || undefined);
	}

	#output(rest: string, line: string): void {
		let value: unknown;
		try {
			value = JSON.parse(rest);
		} catch {
			return this.#complain(line, 'what follows is not JSON');
		}
		if (typeof value !== 'object' || value === null || Array.isArray(value)) {
			return this.#complain(line, 'what follows is not a JSON object');
		}
		const sizes = Object.entries(value).map(([key, held]) => {
			return [key, sizeOf(key) + sizeOf(held) + 2] as const;
		});
		let size = this.#size;
		for (const [key, bytes] of sizes) size += bytes - (this.#sizes.get(key) ?? 0);
		if (size > limits.maxOutputsBytes) {
			return this.#complain(line, `outputs may have ${limits.maxOutputsBytes} bytes in all`);
		}
		this.#size = size;
		for (const [key, bytes] of sizes) this.#sizes.set(key, bytes);
		for (const [key, held] of Object.entries(value)) {
			// Whatever it is called, even `__proto__`, it is a name and nothing else.
			Object.defineProperty(this.#outputs, key, {
				value: held,
				enumerable: true,
				configurable: true,
				writable: true,
			});
		}
	}

	#complain(line: string, reason: string): void {
		if (this.#logs.length >= maxLogs) {
			this.#unsaid += 1;
			return;
		}
		const shown = line.length > 80 ? `${line.slice(0, 80)}…` : line;
		this.#logs.push(`The marker line "${shown}" could not be read: ${reason}.`);
	}
}

function sizeOf(value: unknown): number {
	return Buffer.byteLength(JSON.stringify(value));
}

/** A line as it comes; forgotten as soon as it cannot be a marker. */
class OpenLine {
	#pieces: Buffer[] = [];
	#length = 0;
	#other = false;

	push(piece: Uint8Array): void {
		if (this.#other || piece.length === 0) return;
		const before = this.#length;
		for (let i = 0; i < piece.length && before + i < head.length; i++) {
			if (piece[i] !== head[before + i]) return this.#drop();
		}
		this.#length += piece.length;
		if (this.#length > maxLineBytes) return this.#drop();
		this.#pieces.push(Buffer.from(piece));
	}

	/** The marker line, when it was one. The next line begins. */
	take(): string | undefined {
		const isMarker = !this.#other && this.#length >= head.length;
		const text = isMarker ? Buffer.concat(this.#pieces).toString('utf8') : undefined;
		this.#pieces = [];
		this.#length = 0;
		this.#other = false;
		return text?.replace(/\r$/, '');
	}

	#drop(): void {
		this.#other = true;
		this.#pieces = [];
	}
}

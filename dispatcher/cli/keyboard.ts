/** What a person types, byte by byte, for the commands that type into jobs. */
import type { ReadStream } from 'node:tty';

export interface Keyboard {
	/** A person sits there, not a file or a pipe. */
	readonly isTerminal: boolean;
	/** Of the window; undefined when there is none. */
	readonly size: { cols: number; rows: number } | undefined;
	/** Raw: every key comes at once, none is echoed, and Ctrl+C is a key like any other. */
	raw(on: boolean): void;
	/** Hears what is typed until `close`. */
	open(on: { typed(bytes: Uint8Array): void; ended(): void; resized(): void }): void;
	/** Gives the terminal back as it was, and lets the process end. */
	close(): void;
}

export function keyboardOf(
	input: NodeJS.ReadStream & Partial<ReadStream>,
	output: NodeJS.WriteStream,
): Keyboard {
	let listeners: { typed(bytes: Buffer): void; ended(): void; resized(): void } | undefined;
	return {
		get isTerminal() {
			return input.isTTY === true;
		},
		get size() {
			return output.isTTY ? { cols: output.columns, rows: output.rows } : undefined;
		},
		raw(on) {
			if (input.isTTY) input.setRawMode(on);
		},
		open(on) {
			listeners = on;
			input.on('data', on.typed);
			input.once('end', on.ended);
			output.on('resize', on.resized);
			input.resume();
		},
		close() {
			this.raw(false);
			if (listeners === undefined) return;
			input.off('data', listeners.typed);
			input.off('end', listeners.ended);
			output.off('resize', listeners.resized);
			listeners = undefined;
			input.pause();
			input.unref?.();
		},
	};
}

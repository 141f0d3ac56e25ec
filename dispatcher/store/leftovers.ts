/**
 * Output that crosses between the store's thread and the other leaves a buffer behind in each. These lie
 * outside V8's heap, and V8 looks at them only once there are tens of megabytes: a burst of output would
 * grow the process by all that is kept of it, and the process never gives that back.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Deed } from './store';

/** A collection takes about a millisecond: nothing compared with the synced writes of this much. */
const collectAfterBytes = 4 * 1024 * 1024;

type Collect = (options: { type: 'minor' }) => void;

/** One for each thread. */
export class Leftovers {
	#bytes = 0;
	#collect: Collect | undefined;

	/** Counts bytes read or written here whose buffers are no longer needed, or not for long. */
	add(bytes: number): void {
		this.#bytes += bytes;
		if (this.#bytes < collectAfterBytes) return;
		this.#bytes = 0;
		this.#collect ??= collector();
		this.#collect({ type: 'minor' });
	}
}

/** Bytes of output in what is to be committed. */
export function bytesIn(deeds: Deed[]): number {
	let bytes = 0;
	for (const deed of deeds) if (deed.do === 'appendOutput') bytes += deed.with.data.length;
	return bytes;
}

/** Output in what was read: `data` of a piece. */
export function dataOf(answer: unknown): Uint8Array | undefined {
	const data = (answer as { data?: unknown } | undefined)?.data;
	return data instanceof Uint8Array ? data : undefined;
}

function collector(): Collect {
	setFlagsFromString('--expose-gc');
	return runInNewContext('gc') as Collect;
}

/**
 * The robots' line where no WebSocket gets through: the same WebSocket, its handshake and close codes
 * included, carried byte by byte in the bodies of `POST` requests and of their answers. The two ends
 * notice no difference.
 *
 * A line is two streams of bytes, one in each direction, both addressed by offset from their beginning. A body
 * brings a piece of one stream and says how much of the other one has arrived. The receiver takes what is new
 * in a piece; the sender repeats it until it is acknowledged. So a request that is lost, late or repeated
 * neither loses nor doubles a byte, and the order is kept.
 *
 *     0  u8   1 = this form
 *     1  u8   1 = opens the line, 2 = the stream ends behind this piece; 3 = both
 *     2  u16  0
 *     4  u32  how long the answer may be kept back until there is something to say, ms; 0 = answer at once
 *     8  u64  offset of the piece
 *    16  u64  bytes taken of the other stream; its end counts as one more
 *    24  the piece
 *
 * The robot makes up a name for its line (32 random bytes, base64url) and sends it in each request as
 * `Authorization: Bearer NAME`. One request of a line waits at the service, and its answer brings a piece; another
 * one brings pieces from the robot, one request at a time, and its answer only acknowledges. A newer waiting request takes the
 * place of an older one. The first request opens the line, carries the handshake and waits. `no-such-line`
 * means that the line is over: the robot dials anew.
 */
import { Duplex } from 'node:stream';

export const pollHeadBytes = 24;

export interface PollBody {
	opens: boolean;
	ends: boolean;
	waitMs: number;
	from: number;
	have: number;
	data: Buffer;
}

export type Piece = Pick<PollBody, 'from' | 'data' | 'ends'>;

const form = 1;

export function encodePoll({ opens, ends, waitMs, from, have, data }: PollBody): Buffer {
	const bytes = Buffer.alloc(pollHeadBytes + data.length);
	bytes[0] = form;
	bytes[1] = (opens ? 1 : 0) | (ends ? 2 : 0);
	bytes.writeUInt32BE(waitMs, 4);
	bytes.writeBigUInt64BE(BigInt(from), 8);
	bytes.writeBigUInt64BE(BigInt(have), 16);
	bytes.set(data, pollHeadBytes);
	return bytes;
}

/** Gives `undefined` for anything else. */
export function decodePoll(bytes: Buffer): PollBody | undefined {
	if (bytes.length < pollHeadBytes || bytes[0] !== form || bytes[1]! > 3) return undefined;
	const from = Number(bytes.readBigUInt64BE(8));
	const have = Number(bytes.readBigUInt64BE(16));
	if (!Number.isSafeInteger(from) || !Number.isSafeInteger(have)) return undefined;
	return {
		opens: (bytes[1]! & 1) !== 0,
		ends: (bytes[1]! & 2) !== 0,
		waitMs: bytes.readUInt32BE(4),
		from,
		have,
		data: bytes.subarray(pollHeadBytes),
	};
}

const nothing = Buffer.alloc(0);
type Done = (error?: Error | null) => void;

/**
 * One end of a line, as the socket it stands for. What is written waits until the other end has it, and
 * counts as unsent until then, so nothing grows without the writer noticing.
 */
export abstract class CarriedStream extends Duplex {
	/** Written, and not known to have arrived. */
	#kept: Buffer = nothing;
	/** Offset of its first byte. */
	#from = 0;
	/** Bytes written so far, in all. */
	#said = 0;
	#ended = false;
	/** Waits for the arrival of what is kept. */
	#arrived: Done | undefined;
	#have = 0;
	#over = false;
	#hasRoom = true;
	#roomed: (() => void)[] = [];

	/** There is something new to say. */
	protected abstract said(): void;

	/** Something that was said, or the end, is not known to have arrived. */
	get hasNews(): boolean {
		return this.#from < this.total;
	}

	/** Length of all that was said; the end counts as one more. */
	get total(): number {
		return this.#said + (this.#ended ? 1 : 0);
	}

	/** Taken of the other end's stream; its end counts as one more. */
	get have(): number {
		return this.#have;
	}

	/** The other end has said its last word. */
	get over(): boolean {
		return this.#over;
	}

	/** What has not arrived yet, from its beginning. */
	piece(maxBytes: number): Piece {
		const data = this.#kept.subarray(0, maxBytes);
		return { from: this.#from, data, ends: this.#ended && this.#from + data.length === this.#said };
	}

	/** A piece without anything in it. */
	get silence(): Piece {
		return { from: this.#from, data: nothing, ends: false };
	}

	/** The other end has this much. False if that cannot be: this is not the line it means. */
	arrived(have: number): boolean {
		if (have > this.total) return false;
		if (have <= this.#from) return true;
		this.#kept = this.#kept.subarray(have - this.#from);
		this.#from = have;
		if (this.hasNews) return true;
		const done = this.#arrived;
		this.#arrived = undefined;
		done?.();
		return true;
	}

	/** Reads what is new in it. */
	receive({ from, data, ends }: Piece): void {
		if (this.destroyed || this.#over || from > this.#have) return;
		const fresh = data.subarray(this.#have - from);
		if (fresh.length > 0) {
			this.#have += fresh.length;
			this.#hasRoom = this.push(fresh);
		}
		if (!ends || from + data.length !== this.#have) return;
		this.#over = true;
		this.#have += 1;
		this.push(null);
	}

	/** Resolves when whoever reads can take more, or never will. */
	async room(): Promise<void> {
		if (this.#hasRoom || this.destroyed) return;
		await new Promise<void>((resolve) => this.#roomed.push(resolve));
	}

	override _read(): void {
		this.#hasRoom = true;
		for (const go of this.#roomed.splice(0)) go();
	}

	override _write(bytes: Buffer, _encoding: BufferEncoding, done: Done): void {
		this.#say(bytes, done);
	}

	override _writev(writes: { chunk: Buffer }[], done: Done): void {
		this.#say(Buffer.concat(writes.map(({ chunk }) => chunk)), done);
	}

	override _final(done: Done): void {
		this.#ended = true;
		this.#arrived = done;
		this.said();
	}

	override _destroy(error: Error | null, done: Done): void {
		this.#kept = nothing;
		for (const go of this.#roomed.splice(0)) go();
		done(error);
	}

	/** Called only when all that was said before has arrived. */
	#say(bytes: Buffer, done: Done): void {
		if (bytes.length === 0) return done();
		this.#kept = bytes;
		this.#said += bytes.length;
		this.#arrived = done;
		this.said();
	}
}

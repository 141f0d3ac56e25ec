/**
 * Whether the write-ahead log beside an SQLite file has been damaged since it was written. SQLite itself
 * takes the first frame that does not fit for the end of the log and drops everything after it without a
 * word, which is right for a write that a crash cut short, and a silent loss for anything else. It stands
 * here because both programs keep such files.
 *
 * What tells them apart: with `synchronous=FULL` nothing is written after a commit before the commit is
 * synced. So a crash can spoil no more than the last transaction, and a bad frame with a whole commit
 * and more behind it was good once. Damage to the last transaction alone cannot be told from a crash.
 */

export interface WalDamage {
	/** The first frame that is not what was written, counted from 1; 0 = the head of the log. */
	frame: number;
	/** Where it begins: everything before it is good. */
	offset: number;
	/** Commits after it that SQLite would drop. */
	commits: number;
}

/** The bytes of a log. One on disk is read a piece at a time: it may be longer than a buffer can be. */
export interface WalBytes {
	readonly length: number;
	subarray(from: number, to: number): Uint8Array;
}

const headBytes = 32;
const frameHeadBytes = 24;

export function walDamage(wal: WalBytes): WalDamage | undefined {
	if (wal.length <= headBytes + frameHeadBytes) return undefined;
	const part = (from: number, bytes: number) => {
		const { buffer, byteOffset, byteLength } = wal.subarray(from, from + bytes);
		return new DataView(buffer, byteOffset, byteLength);
	};
	const head = part(0, headBytes);
	const magic = head.getUint32(0);
	const little = magic === 0x377f0682;
	const [a, b] = checksum(head, 0, 24, little, 0, 0);
	const headIsGood =
		(little || magic === 0x377f0683) && a === head.getUint32(24) && b === head.getUint32(28);
	// The head is synced before the first frame is written.
	if (!headIsGood) return { frame: 0, offset: 0, commits: 1 };

	const salts = [head.getUint32(16), head.getUint32(20)] as const;
	const frameBytes = frameHeadBytes + head.getUint32(8);
	const frames = Math.floor((wal.length - headBytes) / frameBytes);
	const isOurs = (frame: DataView) =>
		frame.getUint32(8) === salts[0] && frame.getUint32(12) === salts[1];
	const isCommit = (frame: DataView) => frame.getUint32(4) !== 0;
	/** Whether a frame continues the one before it, good or not. */
	const fits = (at: number) => {
		if (!isOurs(part(at, frameHeadBytes))) return false;
		const frame = part(at, frameBytes);
		const before = part(at === headBytes ? 24 : at - frameBytes + 16, 8);
		const own = checksum(frame, 0, 8, little, before.getUint32(0), before.getUint32(4));
		const [c, d] = checksum(frame, frameHeadBytes, frameBytes - frameHeadBytes, little, ...own);
		return c === frame.getUint32(16) && d === frame.getUint32(20);
	};
	let first = 0;
	while (first < frames && fits(headBytes + first * frameBytes)) first++;
	let last = frames - 1;
	while (last > first && !fits(headBytes + last * frameBytes)) last--;
	if (last <= first) return undefined;
	let commits = 0;
	for (let n = first; n < last; n++) {
		const frame = part(headBytes + n * frameBytes, frameHeadBytes);
		if (isOurs(frame) && isCommit(frame)) commits++;
	}
	return commits === 0
		? undefined
		: { frame: first + 1, offset: headBytes + first * frameBytes, commits };
}

/** SQLite's own checksum: two sums that feed each other, over words in the byte order that the magic number names. */
function checksum(
	view: DataView,
	from: number,
	bytes: number,
	little: boolean,
	s0: number,
	s1: number,
): [number, number] {
	for (let at = from; at < from + bytes; at += 8) {
		s0 = (s0 + view.getUint32(at, little) + s1) >>> 0;
		s1 = (s1 + view.getUint32(at + 4, little) + s0) >>> 0;
	}
	return [s0, s1];
}

/**
 * Whether the write-ahead log beside an SQLite file has been damaged since it was written. SQLite
 * itself takes the first frame that does not fit for the end of the log and drops all after it without
 * a word, which is right for a write that a crash cut short, and a silent loss for anything else. It
 * stands in this room because both programs keep such files and share no other.
 *
 * What tells them apart: with `synchronous=FULL` nothing is written after a commit before the commit is
 * synced. So a crash can spoil no more than the last transaction, and a bad frame with a whole commit
 * and more behind it was good once. Damage to the last transaction alone cannot be told from a crash.
 */

export interface WalDamage {
	/** The first frame that is not what was written, counted from 1; 0 = the head of the log. */
	frame: number;
	/** Where it begins: what lies before it is good. */
	offset: number;
	/** Commits behind it that SQLite would drop. */
	commits: number;
}

const headBytes = 32;
const frameHeadBytes = 24;

export function walDamage(wal: Uint8Array): WalDamage | undefined {
	const view = new DataView(wal.buffer, wal.byteOffset, wal.byteLength);
	if (wal.length <= headBytes + frameHeadBytes) return undefined;
	const magic = view.getUint32(0);
	const little = magic === 0x377f0682;
	const [a, b] = checksum(view, 0, 24, little, 0, 0);
	const headIsGood =
		(little || magic === 0x377f0683) && a === view.getUint32(24) && b === view.getUint32(28);
	// The head is synced before the first frame is written.
	if (!headIsGood) return { frame: 0, offset: 0, commits: 1 };

	const frameBytes = frameHeadBytes + view.getUint32(8);
	const frames = Math.floor((wal.length - headBytes) / frameBytes);
	const isOurs = (at: number) =>
		view.getUint32(at + 8) === view.getUint32(16) && view.getUint32(at + 12) === view.getUint32(20);
	const isCommit = (at: number) => view.getUint32(at + 4) !== 0;
	/** Whether a frame goes on from the one before it, whatever that one is worth. */
	const fits = (at: number) => {
		if (!isOurs(at)) return false;
		const before = at === headBytes ? 24 : at - frameBytes + 16;
		const from = [view.getUint32(before), view.getUint32(before + 4)] as const;
		const head = checksum(view, at, 8, little, ...from);
		const [c, d] = checksum(
			view,
			at + frameHeadBytes,
			frameBytes - frameHeadBytes,
			little,
			...head,
		);
		return c === view.getUint32(at + 16) && d === view.getUint32(at + 20);
	};
	let first = 0;
	while (first < frames && fits(headBytes + first * frameBytes)) first++;
	let last = frames - 1;
	while (last > first && !fits(headBytes + last * frameBytes)) last--;
	if (last <= first) return undefined;
	let commits = 0;
	for (let n = first; n < last; n++) {
		const at = headBytes + n * frameBytes;
		if (isOurs(at) && isCommit(at)) commits++;
	}
	return commits === 0
		? undefined
		: { frame: first + 1, offset: headBytes + first * frameBytes, commits };
}

/** SQLite's own: two sums that feed each other, over words in the byte order that the magic number names. */
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

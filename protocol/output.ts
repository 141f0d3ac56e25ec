/**
 * What is kept of a job's output, as plain arithmetic that robot and service share. Offsets are true
 * offsets of the stream as it was produced: what is not kept leaves a hole, and nothing moves up.
 */
export const streams = ['stdout', 'stderr'] as const;
export type Stream = (typeof streams)[number];

/** Bytes produced, by stream. */
export type OutputLengths = Record<Stream, number>;

export const holeReasons = ['limit', 'disk-full', 'damaged', 'purged'] as const;
/**
 * - `limit`      the job printed more than is kept; the middle was dropped
 * - `disk-full`  the robot had no room for it
 * - `damaged`    it was stored, but what is there now is not what was stored
 * - `purged`     it was kept as long as outputs are kept
 */
export type HoleReason = (typeof holeReasons)[number];

/** Bytes `from` ≤ offset < `to` of one stream that are not there. */
export interface Hole {
	from: number;
	to: number;
	reason: HoleReason;
}

/** Share of what is kept that goes to the beginning; the rest goes to the end. */
const headShare = 1 / 8;

/**
 * The middle of each stream that has to go so that both together keep `maxBytes`: the first eighth of
 * that and the last of what was printed. The stream that printed more gives way: a few lines on stderr stay,
 * however much goes to stdout. A function of lengths alone, so both ends of a wire cut at the same byte; and
 * its holes only ever grow with the lengths.
 */
export function surplus(
	lengths: OutputLengths,
	maxBytes: number,
): Partial<Record<Stream, { from: number; to: number }>> {
	const { stdout, stderr } = lengths;
	if (stdout + stderr <= maxBytes) return {};
	const half = Math.floor(maxBytes / 2);
	const head = Math.floor(maxBytes * headShare);
	const found: ReturnType<typeof surplus> = {};
	for (const [stream, other] of [
		['stdout', stderr],
		['stderr', stdout],
	] as const) {
		const length = lengths[stream];
		const kept = Math.max(half, maxBytes - other);
		if (length > kept) found[stream] = { from: head, to: length - (kept - head) };
	}
	return found;
}

/** Holes in order, apart from each other. A new one swallows what lies in it; older ones keep the rest. */
export function withHole(holes: readonly Hole[], hole: Hole): Hole[] {
	if (hole.from >= hole.to) return [...holes];
	const apart = holes.flatMap((old): Hole[] => [
		...(old.from < hole.from ? [{ ...old, to: Math.min(old.to, hole.from) }] : []),
		...(old.to > hole.to ? [{ ...old, from: Math.max(old.from, hole.to) }] : []),
	]);
	const all = [...apart, { ...hole }].sort((a, b) => a.from - b.from);
	const joined: Hole[] = [];
	for (const next of all) {
		const last = joined.at(-1);
		if (last && last.to >= next.from && last.reason === next.reason) last.to = next.to;
		else joined.push(next);
	}
	return joined;
}

/** The hole that this byte lies in. */
export function holeAt(holes: readonly Hole[], offset: number): Hole | undefined {
	return holes.find(({ from, to }) => from <= offset && offset < to);
}

/** What lies between the holes, from 0 to `length`. */
export function between(holes: readonly Hole[], length: number): { from: number; to: number }[] {
	const kept: { from: number; to: number }[] = [];
	let at = 0;
	for (const hole of holes) {
		if (hole.from > at) kept.push({ from: at, to: Math.min(hole.from, length) });
		at = Math.max(at, hole.to);
	}
	if (at < length) kept.push({ from: at, to: length });
	return kept;
}

const holeTexts: Record<HoleReason, string> = {
	limit: 'the job printed more than is kept',
	'disk-full': 'the disk of the robot was full',
	damaged: 'what was stored is damaged',
	purged: 'outputs are not kept longer',
};

/** A hole in words, for people. */
export function holeText({ from, to, reason }: Hole): string {
	return `[${to - from} bytes are not here: ${holeTexts[reason]}]`;
}

import fc from 'fast-check';
import {
	between,
	type Hole,
	holeAt,
	holeReasons,
	type OutputLengths,
	streams,
	surplus,
	withHole,
} from '../../../protocol';

const MiB = 1024 * 1024;
const lengths = fc.record({ stdout: fc.nat(10_000), stderr: fc.nat(10_000) });
const hole = fc
	.record({ from: fc.nat(50), size: fc.nat(20), reason: fc.constantFrom(...holeReasons) })
	.map(({ from, size, reason }): Hole => ({ from, to: from + size, reason }));

const kept = (all: OutputLengths, maxBytes: number) => {
	const middle = surplus(all, maxBytes);
	return streams.map((one) => all[one] - ((middle[one]?.to ?? 0) - (middle[one]?.from ?? 0)));
};

test('of one long stream the first eighth and the last seven eighths of the limit are kept', () => {
	expect(surplus({ stdout: 100 * MiB, stderr: 0 }, 64 * MiB)).toEqual({
		stdout: { from: 8 * MiB, to: 44 * MiB },
	});
	expect(surplus({ stdout: 60 * MiB, stderr: 4 * MiB }, 64 * MiB)).toEqual({});
});

test('a few lines on stderr stay, however much goes to stdout', () => {
	expect(surplus({ stdout: 1_000 * MiB, stderr: 1 * MiB }, 64 * MiB)).toEqual({
		stdout: { from: 8 * MiB, to: 945 * MiB },
	});
});

test('whatever is printed, what is kept fits the limit and wastes at most a byte of it', () => {
	fc.assert(
		fc.property(lengths, fc.integer({ min: 1, max: 5_000 }), (all, maxBytes) => {
			const [stdout, stderr] = kept(all, maxBytes) as [number, number];
			const wanted = Math.min(maxBytes, all.stdout + all.stderr);
			expect(stdout + stderr).toBeLessThanOrEqual(wanted);
			expect(stdout + stderr).toBeGreaterThanOrEqual(wanted - 1);
		}),
	);
});

test('what has gone stays gone: holes only grow with the lengths', () => {
	const step = fc.record({ stream: fc.constantFrom(...streams), bytes: fc.nat(500) });
	fc.assert(
		fc.property(
			fc.array(step, { maxLength: 60 }),
			fc.integer({ min: 1, max: 999 }),
			(steps, max) => {
				const all = { stdout: 0, stderr: 0 };
				let before = surplus(all, max);
				for (const { stream, bytes } of steps) {
					all[stream] += bytes;
					const now = surplus(all, max);
					for (const one of streams) {
						if (!before[one]) continue;
						expect(now[one]!.from).toBe(before[one].from);
						expect(now[one]!.to).toBeGreaterThanOrEqual(before[one].to);
						expect(now[one]!.to).toBeLessThanOrEqual(all[one]);
					}
					before = now;
				}
			},
		),
	);
});

test('holes cover exactly the bytes they were made of, the latest reason last, in order and apart', () => {
	fc.assert(
		fc.property(fc.array(hole, { maxLength: 12 }), (made) => {
			const bytes: (string | undefined)[] = Array.from({ length: 80 });
			let holes: Hole[] = [];
			for (const one of made) {
				holes = withHole(holes, one);
				bytes.fill(one.reason, one.from, one.to);
			}
			expect(bytes.map((_, at) => holeAt(holes, at)?.reason)).toEqual(bytes);
			for (const [i, { from, to, reason }] of holes.entries()) {
				const before = holes[i - 1];
				expect(from).toBeLessThan(to);
				if (!before) continue;
				expect(before.to).toBeLessThanOrEqual(from);
				expect(before.to === from && before.reason === reason).toBe(false);
			}
			const there = between(holes, 80).flatMap(({ from, to }) =>
				Array.from({ length: to - from }, (_, i) => from + i),
			);
			expect(there).toEqual(bytes.flatMap((reason, at) => (reason === undefined ? [at] : [])));
		}),
	);
});

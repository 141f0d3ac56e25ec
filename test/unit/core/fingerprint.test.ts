/** Which failures are the same failure. */
import fc from 'fast-check';
import { deadLetterOf, gistOf } from '../../../dispatcher/core/fingerprint';
import { type Cause, causes, finalStates } from '../../../protocol';

const of = (message: string, cause: Cause = 'exit_code', kind = 'command') =>
	deadLetterOf(kind, { to: 'failed', cause }, message);

test.each([
	[
		'exit, with the last line of stderr',
		'The command ended with exit code 1: 2026-05-01T06:00:00.123Z ERROR worker 17 could not reach 10.0.0.7:5432 after 3 tries (12.5 s)',
		'The command ended with exit code 1: 2026-05-02T18:31:09Z ERROR worker 4 could not reach 10.0.0.7:5432 after 5 tries (0.8 s)',
	],
	[
		'a random folder under /tmp',
		"The command ended with exit code 2: ls: cannot access '/tmp/tmp.Xa9kQwPz/report.csv': No such file or directory",
		"The command ended with exit code 2: ls: cannot access '/tmp/tmp.bbQrSTuv/report.csv': No such file or directory",
	],
	[
		'a numbered folder, a uuid, a line number',
		'Traceback: File "/srv/build-8812/app/main.py", line 41, in run: no order 0190f6c2-7c1d-7aaa-8bbb-0123456789ab',
		'Traceback: File "/srv/build-9/app/main.py", line 1207, in run: no order 0190f6c2-ffff-7abc-9000-ba9876543210',
	],
	[
		'a container id and a commit',
		'docker: container 4f5e6d7c8b9a exited, image sha256:9b2f1c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8091, at commit 7d63140',
		'docker: container aa01bb23cc45 exited, image sha256:0011223344556677889900aabbccddeeff001122, at commit 0b9199f',
	],
	[
		'a clock and a token',
		'10:31:07 login failed for session Zk3JQ9xvB7mT2aLw8RcY1dQf',
		'9:02:44 login failed for session hG7sD0aPq4Wn6bVx2LkTz8Ye',
	],
	[
		'an address in memory',
		'Segmentation fault at 0x7ffee4c0 (thread 8 of 16)',
		'Segmentation fault at 0x10ab (thread 2 of 4)',
	],
	[
		'a Windows path',
		'Cannot open C:\\Users\\bot\\AppData\\Local\\Temp\\mso8F3A\\book.xlsx',
		'Cannot open C:\\Users\\bot\\AppData\\Local\\Temp\\qwertz\\book.xlsx',
	],
	[
		'a queue time-out names its job',
		'No robot took the job within 5000 ms; ask GET /jobs/0190f6c2-7c1d-7aaa-8bbb-0123456789ab/why next time, or raise timeouts.queueMs.',
		'No robot took the job within 60000 ms; ask GET /jobs/0190f6c2-ffff-7abc-9000-ba9876543210/why next time, or raise timeouts.queueMs.',
	],
])('the same failure: %s', (_name, one, other) => {
	expect(gistOf(one)).toBe(gistOf(other));
	expect(of(one)).toBe(of(other));
});

test.each([
	['exit codes', 'The command ended with exit code 1.', 'The command ended with exit code 127.'],
	['HTTP codes', 'GET /orders: HTTP 404', 'GET /orders: HTTP 503'],
	['errno', 'connect failed, errno=111', 'connect failed, errno=113'],
	['words', 'no space left on device', 'no such device'],
	['names in a path', 'cannot read /etc/hosts', 'cannot read /etc/passwd'],
])('different failures: %s', (_name, one, other) => {
	expect(of(one)).not.toBe(of(other));
});

test('kind and cause are part of the failure', () => {
	expect(of('x', 'signal')).not.toBe(of('x', 'exit_code'));
	expect(of('x', 'signal', 'workflow')).not.toBe(of('x', 'signal'));
});

test('a dead letter is a failure that nobody decided', () => {
	for (const to of finalStates) {
		for (const cause of [null, ...(Object.keys(causes) as Cause[])]) {
			const dead = deadLetterOf('command', { to, cause }, 'x') !== undefined;
			const failed = to === 'failed' || to === 'timeout';
			const decided = cause === null || ['cancelled', 'denied', 'dependency'].includes(cause);
			expect(dead).toBe(failed && !decided);
		}
	}
});

test('a thousand runs of one failure are one fingerprint, whatever their numbers, times and ids', () => {
	const run = fc.record({
		at: fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }),
		id: fc.uuid(),
		count: fc.nat(),
		seconds: fc.double({ min: 0, max: 1e6, noNaN: true }),
		folder: fc.string({ unit: fc.constantFrom(...'abcXYZ019'), minLength: 1, maxLength: 12 }),
	});
	const seen = new Set<string | undefined>();
	fc.assert(
		fc.property(run, ({ at, id, count, seconds, folder }) => {
			seen.add(
				of(
					`exit code 3: ${at.toISOString()} job ${id} failed after ${count} rows in ${seconds.toFixed(3)} s, see /tmp/${folder}/log`,
				),
			);
		}),
		{ numRuns: 1_000 },
	);
	expect(seen.size).toBe(1);
});

test('any text at all has a fingerprint, quickly, and the same one twice', () => {
	fc.assert(
		fc.property(fc.string({ unit: 'binary', maxLength: 1_000 }), (text) => {
			expect(of(text)).toMatch(/^[0-9a-f]{16}$/);
			expect(of(text)).toBe(of(text));
		}),
	);
	// Where a pattern tries every way to cut such a text, this never ends.
	for (const piece of ['/a', 'a1', '1.', '0x', 'exit code ', '-', 'ab01:'])
		expect(of(piece.repeat(1_000_000))).toMatch(/^[0-9a-f]{16}$/);
});

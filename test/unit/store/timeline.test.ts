import fc from 'fast-check';
import { jobStates } from '../../../protocol';
import { moveLine, movesOf, submittedLine } from '../../../dispatcher/store/timeline';

const job = { createdAt: 1_700_000_000_000, createdBy: 'key:ana' };

test('a timeline is read as it was written, whatever was written', () => {
	const move = fc.record({
		at: fc.nat(),
		to: fc.constantFrom(...jobStates),
		reason: fc.oneof(
			fc.string(),
			fc.constantFrom('assigned', 'accepted', 'completed', 'exit_code'),
		),
		by: fc.oneof(fc.string(), fc.constantFrom('dispatcher', 'robot')),
		attempt: fc.option(fc.nat()),
	});
	fc.assert(
		fc.property(fc.constantFrom('pending', 'queued'), fc.array(move), (first, moves) => {
			const lines =
				submittedLine(first) +
				moves
					.map(({ at, to, reason, by, attempt }) => moveLine(at, to, reason, by, attempt))
					.join('');
			const states = [first, ...moves.map(({ to }) => to)];
			expect(movesOf(lines, job, () => undefined)).toEqual([
				{
					from: null,
					at: job.createdAt,
					to: first,
					reason: 'submitted',
					by: 'key:ana',
					attempt: null,
				},
				...moves.map((made, i) => ({ from: states[i], ...made })),
			]);
		}),
	);
});

test('the robot of an attempt is named in full, and an ordinary move takes few bytes', () => {
	const line = moveLine(job.createdAt, 'running', 'accepted', 'robot', 2);
	expect(line.length).toBeLessThan(26);
	expect(movesOf(submittedLine('queued') + line, job, (n) => `r${n}`)[1]).toMatchObject({
		to: 'running',
		by: 'robot:r2',
	});
});

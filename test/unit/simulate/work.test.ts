/** A simulated robot keeps the rules of the protocol, whatever is said twice, late or never. */
import { createHash } from 'node:crypto';
import { Dice } from '../../../dispatcher/cli/simulate/dice';
import { Tally } from '../../../dispatcher/cli/simulate/tally';
import { Timetable } from '../../../dispatcher/cli/simulate/timetable';
import { Work } from '../../../dispatcher/cli/simulate/work';
import type { JobAssignment } from '../../../protocol';
import { FakeClock } from '../../support/fake-clock';

let epochs = 0;

const jobOf = (more: Partial<JobAssignment> = {}): JobAssignment => ({
	job_id: `job-${(epochs += 1)}`,
	attempt: 1,
	epoch: epochs,
	token: `token-${epochs}`,
	kind: 'command',
	spec: { command: 'true' },
	variables: {},
	timeouts: { run_ms: 60_000, grace_ms: 1_000 },
	on_disconnect: 'continue',
	...more,
});

function robot({ slots = 1, failures = 0, seed = 1, ms = 100 } = {}) {
	const clock = new FakeClock();
	const said: [string, Record<string, never>][] = [];
	const tally = new Tally();
	const work = new Work({
		name: 'sim-01',
		slots,
		play: { durations: { least: ms, most: ms }, failures },
		dice: new Dice(seed),
		timetable: new Timetable(clock),
		tally,
		say: (type, payload) => void said.push([type, payload as never]),
		now: () => clock.now(),
	});
	const words = () => said.splice(0).map(([type, { state, reason }]) => state ?? reason ?? type);
	const taken = (job: JobAssignment, complete = true) =>
		work.taken({ ...job, output: { stdout: 0, stderr: 0 }, complete });
	return { clock, said, tally, work, words, taken };
}

const verdict = (
	{ job_id, epoch }: JobAssignment,
	act: 'continue' | 'send_result' | 'kill' | 'forget' | 'hold',
) => ({ job_id, epoch, act, output: { stdout: 0, stderr: 0 } });

test('a job is accepted, lasts as long as was drawn, and is forgotten when its result was taken', async () => {
	const { clock, said, tally, work, words, taken } = robot();
	const job = jobOf();
	work.assign(job);
	expect(words()).toEqual(['job_accepted']);
	await clock.advance(99);
	expect([words(), tally.running, work.held[0]!.state]).toEqual([[], 1, 'running']);
	await clock.advance(1);
	const [[, result]] = said as unknown as [[string, { sha256: { stdout: string } }]];
	expect(result).toMatchObject({ state: 'completed', cause: null, result: { exit_code: 0 } });
	const { stdout } = (result as unknown as { result: { stdout: string } }).result;
	expect(result.sha256.stdout).toBe(createHash('sha256').update(stdout).digest('hex'));
	expect(words()).toEqual(['completed']);
	taken(job, false);
	expect(work.isEmpty).toBe(false);
	taken(job);
	expect([work.isEmpty, tally.ended.completed]).toEqual([true, 1]);
	// The same once more, late: it is over here.
	work.assign(job);
	work.cancel({ ...job, reason: 'cancelled', grace_ms: 0 });
	expect([words(), work.isEmpty]).toEqual([[], true]);
});

test('what was promised never to start does not start, however often it is given', async () => {
	const { work, words } = robot();
	const job = jobOf();
	work.revoke(job);
	work.assign(job);
	expect(words()).toEqual(['not-started', 'not-started']);
	expect(work.isEmpty).toBe(true);
});

test('it takes no more than it has slots, no other kind, and nothing while it is paused or ends', () => {
	const { work, words } = robot({ slots: 2 });
	work.assign(jobOf());
	work.assign(jobOf());
	work.assign(jobOf());
	work.assign(jobOf({ kind: 'workflow' }));
	expect(words()).toEqual(['job_accepted', 'job_accepted', 'no-slot', 'unsupported-kind']);
	work.paused = true;
	work.assign(jobOf());
	work.hurry();
	work.assign(jobOf());
	expect(words()).toEqual(['paused', 'completed', 'completed', 'stopping']);
});

test('a probe succeeds at once, and moves no job in the row of what is drawn', async () => {
	const ends = async (probes: number) => {
		const { clock, work, words, taken } = robot({ seed: 7, failures: 0.5 });
		const drawn: string[] = [];
		for (let i = 0; i < 20; i += 1) {
			for (let j = 0; j < probes; j += 1) {
				const probe = jobOf({ kind: 'probe', spec: {} });
				work.assign(probe);
				await clock.advance(0);
				expect(words()).toEqual(['job_accepted', 'completed']);
				taken(probe);
			}
			const job = jobOf();
			work.assign(job);
			await clock.advance(100);
			drawn.push(words()[1]!);
			taken(job);
		}
		return drawn;
	};
	expect(await ends(2)).toEqual(await ends(0));
});

test('a job that is cancelled, or runs for longer than it may, ends as that', async () => {
	const { clock, work, words } = robot({ slots: 3 });
	const [cancelled, slow, over] = [
		jobOf(),
		jobOf({ timeouts: { run_ms: 50, grace_ms: 0 } }),
		jobOf(),
	];
	for (const job of [cancelled, slow, over]) work.assign(job);
	words();
	work.cancel({ ...cancelled, reason: 'cancelled', grace_ms: 0 });
	work.cancel({ ...over, reason: 'deadline', grace_ms: 0 });
	expect(words()).toEqual(['cancelled', 'timeout']);
	await clock.advance(100);
	expect(words()).toEqual(['timeout']);
});

test('on a new line it says what it holds, and does of each what the service wants', async () => {
	const { clock, work, words } = robot({ slots: 5 });
	const jobs = [jobOf(), jobOf(), jobOf(), jobOf(), jobOf()];
	const [running, killed, held, unknown, ended] = jobs as [
		JobAssignment,
		JobAssignment,
		JobAssignment,
		JobAssignment,
		JobAssignment,
	];
	work.assign(ended);
	await clock.advance(100);
	for (const job of [running, killed, held, unknown]) work.assign(job);
	expect(work.held.map(({ state }) => state)).toEqual([
		'ended',
		'running',
		'running',
		'running',
		'running',
	]);
	words();
	work.attached([
		verdict(running, 'continue'),
		verdict(killed, 'kill'),
		verdict(held, 'hold'),
		verdict(ended, 'send_result'),
	]);
	expect(words().sort()).toEqual(['cancelled', 'completed', 'job_accepted']);
	// Nobody knows those two: they are kept, and not spoken of.
	await clock.advance(100);
	expect(words()).toEqual(['completed']);
	work.attached(jobs.map((job) => verdict(job, 'send_result')));
	expect(words()).toHaveLength(5);
	work.attached(jobs.map((job) => verdict(job, 'forget')));
	expect(work.isEmpty).toBe(true);
});

test('a result that nobody took is said again with the second heartbeat', async () => {
	const { clock, work, words } = robot();
	work.assign(jobOf());
	await clock.advance(100);
	words();
	work.tick();
	expect(words()).toEqual([]);
	work.tick();
	expect(words()).toEqual(['completed']);
});

test('alone for too long, only what shall not run alone ends', async () => {
	const { work, words } = robot({ slots: 2 });
	work.assign(jobOf());
	work.assign(jobOf({ on_disconnect: 'stop' }));
	words();
	work.alone();
	expect(words()).toEqual(['failed']);
	expect(work.running).toHaveLength(1);
});

test('which jobs fail is drawn: the same seed fails the same, about as many as were asked for', async () => {
	const play = async (seed: number) => {
		const { clock, work, words, taken } = robot({ seed, failures: 0.3 });
		const ends: string[] = [];
		for (let i = 0; i < 200; i += 1) {
			const job = jobOf();
			work.assign(job);
			await clock.advance(100);
			ends.push(words()[1]!);
			taken(job);
		}
		return ends;
	};
	const first = await play(7);
	expect(await play(7)).toEqual(first);
	expect(await play(8)).not.toEqual(first);
	const failed = first.filter((end) => end === 'failed').length;
	expect(failed).toBeGreaterThan(40);
	expect(failed).toBeLessThan(80);
});

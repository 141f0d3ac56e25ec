/**
 * Row 11: a robot is stopped in mid-work (SIGSTOP) for longer than it is waited for, its jobs go to
 * another one, and then it wakes up and writes as if nothing had happened.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal, type Job, type Submit } from '../../protocol';
import { Draw } from '../support/dice';
import type { AgentProgram } from '../support/programs';
import { howMany, say, seed } from '../support/proof';
import { NearService } from './near-service';
import { eventually } from './one-service';

const wanted = howMany(10, 1_000);
const perRound = Math.min(24, Math.max(10, Math.ceil(wanted / 10)));

jest.setTimeout(120_000 + wanted * 500);

/** Notes each start and end of itself, so that nobody has to be believed. */
const script = `
echo "start $ROBOT_FLEET_JOB_ID $ROBOT_FLEET_ATTEMPT" >> "$NOTES"
echo "said by attempt $ROBOT_FLEET_ATTEMPT"
if [ "$ROBOT_FLEET_ATTEMPT" = 1 ]; then
	while [ ! -e "$GO" ]; do sleep 0.1; done
else
	sleep "$AGAIN"
fi
echo "end $ROBOT_FLEET_JOB_ID $ROBOT_FLEET_ATTEMPT" >> "$NOTES"
`;

test('a robot that slept while its jobs went to another one changes nothing when it wakes up', async () => {
	// Short heartbeats and no grace after the start are the only shortcuts; the silence is a real one.
	await NearService.use(500, async (near) => {
		const { client } = near;
		const draw = new Draw(seed);
		const notes = join(near.folder, 'notes');
		const jobOf = (round: number): Submit => ({
			kind: 'command',
			spec: {
				shell: script,
				env: {
					NOTES: notes,
					// Half of them end while their robot sleeps, the others are still running when it wakes up.
					GO: draw.chance(0.5) ? join(near.folder, `go-${round}`) : '/never',
					AGAIN: String(draw.part(0, 2).toFixed(1)),
				},
			},
			// A busy machine may lose a link, too; only the sleeper stays away for so long.
			onLoss: { waitMs: 1_500, then: 'retry' },
		});
		const robots = await Promise.all(
			['anna', 'bert'].map((name) => near.agent(name, { slots: 2 * perRound })),
		);
		const idOf = new Map((await client.robots()).map(({ name, robotId }) => [name, robotId]));
		const counts = { paused: 0, rounds: 0, lateDone: 0, lateStopped: 0 };
		const broken: string[] = [];

		while (counts.paused < wanted) {
			counts.rounds++;
			const answers = await client.submitMany(
				Array.from({ length: perRound }, () => jobOf(counts.rounds)),
			);
			const ids = answers.map((answer) => ('jobId' in answer ? answer.jobId : 'refused'));
			const look = () => Promise.all(ids.map((id) => client.job(id)));
			// A machine that stood still may have cost one its robot already, and its next try may be over by now.
			await eventually('all jobs to run', async () =>
				(await look()).every(({ state, attempt }) => state === 'running' || attempt > 1),
			);
			const victim: AgentProgram = draw.pick(robots);
			process.kill(victim.pid!, 'SIGSTOP');
			const stopped = await look();
			const victims = stopped.filter(
				({ robotId, state }) => robotId === idOf.get(victim.name) && !isFinal(state),
			);
			writeFileSync(join(near.folder, `go-${counts.rounds}`), '');
			// Some awake while the other robot is still busy with their jobs, some long after.
			const soon = draw.chance(0.5);
			await eventually('another robot to have taken all of its jobs', async () => {
				const jobs = await Promise.all(victims.map(({ jobId }) => client.job(jobId)));
				return jobs.every(
					({ attempt, robotId, state }) =>
						attempt > 1 && robotId !== idOf.get(victim.name) && (soon || isFinal(state)),
				);
			});
			process.kill(victim.pid!, 'SIGCONT');
			await eventually(
				'the robot to be back',
				async () => (await client.robot(victim.name)).connected,
			);
			for (const { jobId, robotId } of stopped) {
				if (robotId !== idOf.get(victim.name)) await client.cancel(jobId);
			}
			await eventually('all jobs to be final', async () =>
				(await look()).every(({ state, output }) => isFinal(state) && output.complete),
			);
			const before = await Promise.all(victims.map(({ jobId }) => client.job(jobId)));
			await eventually('every late result to be kept', async () => {
				const attempts = await Promise.all(victims.map(({ jobId }) => client.attempts(jobId)));
				// One that never reached its robot has nothing to say.
				return attempts
					.flat()
					.every((one) => one.outcome !== 'lost' || !one.startedAt || one.lateResult !== null);
			});
			for (const job of before) {
				const wrong = await mistake(job);
				if (wrong) broken.push(`${job.jobId}: ${wrong}`);
			}
			counts.paused += victims.length;
		}

		/** What is wrong with a job whose first robot woke up again; undefined = nothing. */
		async function mistake(before: Job): Promise<string | undefined> {
			const { jobId } = before;
			const [job, attempts, timeline] = await Promise.all([
				client.job(jobId),
				client.attempts(jobId),
				client.timeline(jobId),
			]);
			const finals = timeline.filter(({ to }) => isFinal(to)).length;
			const [last, ...earlier] = [...attempts].reverse();
			if (JSON.stringify(job) !== JSON.stringify(before)) return 'the late result changed the job';
			if (finals !== 1 || job.state !== 'completed') return `${finals} final states, ${job.state}`;
			if (last!.outcome !== 'completed') return `the last attempt is ${last!.outcome}`;
			if (job.result?.stdout !== `said by attempt ${last!.number}\n`) return 'not its own output';
			if (!earlier.some(({ outcome }) => outcome === 'lost')) return 'nothing was lost';
			for (const { number, outcome, startedAt, result, lateResult, epoch } of earlier) {
				if (epoch >= last!.epoch) return 'epochs do not rise';
				// A busy robot may lose its link, too, before it heard of an attempt.
				if (outcome === 'not-started' || !startedAt) continue;
				if (outcome !== 'lost' || result !== null) return `attempt ${number} is ${outcome}`;
				if (lateResult!.stdout !== `said by attempt ${number}\n`) return 'a wrong late result';
				if (lateResult!.exitCode === 0) counts.lateDone++;
				else counts.lateStopped++;
			}
			return undefined;
		}

		const starts = readFileSync(notes, 'utf8')
			.split('\n')
			.filter((line) => line.startsWith('start'));
		const doubles = starts.length - new Set(starts).size;
		say(11, {
			'jobs of sleeping robots': counts.paused,
			rounds: counts.rounds,
			'late results of commands that had ended': counts.lateDone,
			'of commands stopped on waking': counts.lateStopped,
			'audited as late': near.warnings.filter((text) => text === 'late result kept').length,
			'accepted late or double': broken.length + doubles,
		});
		expect(broken).toEqual([]);
		expect(doubles).toBe(0);
		expect(counts.lateDone).toBeGreaterThan(0);
		expect(counts.lateStopped).toBeGreaterThan(0);
		// Each of them is on record: beside its attempt, and in the log.
		const told = near.warnings.filter((text) => text === 'late result kept').length;
		expect(told).toBeGreaterThanOrEqual(counts.lateDone + counts.lateStopped);
	});
});

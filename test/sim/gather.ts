/** What all sides wrote, as the checker of the kill tests reads it. */
import type { Job } from '../../protocol';
import type { Histories, StoredTruth } from '../support/history';
import { printedBy } from './children';
import type { World } from './world';

const allJobs = 1_000;
const maxBytes = 10_000_000;

export async function gather(world: World): Promise<Histories> {
	const { service, ledger, submitter, disk, robots, removed, plan } = world;
	const engine = service.engine!;
	const { items } = await engine.jobs({ limit: allJobs });
	const store: StoredTruth[] = [];
	for (const job of items) {
		const { jobId } = job;
		const taken = ledger.jobs.get(jobId);
		const read = async (stream: 'stdout' | 'stderr') =>
			job.output[stream] === 0
				? Buffer.alloc(0)
				: Buffer.from((await engine.output(jobId, stream, 0, maxBytes)).data);
		store.push({
			// The order of the commits: the wall clock of the service may have jumped.
			job: { ...job, cancelRequestedAt: job.cancelRequestedAt && (taken?.cancelledIn ?? 0) },
			attempts: (await engine.attempts(jobId)).map((attempt) => {
				const known = taken?.attempts[attempt.number - 1];
				return {
					...attempt,
					assignedAt: known?.assignedIn ?? 0,
					endedAt: attempt.endedAt === null ? null : (known?.endedIn ?? 0),
				};
			}),
			timeline: await engine.timeline(jobId),
			output: { stdout: await read('stdout'), stderr: await read('stderr') },
		});
	}
	const recipeOf = (job: Job) => plan.jobs.find(({ key }) => key === job.variables['key'])!.recipe;
	return {
		submitter: submitter.lines,
		commands: world.commands,
		agents: world.agents,
		seen: submitter.seen,
		store,
		attemptRows: items.flatMap(({ jobId }) =>
			disk.read('attempts', { jobId }).map((row) => ({
				jobId,
				number: row.number,
				epoch: row.epoch,
				state: row.state,
				hold: row.state === 'ended' ? 0 : 1,
				results: row.result === null ? 0 : 1,
				lateResults: row.lateResult === null ? 0 : 1,
			})),
		),
		journalRows: world.stayed.flatMap(({ name, journal }) =>
			[...journal.rows.values()].map(({ jobId, epoch, fate }) => ({
				robot: name,
				jobId,
				epoch,
				fate,
			})),
		),
		robots: new Map(robots.map(({ robotId, name }) => [robotId, name])),
		// Of a robot that was removed nobody hears any more.
		forgetful: new Set(
			robots.filter((robot) => robot.forgetful || removed.has(robot)).map(({ name }) => name),
		),
		keyOf: ({ variables, retryOf }) =>
			`${String(variables['key'])}${retryOf === null ? '' : '/retry'}`,
		printed: (job, attempt) => ({
			stdout: printedBy(recipeOf(job), attempt, 'stdout'),
			stderr: printedBy(recipeOf(job), attempt, 'stderr'),
		}),
	};
}

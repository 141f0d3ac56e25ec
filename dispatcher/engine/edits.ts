/** Changes to a job that still waits: how urgent it is, whether it is held back, where it may run. */
import { type Job, type JobChange, Problem } from '../../protocol';
import { laneRule, laneWith } from '../core/matching';
import { priorityOf } from '../core/rank';
import { policyOf } from '../core/retry';
import { type Change, changed } from '../core/waiting';
import type { StoredJob } from '../store/store';
import type { Context } from './context';
import type { Caller } from './index';
import type { Home, Jobs } from './jobs';
import { jobView } from './views';
import type { WaitingJobs } from './waiting';

/** A change whose target is found. */
export type Edit = Omit<Change, 'target'> & { target?: Home };

export class Edits {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #waiting: WaitingJobs;

	constructor(context: Context, jobs: Jobs, waiting: WaitingJobs) {
		this.#context = context;
		this.#jobs = jobs;
		this.#waiting = waiting;
	}

	/** Safe to repeat: a job that is so already stays as it is. */
	async change(jobId: string, request: JobChange, by: Caller): Promise<Job> {
		const change = this.changeOf(request, by);
		for (;;) {
			const job = await this.#jobs.read(jobId);
			const outcome = await this.apply(job, change, by);
			if (outcome === 'not-waiting') throw new Problem('not-waiting', { state: job.state });
			if (outcome === 'other-family') throw new Problem('other-family');
			if (outcome !== 'again') return jobView(await this.#jobs.read(jobId));
		}
	}

	/** What a request means; throws when its target names a robot that nobody knows. */
	changeOf({ priority, hold, target }: JobChange, by: Caller): Edit {
		return {
			...(priority === undefined ? {} : { priority: priorityOf(priority) }),
			...(hold === undefined ? {} : { hold: holdOf(hold, by) }),
			...(target === undefined ? {} : { target: this.#jobs.place(target) }),
		};
	}

	/** Changes a job as it was read; `again` = it has moved on since. */
	apply(
		job: StoredJob,
		change: Edit,
		by: Caller,
	): Promise<'changed' | 'same' | 'not-waiting' | 'other-family' | 'again'> {
		return new Promise((resolve, reject) => {
			if (job.state !== 'pending' && job.state !== 'queued') {
				resolve('not-waiting');
				return;
			}
			if (otherFamily(job, change)) {
				resolve('other-family');
				return;
			}
			this.#context.turns.push({
				plan: (turn) => {
					if (!turn.touch(job.id)) return 'later';
					const policy = policyOf(job.policy);
					const lane = change.target && laneWith(change.target.lane, policy);
					const own =
						lane === undefined ? change : { ...change, target: { ...change.target!, lane } };
					const to = changed(job, own, policy, turn.now);
					if (!to) resolve('same');
					else {
						this.#waiting.change(turn, job, to, `key:${by.name}`, (done) =>
							resolve(done ? 'changed' : 'again'),
						);
					}
				},
				fail: reject,
			});
		});
	}
}

/**
 * A job is for one robot or for several, for good: its children are chosen when it starts, and each keeps its robot.
 * The other robots belong to its siblings, and its parent tells what became of the job there.
 */
export function otherFamily({ children, cell }: StoredJob, { target }: Edit): boolean {
	if (target === undefined) return false;
	if ((target.children === null) !== (children === null)) return true;
	return cell !== null && laneRule(target.lane).robot !== cell;
}

function holdOf(hold: boolean | string, by: Caller): Change['hold'] {
	if (hold === false) return null;
	return { by: by.name, ...(hold === true ? {} : { why: hold }) };
}

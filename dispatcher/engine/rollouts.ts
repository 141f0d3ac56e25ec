/**
 * What people do to jobs that go out in batches, and how a job for several robots stands. The steps
 * between two batches are taken by whatever ends the last child of one: see family.ts.
 */
import {
	type Cells,
	isFinal,
	type Job,
	Problem,
	type ResumeRequest,
	type Target,
} from '../../protocol';
import { childrenOf, type Counted, progressOf } from '../core/parents';
import { policyOf } from '../core/retry';
import { whyRollout, whyShut } from '../core/rollout';
import type { FanOutState, RolloutMove, StoredJob } from '../store/store';
import type { Context } from './context';
import { followRollout } from './family';
import type { Caller } from './index';
import type { Jobs } from './jobs';
import type { Turn } from './turns';
import { childrenView, jobView, rolloutView } from './views';

export class Rollouts {
	readonly #context: Context;
	readonly #jobs: Jobs;

	constructor(context: Context, jobs: Jobs) {
		this.#context = context;
		this.#jobs = jobs;
	}

	/** Nothing more starts until it is resumed; what runs goes on. Safe to repeat. */
	async pause(jobId: string, by: Caller): Promise<Job> {
		// Else it would go out at its time as if nobody had said anything.
		if ((await this.#rollout(jobId)).state === 'pending') {
			throw new Problem('rollout-not-begun', { id: jobId });
		}
		return this.#change(jobId, (turn, done) => {
			const wish = { parentId: jobId, at: turn.now, by: `key:${by.name}` };
			turn.add('pauseRollout', wish, done);
		});
	}

	/** Goes on with what was kept back. Safe to repeat; with `batch`, even if it is paused again by then. */
	resume(jobId: string, { batch }: ResumeRequest, by: Caller): Promise<Job> {
		return this.#change(jobId, (turn, done) => {
			const wish = { parentId: jobId, at: turn.now, by: `key:${by.name}` };
			turn.add('resumeRollout', { ...wish, ...(batch === undefined ? {} : { batch }) }, done);
		});
	}

	async cells(jobId: string, page: { limit: number; cursor?: string }): Promise<Cells> {
		const { store, fleet } = this.#context;
		const job = await this.#parent(jobId);
		const nameOf = (robotId: string) => fleet.get(robotId)?.stored.name ?? null;
		const [batches, found] = await Promise.all([
			store.read('batches', { parentId: jobId }),
			store.read('cells', { parentId: jobId, after: page.cursor ?? '', limit: page.limit }),
		]);
		const children = childrenView(job)!;
		const last = found.length === page.limit ? found.at(-1) : undefined;
		return {
			jobId,
			state: job.state,
			progress: progressOf(children),
			children,
			rolledOut: rolloutView(job) ?? null,
			batches: batches.map(({ batch, family }) => ({
				batch,
				children: childrenOf(JSON.parse(family) as Counted),
			})),
			skipped: skippedOf(job).map((robotId) => ({ robotId, robot: nameOf(robotId) })),
			items: found.map(({ shut: _, ...cell }) => ({ ...cell, robot: nameOf(cell.cell) })),
			...(last ? { cursor: last.jobId } : {}),
		};
	}

	/** Why a child of a later batch waits. */
	async whyShut({ parentId, batch }: StoredJob): Promise<string> {
		const parent = await this.#jobs.read(parentId!);
		return whyShut(parentId!, batch!, rolloutView(parent)!);
	}

	/** What is added to why a parent waits. */
	why(parent: StoredJob): string {
		const rollout = rolloutView(parent);
		return rollout ? whyRollout(parent.id, rollout) : '';
	}

	/** The parent's target, narrowed to those of its robots on which it did not complete. */
	async failedOnly(job: StoredJob): Promise<Target> {
		const { store, fleet } = this.#context;
		await this.#parent(job.id);
		const robots: string[] = [];
		const limit = 1_000;
		for (let after = ''; ;) {
			const page = await store.read('cells', { parentId: job.id, after, limit });
			for (const { cell, state } of page) {
				if (isFinal(state) && state !== 'completed' && fleet.get(cell)) robots.push(cell);
			}
			if (page.length < limit) break;
			after = page.at(-1)!.jobId;
		}
		if (robots.length === 0) throw new Problem('nothing-failed', { id: job.id });
		return { ...(JSON.parse(job.target) as Target), mode: { robots } };
	}

	async #parent(jobId: string): Promise<StoredJob> {
		const job = await this.#jobs.read(jobId);
		if (job.children === null) throw new Problem('not-a-parent', { id: jobId });
		return job;
	}

	async #rollout(jobId: string): Promise<StoredJob> {
		const job = await this.#jobs.read(jobId);
		if (job.children === null || policyOf(job.policy).rollout === undefined) {
			throw new Problem('no-rollout', { id: jobId });
		}
		return job;
	}

	async #change(
		jobId: string,
		wish: (turn: Turn, done: (move: RolloutMove | null) => void) => void,
	): Promise<Job> {
		await this.#rollout(jobId);
		await new Promise<void>((resolve, reject) => {
			this.#context.turns.push({
				plan: (turn) => {
					wish(turn, (move) => {
						if (move) followRollout(this.#context, move);
						resolve();
					});
				},
				fail: reject,
			});
		});
		return jobView(await this.#jobs.read(jobId));
	}
}

function skippedOf({ fanOut }: StoredJob): string[] {
	return fanOut === null ? [] : (JSON.parse(fanOut) as FanOutState).skipped;
}

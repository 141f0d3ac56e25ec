/** Questions about the queue: who is next, how many wait, and why a job does not start. */
import {
	isFinal,
	type Job,
	type JobState,
	jobStates,
	priorities,
	type QueueLane,
	type QueueStats,
} from '../../protocol';
import { barred, barsOf } from '../core/bars';
import { misspelt } from '../core/lacking';
import { describeRule, laneRule, misfit } from '../core/matching';
import { openOf, tellChildren } from '../core/parents';
import { nearest } from '../core/nearest';
import { before } from '../core/rank';
import type { StoredJob } from '../store/store';
import type { Assigning } from './assigning';
import type { Context } from './context';
import { holderOf, isFull, type RobotEntry } from './fleet';
import type { Jobs } from './jobs';
import { childrenView } from './views';

const shownLanes = 20;
/** Index entries counted at a time: about a millisecond. */
const countScan = 10_000;

export class Lookout {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #assigning: Assigning;

	constructor(context: Context, jobs: Jobs, assigning: Assigning) {
		this.#context = context;
		this.#jobs = jobs;
		this.#assigning = assigning;
	}

	async queueStats(): Promise<QueueStats> {
		const { backlog, clock } = this.#context;
		await backlog.counted;
		const byState = Object.fromEntries(
			jobStates.map((state) => [state, 0]),
		) as QueueStats['byState'];
		for (const state of jobStates) {
			if (state !== 'pending' && state !== 'queued') byState[state] = await this.#count(state);
		}
		const { pending, queued } = backlog.waits;
		byState.pending = pending;
		for (const priority of priorities) byState.queued += queued[priority];
		const oldestAt = backlog.oldestQueuedAt;
		return {
			total: Object.values(byState).reduce((sum, count) => sum + count, 0),
			byState,
			byPriority: queued,
			oldestQueuedMs: oldestAt === null ? null : Math.max(0, clock.now() - oldestAt),
			lanes: backlog.longest(shownLanes).map((longest) => this.#laneView(longest)),
		};
	}

	/** A stretch at a time: finished jobs may be a million. */
	async #count(state: Exclude<JobState, 'pending' | 'queued'>): Promise<number> {
		let total = 0;
		for (let after: string | undefined = ''; after !== undefined;) {
			const stretch: { count: number; next?: string } = await this.#context.store.read(
				'countState',
				{ state, after, scan: countScan },
			);
			total += stretch.count;
			after = stretch.next;
		}
		return total;
	}

	#laneView({ lane: key, queued }: { lane: string; queued: number }): QueueLane {
		const { fleet, lanes } = this.#context;
		const { rule, robots } = lanes.get(key);
		const { robot } = rule;
		const target =
			robot === undefined
				? describeRule(rule, fleet.nameOf)
				: `robot ${fleet.get(robot)?.stored.name ?? `${robot} (removed)`}`;
		return { target, robotId: robot ?? null, queued, robots: robots.size };
	}

	async peek(robot?: string): Promise<Job | null> {
		const { lanes, clock } = this.#context;
		const entries =
			robot === undefined ? [...this.#context.fleet.all()] : [this.#jobs.findRobot(robot)];
		let best: { id: string; rank: number } | undefined;
		for (const entry of entries) {
			const head = this.#assigning.bestFor(entry, clock.now());
			if (head && (!best || before(head, best))) best = head;
		}
		if (!best && robot === undefined) {
			// Nobody could run any of it; the first in line is still the first in line.
			best = [...lanes.waiting]
				.flatMap((lane) => [...lane.queues.values()].map(({ heads }) => heads[0]!))
				.filter(Boolean)
				.sort((a, b) => a.rank - b.rank)[0];
		}
		return best ? this.#jobs.job(best.id) : null;
	}

	async why(jobId: string): Promise<{ text: string }> {
		const { clock, fleet } = this.#context;
		const job = await this.#jobs.read(jobId);
		const name = fleet.get(job.robotId ?? '')?.stored.name ?? job.robotId;
		const now = clock.now();
		if (isFinal(job.state)) {
			const error =
				job.error === null ? '' : ` ${(JSON.parse(job.error) as { message: string }).message}`;
			return { text: `The job is ${job.state}.${error}` };
		}
		const children = childrenView(job);
		if (job.state === 'running' && children) {
			const what = job.cancelRequestedAt === null ? 'waits' : 'was cancelled and waits';
			const open = tellChildren(children, ['pending', 'queued', 'dispatched', 'running']);
			return {
				text: `The job ${what} for ${openOf(children)} of its ${children.total} children: ${open}.`,
			};
		}
		if (job.state === 'running') {
			const here = fleet.get(job.robotId ?? '')?.session;
			return {
				text: here
					? `The job is running on ${name}.`
					: `The job was running on ${name}, which is not connected; we wait for it to come back.`,
			};
		}
		if (job.state === 'dispatched')
			return { text: `The job was sent to ${name}, which has not answered yet.` };
		if (job.state === 'pending' && job.cause === 'restored') {
			return {
				text: `The job came back from a backup and waits for a person; let it go on with: robot-fleet jobs release ${job.id}.`,
			};
		}
		if (job.hold !== null) {
			return {
				text: `The job is held by ${job.hold.replace(/[.!]$/, '')}; let it go on with: robot-fleet jobs release ${job.id}.`,
			};
		}
		if (job.state === 'pending') {
			return {
				text: `The job is not eligible before ${new Date(job.readyAt).toISOString()}${job.tries > 0 ? `, for try ${job.tries + 1}` : ''}.`,
			};
		}
		return { text: this.#whyQueued(job, now) };
	}

	#whyQueued(job: StoredJob, now: number): string {
		const { fleet } = this.#context;
		const rule = laneRule(job.lane);
		if (rule.robot !== undefined) {
			const entry = fleet.get(rule.robot);
			if (!entry) return 'The job is for a robot that was removed.';
			const { name } = entry.stored;
			const { client } = rule;
			if (client !== undefined && !entry.clients.includes(client)) {
				return `Robot ${name} announces no client ${client}${meant(client, entry.clients)}`;
			}
			const what = misfit(rule, entry) ?? this.#blocker(entry, job, now);
			return this.#whyClient(entry, client) ?? `The job waits for robot ${name}, which ${what}.`;
		}
		const all = [...fleet.all()];
		const fitting = all.filter((entry) => misfit(rule, entry) === undefined);
		if (all.length === 0)
			return 'No robot has been enrolled yet; make a token with: robot-fleet token create.';
		if (fitting.length === 0 && rule.client !== undefined) {
			const announced = all.flatMap(({ clients }) => clients);
			if (!announced.includes(rule.client)) {
				return `No robot announces client ${rule.client}${meant(rule.client, announced)}`;
			}
		}
		if (fitting.length === 0) {
			const lacks = misfit(rule, all[0]!);
			const slip = misspelt(rule, all);
			if (slip !== undefined) return slip;
			return `None of the ${all.length} robots matches ${describeRule(rule, fleet.nameOf)} (${all[0]!.stored.name} ${lacks}).`;
		}
		const client = fitting.length === 1 ? this.#whyClient(fitting[0]!, rule.client) : undefined;
		if (client !== undefined) return client;
		const reasons = new Map<string, number>();
		for (const entry of fitting) {
			const reason = this.#blocker(entry, job, now);
			reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
		}
		const list = [...reasons].map(([reason, count]) => `${count} ${reason}`).join(', ');
		return `${fitting.length} of ${all.length} robots match: ${list}.`;
	}

	/** Of a robot that takes work: who has the client that the job wants. */
	#whyClient(entry: RobotEntry, client: string | undefined): string | undefined {
		const holder = client === undefined ? undefined : holderOf(entry, client);
		if (!holder || !this.#context.fleet.isOpen(entry)) return undefined;
		return `The job waits: client ${client} of robot ${entry.stored.name} is busy with job ${holder.jobId}.`;
	}

	#blocker(entry: RobotEntry, job: StoredJob, now: number): string {
		const { fleet } = this.#context;
		if (!entry.session) return 'is not connected';
		if (entry.stored.paused) return 'is paused';
		if (entry.session.stopping) return 'is stopping';
		if (barred(job.bars, entry.robotId, now, this.#context.lanes.get(job.lane).robots)) {
			const tried = barsOf(job.bars)[entry.robotId] === 'tried';
			return tried
				? 'has tried this job, which asks for another robot'
				: 'refused or lost this job before';
		}
		const { client } = laneRule(job.lane);
		const holder = client === undefined ? undefined : holderOf(entry, client);
		if (holder) return `has client ${client} busy with job ${holder.jobId}`;
		if (isFull(entry)) return 'is busy';
		const shut = entry.gates.find((gate) => fleet.room(gate) <= 0);
		if (shut) return `waits for its ${shut.of} ${shut.name}, which runs ${shut.limit} jobs at most`;
		if (this.#assigning.keepsAway(this.#context.lanes.get(job.lane), job, entry, now)) {
			return 'is free, and left to others while the job waits for one it would rather have';
		}
		return 'is free and about to take work';
	}
}

/** How a sentence about a client that nobody has goes on. */
function meant(client: string, announced: readonly string[]): string {
	const near = nearest(client, announced);
	if (near !== undefined) return `; did you mean ${near}?`;
	const known = [...new Set(announced)];
	if (known.length === 0) return '; an agent announces one with: --client NAME.';
	const more = known.length > 5 ? ` and ${known.length - 5} more` : '';
	return `; there is ${known.slice(0, 5).join(', ')}${more}.`;
}

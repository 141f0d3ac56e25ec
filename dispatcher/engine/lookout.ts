/** Questions about the queue: who is next, how many wait, and why a job does not start. */
import {
	isFinal,
	type Job,
	type JobState,
	jobStates,
	type Obstacle,
	type OfflineEnd,
	priorities,
	type QueueLane,
	type QueueStats,
	type Reason,
	type RobotsWhy,
	type Why,
} from '../../protocol';
import { barred, barsOf } from '../core/bars';
import { closedOf, quarantineOf, tellClosed, tellQuarantine, utc } from '../core/control';
import { meantClient, whyNobody } from '../core/lacking';
import { describeRule, laneRule, misfit } from '../core/matching';
import { openOf, tellChildren } from '../core/parents';
import { before } from '../core/rank';
import { policyOf } from '../core/retry';
import type { StoredJob } from '../store/store';
import type { Assigning } from './assigning';
import type { Context } from './context';
import { holderOf, isFull, type RobotEntry } from './fleet';
import type { RobotsPage } from './index';
import type { Jobs } from './jobs';
import { answersOf, asks } from './patience';
import type { Rollouts } from './rollouts';
import type { Locks } from './locks';
import { childrenView } from './views';

const shownLanes = 20;
/** How many different reasons one sentence tells. */
const maxReasons = 5;
/** Index entries counted at a time: about a millisecond. */
const countScan = 10_000;

export class Lookout {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #assigning: Assigning;
	readonly #rollouts: Rollouts;
	readonly #locks: Locks;

	constructor(
		context: Context,
		jobs: Jobs,
		assigning: Assigning,
		rollouts: Rollouts,
		locks: Locks,
	) {
		this.#context = context;
		this.#jobs = jobs;
		this.#assigning = assigning;
		this.#rollouts = rollouts;
		this.#locks = locks;
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
				: `robot ${fleet.nameOf(robot)}${fleet.get(robot) ? '' : ' (removed)'}`;
		return { target, robotId: robot ?? null, queued, robots: robots.size };
	}

	async peek(robot?: string): Promise<Job | null> {
		const { lanes, clock } = this.#context;
		const entries =
			robot === undefined ? [...this.#context.fleet.all()] : [this.#jobs.findRobot(robot)];
		this.#assigning.passing.look();
		let best: { id: string; rank: number } | undefined;
		for (const entry of entries) {
			const head = this.#assigning.bestFor(entry, clock.now());
			if (head && (!best || before(head, best))) best = head;
		}
		if (!best && robot === undefined) {
			// Nobody could run any of it; the first in line is still the first in line.
			best = lanes.withWork
				.flatMap((lane) => [...lane.queues.values()].map(({ heads }) => heads[0]!))
				.filter(Boolean)
				.sort((a, b) => (before(a, b) ? -1 : 1))[0];
		}
		return best ? this.#jobs.job(best.id) : null;
	}

	async why(jobId: string, page?: RobotsPage): Promise<Why> {
		const job = await this.#jobs.read(jobId);
		const waits = job.state === 'pending' || job.state === 'queued';
		const choices = waits || job.attempt === 0 ? undefined : await this.#jobs.choices(jobId);
		const choice = choices?.get(job.attempt);
		return {
			...(await this.#sentence(job)),
			...(waits && page ? { robots: this.robots(job, page) } : {}),
			...(choice && job.robotId !== null ? { choice: choice(job.robotId) } : {}),
		};
	}

	/** What keeps each robot from the job. */
	robots(job: Asking, { limit, cursor = '', only }: RobotsPage): RobotsWhy {
		const { clock, fleet } = this.#context;
		const now = clock.now();
		const rule = laneRule(job.lane);
		const counts = new Map<Obstacle, number>();
		const found: RobotsWhy = { robots: 0, matching: 0, free: 0, obstacles: [], items: [] };
		const all = [...fleet.all()].sort((a, b) => (a.robotId < b.robotId ? -1 : 1));
		this.#assigning.atOnce(() => {
			for (const entry of all) {
				const { robotId } = entry;
				const never = misfit(rule, entry);
				const reason = never ?? this.#obstacleTo(entry, job, now);
				found.robots += 1;
				if (!never) found.matching += 1;
				if (!reason) found.free += 1;
				else counts.set(reason.obstacle, (counts.get(reason.obstacle) ?? 0) + 1);
				if (robotId <= cursor || (only === 'matching' && never)) continue;
				if (found.items.length === limit) found.cursor ??= found.items.at(-1)!.robotId;
				else {
					const { obstacle, text } = reason ?? { obstacle: null, text: 'is free' };
					found.items.push({ robotId, name: entry.stored.name, obstacle, text });
				}
			}
		});
		found.obstacles = [...counts]
			.map(([obstacle, robots]) => ({ obstacle, robots }))
			.sort((a, b) => b.robots - a.robots);
		return found;
	}

	async #sentence(job: StoredJob): Promise<{ text: string }> {
		if (isFinal(job.state)) {
			const error =
				job.error === null ? '' : ` ${(JSON.parse(job.error) as { message: string }).message}`;
			return { text: `The job is ${job.state}.${error}` };
		}
		const children = childrenView(job);
		if (job.state === 'running' && children) {
			const what = job.cancelRequestedAt === null ? 'waits' : 'was cancelled and waits';
			const open = tellChildren(children, ['pending', 'queued', 'dispatched', 'running']);
			const rollout = job.cancelRequestedAt === null ? this.#rollouts.why(job) : '';
			return {
				text: `The job ${what} for ${openOf(children)} of its ${children.total} children: ${open}.${rollout}`,
			};
		}
		if (job.state === 'running' || job.state === 'dispatched') return { text: this.#whyOn(job) };
		if (job.state === 'pending' && job.cause === 'restored') {
			return {
				text: `The job came back from a backup and waits for a person; release it with: robot-fleet jobs release ${job.id}.`,
			};
		}
		const policy = policyOf(job.policy);
		if (asks(job, policy)) {
			const question = job.hold!.replace(/^dispatcher: /, '');
			const entry = this.#context.fleet.get(laneRule(job.lane).robot ?? '');
			const answers = answersOf(job, entry !== undefined).join('|');
			const back = entry?.session ? ` (${entry.stored.name} is back)` : '';
			return {
				text: `The job asks: ${question}${back} Answer with: robot-fleet jobs answer ${job.id} ${answers}.`,
			};
		}
		if (job.hold !== null) {
			return {
				text: `The job is held by ${job.hold.replace(/[.!]$/, '')}; release it with: robot-fleet jobs release ${job.id}.`,
			};
		}
		if (job.shut === 1) return { text: await this.#rollouts.whyShut(job) };
		if (job.state === 'pending') {
			return {
				text: `The job is not eligible before ${new Date(job.readyAt).toISOString()}${job.tries > 0 ? `, for try ${job.tries + 1}` : ''}.`,
			};
		}
		return { text: this.whyQueued(job) };
	}

	/** Of a job that a robot has. */
	#whyOn({ state, robotId }: StoredJob): string {
		const { fleet } = this.#context;
		const name = fleet.nameOf(robotId!);
		const entry = fleet.get(robotId!);
		const running = state === 'running';
		if (entry?.session) {
			return running
				? `The job is running on ${name}.`
				: `The job was sent to ${name}, which has not answered yet.`;
		}
		const was = `The job was ${running ? 'running on' : 'sent to'} ${name}, which`;
		if (entry) return `${was} is not connected; the service waits for it to come back.`;
		return `${was} was removed and reports nothing more; the job’s onLoss decides now.`;
	}

	/** Of a job that is eligible. */
	whyQueued(job: Asking): string {
		return this.#locks.why(job) ?? this.#assigning.atOnce(() => this.#whyQueued(job));
	}

	#whyQueued(job: Asking): string {
		const { clock, fleet } = this.#context;
		const now = clock.now();
		const rule = laneRule(job.lane);
		const { group, pool } = rule;
		const area =
			group !== undefined && !fleet.hasGroup(group)
				? `group ${group}`
				: pool !== undefined && !fleet.hasPool(pool)
					? `pool ${pool}`
					: undefined;
		if (area !== undefined) {
			return `The job is for the ${area}, which was removed: make it again, or give the job another target.`;
		}
		if (rule.robot !== undefined) {
			const entry = fleet.get(rule.robot);
			if (!entry) return `The job is for robot ${fleet.nameOf(rule.robot)}, which was removed.`;
			const { name } = entry.stored;
			const { client } = rule;
			if (client !== undefined && !entry.clients.includes(client)) {
				return `Robot ${name} announces no client ${client}${meantClient(client, entry.clients)}`;
			}
			const what = misfit(rule, entry)?.text ?? this.#blocker(entry, job, now);
			const waits = `The job waits for robot ${name}, which ${what}`;
			return this.#whyClient(entry, client) ?? `${waits}${entry.session ? '' : untilWhen(job)}.`;
		}
		const all = [...fleet.all()];
		const fitting = all.filter((entry) => misfit(rule, entry) === undefined);
		if (fitting.length === 0) return whyNobody(rule, all, fleet.nameOf);
		const client = fitting.length === 1 ? this.#whyClient(fitting[0]!, rule.client) : undefined;
		if (client !== undefined) return client;
		const reasons = new Map<string, number>();
		for (const entry of fitting) {
			const reason = this.#blocker(entry, job, now);
			reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
		}
		const most = [...reasons].sort(([, a], [, b]) => b - a).slice(0, maxReasons);
		const told = most.reduce((sum, [, count]) => sum + count, 0);
		const more = told === fitting.length ? '' : `, ${fitting.length - told} something else`;
		const list = most.map(([reason, count]) => `${count} ${reason}`).join(', ') + more;
		return `${fitting.length} of ${all.length} robots match: ${list}.`;
	}

	/** Of a robot that takes work: who has the client that the job wants. */
	#whyClient(entry: RobotEntry, client: string | undefined): string | undefined {
		const holder = client === undefined ? undefined : holderOf(entry, client);
		if (!holder || !this.#context.fleet.isOpen(entry)) return undefined;
		return `The job waits: client ${client} of robot ${entry.stored.name} is busy with job ${holder.jobId}.`;
	}

	/** Of a robot with a free slot: too few of them, or kept for another job. */
	#whySlots(entry: RobotEntry, job: Asking, now: number): Reason | undefined {
		const { fleet } = this.#context;
		const { slots = 1 } = laneRule(job.lane);
		const free = fleet.freeSlots(entry);
		if (free < slots) {
			return {
				obstacle: 'busy',
				text: `has ${free} free of the ${slots} slots that the job takes`,
			};
		}
		this.#assigning.passing.look();
		const kept = this.#assigning.passing.keptRobot(entry, job, now);
		if (!kept) return undefined;
		const text = `is kept for job ${kept.id}, which takes several slots and has been in line longer`;
		return { obstacle: 'kept', text };
	}

	#blocker(entry: RobotEntry, job: Asking, now: number): string {
		return this.#obstacleTo(entry, job, now)?.text ?? 'is free and about to take work';
	}

	/** What keeps a robot that matches from the job now. */
	#obstacleTo(entry: RobotEntry, job: Asking, now: number): Reason | undefined {
		const { fleet, lanes } = this.#context;
		const closed = closedOf(entry.stored.closed);
		if (closed) {
			const away = entry.session ? '' : ', and is not connected';
			const obstacle = closed.as === 'maintenance' ? 'maintenance' : 'paused';
			return { obstacle, text: `${tellClosed(closed)}${away}` };
		}
		if (!entry.session) return { obstacle: 'offline', text: 'is not connected' };
		const quarantine = quarantineOf(entry.stored.quarantine);
		if (quarantine) return { obstacle: 'quarantined', text: tellQuarantine(quarantine) };
		if (entry.session.stopping) return { obstacle: 'stopping', text: 'is stopping' };
		const lane = lanes.get(job.lane);
		if (barred(job.bars, entry.robotId, now, lane.robots)) {
			return barsOf(job.bars)[entry.robotId] === 'tried'
				? { obstacle: 'tried', text: 'has tried this job, which asks for another robot' }
				: { obstacle: 'barred', text: 'refused or lost this job before' };
		}
		const { client } = lane.rule;
		const holder = client === undefined ? undefined : holderOf(entry, client);
		if (holder) {
			const text = `has client ${client} busy with job ${holder.jobId}`;
			return { obstacle: 'client_busy', text };
		}
		if (isFull(entry)) return { obstacle: 'busy', text: 'is busy' };
		const slots = this.#whySlots(entry, job, now);
		if (slots) return slots;
		const shut = entry.gates.find((gate) => fleet.room(gate) <= 0);
		if (shut) {
			const text = `waits for its ${shut.of} ${shut.name}, which runs ${shut.limit} jobs at most`;
			return { obstacle: 'limit', text };
		}
		if (!fleet.assigning) {
			const why = this.#context.diskFull() ? 'has a full disk' : 'is drained';
			return {
				obstacle: 'closed',
				text: `is free, but the service gives out no jobs, because it ${why}`,
			};
		}
		if (this.#assigning.keepsAway(lane, job, entry, now)) {
			const text = 'is free, but left to others while the job waits for a robot it prefers';
			return { obstacle: 'left', text };
		}
		return undefined;
	}
}

/** The part of a job that decides where it may run now. */
export type Asking = Pick<
	StoredJob,
	'id' | 'lane' | 'bars' | 'rank' | 'priority' | 'affinity' | 'policy' | 'needs'
>;

/** How long it waits for a robot that is away. */
function untilWhen(job: Asking): string {
	const { offline } = policyOf(job.policy);
	if (!offline || offline.asked) return '';
	return `; it waits until ${utc(offline.until)}, ${patienceEnds[offline.then]}`;
}

const patienceEnds: Record<OfflineEnd, string> = {
	expire: 'then it ends',
	other: 'then another robot may do it',
	ask: 'then it asks',
};

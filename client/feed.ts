/**
 * What a viewer of the live socket knows: messages go in, robots and jobs in their latest state come out. How the
 * messages travel is up to its owner: no socket and no timer in here. A message costs the same however many jobs there are.
 */
import {
	isFinal,
	type LiveCounts,
	type LiveJob,
	type LiveMessage,
	type LiveRobot,
} from '../protocol';

/** Jobs that are remembered: the last to end, and the newest that wait. Of those with robots, all are. */
const maxEnded = 500;
const maxWaiting = 2_000;

type Snapshot = Extract<LiveMessage, { event: 'snapshot' }>;

export class LiveView {
	readonly robots = new Map<string, LiveRobot>();
	readonly jobs = new Map<string, LiveJob>();
	/** Of all jobs of the service, not only those that are remembered; missing until it has sent them. */
	counts: LiveCounts | undefined;
	readonly #seqs = new Map<string, number>();
	/** Channels whose snapshot is not whole yet, by the number of that snapshot. */
	readonly #partial = new Map<string, number>();
	/** In the order in which they ended, and in which they were last heard of. */
	readonly #ended = new Set<string>();
	readonly #waiting = new Set<string>();

	/** The last event known of a channel: pass it as `since` when the socket has to be reopened. */
	since(channel: string): number | undefined {
		return this.#partial.has(channel) ? undefined : this.#seqs.get(channel);
	}

	/** Whether every channel heard of so far is known as a whole. */
	get isWhole(): boolean {
		return this.#partial.size === 0;
	}

	apply(message: LiveMessage): void {
		this.#seqs.set(message.channel, message.seq);
		switch (message.event) {
			case 'snapshot':
				return this.#begin(message);
			case 'jobs.counted':
				this.counts = message.data;
				return;
			case 'robot.removed':
				this.robots.delete((message.data as LiveRobot).robotId);
				return;
			default:
				this.#put(message.data as Partial<LiveJob> | Partial<LiveRobot>);
		}
	}

	#begin({ channel, seq, data: { items, more, counts } }: Snapshot): void {
		// A piece of another snapshot: the connection ended before the earlier one was whole.
		if (this.#partial.get(channel) !== seq) this.#clear(channel);
		for (const item of items) this.#put(item);
		if (more) this.#partial.set(channel, seq);
		else this.#partial.delete(channel);
		if (counts) this.counts = counts;
	}

	#clear(channel: string): void {
		if (channel.startsWith('robots:')) this.robots.clear();
		if (!channel.startsWith('jobs:')) return;
		this.jobs.clear();
		this.#ended.clear();
		this.#waiting.clear();
	}

	#put(item: Partial<LiveJob> | Partial<LiveRobot>): void {
		if ('jobId' in item) {
			const before = this.jobs.get(item.jobId!);
			// Of a job too old for the snapshot, only a change is known: not enough for a row.
			if (before || 'kind' in item) this.#putJob({ ...before, ...item } as LiveJob);
		} else {
			const { robotId } = item as LiveRobot;
			this.robots.set(robotId, { ...this.robots.get(robotId), ...(item as LiveRobot) });
		}
	}

	#putJob(job: LiveJob): void {
		const { jobId, state } = job;
		this.jobs.set(jobId, job);
		this.#waiting.delete(jobId);
		if (isFinal(state)) this.#remember(this.#ended, jobId, maxEnded);
		else if (state === 'pending' || state === 'queued') {
			this.#remember(this.#waiting, jobId, maxWaiting);
		}
	}

	/** The oldest makes room; if it waits, it is sent whole when it is given to a robot. */
	#remember(jobs: Set<string>, jobId: string, most: number): void {
		jobs.add(jobId);
		if (jobs.size <= most) return;
		const [oldest] = jobs;
		jobs.delete(oldest!);
		this.jobs.delete(oldest!);
	}
}

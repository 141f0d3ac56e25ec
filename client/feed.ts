/**
 * What a viewer of the live socket knows: messages go in, robots and jobs as they are by then come out. How the messages
 * travel is its owner's: this has no socket and no timer.
 */
import { isFinal, type LiveJob, type LiveMessage, type LiveRobot } from '../protocol';

/** Jobs that have ended and are remembered. */
const maxEnded = 500;

export class LiveView {
	readonly robots = new Map<string, LiveRobot>();
	readonly jobs = new Map<string, LiveJob>();
	readonly #seqs = new Map<string, number>();
	/** Channels whose snapshot is not whole yet. */
	readonly #partial = new Set<string>();

	/** The last event known of a channel: give it as `since` when the socket has to be opened anew. */
	since(channel: string): number | undefined {
		return this.#partial.has(channel) ? undefined : this.#seqs.get(channel);
	}

	/** Whether all channels that were heard of are known as a whole. */
	get isWhole(): boolean {
		return this.#partial.size === 0;
	}

	apply(message: LiveMessage): void {
		const { channel, event, seq, data } = message;
		this.#seqs.set(channel, seq);
		if (event === 'snapshot') {
			const { items, more } = message.data;
			const known = channel.startsWith('robots:') ? this.robots : this.jobs;
			if (!this.#partial.has(channel) && !channel.startsWith('progress:')) known.clear();
			for (const item of items) this.#put(item);
			if (more) this.#partial.add(channel);
			else this.#partial.delete(channel);
			return;
		}
		if (event === 'robot.removed') this.robots.delete((data as LiveRobot).robotId);
		else this.#put(data as LiveJob | LiveRobot);
		if (this.jobs.size > 2 * maxEnded) this.#forget();
	}

	#put(item: Partial<LiveJob> | Partial<LiveRobot>): void {
		if ('jobId' in item) {
			const before = this.jobs.get(item.jobId!);
			// Of a job that is older than the snapshot only a change is known: not enough for a line.
			if (before || 'kind' in item) this.jobs.set(item.jobId!, { ...before, ...item } as LiveJob);
		} else {
			const { robotId } = item as LiveRobot;
			this.robots.set(robotId, { ...this.robots.get(robotId), ...(item as LiveRobot) });
		}
	}

	#forget(): void {
		const ended = [...this.jobs.values()].filter(({ state }) => isFinal(state));
		for (const { jobId } of ended.slice(0, -maxEnded)) this.jobs.delete(jobId);
	}
}

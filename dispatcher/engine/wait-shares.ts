/** How much the waits of each key hold in memory, from when they are asked for until they are over. */
import { limits, Problem } from '../../protocol';

interface Share {
	waits: number;
	/** One that several wait for counts for each. */
	jobs: number;
}

export class WaitShares {
	readonly #shares = new Map<string, Share>();

	add(owner: string, jobs: number): void {
		const share = this.#shares.get(owner) ?? { waits: 0, jobs: 0 };
		this.#shares.set(owner, { waits: share.waits + 1, jobs: share.jobs + jobs });
	}

	remove(owner: string, jobs: number): void {
		const share = this.#shares.get(owner);
		if (!share) return;
		if (share.waits === 1) this.#shares.delete(owner);
		else this.#shares.set(owner, { waits: share.waits - 1, jobs: share.jobs - jobs });
	}

	/** For one more; throws `queue-full`. */
	demandRoom(owner: string, jobs: number): void {
		const share = this.#shares.get(owner) ?? { waits: 0, jobs: 0 };
		const { maxLiveWaits, maxWaitedJobs } = limits;
		const what =
			share.waits + 1 > maxLiveWaits
				? `${maxLiveWaits} executions`
				: share.jobs + jobs > maxWaitedJobs
					? `executions for ${maxWaitedJobs} jobs`
					: undefined;
		if (what === undefined) return;
		const key = owner.replace(/^key:/, '');
		throw new Problem('queue-full', { key, what, retryMs: limits.queueFullRetryMs });
	}
}

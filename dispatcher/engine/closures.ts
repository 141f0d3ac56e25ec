/**
 * Robots that people close: pause, drain, maintenance, with a reason and an end at which they open by themselves, even
 * if the service was not there at that time. What a closed robot runs goes on.
 */
import {
	type CloseRequest,
	type Closing,
	type QuarantineRequest,
	type Reason,
	Problem,
	type Robot,
	type RobotAction,
	type RobotsBulkRequest,
	type RobotsBulkResult,
	type RobotSelection,
} from '../../protocol';
import { grown } from '../core/bulk';
import { closedBy, closedOf, type CloseWish, quarantineOf } from '../core/control';
import { misfit } from '../core/matching';
import type { Access } from './access';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Caller } from './index';
import { onRobot, robotEvent, stand } from './standing';
import type { Turn } from './turns';

const closings: Partial<Record<RobotAction, Closing>> = {
	pause: 'paused',
	drain: 'draining',
	maintenance: 'maintenance',
};

export class Closures {
	readonly #context: Context;
	readonly #access: Access;
	/** Wall time; no robot opens by itself before it. */
	#nextAt = 0;

	constructor(context: Context, access: Access) {
		this.#context = context;
		this.#access = access;
	}

	async close(robot: string, as: Closing, request: CloseRequest, by: Caller): Promise<Robot> {
		const entry = this.#access.find(robot);
		await this.#close(entry, { as, ...this.#saidOf(request) }, by);
		return this.#access.view(entry);
	}

	/** Ends whatever closed it, and its quarantine. */
	async open(robot: string, by: Caller): Promise<Robot> {
		const entry = this.#access.find(robot);
		await this.#open(entry, by);
		return this.#access.view(entry);
	}

	/** Until a person lifts it, or has it probed; the service no longer lifts one that it had put there itself. */
	async quarantine(robot: string, { reason }: QuarantineRequest, by: Caller): Promise<Robot> {
		const entry = this.#access.find(robot);
		await this.#quarantine(entry, reason, by);
		return this.#access.view(entry);
	}

	/** The same for all robots that a filter finds. */
	async many(request: RobotsBulkRequest, by: Caller): Promise<RobotsBulkResult> {
		const { action, dryRun, expect, reason } = request;
		const closing = closings[action];
		const wish = closing && { as: closing, ...this.#saidOf(request) };
		if (action === 'quarantine' && reason === undefined) {
			throw new Problem('bad-field', { path: 'reason', reason: 'is missing: quarantine needs it' });
		}
		if (dryRun === false && expect === undefined) {
			const missing = 'is missing: ask for a preview first, and send the count it gives';
			throw new Problem('bad-field', { path: 'expect', reason: missing });
		}
		const preview = dryRun ?? expect === undefined;
		const found = this.#found(request.filter);
		if (expect !== undefined && grown(expect, found.length)) {
			throw new Problem('bulk-grown', { expect, matched: found.length });
		}
		const wanted = found.filter((entry) => this.#differs(entry, action, wish, by));
		const gone = new Set<RobotEntry>();
		if (!preview) {
			await Promise.all(
				wanted.map(async (entry) => {
					try {
						if (wish) await this.#close(entry, wish, by);
						else if (action === 'quarantine') await this.#quarantine(entry, reason!, by);
						else await this.#open(entry, by);
					} catch (error) {
						// A robot that was removed meanwhile is no reason to say that nothing was done.
						if (this.#context.fleet.get(entry.robotId) === entry) throw error;
						gone.add(entry);
					}
				}),
			);
		}
		const changed = wanted.filter((entry) => !gone.has(entry));
		return {
			dryRun: preview,
			matched: found.length,
			changed: changed.length,
			skipped: found.length - changed.length,
			robots: changed.map(({ stored }) => stored.name),
		};
	}

	/** Opens those whose time is over. Answers when the next one is due. */
	look(now: number): number | null {
		if (now < this.#nextAt) return Number.isFinite(this.#nextAt) ? this.#nextAt : null;
		this.#nextAt = Infinity;
		for (const entry of this.#context.fleet.all()) {
			const until = closedOf(entry.stored.closed)?.until ?? null;
			if (until === null) continue;
			if (until > now) this.#nextAt = Math.min(this.#nextAt, until);
			else void this.#expire(entry);
		}
		return Number.isFinite(this.#nextAt) ? this.#nextAt : null;
	}

	async #expire(entry: RobotEntry): Promise<void> {
		const { stored } = entry;
		try {
			await onRobot(this.#context, entry, (turn, done) => {
				// Somebody has said something else meanwhile.
				if (entry.stored.closed !== stored.closed) done();
				else this.#openIn(turn, entry, 'its time is over', 'dispatcher', done);
			});
		} catch {
			// Removed, or not on disk: the next look shows it.
			this.#nextAt = 0;
		}
		this.#context.turns.nudge();
	}

	#close(entry: RobotEntry, wish: CloseWish, by: Caller): Promise<void> {
		return onRobot(this.#context, entry, (turn, done) => {
			const closed = closedBy(closedOf(entry.stored.closed), wish, by.name, turn.now);
			if (!closed) return done();
			const { robotId, stored } = entry;
			const { as, reason, until } = closed;
			const data = { robotId, name: stored.name, as, reason, by: by.name, until };
			const event = robotEvent('robot.closed', turn.now, data);
			stand(this.#context, turn, entry, { closed: JSON.stringify(closed) }, event, () => {
				this.#context.log.info('robot closed', data);
				if (until !== null) {
					this.#nextAt = Math.min(this.#nextAt, until);
					this.#context.dueAt(until);
				}
				done();
			});
		});
	}

	async #open(entry: RobotEntry, by: Caller): Promise<void> {
		await onRobot(this.#context, entry, (turn, done) =>
			this.#openIn(turn, entry, 'resumed', by.name, done),
		);
		this.#context.turns.nudge();
	}

	/** What people closed opens when its time is over; a person who opens it ends its quarantine too. */
	#openIn(turn: Turn, entry: RobotEntry, reason: string, by: string, done: () => void): void {
		const { robotId, stored } = entry;
		const closed = closedOf(stored.closed);
		const lifts = by !== 'dispatcher' && stored.quarantine !== null;
		if (!closed && !lifts) return done();
		const was = closed?.as ?? 'quarantine';
		const data = { robotId, name: stored.name, was, reason, by };
		const change = { closed: null, ...(lifts && { quarantine: null, strikes: null }) };
		stand(this.#context, turn, entry, change, robotEvent('robot.opened', turn.now, data), () => {
			this.#context.log.info('robot opened', data);
			done();
		});
	}

	#quarantine(entry: RobotEntry, reason: string, by: Caller): Promise<void> {
		return onRobot(this.#context, entry, (turn, done) => {
			const { robotId, stored } = entry;
			if (quarantineOf(stored.quarantine)?.reason === reason) return done();
			const quarantine = {
				reason,
				by: by.name,
				since: turn.now,
				probes: 0,
				nextProbeAt: null,
				lastProbe: null,
			};
			const data = {
				robotId,
				name: stored.name,
				as: 'quarantine',
				reason,
				by: by.name,
				until: null,
			};
			const event = robotEvent('robot.closed', turn.now, data);
			const change = { quarantine: JSON.stringify(quarantine) };
			stand(this.#context, turn, entry, change, event, () => {
				this.#context.log.info('robot closed', data);
				done();
			});
		});
	}

	#saidOf({ reason, until, forMs }: CloseRequest): Omit<CloseWish, 'as'> {
		if (until !== undefined && forMs !== undefined) {
			throw new Problem('bad-field', { path: 'forMs', reason: 'give it or until, not both' });
		}
		const now = this.#context.clock.now();
		if (until !== undefined && until <= now) {
			throw new Problem('bad-field', { path: 'until', reason: 'has passed already' });
		}
		const end = forMs === undefined ? until : now + forMs;
		return {
			...(reason === undefined ? {} : { reason }),
			...(end === undefined ? {} : { until: end }),
		};
	}

	#found({ robots, labels = {}, tags, group, pool }: RobotSelection): RobotEntry[] {
		const { fleet } = this.#context;
		if (group !== undefined && !fleet.hasGroup(group)) {
			throw new Problem('no-such-group', { name: group });
		}
		if (pool !== undefined && !fleet.hasPool(pool)) {
			throw new Problem('no-such-pool', { name: pool });
		}
		const named = robots && new Set(robots.map((robot) => this.#access.find(robot)));
		const rule = {
			labels,
			capabilities: [],
			...(tags && { tags }),
			...(group === undefined ? {} : { group }),
			...(pool === undefined ? {} : { pool }),
		};
		// Simulated robots are meant like any other.
		const isMeant = (fit: Reason | undefined) => fit === undefined || fit.obstacle === 'simulated';
		return [...fleet.all()].filter(
			(entry) => (!named || named.has(entry)) && isMeant(misfit(rule, entry)),
		);
	}

	#differs(
		{ stored }: RobotEntry,
		action: RobotAction,
		wish: CloseWish | undefined,
		by: Caller,
	): boolean {
		if (wish) {
			const now = this.#context.clock.now();
			return closedBy(closedOf(stored.closed), wish, by.name, now) !== undefined;
		}
		return action === 'quarantine'
			? (quarantineOf(stored.quarantine)?.by ?? 'dispatcher') === 'dispatcher'
			: stored.closed !== null || stored.quarantine !== null;
	}
}

/**
 * Schedules and the durable consumers that follow them. An occurrence is a row, unique on (schedule,
 * origin, planned time), written together with its event and the next time: killed at any moment, a
 * schedule neither fires one twice nor forgets the next.
 */
import {
	type FleetEvent,
	Problem,
	type Schedule,
	type ScheduleDue,
	type ScheduleRequest,
	type SubscriptionAnswer,
	type SubscriptionRequest,
} from '../../protocol';
import { checkCron, lastRun, nextRuns } from '../core/schedule';
import type { StoredSchedule, StoredSubscription } from '../store/store';
import type { Context } from './context';
import type { Caller } from './index';

/** Later than this, an occurrence was missed rather than fired. */
const lateMs = 5_000;
const defaultCatchUpMs = 3_600_000;
const maxEvents = 100;

export class Schedules {
	readonly #context: Context;
	readonly #schedules = new Map<string, StoredSchedule>();

	constructor(context: Context) {
		this.#context = context;
	}

	async load(): Promise<void> {
		for (const stored of await this.#context.store.read('schedules', null)) {
			this.#schedules.set(stored.id, stored);
			this.#context.dueAt(stored.enabled ? stored.nextRunAt : null);
		}
	}

	async all(): Promise<Schedule[]> {
		return [...this.#schedules.values()].map((stored) => this.#view(stored));
	}

	async one(scheduleId: string): Promise<Schedule> {
		return this.#view(this.#find(scheduleId));
	}

	/** The clock goes on where it was when the definition is the same, and starts anew when it is not. */
	async put(scheduleId: string, request: ScheduleRequest, by: Caller): Promise<Schedule> {
		const { clock } = this.#context;
		const timezone = request.timezone ?? 'UTC';
		checkCron(request.cron, timezone);
		const now = clock.now();
		const known = this.#schedules.get(scheduleId);
		const enabled = request.enabled ?? known?.enabled !== 0;
		const same =
			known !== undefined &&
			known.cron === request.cron &&
			known.timezone === timezone &&
			(known.enabled === 1) === enabled;
		return this.#save({
			id: scheduleId,
			name: request.name ?? known?.name ?? scheduleId,
			cron: request.cron,
			timezone,
			enabled: enabled ? 1 : 0,
			catchUpMs: request.catchUpMs ?? known?.catchUpMs ?? defaultCatchUpMs,
			nextRunAt: same
				? known.nextRunAt
				: enabled
					? nextRuns(request.cron, timezone, now, 1)[0]!
					: null,
			lastRunAt: known?.lastRunAt ?? null,
			createdBy: known?.createdBy ?? `key:${by.name}`,
			createdAt: known?.createdAt ?? now,
		});
	}

	async pause(scheduleId: string): Promise<Schedule> {
		return this.#save({ ...this.#find(scheduleId), enabled: 0, nextRunAt: null });
	}

	async resume(scheduleId: string): Promise<Schedule> {
		const stored = this.#find(scheduleId);
		if (stored.enabled) return this.#view(stored);
		const [nextRunAt] = nextRuns(stored.cron, stored.timezone, this.#context.clock.now(), 1);
		return this.#save({ ...stored, enabled: 1, nextRunAt: nextRunAt! });
	}

	async remove(scheduleId: string): Promise<void> {
		this.#find(scheduleId);
		await this.#context.turns.deed('removeSchedule', { id: scheduleId });
		this.#schedules.delete(scheduleId);
	}

	/** Fires what is due. Answers when to look again. */
	async look(now: number): Promise<number | null> {
		let nextAt = Infinity;
		for (const stored of [...this.#schedules.values()]) {
			if (!stored.enabled || stored.nextRunAt === null) continue;
			if (stored.nextRunAt <= now) await this.#fire(stored, now);
			nextAt = Math.min(nextAt, this.#schedules.get(stored.id)?.nextRunAt ?? Infinity);
		}
		return Number.isFinite(nextAt) ? nextAt : null;
	}

	async subscribe(
		key: string,
		request: SubscriptionRequest,
		by: Caller,
	): Promise<SubscriptionAnswer> {
		const { scheduleId, event } = request.filter;
		if ((scheduleId === undefined) === (event === undefined)) {
			throw new Problem('bad-field', {
				path: 'filter',
				reason: 'name either a scheduleId or an event',
			});
		}
		const taken = await this.#context.turns.deed('takeSubscription', {
			key,
			filter: JSON.stringify(request.filter),
			subject: subjectOf(request.filter),
			fromStart: request.from === 'start',
			createdBy: `key:${by.name}`,
		});
		// Whoever held it before is waiting for events: let it notice.
		this.#context.watchers.hint('events', key);
		return taken;
	}

	async events(
		key: string,
		epoch: number,
		waitMs: number,
		signal?: AbortSignal,
	): Promise<FleetEvent[]> {
		const { clock, watchers } = this.#context;
		const subject = subjectOf(filterOf(await this.#subscription(key, epoch)));
		return watchers.until(
			'events',
			[key, subject],
			() => this.#pending(key, epoch),
			(events) => events.length > 0,
			{ ms: waitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	async acknowledge(key: string, epoch: number, cursor: number): Promise<void> {
		const done = await this.#context.turns.deed('ackSubscription', { key, epoch, cursor });
		if (!done) await this.#subscription(key, epoch);
	}

	async #pending(key: string, epoch: number): Promise<FleetEvent[]> {
		const subscription = await this.#subscription(key, epoch);
		const stored = await this.#context.store.read('events', {
			subject: subjectOf(filterOf(subscription)),
			after: subscription.cursor,
			limit: maxEvents,
		});
		return stored.map(
			({ cursor, at, type, data }) => ({ cursor, at, type, data: JSON.parse(data) }) as FleetEvent,
		);
	}

	async #subscription(key: string, epoch: number): Promise<StoredSubscription> {
		const stored = await this.#context.store.read('subscription', { key });
		if (!stored) throw new Problem('no-such-subscription', { key });
		if (stored.epoch !== epoch) throw new Problem('stale-epoch');
		return stored;
	}

	/** The occurrence that is due; of those that were missed meanwhile, the last one if it is young enough. */
	async #fire(stored: StoredSchedule, now: number): Promise<void> {
		const { cron, timezone } = stored;
		const planned = stored.nextRunAt!;
		const plannedAt = lastRun(cron, timezone, planned, now) ?? planned;
		const late = now - plannedAt > lateMs;
		const state = late && now - plannedAt > stored.catchUpMs ? 'missed' : 'fired';
		const nextRunAt = nextRuns(cron, timezone, now, 1)[0] ?? null;
		const data: ScheduleDue = { scheduleId: stored.id, plannedAt, origin: 'planned', late };
		const fresh = await this.#context.turns.deed('fire', {
			scheduleId: stored.id,
			origin: 'planned',
			plannedAt,
			at: now,
			state,
			nextRunAt,
			...(state === 'fired' ? { event: { type: 'schedule.due', data: JSON.stringify(data) } } : {}),
		});
		const current = this.#schedules.get(stored.id);
		if (current === stored) {
			this.#schedules.set(stored.id, {
				...stored,
				nextRunAt,
				lastRunAt: fresh && state === 'fired' ? plannedAt : stored.lastRunAt,
			});
		}
		if (fresh && state === 'fired') this.#context.watchers.hint('events', stored.id);
		if (late) {
			this.#context.log.warn(state === 'missed' ? 'occurrence missed' : 'occurrence made up', {
				scheduleId: stored.id,
				plannedAt,
			});
		}
	}

	async #save(stored: StoredSchedule): Promise<Schedule> {
		await this.#context.turns.deed('putSchedule', stored);
		this.#schedules.set(stored.id, stored);
		this.#context.dueAt(stored.nextRunAt);
		return this.#view(stored);
	}

	#find(scheduleId: string): StoredSchedule {
		const stored = this.#schedules.get(scheduleId);
		if (!stored) throw new Problem('no-such-schedule', { id: scheduleId });
		return stored;
	}

	#view(stored: StoredSchedule): Schedule {
		const { id, createdBy: _, enabled, ...rest } = stored;
		return {
			...rest,
			scheduleId: id,
			enabled: enabled === 1,
			upcoming: enabled ? nextRuns(stored.cron, stored.timezone, this.#context.clock.now(), 5) : [],
		};
	}
}

function filterOf(subscription: StoredSubscription): SubscriptionRequest['filter'] {
	return JSON.parse(subscription.filter) as SubscriptionRequest['filter'];
}

function subjectOf({ scheduleId, event }: SubscriptionRequest['filter']): string {
	return scheduleId ?? event!;
}

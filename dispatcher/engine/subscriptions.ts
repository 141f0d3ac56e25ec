/**
 * Durable consumers of events: one holder by epoch, redelivered until acknowledged. A consumer is handed only what
 * it wants; the rest is passed over here, so that a rare event is found without looking through all the
 * others each time. One that nobody asks for is forgotten (purge.ts).
 */
import {
	type EventFilter,
	type FleetEvent,
	limits,
	Problem,
	type SubscriptionAnswer,
	type SubscriptionRequest,
} from '../../protocol';
import { isWanted, saysWhat, subjectsOf } from '../core/events';
import { demand } from '../core/may';
import type { StoredSubscription } from '../store/store';
import type { Context } from './context';
import type { Caller } from './index';

const maxEvents = 100;
/** Events looked at in one read. */
const stretch = 500;
/** Once this many are passed over, that is written down, so that a restart does not look at them again. */
const passedWorthNoting = 5_000;
/** How often, at most, the use of one to which nothing happens is written down: well before it would be forgotten. */
const noteMs = 86_400_000;
const notesAKeeping = 4;

/** Nothing that the holder wants lies before this cursor. */
interface Passed {
	epoch: number;
	cursor: number;
}

export class Subscriptions {
	readonly #context: Context;
	readonly #isSchedule: (id: string) => boolean;
	readonly #passed = new Map<string, Passed>();

	constructor(context: Context, isSchedule: (id: string) => boolean) {
		this.#context = context;
		this.#isSchedule = isSchedule;
		const { watchers } = context;
		watchers.onEnded(() => watchers.hint('events', 'job.ended'));
	}

	async subscribe(
		key: string,
		{ filter, from, backlogMs }: SubscriptionRequest,
		by: Caller,
	): Promise<SubscriptionAnswer> {
		if (!saysWhat(filter)) {
			throw new Problem('bad-field', {
				path: 'filter',
				reason: 'name exactly one of scheduleId, event and events',
			});
		}
		checkMayFollow(filter, by);
		// Nor may it be taken from somebody who may follow more.
		await this.#checkMayUse(key, by);
		const createdBy = `key:${by.name}`;
		await this.#demandRoom(key, createdBy);
		const at = this.#context.clock.now();
		const taken = await this.#context.turns.deed('takeSubscription', {
			key,
			filter: JSON.stringify(filter),
			fromStart: from === 'start',
			...(backlogMs === undefined
				? {}
				: { skipBefore: backlogMs === 0 ? Number.MAX_SAFE_INTEGER : at - backlogMs }),
			createdBy,
			at,
		});
		this.#passed.delete(key);
		// Whoever held it before is waiting for events: let it notice.
		this.#context.watchers.hint('events', key);
		return taken;
	}

	/** Each event is checked against what all of them want. */
	async #demandRoom(key: string, createdBy: string): Promise<void> {
		const { store } = this.#context;
		if (await store.read('subscription', { key })) return;
		if ((await store.read('subscriptionsOf', { createdBy })) < limits.maxSubscriptions) return;
		const what = `${limits.maxSubscriptions} consumers`;
		throw new Problem('key-full', { key: createdBy.replace(/^key:/, ''), what });
	}

	async unsubscribe(key: string, by: Caller): Promise<void> {
		await this.#checkMayUse(key, by);
		await this.#context.turns.deed('dropSubscription', { key });
		this.#passed.delete(key);
		this.#context.watchers.hint('events', key);
	}

	async events(
		key: string,
		epoch: number,
		by: Caller,
		waitMs: number,
		signal?: AbortSignal,
		after = 0,
	): Promise<FleetEvent[]> {
		const { clock, watchers } = this.#context;
		const subscription = await this.#subscription(key, epoch);
		checkMayFollow(filterOf(subscription), by);
		await this.#noteUse(subscription);
		return watchers.until(
			'events',
			[key, ...subjectsOf(filterOf(subscription))],
			() => this.#pending(key, epoch, after),
			(events) => events.length > 0,
			{ ms: waitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	async acknowledge(key: string, epoch: number, cursor: number, by: Caller): Promise<void> {
		const subscription = await this.#subscription(key, epoch);
		checkMayFollow(filterOf(subscription), by);
		await this.#acknowledge(key, epoch, cursor);
	}

	async #acknowledge(key: string, epoch: number, cursor: number): Promise<void> {
		const at = this.#context.clock.now();
		const done = await this.#context.turns.deed('ackSubscription', { key, epoch, cursor, at });
		if (!done) await this.#subscription(key, epoch);
	}

	async #pending(key: string, epoch: number, ahead: number): Promise<FleetEvent[]> {
		const { store, fleet } = this.#context;
		const subscription = await this.#subscription(key, epoch);
		const filter = filterOf(subscription);
		const subjects = subjectsOf(filter);
		const passed = this.#passed.get(key);
		let after = Math.max(subscription.cursor, ahead);
		if (passed?.epoch === epoch) after = Math.max(after, passed.cursor);
		const known = (robotId: string) => fleet.known(robotId);
		for (;;) {
			const stored = await store.read('events', { subjects, after, limit: stretch });
			const wanted: FleetEvent[] = [];
			for (const { cursor, at, type, data } of stored) {
				const event = { cursor, at, type, data: JSON.parse(data) } as FleetEvent;
				if (isWanted(filter, event, known)) wanted.push(event);
				else if (wanted.length === 0) after = cursor;
				if (wanted.length === maxEvents) break;
			}
			if (wanted.length === 0 && stored.length === stretch) continue;
			// All is acknowledged, and nothing more will come: whoever follows it is told, instead of waiting for ever.
			const { scheduleId: id } = filter;
			if (wanted.length === 0 && ahead === 0 && id !== undefined && !this.#isSchedule(id)) {
				throw new Problem('no-such-schedule', { id });
			}
			// A holder that reads ahead would pass over what it has not dealt with.
			if (ahead === 0) this.#pass(subscription, after);
			return wanted;
		}
	}

	/** Nothing up to `cursor` is wanted. */
	#pass({ key, epoch, cursor: acknowledged }: StoredSubscription, cursor: number): void {
		if (cursor <= acknowledged) {
			this.#passed.delete(key);
			return;
		}
		this.#passed.set(key, { epoch, cursor });
		if (cursor - acknowledged < passedWorthNoting) return;
		// Not on disk: it is looked through once more.
		void this.#acknowledge(key, epoch, cursor).catch(() => undefined);
	}

	/** Long polls that nothing comes of are a sign of life, too. */
	async #noteUse({ key, epoch, cursor, usedAt }: StoredSubscription): Promise<void> {
		const { clock, settings } = this.#context;
		const everyMs = Math.min(noteMs, settings.retention.eventsMs / notesAKeeping);
		if (clock.now() - usedAt < everyMs) return;
		await this.#acknowledge(key, epoch, cursor);
	}

	/** One that is not there is anybody's. */
	async #checkMayUse(key: string, by: Caller): Promise<void> {
		const stored = await this.#context.store.read('subscription', { key });
		if (stored) checkMayFollow(filterOf(stored), by);
	}

	async #subscription(key: string, epoch: number): Promise<StoredSubscription> {
		const stored = await this.#context.store.read('subscription', { key });
		if (!stored) throw new Problem('no-such-subscription', { key });
		if (stored.epoch !== epoch) throw new Problem('stale-epoch');
		return stored;
	}
}

/** Times of a schedule are for whoever may run it; all else tells of the jobs and robots of others. */
function checkMayFollow(filter: EventFilter, by: Caller): void {
	if (filter.scheduleId === undefined) demand(by, 'read');
}

function filterOf(subscription: StoredSubscription): EventFilter {
	return JSON.parse(subscription.filter) as EventFilter;
}

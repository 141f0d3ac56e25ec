/** Durable consumers of events: one holder by epoch, redelivered until acknowledged. */
import {
	type FleetEvent,
	Problem,
	type SubscriptionAnswer,
	type SubscriptionRequest,
} from '../../protocol';
import type { StoredSubscription } from '../store/store';
import type { Context } from './context';
import type { Caller } from './index';

const maxEvents = 100;

export class Subscriptions {
	readonly #context: Context;

	constructor(context: Context) {
		this.#context = context;
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
}

function filterOf(subscription: StoredSubscription): SubscriptionRequest['filter'] {
	return JSON.parse(subscription.filter) as SubscriptionRequest['filter'];
}

function subjectOf({ scheduleId, event }: SubscriptionRequest['filter']): string {
	return scheduleId ?? event!;
}

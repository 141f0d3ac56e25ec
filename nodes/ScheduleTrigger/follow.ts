/**
 * Follows one schedule of the service for as long as the trigger is active. The service keeps what nobody
 * acknowledged, so an occurrence is lost neither by a crash of n8n nor by one of the service.
 */
import type { FleetClient } from '../../client';
import type { FleetEvent, ScheduleDueEvent } from '../../protocol';
import { now } from '../shared/clock';
import { consume, givenUp, type Started } from '../shared/consumer';
import { Backlog, type CatchUp } from './backlog';
import { nextTurn, type WhileRunning } from './overlap';

/** What a person asked for starts the workflow up to this much later. Older events are not even looked through. */
const askedMs = 7 * 86_400_000;

export interface Following {
	client: FleetClient;
	/** Of the subscription: one for each trigger, also where several follow the same schedule. */
	key: string;
	scheduleId: string;
	/** Where a trigger that has never followed it begins. */
	from: 'now' | 'start';
	/** What to do with occurrences that nobody took while n8n or the workflow was off. */
	catchUp: CatchUp;
	/** What has piled up at the start is outdated: the workflow was switched on, or has other times now. */
	dropFirst: boolean;
	whileRunning: WhileRunning;
	signal: AbortSignal;
	start(event: ScheduleDueEvent): Started;
	/** Stores the schedule again after the service has forgotten it; absent where it is not ours. */
	restore?(): Promise<unknown>;
	/** For what waiting cannot cure: a key that was revoked, say. */
	giveUp(error: unknown): void;
	log(text: string, facts: Record<string, unknown>): void;
}

/** Settles when the signal is aborted, or after `giveUp`. */
export async function follow(following: Following): Promise<void> {
	const { client, key, scheduleId, from, signal, giveUp, log, restore } = following;
	let drop = following.dropFirst;
	let backlog = new Backlog('drop', now());
	let opened = false;
	/** A queueing rule leaves what waits its turn unacknowledged: after an interruption that is in line, not missed. */
	const inLine = () => opened && following.whileRunning.startsWith('queue');
	await consume({
		client,
		key,
		signal,
		giveUp,
		log,
		open: async () => {
			const backlogMs = drop ? 0 : Math.max(following.catchUp.catchUpMs, askedMs);
			const { epoch } = await client.subscribe(key, { filter: { scheduleId }, from, backlogMs });
			givenUp.delete(key);
			if (!inLine()) backlog = await backlogOf(following, epoch, drop);
			opened = true;
			// From here on we are only ever away against our will: nothing is dropped any more.
			drop = false;
			return epoch;
		},
		take: async (events, epoch) => await take(following, epoch, backlog, events),
		// The schedule of somebody else is not ours to make again: its removal is reported.
		cures: [...(restore ? (['no-such-schedule'] as const) : []), 'no-such-subscription'],
		...(restore ? { cure: restore } : {}),
	});
}

/** Looks through all that has piled up, without dealing with any of it. */
async function backlogOf(following: Following, epoch: number, drop: boolean): Promise<Backlog> {
	const { client, key, catchUp, signal } = following;
	const backlog = new Backlog(drop ? 'drop' : catchUp, now());
	for (;;) {
		const page = await client.events(key, epoch, 0, signal, backlog.horizon);
		if (page.length === 0) return backlog;
		backlog.add(page);
	}
}

/** Each is acknowledged only after n8n has it. */
async function take(
	following: Following,
	epoch: number,
	backlog: Backlog,
	events: readonly FleetEvent[],
): Promise<void> {
	const { client, key, scheduleId, signal, whileRunning, start, log } = following;
	const wants = (event: FleetEvent) => backlog.wants(event);
	const last = events.at(-1);
	if (last === undefined) return;
	if (whileRunning === 'allow') {
		const due = events.filter((event) => event.type === 'schedule.due');
		await Promise.all(due.filter(wants).map((event) => start(event).stored));
		await client.acknowledge(key, epoch, last.cursor);
		return;
	}
	let pending = events;
	let ran = false;
	while (pending.length > 0 && !signal.aborted) {
		const { next, upTo, left } = nextTurn(pending, whileRunning, ran, wants);
		const started = next && start(next);
		await started?.stored;
		await client.acknowledge(key, epoch, upTo);
		if (left > 0) log('left out, an execution of the workflow ran', { scheduleId, runs: left });
		if (started) await endOr(started.over, signal);
		ran = started !== undefined;
		pending = await client.events(key, epoch, 0, signal);
	}
}

/** Gives up waiting when the trigger is closed. */
async function endOr(over: Promise<unknown>, signal: AbortSignal): Promise<void> {
	await new Promise<void>((resolve) => {
		const stop = () => resolve();
		signal.addEventListener('abort', stop, { once: true });
		if (signal.aborted) stop();
		const end = () => {
			signal.removeEventListener('abort', stop);
			resolve();
		};
		over.then(end, end);
	});
}

/**
 * Follows one schedule of the service for as long as the trigger is active: subscribe, wait for
 * occurrences, hand each on, acknowledge. The service keeps what nobody acknowledged, so an
 * occurrence is lost neither by a crash of n8n nor by one of the service.
 */
import { sleep } from 'n8n-workflow';
import type { FleetClient } from '../../client';
import type { FleetEvent, ScheduleDue, ScheduleRequest } from '../../protocol';
import { asProblem } from '../shared/refusals';

const pollMs = 30_000;
const firstDelayMs = 1_000;
const longestDelayMs = 60_000;
/** After so long we take the subscription back from whoever took it, in case that one is gone. */
const takenOverMs = 300_000;

export interface Following {
	client: FleetClient;
	scheduleId: string;
	schedule: ScheduleRequest;
	/** What to do with occurrences that nobody took while n8n or the workflow was off. */
	backlog: 'last' | 'drop';
	signal: AbortSignal;
	/** Settles when n8n has the execution in its own keeping; rejects when it has not. */
	fire(due: ScheduleDue): Promise<void>;
	/** For what no waiting cures: a key that was revoked, say. */
	giveUp(error: unknown): void;
	log(text: string, facts: Record<string, unknown>): void;
}

/** Settles when the signal is aborted, or after `giveUp`. */
export async function follow(following: Following): Promise<void> {
	const { client, scheduleId, schedule, signal, log } = following;
	let delayMs = firstDelayMs;
	let { backlog } = following;
	while (!signal.aborted) {
		try {
			const { epoch } = await client.subscribe(scheduleId, {
				filter: { scheduleId },
				// The schedule may have fired before its first consumer was there.
				from: 'start',
			});
			await takeBacklog(following, epoch, backlog);
			// From here on we were away against our will: nothing is dropped any more.
			backlog = 'last';
			for (;;) {
				const events = await client.events(scheduleId, epoch, pollMs, signal);
				await take(following, epoch, events);
				delayMs = firstDelayMs;
			}
		} catch (error) {
			if (signal.aborted) return;
			const problem = asProblem(error);
			if (problem?.code === 'stale-epoch') {
				// The same trigger, activated again or by another main process: it goes on there, and we
				// are about to be closed. Should nobody close us, we look after it again much later.
				log('another consumer follows the schedule now', { scheduleId });
				await sleep(takenOverMs, signal).catch(() => undefined);
				continue;
			}
			const forgotten =
				problem?.code === 'no-such-schedule' || problem?.code === 'no-such-subscription';
			if (problem && !problem.retry && !forgotten) {
				following.giveUp(error);
				return;
			}
			log('the service does not answer, trying again', {
				scheduleId,
				delayMs,
				error: String(error),
			});
			await sleep(delayMs, signal).catch(() => undefined);
			delayMs = Math.min(delayMs * 2, longestDelayMs);
			if (forgotten) await client.putSchedule(scheduleId, schedule).catch(() => undefined);
		}
	}
}

/**
 * Of the occurrences that piled up only the last one is made up, as the service itself does. It is
 * acknowledged only after it was fired.
 */
async function takeBacklog(following: Following, epoch: number, backlog: 'last' | 'drop') {
	const { client, scheduleId, signal } = following;
	for (;;) {
		const piled = await client.events(scheduleId, epoch, 0, signal);
		if (backlog === 'last' && piled.length < 2) return await take(following, epoch, piled);
		const done = piled.at(backlog === 'last' ? -2 : -1);
		if (done === undefined) return;
		await client.acknowledge(scheduleId, epoch, done.cursor);
	}
}

async function take({ client, scheduleId, fire }: Following, epoch: number, events: FleetEvent[]) {
	const last = events.at(-1);
	if (last === undefined) return;
	await Promise.all(events.map((event) => event.type === 'schedule.due' && fire(event.data)));
	await client.acknowledge(scheduleId, epoch, last.cursor);
}

/**
 * A durable consumer of the service, for as long as a trigger is active: subscribe, wait for events, hand each on,
 * acknowledge. The service keeps what nobody acknowledged, so an event is lost neither by a crash of n8n nor by one
 * of the service; and since each execution has a key, an event that comes twice runs once.
 */
import { type IDataObject, type IRun, type ITriggerFunctions, sleep } from 'n8n-workflow';
import type { FleetClient } from '../../client';
import type { FleetEvent, ProblemCode } from '../../protocol';
import { asProblem } from './refusals';

const pollMs = 30_000;
export const firstDelayMs = 1_000;
export const longestDelayMs = 60_000;
/** After this long we take the subscription back from whoever took it, in case that one is gone. */
const takenOverMs = 300_000;
/** n8n stops a process after 30 s; a trigger must not be what it waits for. */
const closeMs = 2_000;
/** Another process lets go of these in a moment: after a restart, say. */
const passing: readonly ProblemCode[] = ['data-taken', 'port-taken'];
/**
 * Keys of the consumers that gave up. n8n activates their workflows again, as often as it takes, each time in the
 * mode of the first time; but nobody has switched anything on, and what has piled up is still wanted.
 */
export const givenUp = new Set<string>();
/**
 * After this long n8n has stored the execution, and the event is safe even if the run takes hours.
 * Waiting for its end would hold up the next events.
 */
const storedMs = 1_000;

export interface Consumer {
	client: FleetClient;
	/** Of the subscription. */
	key: string;
	signal: AbortSignal;
	/** Takes the subscription, and deals with what piled up. Answers the epoch. Called again after each interruption. */
	open(): Promise<number>;
	/** Settles when n8n has stored all of them and they are acknowledged; rejects otherwise. */
	take(events: FleetEvent[], epoch: number): Promise<void>;
	/** Problems that the next `open` cures. */
	cures: readonly ProblemCode[];
	/** Tried before the next `open`, after one of those. */
	cure?(): Promise<unknown>;
	/** For what waiting cannot cure: a key that was revoked, say. */
	giveUp(error: unknown): void;
	log(text: string, facts: Record<string, unknown>): void;
}

/** Settles when the signal is aborted, or after `giveUp`. */
export async function consume(consumer: Consumer): Promise<void> {
	const { client, key, signal } = consumer;
	let delayMs = firstDelayMs;
	while (!signal.aborted) {
		try {
			const epoch = await consumer.open();
			while (!signal.aborted) {
				const events = await client.events(key, epoch, pollMs, signal);
				if (events.length > 0) await consumer.take(events, epoch);
				delayMs = firstDelayMs;
			}
		} catch (error) {
			if (signal.aborted) return;
			const problem = asProblem(error);
			if (problem?.code === 'stale-epoch') {
				// The same trigger, activated again or by another main process: it goes on there, and we
				// are about to be closed. Should nobody close us, we take it up again much later.
				consumer.log('another consumer follows it now', { key });
				await sleep(takenOverMs, signal).catch(() => undefined);
				continue;
			}
			const curable = problem !== undefined && consumer.cures.includes(problem.code);
			if (problem && !problem.retry && !curable && !passing.includes(problem.code)) {
				givenUp.add(key);
				consumer.giveUp(error);
				return;
			}
			const facts = { key, delayMs, error: String(error) };
			consumer.log('the service does not answer, trying again', facts);
			await sleep(delayMs, signal).catch(() => undefined);
			delayMs = Math.min(delayMs * 2, longestDelayMs);
			// Not if switched off meanwhile: then it must store nothing any more.
			if (curable && !signal.aborted) await consumer.cure?.().catch(() => undefined);
		}
	}
}

/** Runs until the returned function is called, which may happen twice and takes two seconds at most. */
export function running(stop: AbortController, consuming: Promise<unknown>): () => Promise<void> {
	return async () => {
		stop.abort();
		await settledWithin(consuming, closeMs);
	};
}

/** One execution of n8n. */
export interface Started {
	/** Settles when n8n has stored it; rejects if it did not take it. */
	stored: Promise<void>;
	/** Settles when it has ended, or is parked. */
	over: Promise<unknown>;
}

/** n8n keeps `key` in a unique column: an event that is handed on twice makes one execution. */
export function startWorkflow(context: ITriggerFunctions, json: IDataObject, key: string): Started {
	const done = context.helpers.createDeferredPromise<IRun>();
	context.emit([[{ json }]], undefined, done, key);
	return { stored: settledWithin(done.promise, storedMs), over: done.promise };
}

/** Gives up waiting after some time, and leaves no timer behind. Rejects if the promise did. */
export async function settledWithin(promise: Promise<unknown>, ms: number): Promise<void> {
	const timer = new AbortController();
	const late = sleep(ms, timer.signal).catch(() => undefined);
	await Promise.race([promise, late]).finally(() => timer.abort());
}

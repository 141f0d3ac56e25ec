/**
 * The trigger as a durable consumer of events. Its subscription belongs to this node of this workflow of this n8n,
 * so any sequence of publishing, restarting and changing leaders leaves one consumer: whoever subscribed last.
 */
import type { IDataObject, ITriggerFunctions } from 'n8n-workflow';
import type { FleetClient } from '../../client';
import type { FleetEvent } from '../../protocol';
import { connect, lastingClient } from '../shared/connection';
import { consume, givenUp, running, startWorkflow, type Started } from '../shared/consumer';
import { sha256 } from '../shared/digest';
import { asProblem, nodeError } from '../shared/refusals';
import { isRestart, readWanted, type Wanted } from './fields';
import { itemOf } from './items';

/** Two n8n on one service, or a copied workflow, never share a subscription. */
async function subscriptionOf(context: ITriggerFunctions): Promise<string> {
	const facts = [context.getInstanceId(), context.getWorkflow().id, context.getNode().id];
	return `n8n-events-${(await sha256(JSON.stringify(facts))).slice(0, 32)}`;
}

/** Returns the function that ends it. */
export async function listen(context: ITriggerFunctions): Promise<() => Promise<void>> {
	const stop = new AbortController();
	try {
		const wanted = readWanted(context);
		const key = await subscriptionOf(context);
		const client = lastingClient(context);
		const listener = new Listener(context, client, key, wanted, stop.signal);
		await listener.begin();
		const consuming = consume(listener).catch((error: unknown) => listener.giveUp(error));
		return running(stop, consuming);
	} catch (error) {
		stop.abort();
		throw nodeError(context.getNode(), error);
	}
}

class Listener {
	readonly client: FleetClient;
	readonly key: string;
	readonly signal: AbortSignal;
	readonly cures = ['no-such-subscription'] as const;
	readonly #context: ITriggerFunctions;
	readonly #wanted: Wanted;
	readonly #runs: Runs;
	/** Why it was activated: `activate` only when somebody has just switched the workflow on. */
	readonly #activation: string;
	/** Deals with what piled up while nobody listened; after that nothing is dropped any more. */
	#backlog: { backlogMs?: number };
	/** Of the subscription that `begin` took. */
	#begun: number | undefined;

	constructor(
		context: ITriggerFunctions,
		client: FleetClient,
		key: string,
		wanted: Wanted,
		signal: AbortSignal,
	) {
		this.#context = context;
		this.client = client;
		this.key = key;
		this.signal = signal;
		this.#wanted = wanted;
		this.#runs = new Runs(wanted.runsAtOnce, signal);
		this.#activation = givenUp.has(key) ? 'init' : context.getActivationMode();
		this.#backlog = backlogOf(this.#activation, wanted);
	}

	/**
	 * Subscribes at once, so that whoever publishes the workflow is told of a mistake, and what happens from then on
	 * counts. When n8n starts nobody is there to be told: a service that is away is waited for.
	 */
	async begin(): Promise<void> {
		const attended = isDeliberate(this.#activation);
		this.#begun = await this.#subscribe().catch((error: unknown) => {
			if (!attended && asProblem(error)?.retry === true) return undefined;
			throw error;
		});
	}

	async open(): Promise<number> {
		const begun = this.#begun;
		this.#begun = undefined;
		return begun ?? (await this.#subscribe());
	}

	async #subscribe(): Promise<number> {
		const { filter } = this.#wanted;
		const { epoch } = await this.client.subscribe(this.key, { filter, ...this.#backlog });
		this.#backlog = {};
		givenUp.delete(this.key);
		return epoch;
	}

	/** What n8n has is acknowledged before a slow run keeps the rest waiting. */
	async take(events: FleetEvent[], epoch: number): Promise<void> {
		let handed: Promise<void>[] = [];
		let last: number | undefined;
		const settle = async () => {
			await Promise.all(handed);
			handed = [];
			if (last !== undefined) await this.client.acknowledge(this.key, epoch, last);
			last = undefined;
		};
		try {
			for (const event of events) {
				if (this.#runs.full) {
					await settle();
					await this.#runs.room();
				}
				const item = await itemOf(this.client, event, this.#wanted.output);
				this.signal.throwIfAborted();
				const stored = this.#runs.add(startWorkflow(this.#context, item, this.#nameOf(event)));
				// Nobody handles a rejection before `settle` does, where it comes up again.
				stored.catch(() => undefined);
				handed.push(stored);
				last = event.cursor;
			}
		} finally {
			// Also when the next one could not be looked at: an n8n that knows no keys (before 2.20) would run these twice.
			await settle();
		}
	}

	/** With its time: a service that was restored to an earlier state gives other events the same numbers. */
	#nameOf({ cursor, at }: FleetEvent): string {
		return `${this.key}:${cursor}:${at}`;
	}

	giveUp(error: unknown): void {
		this.#context.emitError(nodeError(this.#context.getNode(), error));
	}

	log(text: string, facts: Record<string, unknown>): void {
		this.#context.logger.debug(`Robot Fleet Trigger: ${text}`, facts);
	}
}

/** Somebody switched the workflow on, and waits for the answer. */
const isDeliberate = (mode: string) => mode === 'activate' || mode === 'create';

/**
 * Whoever switches a workflow on wants it from now on. For a start of n8n, or of another leader, the person has said
 * what to do with what was missed. A workflow that is published again while it is on continues where it was.
 */
function backlogOf(mode: string, { missedMs }: Wanted): { backlogMs?: number } {
	if (isDeliberate(mode)) return { backlogMs: 0 };
	return isRestart(mode) && missedMs !== undefined ? { backlogMs: missedMs } : {};
}

/** The executions that were started and have not ended. */
class Runs {
	readonly #most: number;
	readonly #signal: AbortSignal;
	#going = 0;
	#wake: () => void = () => undefined;

	constructor(most: number, signal: AbortSignal) {
		this.#most = most;
		this.#signal = signal;
		signal.addEventListener('abort', () => this.#wake(), { once: true });
	}

	get full(): boolean {
		return this.#going >= this.#most;
	}

	add({ stored, over }: Started): Promise<void> {
		this.#going += 1;
		const ended = () => {
			this.#going -= 1;
			this.#wake();
		};
		void over.then(ended, ended);
		return stored;
	}

	/** Rejects when the trigger is closed first. */
	async room(): Promise<void> {
		for (;;) {
			this.#signal.throwIfAborted();
			if (!this.full) return;
			await new Promise<void>((resolve) => (this.#wake = resolve));
		}
	}
}

const testPollMs = 30_000;

/** A test run: the next event, by a subscription of its own that is gone afterwards. */
export function listenOnce(context: ITriggerFunctions): {
	listen(): Promise<void>;
	close(): Promise<void>;
} {
	const stop = new AbortController();
	let listening = Promise.resolve();
	return {
		listen: async () => await (listening = firstEvent(context, stop.signal)),
		close: async () =>
			await running(
				stop,
				listening.catch(() => undefined),
			)(),
	};
}

async function firstEvent(context: ITriggerFunctions, signal: AbortSignal): Promise<void> {
	let key: string | undefined;
	let client: FleetClient | undefined;
	try {
		const { filter, output } = readWanted(context);
		key = `${await subscriptionOf(context)}-test`;
		({ client } = await connect(context));
		const { epoch } = await client.subscribe(key, { filter, backlogMs: 0 });
		for (;;) {
			const [event] = await client.events(key, epoch, testPollMs, signal);
			if (!event) continue;
			const json: IDataObject = await itemOf(client, event, output);
			context.emit([[{ json }]]);
			return;
		}
	} catch (error) {
		// Another test of the same workflow has it now, and ends it.
		if (asProblem(error)?.code === 'stale-epoch') key = undefined;
		// Somebody has stopped the test.
		if (!signal.aborted) throw nodeError(context.getNode(), error);
	} finally {
		if (key !== undefined) await client?.unsubscribe(key).catch(() => undefined);
	}
}

/**
 * The harness's end of a host: a process of ours that holds robots or a peer's workers (hosts/).
 * Calls go to it by name and are answered; beside them it tells of probes that started and of the
 * end of the work it was told to expect.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { ended } from './spawned';
import { onExit } from './undo';

export type FromHost =
	| { ready: true }
	| { startedNs: number }
	| { tally: number }
	| { id: number; answer?: unknown; failed?: string };

export class Host {
	readonly stop: () => Promise<void>;
	readonly #child: ChildProcess;
	readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
	#lastId = 0;
	#started: ((ms: number) => void) | undefined;
	#tally: (() => void) | undefined;

	static async start(name: string, ...args: string[]): Promise<Host> {
		const host = new Host(fork(join(import.meta.dirname, 'hosts', `${name}.mjs`), args));
		await new Promise<void>((resolve, reject) => {
			host.#child.once('exit', (code) => reject(new Error(`${name} ended with ${code}`)));
			host.#child.on('message', (message: FromHost) => {
				if ('ready' in message) resolve();
			});
		});
		return host;
	}

	private constructor(child: ChildProcess) {
		this.#child = child;
		this.stop = onExit(() => ended(child, 'SIGKILL'));
		child.on('message', (message: FromHost) => this.#hear(message));
		child.once('exit', (code) => {
			for (const call of this.#calls.values()) call.reject(new Error(`a host ended with ${code}`));
		});
	}

	get pid(): number {
		return this.#child.pid!;
	}

	call<T>(name: string, ...args: unknown[]): Promise<T> {
		const id = ++this.#lastId;
		const call = Promise.withResolvers<unknown>();
		this.#calls.set(id, call);
		this.#child.send({ id, call: name, args });
		return call.promise as Promise<T>;
	}

	/** Milliseconds from submit to start of the next probe. Ask before submitting it. */
	started(): Promise<number> {
		return new Promise((resolve) => (this.#started = resolve));
	}

	/** The end of so many jobs is recorded. Ask before submitting the first. */
	async recorded(count: number): Promise<() => Promise<void>> {
		const tally = new Promise<void>((resolve) => (this.#tally = resolve));
		await this.call('expect', count);
		return () => tally;
	}

	#hear(message: FromHost): void {
		if ('startedNs' in message) this.#started?.(message.startedNs / 1e6);
		else if ('tally' in message) this.#tally?.();
		else if ('id' in message) {
			const call = this.#calls.get(message.id);
			this.#calls.delete(message.id);
			if (message.failed === undefined) call?.resolve(message.answer);
			else call?.reject(new Error(message.failed));
		}
	}
}

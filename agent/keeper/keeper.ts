/**
 * The agent's side: has programs kept, and finds again those that an earlier agent had kept. A keeper is
 * started with the first job and asked to leave when there has been none for a while. If it is killed,
 * what it wrote down about those that had ended is still read; about the others nobody can know.
 */
import { join } from 'node:path';
import type { Clock } from '../clock';
import { type ExitStatus, SpawnFailure } from '../drivers/process';
import type { SpoolState } from '../spool';
import { ExitFiles, StartedBefore } from './exits';
import { places } from './places';
import { connect, type Ears, inside, launch, type Wire } from './wire';
import {
	type AgentWord,
	type End,
	type Held,
	keyOf,
	type KeeperWord,
	type Order,
	type TerminalSize,
} from './words';

/** The process that kept a program was killed: nobody can know how it goes on. */
export class KeeperGone extends Error {
	override readonly name = 'KeeperGone';
}

/** Jobs that follow each other should not each wait for a new keeper. */
const idleMs = 60_000;
/** A machine that could start none is not asked again with every job. */
const relaunchMs = 60_000;

export interface KeeperParts {
	/** Its own, in the data folder. */
	folder: string;
	/** The file of the keeper's program; undefined = keep inside. */
	program: string | undefined;
	spool: Order['spool'];
	clock: Clock;
	log: Record<'info' | 'warn', (facts: object, text: string) => void>;
}

/** One program that is kept. */
export class Ward {
	readonly key: string;
	readonly pid: number;
	readonly birth: string | null;
	readonly ageMs: number;
	/** Bytes of later input that had been taken when it was found. */
	readonly typed: number;
	readonly terminal: boolean;
	/** Rejects with `KeeperGone`. */
	readonly exited: Promise<ExitStatus>;
	/** Everything it printed is kept. Rejects with `KeeperGone`. */
	readonly ended: Promise<End>;
	wire: Wire;
	readonly #exited = Promise.withResolvers<ExitStatus>();
	readonly #ended = Promise.withResolvers<End>();
	readonly #ask: Ask;
	#output: SpoolState;
	#follow: ((state: Partial<SpoolState>) => void) | undefined;

	constructor(held: Held, wire: Wire, ask: Ask) {
		const { key, pid, birth, ageMs, output, input, terminal = false } = held;
		this.key = key;
		this.pid = pid;
		this.birth = birth;
		this.ageMs = ageMs;
		this.typed = input;
		this.terminal = terminal;
		this.wire = wire;
		this.#ask = ask;
		this.#output = output;
		this.exited = this.#exited.promise;
		this.ended = this.#ended.promise;
		// Whoever looks later still finds the reason.
		for (const one of [this.exited, this.ended]) one.catch(() => undefined);
		this.hear(held);
	}

	/** Calls with what is kept so far, and whenever there is more. */
	follow(follow: (state: Partial<SpoolState>) => void): void {
		this.#follow = follow;
		follow(this.#output);
	}

	/** Types in what begins at `offset`, if that is where the input has got to; resolves with where it is afterwards. */
	input(offset: number, data: Uint8Array, secret: boolean): Promise<number> {
		const { key } = this;
		const text = Buffer.from(data.buffer, data.byteOffset, data.length).toString('base64');
		return this.#ask(this.wire, (id) => ({ say: 'input', key, id, offset, data: text, secret }));
	}

	/** Nothing comes after `offset`. */
	endInput(offset: number): Promise<number> {
		const { key } = this;
		return this.#ask(this.wire, (id) => ({ say: 'end-input', key, id, offset }));
	}

	resize(size: TerminalSize): void {
		this.wire.say({ say: 'resize', key: this.key, size });
	}

	giveUp(): void {
		this.wire.say({ say: 'give-up', key: this.key });
	}

	hear({ output, exited, end }: Partial<Pick<Held, 'exited' | 'end'>> & News): void {
		const news = end?.output ?? output;
		if (news !== undefined) {
			this.#output = { ...this.#output, ...news };
			this.#follow?.(news);
		}
		if (exited !== undefined) this.#exited.resolve(exited);
		if (end !== undefined) {
			this.#exited.resolve({ code: end.code, signal: end.signal });
			this.#ended.resolve(end);
		}
	}

	lose(): void {
		const gone = new KeeperGone('the process that kept it was killed');
		this.#exited.reject(gone);
		this.#ended.reject(gone);
	}
}

interface News {
	output?: Partial<SpoolState>;
}

type Question = Extract<AgentWord, { say: 'input' | 'end-input' }>;

type Ask = (wire: Wire, word: (id: number) => Question) => Promise<number>;

/** A question without an answer yet. */
interface Asked {
	wire: Wire;
	word: Question;
	answered: PromiseWithResolvers<number>;
}

export class Keeper implements Ears {
	readonly #parts: KeeperParts;
	readonly #exits: ExitFiles;
	readonly #wards = new Map<string, Ward>();
	readonly #starting = new Map<string, { wire: Wire; started: PromiseWithResolvers<Ward> }>();
	readonly #asked = new Map<number, Asked>();
	/** What was said there is heard by nobody, and will not be said again. */
	readonly #lost = new WeakSet<Wire>();
	readonly #closing = new AbortController();
	#lastId = 0;
	/** To a process of its own. */
	#wire: Wire | undefined;
	#inside: Wire | undefined;
	#lastTurn = Promise.resolve();
	#reached: Promise<void> | undefined;
	#launchAt = -Infinity;
	#launchFailed = false;
	#idleSince: number | undefined;
	#watching = false;
	/** Starts from an agent before us: a silent keeper that only gets to them now has to find that it must not. */
	readonly #late = new Set<string>();
	/** Somebody listens there and does not answer: what it may still do is unknown. */
	#mute = false;

	constructor(parts: KeeperParts) {
		this.#parts = parts;
		this.#exits = new ExitFiles(join(parts.folder, places.exits));
	}

	/** A program can be started without waiting. */
	get isReady(): boolean {
		return this.#wire !== undefined;
	}

	/** Resolves when that is so, or when there can be no process of its own now. Never rejects. */
	async ready(): Promise<void> {
		try {
			await this.#reach();
			if (this.#wire === undefined) await this.#inTurn(() => this.#launch());
		} catch (error) {
			this.#complain(error);
		}
	}

	/**
	 * Rejects with `SpawnFailure` when it was surely not started, with `StartedBefore`, or with
	 * `KeeperGone` when nobody can know.
	 */
	async start(order: Omit<Order, 'spool'>, maxOutputBytes = Infinity): Promise<Ward> {
		const { spool } = this.#parts;
		const kept = { ...spool, maxBytes: Math.min(spool.maxBytes, maxOutputBytes) };
		// While its files were fetched the keeper may have left.
		if (this.#wire === undefined) await this.ready();
		const wire = this.#wire ?? (this.#inside ??= this.#keepInside());
		const started = Promise.withResolvers<Ward>();
		this.#starting.set(keyOf(order), { wire, started });
		wire.say({ say: 'start', order: { ...order, spool: kept } });
		return await started.promise;
	}

	/** What an earlier agent started and a keeper still holds. */
	async find(attempt: { jobId: string; epoch: number }): Promise<Ward | undefined> {
		await this.#reach();
		return this.#wards.get(keyOf(attempt));
	}

	/** How it ended, as a keeper that is gone wrote it down. */
	lastEnd(attempt: { jobId: string; epoch: number }): End | undefined {
		return this.#exits.read(keyOf(attempt));
	}

	/**
	 * True when no program was ever called for it, provided it was promised since the machine was started. Ask after
	 * `find`: what an agent before us said has been done by then, unless a keeper is silent; that one may still get
	 * to it, and then finds that it must not.
	 */
	neverStarted(attempt: { jobId: string; epoch: number }): boolean {
		const key = keyOf(attempt);
		if (!this.#mute) return !this.#exits.has(key);
		this.#late.add(key);
		return this.#exits.preclude(key);
	}

	/**
	 * For one whose start a keeper was asked for and has not answered. True = it was not called, and no
	 * keeper will call it: it finds the file that it would have to make first.
	 */
	preclude(attempt: { jobId: string; epoch: number }): boolean {
		return this.#exits.preclude(keyOf(attempt));
	}

	/**
	 * Its end is on the agent's disk. What was written down about it stays until it is forgotten: should the end of
	 * the journal be damaged, it still says that the program was called, and what became of it.
	 */
	settled(attempt: { jobId: string; epoch: number }): void {
		this.#onceReached(() => this.#take(keyOf(attempt)));
	}

	/** Nobody will ask for it again. */
	forgotten(attempt: { jobId: string; epoch: number }): void {
		const key = keyOf(attempt);
		const remove = () => {
			if (!this.#late.has(key)) this.#exits.remove(key);
		};
		// A keeper that has not answered yet may only now get to its start: it has to find the file.
		const starting = this.#starting.get(key)?.started.promise;
		if (starting) starting.then(remove, remove);
		else this.#onceReached(remove);
	}

	/** Lets go of everything that does not belong to these attempts. Call once, at the start. */
	sweep(attempts: readonly { jobId: string; epoch: number }[]): void {
		this.#onceReached(() => this.#sweep(new Set(attempts.map(keyOf))));
	}

	/** What is left undone, the next agent does. */
	#onceReached(work: () => void): void {
		this.#reach()
			.then(work)
			.catch((error: unknown) => this.#complain(error));
	}

	#sweep(known: ReadonlySet<string>): void {
		for (const ward of this.#wards.values()) {
			if (known.has(ward.key)) continue;
			this.#parts.log.warn(
				{ attempt: ward.key },
				'a keeper holds a program that the journal does not know',
			);
			const take = (): void => {
				this.#take(ward.key);
				this.#exits.remove(ward.key);
			};
			ward.ended.then(take, take);
		}
		// A keeper that is silent may only now get to a start that an agent before us asked for.
		if (this.#mute) return;
		for (const key of this.#exits.keys) {
			if (!known.has(key) && !this.#wards.has(key)) this.#exits.remove(key);
		}
	}

	/** Everything that runs outlives this agent. */
	get outlivesUs(): boolean {
		return [...this.#wards.values()].every(({ wire }) => wire.apart);
	}

	/** There should be a keeper of its own, and there can be none. */
	get isMissing(): boolean {
		return this.#wire === undefined && (this.#mute || this.#launchFailed);
	}

	/** The agent ends; a keeper that holds nothing does too. */
	async close(): Promise<void> {
		this.#closing.abort();
		const wire = this.#wire;
		this.#wire = undefined;
		if (this.#wards.size === 0) wire?.say({ say: 'leave' });
		await wire?.close();
	}

	/** Never throws: a word that cannot be followed must not take down those after it. */
	hear(word: KeeperWord, wire: Wire): void {
		try {
			this.#hear(word, wire);
		} catch (error) {
			this.#complain(error);
		}
	}

	#hear(word: KeeperWord, wire: Wire): void {
		switch (word.say) {
			case 'welcome':
				return this.#welcome(word.held, wire);
			case 'started': {
				const { key } = word;
				const none = { length: 0, pieces: [], lost: [] };
				const held = { ...word, ageMs: 0, input: 0, output: { stdout: none, stderr: none } };
				const ward = new Ward(held, wire, this.#ask);
				this.#wards.set(key, ward);
				if (word.note !== undefined) this.#parts.log.warn({ attempt: key }, word.note);
				this.#answer(key)?.resolve(ward);
				return;
			}
			case 'not-started': {
				const { key, why, message } = word;
				const error = why === 'spawn' ? new SpawnFailure(message) : new StartedBefore(message);
				this.#answer(key)?.reject(error);
				return;
			}
			case 'output':
				return this.#wards.get(word.key)?.hear({ output: word.state });
			case 'exited':
				return this.#wards.get(word.key)?.hear({ exited: word.status });
			case 'ended':
				return this.#wards.get(word.key)?.hear({ end: word.end });
			case 'have': {
				const asked = this.#asked.get(word.id);
				this.#asked.delete(word.id);
				return asked?.answered.resolve(word.have);
			}
		}
	}

	gone(wire: Wire): void {
		if (wire !== this.#wire) return;
		this.#wire = undefined;
		// If only the line broke, the keeper is still there and knows.
		this.#inTurn(() => this.#connect())
			.catch((error: unknown) => this.#complain(error))
			.finally(() => this.#lose(wire));
	}

	#lose(wire: Wire): void {
		this.#lost.add(wire);
		for (const [id, asked] of this.#asked) {
			if (asked.wire !== wire) continue;
			this.#asked.delete(id);
			asked.answered.reject(new KeeperGone('the process that kept it was killed'));
		}
		for (const ward of this.#wards.values()) {
			if (ward.wire !== wire) continue;
			this.#wards.delete(ward.key);
			ward.lose();
		}
		for (const [key, { wire: of, started }] of this.#starting) {
			if (of !== wire) continue;
			this.#starting.delete(key);
			started.reject(new KeeperGone('the process that was to start it was killed'));
		}
	}

	#welcome(held: Held[], wire: Wire): void {
		if (wire.apart) this.#wire = wire;
		for (const one of held) {
			const known = this.#wards.get(one.key);
			const ward = known ?? new Ward(one, wire, this.#ask);
			ward.wire = wire;
			known?.hear(one);
			this.#wards.set(one.key, ward);
			this.#answer(one.key)?.resolve(ward);
			this.#askAgain(one.key, wire);
		}
		if (wire.apart) this.#watchIdle();
	}

	/** What was asked on a line that broke. Input that was typed all the same is not typed again: it goes by offset. */
	#askAgain(key: string, wire: Wire): void {
		for (const asked of this.#asked.values()) {
			if (asked.word.key !== key || asked.wire === wire) continue;
			asked.wire = wire;
			wire.say(asked.word);
		}
	}

	/** Looks, once, whether an earlier agent left a keeper. Rejects when it cannot see: the next call looks again. */
	#reach(): Promise<void> {
		return (this.#reached ??= this.#inTurn(() => this.#connect()).catch((error: unknown) => {
			this.#reached = undefined;
			throw error;
		}));
	}

	/** One after the other, so that nobody starts a keeper while another one is being looked for. */
	#inTurn(open: () => Promise<void>): Promise<void> {
		const turn = this.#lastTurn.then(open);
		// One that fails is no reason for the next one to.
		this.#lastTurn = turn.catch(() => undefined);
		return turn;
	}

	async #connect(): Promise<void> {
		const { folder, clock, log } = this.#parts;
		const found = await connect(folder, clock, this);
		this.#mute = found === 'mute';
		if (found === 'live') log.info({ held: this.#wards.size }, 'keeper found');
		if (this.#mute) log.warn({}, 'the keeper of an earlier agent does not answer');
	}

	async #launch(): Promise<void> {
		const { folder, program, clock, log } = this.#parts;
		const now = clock.monotonic();
		if (this.#wire !== undefined || program === undefined || now < this.#launchAt) return;
		try {
			await launch(folder, program, clock);
			if ((await connect(folder, clock, this)) !== 'live') throw new Error('it cannot be reached');
			this.#launchFailed = false;
		} catch (error) {
			this.#launchAt = now + relaunchMs;
			this.#launchFailed = true;
			const reason = (error as Error).message;
			log.warn({ reason }, 'no keeper could be started, so jobs will not outlive this agent');
		}
	}

	#complain(error: unknown): void {
		const reason = (error as Error).message;
		this.#parts.log.warn({ reason }, 'something about the keeper failed');
	}

	#keepInside(): Wire {
		const { clock, log } = this.#parts;
		return inside(this.#exits, clock, this, (text) => log.warn({}, text));
	}

	#take(key: string): void {
		const ward = this.#wards.get(key);
		this.#wards.delete(key);
		ward?.wire.say({ say: 'take', key });
		this.#watchIdle();
	}

	#answer(key: string): PromiseWithResolvers<Ward> | undefined {
		const starting = this.#starting.get(key);
		this.#starting.delete(key);
		return starting?.started;
	}

	readonly #ask: Ask = (wire, word) => {
		const answered = Promise.withResolvers<number>();
		if (this.#lost.has(wire))
			answered.reject(new KeeperGone('the process that kept it was killed'));
		else {
			const id = ++this.#lastId;
			const asked = { wire, word: word(id), answered };
			this.#asked.set(id, asked);
			wire.say(asked.word);
		}
		return answered.promise;
	};

	/** Asks the keeper to leave when there has been nothing for it to do for a while. */
	#watchIdle(): void {
		const { clock } = this.#parts;
		this.#idleSince = clock.monotonic();
		if (this.#watching || this.#wire === undefined) return;
		this.#watching = true;
		void (async () => {
			let leftMs = idleMs;
			while (await clock.sleep(leftMs, this.#closing.signal)) {
				if (this.#wards.size + this.#starting.size > 0) this.#idleSince = clock.monotonic();
				leftMs = this.#idleSince! + idleMs - clock.monotonic();
				if (leftMs <= 0) break;
			}
			this.#watching = false;
			const wire = this.#wire;
			if (this.#closing.signal.aborted || wire === undefined) return;
			this.#wire = undefined;
			wire.say({ say: 'leave' });
			await wire.close();
		})();
	}
}

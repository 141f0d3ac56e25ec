/**
 * The service as a process: the real engine on the real store, and for every robot that dials in the
 * real `RobotLink`. It dies, is started again over the same disk, and answers callers over a network
 * that may lose the answer.
 */
import { verify } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Engine, RobotSession, RobotSink } from '../../dispatcher/engine';
import { createEngine } from '../../dispatcher/engine/create';
import type { Callbacks } from '../../dispatcher/engine/waits';
import type { House } from '../../dispatcher/server/door';
import { RobotLink, type RobotSocket } from '../../dispatcher/server/robot-link';
import type { Store } from '../../dispatcher/store/store';
import { limits, type Revoke } from '../../protocol';
import { epochAt, type Kernel, Process } from './kernel';
import type { End, Listener } from './network';

export interface ServiceOptions {
	acceptGatherMs: number;
	sweepMs: number;
	recoveryGraceMs: number;
	heartbeatMs: number;
}

export interface ServiceHooks {
	kernel: Kernel;
	open(owner: Process): Store;
	chance(): number;
	entropy(buffer: Buffer): void;
	callbacks: Callbacks;
	/** Milliseconds of a call or an answer on the way. */
	latencyMs(): number;
	note(line: object): void;
	/** Something that must never happen in the engine. */
	wrong(text: string): void;
	/** It ended without having been killed. */
	ended(): void;
	/** What a mutant tells the engine instead of what the plan says. */
	settings: Partial<ServiceOptions>;
	/** The engine and its links as the laws' mutants want them. */
	dress(engine: Engine): Engine;
}

/** `signal` is aborted when the service says goodbye to those who wait. */
export type Ask<T> = (engine: Engine, signal: AbortSignal) => Promise<T>;

interface Call {
	hangUp(error: Error): void;
	over: AbortController;
}

/** No answer came: the caller cannot know. */
export class Unanswered extends Error {}

const sweepMs = 1_000;
const noWire = { cork: () => undefined, uncork: () => undefined } as unknown as Duplex;

export class Service implements Listener {
	readonly options: ServiceOptions;
	process = new Process('service');
	/** Present once it is ready. */
	engine: Engine | undefined;
	/** Since when it is ready. Instants here are those of its monotonic clock. */
	readySince: number | undefined;
	/** Everybody who ever enrolled. */
	readonly robotIds = new Set<string>();
	/** Since when an attempt of the job is asked whether it started. By job id. */
	readonly revokedSince = new Map<string, number>();
	/** Since when the robot has no session here; absent while it has one. By robot id. */
	readonly awaySince = new Map<string, number>();
	/** The absence before that, of robots that are back. */
	readonly wasAway = new Map<string, { since: number; until: number }>();
	wallError = 0;
	/** True time at which it was last set by so much that the service notices. */
	clockSetAt = -Infinity;
	/** Its store has failed it: what it remembers counts for nothing any more. */
	broken = false;
	#monotonicLag = 0;
	/** Until when its machine sleeps. */
	suspendedUntil = 0;
	#links = new Map<RobotLink, { proved: boolean }>();
	/** Sockets there ever were. */
	#opened = 0;
	#waiting = new Set<Call>();
	readonly #hooks: ServiceHooks;

	constructor(options: ServiceOptions, hooks: ServiceHooks) {
		this.options = options;
		this.#hooks = hooks;
		this.process.alive = false;
	}

	/** What its clock says at this true instant, if no suspend lies between. */
	monotonicAt(at: number): number {
		return at - this.#monotonicLag;
	}

	get monotonic(): number {
		return this.#hooks.kernel.now - this.#monotonicLag;
	}

	async start(): Promise<void> {
		const { chance, entropy, callbacks } = this.#hooks;
		if (this.process.alive) return;
		const process = new Process('service');
		process.wallError = this.wallError;
		process.monotonicLag = this.#monotonicLag;
		process.pausedUntil = this.suspendedUntil;
		this.process = process;
		this.broken = false;
		this.#links = new Map();
		this.#waiting = new Set();
		const store = this.#hooks.open(process);
		this.#hooks.note({ service: 'start', term: store.term });
		const clock = this.#clock(process);
		try {
			const engine = await createEngine({
				store,
				clock,
				chance,
				entropy,
				log: this.#log(process),
				settings: {
					defaultJobTimeoutMs: 3_600_000,
					keepOutputMs: 7 * 86_400_000,
					keepOutputBytes: 10 * 2 ** 30,
					maxWaitingJobs: 1_000_000,
					maxWaitingBytes: 2 ** 30,
					minFreeBytes: 0,
					retention: {
						jobsMs: Infinity,
						maxJobs: Infinity,
						occurrencesMs: Infinity,
						eventsMs: Infinity,
					},
					...this.options,
					...this.#hooks.settings,
				},
				disk: {
					freeBytes: () => 1e12,
					storeBytes: () => 0,
					reserve: { held: true, bytes: 0, hold: () => true },
				},
				callbacks,
				fatal: (error) => this.#fatal(process, error),
			});
			if (!process.alive) return;
			this.engine = this.#hooks.dress(this.#watched(engine));
		} catch (error) {
			if (process.alive) this.#fatal(process, error as Error);
			return;
		}
		this.readySince = this.monotonic;
		for (const robotId of this.robotIds) this.awaySince.set(robotId, this.monotonic);
		this.#hooks.note({ service: 'ready' });
		this.#sweep(process);
	}

	/** kill -9. */
	kill(): void {
		if (!this.process.alive) return;
		this.#hooks.note({ service: 'killed' });
		this.#end();
	}

	/** SIGTERM: says goodbye, commits what is under way, ends. */
	async stop(): Promise<void> {
		const { engine, process } = this;
		if (!engine || !process.alive) return;
		this.#hooks.note({ service: 'stopping' });
		this.engine = undefined;
		for (const { over } of this.#waiting) over.abort();
		for (const link of this.#links.keys()) link.close(1001, 'the service stops');
		await engine.stop();
		// What gathers acceptances has no end of its own but the next few milliseconds.
		for (let round = 0; round < 3 && process.sleepers > 0; round += 1) {
			await this.#hooks.kernel.sleep(this.options.acceptGatherMs + 1, process);
		}
		if (!process.alive) return;
		this.#hooks.note({ service: 'stopped' });
		this.#end();
		if (process.sleepers > 0) {
			this.#hooks.wrong(`${process.sleepers} still sleep after the engine has stopped`);
		}
		this.#hooks.ended();
	}

	accept(end: End): boolean {
		const { engine, process } = this;
		if (!engine) return false;
		end.opened();
		const house: House = {
			engine,
			clock: this.#clock(process),
			log: this.#log(process),
			settings: {},
			version: '0.0.0',
			proves: async (publicKey, text, signature) =>
				verify(
					null,
					Buffer.from(text),
					{ key: Buffer.from(publicKey, 'base64url'), format: 'der', type: 'spki' },
					Buffer.from(signature, 'base64url'),
				),
			takeBackup: () => Promise.reject(new Error('nobody takes a backup of this service')),
			doors: () => {
				throw new Error('nobody dials this service');
			},
			pin: () => undefined,
			waiting: new Map(),
		};
		const state = { proved: false };
		const link = new RobotLink(
			end as unknown as RobotSocket,
			noWire,
			(this.#opened += 1),
			'10.0.0.1',
			house,
			this.options.heartbeatMs,
			{
				proved: () => {
					state.proved = true;
				},
				closed: () => this.#links.delete(link),
			},
		);
		this.#links.set(link, state);
		return true;
	}

	/** One call from outside: the answer, the refusal, or `Unanswered`. */
	async call<T>(ask: Ask<T>): Promise<T> {
		const { kernel, latencyMs } = this.#hooks;
		await kernel.sleep(latencyMs(), caller);
		const { engine, process } = this;
		if (!engine || !process.alive) throw new Unanswered('nothing listens');
		const waiting = this.#waiting;
		const away = Promise.withResolvers<never>();
		away.promise.catch(() => undefined);
		const call: Call = { hangUp: away.reject, over: new AbortController() };
		waiting.add(call);
		try {
			return await Promise.race([ask(engine, call.over.signal), away.promise]);
		} finally {
			waiting.delete(call);
			await kernel.sleep(latencyMs(), caller);
		}
	}

	/** The whole machine stands still; a suspend stops its monotonic clock too. */
	freeze(ms: number, suspend: boolean): void {
		const { process } = this;
		const { now } = this.#hooks.kernel;
		if (Math.max(process.pausedUntil, this.suspendedUntil) > now) return;
		process.pausedUntil = now + ms;
		if (!suspend) return;
		this.suspendedUntil = process.pausedUntil;
		this.#monotonicLag += ms;
		process.monotonicLag += ms;
	}

	setWallError(ms: number): void {
		if (Math.abs(ms - this.wallError) > limits.clockJumpMs)
			this.clockSetAt = this.#hooks.kernel.now;
		this.wallError = ms;
		this.process.wallError = ms;
	}

	#end(): void {
		this.process.alive = false;
		this.engine = undefined;
		this.readySince = undefined;
		const error = new Unanswered('the service died');
		for (const { hangUp } of this.#waiting) hangUp(error);
		this.#waiting.clear();
		this.#hooks.ended();
	}

	/** As startup.ts: whoever still waits is told, then the process ends. */
	#fatal(process: Process, error: Error): void {
		this.#hooks.note({ service: 'cannot go on', reason: error.message });
		if (!diskErrors.test(error.message)) this.#hooks.wrong(`the service ended: ${error.message}`);
		if (process === this.process) this.broken = true;
		this.#hooks.kernel.after(0, process, () => {
			if (process === this.process) this.#end();
		});
	}

	/** Notes when a robot has a session and when it has none. */
	#watched(engine: Engine): Engine {
		const current = new Map<string, object>();
		const away = (robotId: string, session: object) => {
			if (current.get(robotId) !== session) return;
			current.delete(robotId);
			this.awaySince.set(robotId, this.monotonic);
		};
		return {
			...engine,
			get readiness() {
				return engine.readiness;
			},
			connect: async (hello, sink, socket) => {
				const mark = {};
				const watched = {
					...looseSink(sink),
					revoke: (message: Revoke) => {
						if (!this.revokedSince.has(message.job_id)) {
							this.revokedSince.set(message.job_id, this.monotonic);
						}
						sink.revoke(message);
					},
					close: (code: number, reason: string) => {
						away(hello.robot_id, mark);
						sink.close(code, reason);
					},
				};
				const session = await engine.connect(hello, watched, socket);
				current.set(hello.robot_id, mark);
				const since = this.awaySince.get(hello.robot_id);
				if (since !== undefined) {
					this.wasAway.set(hello.robot_id, { since, until: this.monotonic });
				}
				this.awaySince.delete(hello.robot_id);
				return {
					...loose(session),
					closed: () => {
						session.closed();
						away(hello.robot_id, mark);
					},
				};
			},
		};
	}

	#sweep(process: Process): void {
		const { kernel } = this.#hooks;
		const { heartbeatMs } = this.options;
		let pingAt = kernel.now + heartbeatMs;
		const sweep = () => {
			const now = kernel.now - process.monotonicLag;
			const ping = now >= pingAt;
			if (ping) pingAt = now + heartbeatMs;
			for (const [link, { proved }] of this.#links) {
				if (!proved) {
					if (now - link.openedAt > limits.authenticateMs) link.terminate();
					continue;
				}
				if (link.isUnread) {
					if (ping) link.ping();
					continue;
				}
				const silent = now - link.seenAt;
				if (silent + sweepMs > limits.missedHeartbeats * heartbeatMs) link.terminate();
				else if (ping && silent >= heartbeatMs) link.ping();
			}
			kernel.after(sweepMs, process, sweep);
		};
		kernel.after(sweepMs, process, sweep);
	}

	#clock(process: Process) {
		const { kernel } = this.#hooks;
		return {
			now: () => Math.floor(epochAt + kernel.now + process.wallError),
			monotonic: () => kernel.now - process.monotonicLag,
			sleep: async (ms: number, signal?: AbortSignal) => {
				await kernel.sleep(ms, process, signal);
			},
		};
	}

	#log(process: Process) {
		const quiet = () => undefined;
		const write = (text: string, facts: object = {}) => {
			if (!process.alive) return;
			this.#hooks.note({ service: text, ...plain(facts) });
			const { error } = facts as { error?: Error };
			if (text === surprise && !diskErrors.test(error?.message ?? '')) {
				this.#hooks.wrong(`${text}: ${error?.message}`);
			}
		};
		return {
			debug: quiet,
			info: write,
			warn: write,
			error: write,
		};
	}
}

/** Those outside live as long as the world. */
const caller = new Process('caller');

/** Why it may end by itself. */
const diskErrors = /disk I\/O error|disk is full|disk of the service is nearly full/;
/** Nobody's words are a reason for that. */
const surprise = 'a call failed unexpectedly';

/** Made of real chance, which no seed repeats. */
const random = ['reference', 'tokenId', 'problem'];

/** Errors as their text: a stack is not the same twice. */
function plain(facts: object): object {
	return Object.fromEntries(
		Object.entries(facts)
			.filter(([name]) => !random.includes(name))
			.map(([name, value]) => [name, value instanceof Error ? value.message : (value as unknown)]),
	);
}

/** A session whose methods may be taken apart and replaced one by one. */
function loose(session: RobotSession): RobotSession {
	return {
		robotId: session.robotId,
		name: session.name,
		verdicts: session.verdicts,
		seen: () => session.seen(),
		accepted: (message) => session.accepted(message),
		rejected: (message) => session.rejected(message),
		result: (message) => session.result(message),
		status: (message) => session.status(message),
		inputAck: (message) => session.inputAck(message),
		prompt: (message) => session.prompt(message),
		output: (frame) => session.output(frame),
		fileRead: (message) => session.fileRead(message),
		fileOffer: (message) => session.fileOffer(message),
		fileBytes: (frame) => session.fileBytes(frame),
		heartbeat: (metrics) => session.heartbeat(metrics),
		facts: (facts, answers) => session.facts(facts, answers),
		pong: (answers) => session.pong(answers),
		takesNoMore: () => session.takesNoMore(),
		takenUp: () => session.takenUp(),
		closed: () => session.closed(),
	};
}

/** A sink likewise. */
export function looseSink(sink: RobotSink): RobotSink {
	return {
		assign: (message) => sink.assign(message),
		cancel: (message) => sink.cancel(message),
		revoke: (message) => sink.revoke(message),
		resultAck: (message) => sink.resultAck(message),
		outputAck: (message) => sink.outputAck(message),
		outputCredit: (message) => sink.outputCredit(message),
		transport: sink.transport,
		takesInput: sink.takesInput,
		input: (message) => sink.input(message),
		resize: (message) => sink.resize(message),
		fileInfo: (message) => sink.fileInfo(message),
		fileWant: (message) => sink.fileWant(message),
		fileKept: (message) => sink.fileKept(message),
		fileRefused: (message) => sink.fileRefused(message),
		fileBytes: (frame) => sink.fileBytes(frame),
		control: (order) => sink.control(order),
		refuse: (problem) => sink.refuse(problem),
		ping: (then) => sink.ping(then),
		close: (code, reason) => sink.close(code, reason),
	};
}

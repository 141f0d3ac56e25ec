/**
 * What people ask of a robot over the line it holds open: ping, refresh, disconnect, shutdown, a note to
 * all. Nothing of it is stored: a robot that is not here is not asked, and whoever asked is told so.
 */
import {
	type BroadcastRequest,
	closeCodes,
	type CloseRequest,
	type Control,
	type PingAnswer,
	Problem,
	type Robot,
} from '../../protocol';
import { closedOf } from '../core/control';
import type { Access } from './access';
import type { Closures } from './closures';
import type { Context } from './context';
import type { RobotEntry, Session } from './fleet';
import type { Caller } from './index';

/** How long a robot has to answer. */
const answerMs = 10_000;
/** How long a closed line may take to show. */
const closeShowsMs = 5_000;
/** Names the end of the session among what is waited for; no message has this id. */
const end = 'end';

export class Orders {
	readonly #context: Context;
	readonly #access: Access;
	readonly #closures: Closures;

	constructor(context: Context, access: Access, closures: Closures) {
		this.#context = context;
		this.#access = access;
		this.#closures = closures;
	}

	/** No new jobs for it, and an answer once it holds none any more, or somebody has asked for something else. */
	async drain(
		robot: string,
		waitMs: number,
		by: Caller,
		signal: AbortSignal | undefined,
		request: CloseRequest,
	): Promise<Robot> {
		await this.#closures.close(robot, 'draining', request, by);
		const entry = this.#access.find(robot);
		const { watchers, clock, fleet } = this.#context;
		const isDraining = () => closedOf(entry.stored.closed)?.as === 'draining';
		await watchers.until(
			'robot',
			[entry.robotId],
			async () => entry.held.size,
			(held) => held === 0 || !isDraining() || fleet.get(entry.robotId) !== entry,
			{ ms: waitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
		return this.#access.view(entry);
	}

	/** There and back on the line that carries the work, which proves what a socket's own ping does not. */
	async ping(robot: string): Promise<PingAnswer> {
		const entry = this.#access.find(robot);
		const ms = await this.#ask(entry, { action: 'ping' });
		return { robotId: entry.robotId, name: entry.stored.name, ms: Math.round(ms * 10) / 10 };
	}

	/** The robot looks at its machine again. One that cannot tell answers with what it said last. */
	async refresh(robot: string): Promise<Robot> {
		const entry = this.#access.find(robot);
		const session = this.#sessionOf(entry);
		if (session.tellsFacts) await this.#ask(entry, { action: 'refresh' });
		else session.sink.control({ action: 'refresh' });
		return this.#access.view(entry);
	}

	/** Ends the line. The robot carries on with what it runs, and dials again by itself. */
	async disconnect(robot: string, by: Caller): Promise<Robot> {
		const entry = this.#access.find(robot);
		const { session } = entry;
		// It may be gone by itself, which is what was wanted.
		if (session !== undefined) {
			const gone = this.#answer(session, end, closeShowsMs);
			session.sink.close(closeCodes.goodbye, 'disconnected by a person');
			await gone;
			this.#note('robot disconnected by a person', entry, by);
		}
		return this.#access.view(entry);
	}

	/** The agent ends: when its jobs had their time, or `now`. It comes back when somebody starts it. */
	async shutdown(robot: string, now: boolean, by: Caller): Promise<Robot> {
		const entry = this.#access.find(robot);
		const session = this.#sessionOf(entry);
		session.sink.control({ action: 'shutdown', ...(now ? { at_once: true } : {}) });
		this.#note(now ? 'robot shut down at once' : 'robot shut down', entry, by);
		return this.#access.view(entry);
	}

	/** How many robots were told. */
	broadcast({ action = 'note', text, labels = {} }: BroadcastRequest, by: Caller): number {
		const wanted = Object.entries(labels);
		let told = 0;
		for (const entry of this.#context.fleet.all()) {
			if (entry.session === undefined) continue;
			if (wanted.some(([name, value]) => entry.labels[name] !== value)) continue;
			entry.session.sink.control({ action, ...(text === undefined ? {} : { text }) });
			told += 1;
		}
		this.#context.log.info('robots told', { action, told, by: by.name });
		return told;
	}

	async #ask(entry: RobotEntry, order: Control): Promise<number> {
		const { clock } = this.#context;
		const session = this.#sessionOf(entry);
		const sentAt = clock.monotonic();
		const id = session.sink.control(order);
		const answered = await this.#answer(session, id, answerMs);
		if (answered === undefined) {
			throw new Problem('robot-silent', { robot: entry.stored.name, waitMs: answerMs });
		}
		if (answered === 'gone') throw away(entry);
		return clock.monotonic() - sentAt;
	}

	/** Resolves with undefined when the time is over. */
	async #answer(
		session: Session,
		id: string,
		ms: number,
	): Promise<'answered' | 'gone' | undefined> {
		const over = new AbortController();
		let said: 'answered' | 'gone' | undefined;
		const waiting = (session.waiting ??= new Map<string, (how: 'answered' | 'gone') => void>());
		// Two who wait for the same end must not replace each other.
		const key = waiting.has(id) ? `${id} ${waiting.size}` : id;
		waiting.set(key, (how) => {
			said = how;
			over.abort();
		});
		await this.#context.clock.sleep(ms, over.signal);
		waiting.delete(key);
		return said;
	}

	#sessionOf(entry: RobotEntry): Session {
		if (entry.session === undefined) throw away(entry);
		return entry.session;
	}

	#note(text: string, { robotId, stored }: RobotEntry, by: Caller): void {
		this.#context.log.info(text, { robotId, name: stored.name, by: by.name });
	}
}

function away({ stored }: RobotEntry): Problem {
	return new Problem('robot-away', { robot: stored.name });
}

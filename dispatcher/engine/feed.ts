/**
 * What happens, told as it happens, to those who look on. Jobs are told from the commits themselves: each deed that
 * the store took says what changed, nothing is read for it. Robots are compared with what was told of them, twice a second.
 * While nobody looks on, all of it costs one comparison a commit.
 *
 * A channel lives from its first viewer until a while after the last one has left; so long its last events are kept, and
 * who comes back with the number of the last event it saw gets those behind it, else a snapshot.
 */
import {
	defaultOrg,
	isFinal,
	type LiveChannel,
	type LiveJob,
	liveLimits,
	type LiveMessage,
	type LiveRobot,
	Problem,
} from '../../protocol';
import type { Deed, DeedAnswer, Deeds, RolloutMove, StoredJob } from '../store/store';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import { jobView, robotView, statusOf } from './views';

/** What is gathered leaves together. */
const flushMs = 50;
const robotsMs = 500;
const robotsChannel = `robots:${defaultOrg}` as const;
const jobsChannel = `jobs:${defaultOrg}` as const;

/** A message, made into text once for all who get it. */
export class LiveText {
	readonly seq: number;
	readonly #message: LiveMessage;
	#text: string | undefined;

	constructor(message: LiveMessage) {
		this.seq = message.seq;
		this.#message = message;
	}

	get text(): string {
		return (this.#text ??= JSON.stringify(this.#message));
	}
}

/** Who looks on. Called in the order of what happened; must not throw. */
export interface Viewer {
	take(messages: readonly LiveText[]): void;
}

interface Onlooker {
	viewer: Viewer;
	/** Events that came while its snapshot was made. */
	held: LiveText[] | undefined;
}

interface Channel {
	name: LiveChannel;
	onlookers: Set<Onlooker>;
	/** Since the last flush. */
	fresh: LiveText[];
	/** The last events, oldest first; all events with a higher seq than `from` are in it. */
	history: LiveText[];
	from: number;
	/** Monotonic; when the last one left. */
	leftAt: number;
}

type EventName = Exclude<LiveMessage['event'], 'snapshot'>;
type JobChange = Partial<LiveJob> & { jobId: string };

/** What was last told of a robot, as far as that can change without its record. */
interface Told {
	entry: RobotEntry['stored'];
	session: RobotEntry['session'];
	metrics: object | undefined;
	status: string;
	holds: number;
}

export class Feed {
	readonly #context: Context;
	readonly #channels = new Map<string, Channel>();
	readonly #over = new AbortController();
	readonly #told = new Map<string, Told>();
	#seq: number;
	#flushing = false;
	#comparing = false;

	constructor(context: Context) {
		this.#context = context;
		// Above all numbers of earlier lives of the service.
		this.#seq = context.store.term * 2 ** 32;
	}

	stop(): void {
		this.#over.abort();
		this.#channels.clear();
	}

	/** Looks on until the returned function is called. Throws `bad-field` for a channel there is not. */
	async watch(name: string, since: number | undefined, viewer: Viewer): Promise<() => void> {
		const channel = this.#open(name);
		const onlooker: Onlooker = { viewer, held: [] };
		channel.onlookers.add(onlooker);
		const leave = () => {
			channel.onlookers.delete(onlooker);
			channel.leftAt = this.#context.clock.monotonic();
		};
		try {
			if (since !== undefined && since >= channel.from && since <= this.#seq) {
				viewer.take(channel.history.filter(({ seq }) => seq > since));
			} else await this.#snapshot(channel, viewer);
		} catch (error) {
			leave();
			throw error;
		}
		const { held } = onlooker;
		onlooker.held = undefined;
		if (held!.length > 0) viewer.take(held!);
		return leave;
	}

	/** These deeds are on disk. */
	committed(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void {
		if (this.#channels.size === 0) return;
		for (let i = 0; i < deeds.length; i += 1) this.#tellDeed(deeds[i]!, answers[i]!);
	}

	#open(name: string): Channel {
		const [, sort, of] = /^(robots|jobs|progress):(.{1,256})$/.exec(name) ?? [];
		if (sort === undefined || (sort !== 'progress' && of !== defaultOrg)) {
			throw new Problem('bad-field', {
				path: 'channel',
				reason: `must be ${robotsChannel}, ${jobsChannel} or progress:JOB`,
			});
		}
		this.#tidy();
		let channel = this.#channels.get(name);
		if (!channel) {
			channel = {
				name: name as LiveChannel,
				onlookers: new Set(),
				fresh: [],
				history: [],
				from: this.#seq,
				leftAt: 0,
			};
			this.#channels.set(name, channel);
		}
		if (sort === 'robots') void this.#compare();
		return channel;
	}

	#tidy(): void {
		const now = this.#context.clock.monotonic();
		for (const [name, { onlookers, leftAt }] of this.#channels) {
			if (onlookers.size === 0 && now - leftAt > liveLimits.keepMs) this.#channels.delete(name);
		}
	}

	async #snapshot({ name }: Channel, viewer: Viewer): Promise<void> {
		const { clock } = this.#context;
		// Whatever is told from here on comes behind the snapshot, and may be in it already.
		const seq = this.#seq;
		const items = await this.#items(name);
		for (let from = 0; ; from += liveLimits.piece) {
			const piece = await items(from, from + liveLimits.piece);
			const more = piece.length === liveLimits.piece;
			viewer.take([
				new LiveText({ channel: name, event: 'snapshot', seq, data: { items: piece, more } }),
			]);
			if (!more || this.#over.signal.aborted) return;
			// Thousands of robots are a snapshot of megabytes: others come in between.
			await clock.sleep(0);
		}
	}

	/** Gives a piece of what a channel shows. */
	async #items(
		channel: LiveChannel,
	): Promise<(from: number, to: number) => Promise<(LiveJob | LiveRobot)[]>> {
		const { store, fleet } = this.#context;
		if (channel === robotsChannel) {
			const all = [...fleet.all()];
			return async (from, to) => all.slice(from, to).map((entry) => this.#robot(entry));
		}
		if (channel !== jobsChannel) {
			const id = channel.slice('progress:'.length);
			const job = await store.read('job', { id });
			if (!job) throw new Problem('no-such-job', { id });
			return async (from) => (from === 0 ? [this.#job(job)] : []);
		}
		const newest = await store.read('jobs', { limit: liveLimits.newest });
		const ids = [...new Set([...newest.map(({ id }) => id), ...liveIds(fleet.lives())])];
		const known = new Map(newest.map((job) => [job.id, job]));
		return async (from, to) => {
			const wanted = ids.slice(from, to);
			const missing = wanted.filter((id) => !known.has(id));
			const read = missing.length > 0 ? await store.read('jobsById', { ids: missing }) : [];
			for (const job of read) known.set(job.id, job);
			return wanted.flatMap((id) => known.get(id) ?? []).map((job) => this.#job(job));
		};
	}

	#job(stored: StoredJob): LiveJob {
		const job = jobView(stored, this.#context.fleet.live(stored.id));
		return {
			jobId: job.jobId,
			kind: job.kind,
			state: job.state,
			cause: job.cause,
			attempt: job.attempt,
			robotId: job.robotId,
			client: job.client,
			priority: job.priority,
			progress: job.progress,
			message: job.message,
			waitingFor: job.waitingFor,
			createdAt: job.createdAt,
			startedAt: job.startedAt,
			endedAt: job.endedAt,
			cancelRequestedAt: job.cancelRequestedAt,
			parentId: job.parentId,
			hold: job.hold,
			createdBy: job.createdBy,
		};
	}

	#robot(entry: RobotEntry): LiveRobot {
		const { clock } = this.#context;
		const robot = robotView(entry, clock.monotonic(), clock.now());
		return {
			robotId: robot.robotId,
			name: robot.name,
			status: robot.status,
			connected: robot.connected,
			closed: robot.closed,
			quarantine: robot.quarantine,
			labels: robot.labels,
			capabilities: robot.capabilities,
			slots: robot.slots,
			held: robot.held,
			currentJobs: robot.currentJobs,
			lastSeenAt: robot.lastSeenAt,
			metrics: robot.metrics,
			health: robot.health,
			agentVersion: robot.agentVersion,
			transport: robot.transport,
		};
	}

	#tellDeed(deed: Deed, answer: DeedAnswer): void {
		// A new job is answered with nothing: there was no earlier one.
		if (deed.do === 'insertJob') {
			if (answer === null) this.#inserted(deed.with);
			return;
		}
		if (answer === null || answer === false) return;
		switch (deed.do) {
			case 'assign':
				return this.#given(deed.with.jobId, deed.with.attempt);
			case 'start':
				return this.#tell('job.moved', {
					jobId: deed.with.jobId,
					state: 'running',
					startedAt: deed.with.at,
				});
			case 'settle': {
				const { jobId, next, at, startedAt } = deed.with;
				const began = startedAt === undefined ? {} : { startedAt };
				return this.#tell('job.moved', {
					jobId,
					state: next.to,
					...began,
					...('cause' in next
						? { cause: next.cause, endedAt: at, waitingFor: null }
						: { cause: next.waitsFor ?? null, waitingFor: null }),
				});
			}
			case 'moveJob': {
				const { jobId, to, cause, at, hold } = deed.with;
				return this.#tell('job.moved', {
					jobId,
					state: to,
					cause,
					...(isFinal(to) ? { endedAt: at } : {}),
					...(hold === undefined ? {} : { hold }),
				});
			}
			case 'changeJob': {
				const { jobId, to } = deed.with;
				const { state, priority, hold } = to;
				return this.#tell('job.changed', { jobId, state, priority, hold });
			}
			case 'requestCancel':
				return this.#tell('job.changed', {
					jobId: deed.with.jobId,
					cancelRequestedAt: deed.with.at,
				});
			case 'progress': {
				const { jobId, progress, message } = deed.with;
				return this.#tell('job.progress', {
					jobId,
					...(progress === null ? {} : { progress }),
					...(message === null ? {} : { message }),
				});
			}
			case 'prompted': {
				const { jobId } = deed.with;
				const waitingFor = this.#context.fleet.live(jobId)?.waitingFor ?? null;
				return this.#tell('job.prompt', { jobId, waitingFor });
			}
			case 'startParent': {
				const { parentId, common, children, at } = deed.with;
				this.#tell('job.moved', { jobId: parentId, state: 'running', startedAt: at });
				for (const child of children) {
					const { kind, priority, createdAt, createdBy, state } = common;
					const { id: jobId } = child;
					const job = { jobId, kind, priority, createdAt, createdBy, state, parentId };
					this.#tell('job.submitted', job);
					if (child.attempt) this.#given(jobId, child.attempt);
				}
				return;
			}
			case 'settleParent':
				if (typeof answer === 'object') return this.#rolled(answer as RolloutMove);
				return this.#tell('job.moved', {
					jobId: deed.with.parentId,
					state: answer as LiveJob['state'],
					endedAt: deed.with.at,
				});
			case 'pauseRollout':
			case 'resumeRollout':
				return this.#rolled(answer as RolloutMove);
		}
	}

	#rolled({ parentId, message, moved }: RolloutMove): void {
		this.#tell('job.changed', { jobId: parentId, message });
		for (const { id, was, is } of moved) {
			if (was.state !== is.state) this.#tell('job.moved', { jobId: id, state: is.state });
		}
	}

	#inserted({ job, attempt }: Deeds['insertJob']['in']): void {
		const { id: jobId, kind, state, priority, createdAt, createdBy, parentId } = job;
		this.#tell('job.submitted', {
			jobId,
			kind,
			state,
			cause: null,
			attempt: 0,
			robotId: null,
			priority,
			progress: 0,
			message: null,
			createdAt,
			createdBy,
			parentId,
		});
		if (attempt) this.#given(jobId, attempt);
	}

	#given(
		jobId: string,
		{ number, robotId, client = null }: { number: number; robotId: string; client?: string | null },
	): void {
		this.#tell('job.moved', { jobId, state: 'dispatched', attempt: number, robotId, client });
	}

	#tell(event: EventName, data: JobChange): void {
		this.#push(this.#channels.get(jobsChannel), event, data);
		this.#push(this.#channels.get(`progress:${data.jobId}`), event, data);
	}

	#push(
		channel: Channel | undefined,
		event: EventName,
		data: JobChange | (Partial<LiveRobot> & { robotId: string }),
	): void {
		if (!channel) return;
		const seq = (this.#seq += 1);
		const message = new LiveText({ channel: channel.name, event, seq, data });
		channel.fresh.push(message);
		channel.history.push(message);
		// In bulk: to take one from the front for each that is put behind would move all of them.
		if (channel.history.length >= 2 * liveLimits.history) {
			const gone = channel.history.splice(0, channel.history.length - liveLimits.history);
			channel.from = gone.at(-1)!.seq;
		}
		if (this.#flushing) return;
		this.#flushing = true;
		void this.#context.clock.sleep(flushMs, this.#over.signal).then(() => this.#flush());
	}

	#flush(): void {
		this.#flushing = false;
		for (const channel of this.#channels.values()) {
			if (channel.fresh.length === 0) continue;
			const fresh = channel.fresh;
			channel.fresh = [];
			for (const { viewer, held } of channel.onlookers) {
				if (held) held.push(...fresh);
				else viewer.take(fresh);
			}
		}
		this.#tidy();
	}

	/** While somebody looks at robots. */
	async #compare(): Promise<void> {
		if (this.#comparing) return;
		this.#comparing = true;
		const { clock, fleet } = this.#context;
		const { signal } = this.#over;
		this.#told.clear();
		for (const entry of fleet.all()) this.#told.set(entry.robotId, this.#nowOf(entry));
		for (;;) {
			await clock.sleep(robotsMs, signal);
			const channel = this.#channels.get(robotsChannel);
			if (!channel || signal.aborted) break;
			for (const entry of fleet.all()) {
				const { robotId } = entry;
				const now = this.#nowOf(entry);
				const before = this.#told.get(robotId);
				if (before && same(before, now)) continue;
				this.#told.set(robotId, now);
				this.#push(channel, 'robot.changed', this.#robot(entry));
			}
			for (const robotId of this.#told.keys()) {
				if (fleet.get(robotId)) continue;
				this.#told.delete(robotId);
				this.#push(channel, 'robot.removed', { robotId });
			}
			this.#tidy();
		}
		this.#told.clear();
		this.#comparing = false;
	}

	#nowOf(entry: RobotEntry): Told {
		const { stored, session, held } = entry;
		let holds = 0;
		// Epochs never repeat: another attempt is another sum.
		for (const { epoch } of held.values()) holds += epoch;
		return {
			entry: stored,
			session,
			metrics: session?.metrics,
			status: statusOf(entry, this.#context.clock.monotonic()),
			holds,
		};
	}
}

function same(a: Told, b: Told): boolean {
	return (
		a.entry === b.entry &&
		a.session === b.session &&
		a.metrics === b.metrics &&
		a.status === b.status &&
		a.holds === b.holds
	);
}

function liveIds(lives: Iterable<{ jobId: string }>): string[] {
	const ids: string[] = [];
	for (const { jobId } of lives) ids.push(jobId);
	return ids;
}

/**
 * What happens, told as it happens to those who look on. Jobs are told from the commits themselves: each deed that the
 * store took says all that changed in what is shown of a job. Only for parents is something read: how far one is lies
 * in its children. What a program asks is in memory, and told from there. Robots are compared with what was last told
 * of them, twice a second. While nobody looks on, all of this costs one comparison per commit.
 *
 * A channel lives from its first viewer until a while after the last one has left. Its last events are kept that long,
 * and a viewer that comes back with the number of the last event it saw gets those after it, else a snapshot. A channel
 * that begins takes a number of its own: nobody knows what happened before it.
 */
import {
	defaultOrg,
	isFinal,
	type LiveChannel,
	type LiveCounts,
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
/** How often channels are looked through for those that nobody wants any more. */
const tidyMs = 1_000;
/** Parents that are read for one flush. */
const readAtOnce = 100;
/** Events that wait for the end of one viewer's snapshot; with more, it begins anew. */
const maxHeld = 20_000;
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
	/** Resolves when most of what it took has left, so that more does not pile up; false = it is gone. */
	ready(): Promise<boolean>;
}

interface Onlooker {
	viewer: Viewer;
	/** It has all events up to this number, or they are in its snapshot. */
	after: number;
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
type Change = JobChange | (Partial<LiveRobot> & { robotId: string }) | LiveCounts;

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
	/** Jobs of which not every change is known: they are read, and told as they are by then. */
	readonly #unsure = new Set<string>();
	#seq: number;
	#flushing = false;
	#comparing = false;
	#counting = false;
	/** Monotonic. */
	#tidiedAt = 0;

	constructor(context: Context) {
		this.#context = context;
		// Above all numbers of earlier lives of the service.
		this.#seq = context.store.term * 2 ** 32;
		context.watchers.onPrompt((jobId) => this.#prompted(jobId));
	}

	/** Channels that are kept. */
	get size(): number {
		return this.#channels.size;
	}

	stop(): void {
		this.#over.abort();
		this.#channels.clear();
	}

	/** Looks on until the returned function is called. Throws `bad-field` for a channel that does not exist. */
	async watch(name: string, since: number | undefined, viewer: Viewer): Promise<() => void> {
		const channel = this.#open(name);
		const onlooker: Onlooker = { viewer, after: this.#seq, held: [] };
		channel.onlookers.add(onlooker);
		const leave = () => {
			channel.onlookers.delete(onlooker);
			channel.leftAt = this.#context.clock.monotonic();
		};
		try {
			if (since !== undefined && since >= channel.from && since <= this.#seq) {
				viewer.take(channel.history.filter(({ seq }) => seq > since));
			} else await this.#snapshot(channel, onlooker);
		} catch (error) {
			leave();
			// There may be no such job: asking for many of those must not leave as many channels behind.
			const unused = channel.onlookers.size === 0 && channel.history.length === 0;
			if (unused && this.#channels.get(name) === channel) this.#channels.delete(name);
			throw error;
		}
		const { held } = onlooker;
		onlooker.held = undefined;
		if (held!.length > 0) viewer.take(held!);
		return leave;
	}

	/** These deeds are on disk; memory does not know it yet. */
	committed(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void {
		if (this.#channels.size === 0) return;
		for (let i = 0; i < deeds.length; i += 1) this.#tellDeed(deeds[i]!, answers[i]!);
	}

	/** Memory has followed: it knows the jobs that were given away. */
	settled(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void {
		if (this.#channels.size === 0) return;
		for (let i = 0; i < deeds.length; i += 1) {
			const deed = deeds[i]!;
			if (deed.do === 'assign' && answers[i] !== null) this.#assigned(deed.with);
		}
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
				// While there was no channel no number was taken: the last one says nothing about it.
				from: (this.#seq += 1),
				leftAt: 0,
			};
			this.#channels.set(name, channel);
		}
		if (sort === 'robots') void this.#compare();
		if (sort === 'jobs') void this.#count();
		return channel;
	}

	#tidy(): void {
		const now = this.#context.clock.monotonic();
		if (now - this.#tidiedAt < tidyMs) return;
		this.#tidiedAt = now;
		for (const [name, { onlookers, leftAt }] of this.#channels) {
			if (onlookers.size === 0 && now - leftAt > liveLimits.keepMs) this.#channels.delete(name);
		}
	}

	/** Ends early when nobody takes it any more. */
	async #snapshot({ name }: Channel, onlooker: Onlooker): Promise<void> {
		const { clock } = this.#context;
		const { viewer } = onlooker;
		do {
			// Whatever is told from here on comes after the snapshot, and may be in it already.
			const seq = (onlooker.after = this.#seq);
			onlooker.held = [];
			const items = await this.#items(name);
			for (let from = 0; ; from += liveLimits.piece) {
				const piece = await items(from, from + liveLimits.piece);
				const more = piece.length === liveLimits.piece;
				const data = {
					items: piece,
					more,
					...(name === jobsChannel && !more ? { counts: this.#counts() } : {}),
				};
				viewer.take([new LiveText({ channel: name, event: 'snapshot', seq, data })]);
				if (!more) break;
				// A snapshot of thousands of robots is megabytes: let others in between, and go only as fast as it is read.
				await clock.sleep(0);
				if (!(await viewer.ready()) || this.#over.signal.aborted) return;
			}
		} while (onlooker.held.length > maxHeld);
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
		// After the end of a child: while it has others, its parent has only come further.
		if (deed.do === 'settleParent' && answer === null) return this.#read(deed.with.parentId);
		if (answer === null || answer === false) return;
		switch (deed.do) {
			case 'start': {
				const { jobId, at } = deed.with;
				const startedAt = this.#firstStart(jobId, at);
				return this.#tell('job.moved', { jobId, state: 'running', startedAt });
			}
			case 'settle': {
				const { jobId, next, at, startedAt } = deed.with;
				const began =
					startedAt === undefined ? {} : { startedAt: this.#firstStart(jobId, startedAt) };
				return this.#tell('job.moved', {
					jobId,
					state: next.to,
					...began,
					...('cause' in next
						? { cause: next.cause, endedAt: at }
						: { cause: next.waitsFor ?? null, robotId: null, client: null }),
					...(next.to === 'completed' ? { progress: 100 } : {}),
					waitingFor: null,
				});
			}
			case 'moveJob': {
				const { jobId, to, cause, at, hold = null, cancelRequestedAt } = deed.with;
				return this.#tell('job.moved', {
					jobId,
					state: to,
					cause,
					hold,
					...(isFinal(to) ? { endedAt: at } : {}),
					...(cancelRequestedAt === undefined ? {} : { cancelRequestedAt }),
				});
			}
			case 'waitFor': {
				const { jobId, cause } = deed.with;
				return this.#tell('job.changed', { jobId, cause });
			}
			case 'changeJob': {
				const { jobId, to } = deed.with;
				const { state, priority, hold } = to;
				return this.#tell('job.changed', { jobId, state, priority, hold });
			}
			case 'requestCancel': {
				const { jobId, epoch, at } = deed.with;
				// For a parent, nobody remembers whether it was asked for before.
				if (epoch === 0) return this.#read(jobId);
				return this.#tell('job.changed', { jobId, cancelRequestedAt: at });
			}
			case 'progress': {
				const { jobId, progress, message } = deed.with;
				return this.#tell('job.progress', {
					jobId,
					...(progress === null ? {} : { progress }),
					...(message === null ? {} : { message }),
				});
			}
			case 'startParent': {
				const { parentId, common, children, at } = deed.with;
				this.#tell('job.moved', { jobId: parentId, state: 'running', startedAt: at });
				this.#read(parentId);
				for (const { id, attempt } of children) {
					this.#tell('job.submitted', newJob({ ...common, id, parentId }));
					if (attempt) this.#given(id, attempt);
				}
				return;
			}
			case 'settleParent': {
				if (typeof answer === 'object') return this.#rolled(answer as RolloutMove);
				const { parentId, at, endings } = deed.with;
				const ending = Object.values(endings).find(({ to }) => to === answer);
				return this.#tell('job.moved', {
					jobId: parentId,
					state: answer as LiveJob['state'],
					cause: ending?.cause ?? null,
					progress: 100,
					endedAt: at,
				});
			}
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
		// A child that has ended may have moved it on: it has come further too.
		this.#read(parentId);
	}

	#inserted({ job, attempt }: Deeds['insertJob']['in']): void {
		this.#tell('job.submitted', newJob(job));
		if (attempt) this.#given(job.id, attempt);
	}

	#given(
		jobId: string,
		{ number, robotId, client = null }: { number: number; robotId: string; client?: string | null },
	): void {
		this.#tell('job.moved', { jobId, state: 'dispatched', attempt: number, robotId, client });
	}

	/** A job that waited, perhaps since before anybody looked on: all of it is told. */
	#assigned({ jobId, attempt }: Deeds['assign']['in']): void {
		const live = this.#context.fleet.live(jobId);
		if (live?.epoch !== attempt.epoch) return this.#given(jobId, attempt);
		const { kind, priority, createdAt, owner: createdBy, parentId } = live;
		this.#tell('job.moved', {
			...newJob({ id: jobId, kind, state: 'dispatched', priority, createdAt, createdBy, parentId }),
			attempt: live.number,
			robotId: live.robotId,
			client: live.client,
			startedAt: live.firstStartedAt,
		});
	}

	/** An attempt of the job began then; the job itself may have long before. */
	#firstStart(jobId: string, at: number): number {
		return this.#context.fleet.live(jobId)?.firstStartedAt ?? at;
	}

	#prompted(jobId: string): void {
		const waitingFor = this.#context.fleet.live(jobId)?.waitingFor ?? null;
		if (this.#channels.size > 0) this.#tell('job.prompt', { jobId, waitingFor });
	}

	/** Tells the whole job, as it is by the next flush. */
	#read(jobId: string): void {
		if (!this.#channels.has(jobsChannel) && !this.#channels.has(`progress:${jobId}`)) return;
		this.#unsure.add(jobId);
		this.#flushSoon();
	}

	/** The store answers in order: what was told of these jobs before this answer is in it, what comes after is newer. */
	async #tellUnsure(): Promise<void> {
		const ids = [...this.#unsure].slice(0, readAtOnce);
		for (const id of ids) this.#unsure.delete(id);
		// A store that fails ends the service elsewhere.
		const jobs = await this.#context.store.read('jobsById', { ids }).catch(() => []);
		for (const job of jobs) this.#tell('job.changed', this.#job(job));
	}

	#tell(event: EventName, data: JobChange): void {
		this.#push(this.#channels.get(jobsChannel), event, data);
		this.#push(this.#channels.get(`progress:${data.jobId}`), event, data);
	}

	#push(channel: Channel | undefined, event: EventName, data: Change): void {
		if (!channel) return;
		const seq = (this.#seq += 1);
		const message = new LiveText({ channel: channel.name, event, seq, data } as LiveMessage);
		channel.fresh.push(message);
		channel.history.push(message);
		// In bulk: taking one from the front for each that is added would move all of them.
		if (channel.history.length >= 2 * liveLimits.history) {
			const gone = channel.history.splice(0, channel.history.length - liveLimits.history);
			channel.from = gone.at(-1)!.seq;
		}
		this.#flushSoon();
	}

	#flushSoon(): void {
		if (this.#flushing) return;
		this.#flushing = true;
		void this.#context.clock.sleep(flushMs, this.#over.signal).then(() => this.#flush());
	}

	#flush(): void {
		this.#flushing = false;
		for (const channel of this.#channels.values()) {
			if (channel.fresh.length === 0) continue;
			const { fresh } = channel;
			channel.fresh = [];
			for (const onlooker of channel.onlookers) this.#hand(onlooker, fresh);
		}
		this.#tidy();
		if (this.#unsure.size === 0 || this.#over.signal.aborted) return;
		void this.#tellUnsure();
		if (this.#unsure.size > 0) this.#flushSoon();
	}

	/** A viewer that came between an event and its flush has some of it already. */
	#hand(onlooker: Onlooker, fresh: readonly LiveText[]): void {
		const { after, held, viewer } = onlooker;
		const news = fresh[0]!.seq > after ? fresh : fresh.filter(({ seq }) => seq > after);
		if (news.length === 0) return;
		if (!held) viewer.take(news);
		else if (held.length <= maxHeld) for (const message of news) held.push(message);
	}

	#counts(): LiveCounts {
		const { backlog, fleet } = this.#context;
		const { pending, queued } = backlog.waits;
		return {
			waiting: Object.values(queued).reduce((sum, count) => sum + count, pending),
			running: [...fleet.lives()].length,
		};
	}

	/** While somebody looks at jobs. */
	async #count(): Promise<void> {
		if (this.#counting) return;
		this.#counting = true;
		const { signal } = this.#over;
		for (let told = this.#counts(); ;) {
			await this.#context.clock.sleep(robotsMs, signal);
			const channel = this.#channels.get(jobsChannel);
			if (!channel || signal.aborted) break;
			const counts = this.#counts();
			const same = counts.waiting === told.waiting && counts.running === told.running;
			if (!same) this.#push(channel, 'jobs.counted', (told = counts));
			this.#tidy();
		}
		this.#counting = false;
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
		sameRobot(a.entry, b.entry) &&
		a.session === b.session &&
		a.metrics === b.metrics &&
		a.status === b.status &&
		a.holds === b.holds
	);
}

/** What was told of its coming and going does not count. */
function sameRobot(a: Told['entry'], b: Told['entry']): boolean {
	if (a === b) return true;
	const names = Object.keys(b) as (keyof Told['entry'])[];
	return names.every((name) => name === 'presence' || a[name] === b[name]);
}

function liveIds(lives: Iterable<{ jobId: string }>): string[] {
	const ids: string[] = [];
	for (const { jobId } of lives) ids.push(jobId);
	return ids;
}

/** All that is shown of a job that nothing has happened to yet. */
function newJob({
	id,
	kind,
	state,
	priority,
	createdAt,
	createdBy,
	parentId,
}: Pick<LiveJob, 'kind' | 'state' | 'priority' | 'createdAt' | 'createdBy' | 'parentId'> & {
	id: string;
}): LiveJob {
	return {
		jobId: id,
		kind,
		state,
		cause: null,
		attempt: 0,
		robotId: null,
		client: null,
		priority,
		progress: 0,
		message: null,
		waitingFor: null,
		createdAt,
		startedAt: null,
		endedAt: null,
		cancelRequestedAt: null,
		parentId,
		hold: null,
		createdBy,
	};
}

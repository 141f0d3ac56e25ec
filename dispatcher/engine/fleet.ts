/**
 * The robots and what they hold, as memory. Liveness belongs to a session and lives only here; a hold
 * belongs to an attempt and lives in the store, of which `held` is the copy. A slot is counted from
 * holds, never kept as a number of its own; so is the room of a constellation.
 */
import type { AttemptRef, Priority, WaitingFor } from '../../protocol';
import type { Terms } from '../core/matching';
import type { Policy } from '../core/retry';
import type { RobotSink } from './index';
import type { KnownDevice } from './devices';
import type { StoredRobot } from '../store/store';

/** The live attempt of a job: holds a slot of its robot until it is settled. */
export interface Live {
	readonly jobId: string;
	readonly parentId: string | null;
	readonly kind: string;
	readonly number: number;
	readonly epoch: number;
	readonly token: string;
	readonly robotId: string;
	/** Which client of the robot it has; null where it has none. */
	readonly client: string | null;
	readonly policy: Policy;
	readonly bars: string | null;
	/** Before this attempt. */
	readonly tries: number;
	readonly losses: number;
	readonly createdAt: number;
	readonly lane: string;
	readonly shareKey: string;
	readonly rank: number;
	readonly priority: Priority;
	readonly owner: string;
	/** Of spec and variables. */
	readonly bytes: number;
	state: 'dispatched' | 'running';
	cancelRequestedAt: number | null;
	/** Monotonic. */
	assignedAt: number;
	startedAt: number | null;
	/** The job's deadline; from when it was given away no step of the wall clock moves it. */
	endsAt: number | null;
	/** Acceptance that waits for its turn; a result that overtakes it takes it along. */
	acceptance?: { at: number };
	/** Monotonic instant of the last revoke or cancel sent. */
	remindedAt: number | null;
	/** Monotonic instant of the first revoke; the connected robot has not answered since. */
	revokedAt: number | null;
	/** What its program asks, as its robot last said. */
	waitingFor?: WaitingFor;
	/** Its program neither prints nor computes any more, as its robot last said. */
	hangs?: boolean;
	/** Why it is given up; said again until the store has taken it. */
	lostBecause?: string;
	/** Time its robot may still stay away, or mute; counts down only while it does and we are ready. */
	lossLeftMs: number;
}

/** How the attempt is named to its robot. */
export function refOf({ jobId, number, epoch, token }: Live): AttemptRef {
	return { job_id: jobId, attempt: number, epoch, token };
}

export interface Session {
	readonly bootId: string;
	readonly sink: RobotSink;
	stopping: boolean;
	/** Monotonic. */
	seenAt: number;
	metrics: Record<string, number>;
	/** It says what it finds out about its machine. */
	readonly tellsFacts: boolean;
	/** It can place files and collect them. */
	readonly takesFiles: boolean;
	/** By id of the message that was sent: whoever waits for its answer. Absent when nobody does. */
	waiting?: Map<string, (how: 'answered' | 'gone') => void>;
}

export interface RobotEntry extends Terms {
	stored: StoredRobot;
	/** What it was registered with, if it was. */
	device?: KnownDevice;
	/** The constellation whose limit it shares. */
	group?: Group;
	labels: Record<string, string>;
	capabilities: string[];
	clients: readonly string[];
	session: Session | undefined;
	/** Monotonic instant at which the last session ended. */
	awaySince: number;
	/** How its last tries came out: see core/record. */
	recent: string;
	/** The highest number of a socket on which it said hello. */
	newestSocket: number;
	/** By job. Change it with `hold` and `release` only: all that hold nothing share one. */
	held: ReadonlyMap<string, Live>;
	/** Slots promised to assigns, and slots given back by results, of the turn being committed. */
	reserved: number;
	freeing: number;
	/** The clients that go with them. */
	promised: readonly string[];
	returning: readonly string[];
}

/** Robots that together run so many jobs at most. */
export interface Group {
	readonly name: string;
	limit: number;
	readonly members: Set<RobotEntry>;
	/** Whether there was room at the last look: members are looked at anew when that changes. */
	open: boolean;
}

/** An empty map of its own for each of thousands of idle robots would be a tenth of what they cost. */
const nothing: ReadonlyMap<string, Live> = new Map();
const nobody: readonly string[] = [];

export class Fleet {
	readonly #robots = new Map<string, RobotEntry>();
	readonly #lives = new Map<string, Live>();
	/** Robots that could take a job now, longest unused first. */
	readonly #free = new Set<RobotEntry>();
	readonly #groups = new Map<string, Group>();
	#assigning = true;

	/** While it is false nobody counts as free: nothing is given away. */
	get assigning(): boolean {
		return this.#assigning;
	}

	set assigning(assigning: boolean) {
		this.#assigning = assigning;
		for (const entry of this.#robots.values()) this.review(entry);
	}

	put(stored: StoredRobot): RobotEntry {
		let entry = this.#robots.get(stored.id);
		const { labels, capabilities } = termsOf(stored, entry?.device);
		const clients = stored.clients === '[]' ? nobody : (JSON.parse(stored.clients) as string[]);
		if (entry) Object.assign(entry, { stored, labels, capabilities, clients });
		else {
			entry = {
				robotId: stored.id,
				stored,
				labels,
				capabilities,
				clients,
				session: undefined,
				awaySince: 0,
				recent: '',
				newestSocket: 0,
				held: nothing,
				reserved: 0,
				freeing: 0,
				promised: nobody,
				returning: nobody,
			};
			this.#robots.set(stored.id, entry);
		}
		this.review(entry);
		return entry;
	}

	/** It was registered as this device, or (undefined) is none any more. */
	putDevice(entry: RobotEntry, device: KnownDevice | undefined): void {
		if (device) entry.device = device;
		else delete entry.device;
		Object.assign(entry, termsOf(entry.stored, device));
		const group = this.#groups.get(device?.constellationId ?? '');
		if (group !== entry.group) {
			this.#leaveGroup(entry);
			if (group) entry.group = group;
			group?.members.add(entry);
		}
		this.review(entry);
	}

	/** The robots of this constellation run so many jobs at most, all together; those that are here already, too. */
	limit(name: string, limit: number): void {
		let group = this.#groups.get(name);
		if (!group) {
			group = { name, limit, members: new Set(), open: true };
			this.#groups.set(name, group);
			for (const entry of this.#robots.values()) {
				if (entry.device?.constellationId !== name) continue;
				entry.group = group;
				group.members.add(entry);
			}
		}
		group.limit = limit;
		group.open = this.room(group) > 0;
		for (const member of group.members) this.#review(member);
	}

	/** How many more jobs the constellation may run. */
	room({ limit, members }: Group): number {
		let used = 0;
		for (const { held, reserved, freeing } of members) used += held.size + reserved - freeing;
		return limit - used;
	}

	#leaveGroup(entry: RobotEntry): void {
		entry.group?.members.delete(entry);
		delete entry.group;
	}

	get(robotId: string): RobotEntry | undefined {
		return this.#robots.get(robotId);
	}

	all(): IterableIterator<RobotEntry> {
		return this.#robots.values();
	}

	/** By id, or by name; `ambiguous` when a name is not enough. Removed robots are not found. */
	find(robot: string): RobotEntry | 'ambiguous' | undefined {
		const byId = this.#robots.get(robot);
		if (byId) return byId;
		const byName = [...this.#robots.values()].filter((entry) => entry.stored.name === robot);
		return byName.length > 1 ? 'ambiguous' : byName[0];
	}

	remove(robotId: string): void {
		const entry = this.#robots.get(robotId);
		if (!entry) return;
		this.#robots.delete(robotId);
		this.#free.delete(entry);
		const { group } = entry;
		this.#leaveGroup(entry);
		// What it held counts no more.
		const [other] = group?.members ?? [];
		if (other) this.review(other);
	}

	/** Assigns it may still get in this turn: each takes a slot, and a client where it has some. */
	available(entry: RobotEntry): number {
		if (!this.#assigning || !this.isOpen(entry)) return 0;
		const slots = entry.stored.slots - entry.held.size - entry.reserved + entry.freeing;
		const own =
			entry.clients.length === 0 ? slots : Math.min(slots, this.freeClients(entry).length);
		return entry.group ? Math.min(own, this.room(entry.group)) : own;
	}

	/** Its clients that no attempt has, nor gets in this turn; in the order it named them. */
	freeClients({ clients, held, promised, returning }: RobotEntry): readonly string[] {
		if (clients.length === 0) return nobody;
		const taken = new Map<string, number>();
		const count = (client: string | null, by: number) =>
			client !== null && taken.set(client, (taken.get(client) ?? 0) + by);
		for (const { client } of held.values()) count(client, 1);
		for (const client of promised) count(client, 1);
		for (const client of returning) count(client, -1);
		return clients.filter((client) => (taken.get(client) ?? 0) <= 0);
	}

	/** Whether a job that wants this client, or just any, could have it. */
	hasClient(entry: RobotEntry, client: string | undefined): boolean {
		return client === undefined || this.freeClients(entry).includes(client);
	}

	/** Whether the robot is there and takes work. */
	isOpen({ session, stored }: RobotEntry): boolean {
		return session !== undefined && !session.stopping && stored.paused === 0;
	}

	/** Share of its slots that is in use. */
	load({ stored, held, reserved, freeing }: RobotEntry): number {
		return (held.size + reserved - freeing) / stored.slots;
	}

	/** Sends the robot to the end of the line, so that ties go to the one unused for longest. */
	lastInLine(entry: RobotEntry): void {
		this.#free.delete(entry);
		this.review(entry);
	}

	/** Puts the robot among the free ones, at the end, or takes it out. Call after any change of its slots. */
	review(entry: RobotEntry): void {
		const { group } = entry;
		if (group && group.open !== this.room(group) > 0) {
			group.open = !group.open;
			for (const member of group.members) if (member !== entry) this.#review(member);
		}
		this.#review(entry);
	}

	#review(entry: RobotEntry): void {
		if (this.available(entry) <= 0) this.#free.delete(entry);
		else if (!this.#free.has(entry)) this.#free.add(entry);
	}

	get free(): ReadonlySet<RobotEntry> {
		return this.#free;
	}

	/**
	 * The least loaded of the free robots in `robots`: lowest share of used slots, then longest unused.
	 * Stops at the first idle one.
	 */
	pick(robots: ReadonlySet<string>, client?: string): RobotEntry | undefined {
		let best: RobotEntry | undefined;
		let bestLoad = Infinity;
		for (const entry of this.#free) {
			if (!robots.has(entry.robotId) || !this.hasClient(entry, client)) continue;
			const load = this.load(entry);
			if (load >= bestLoad) continue;
			best = entry;
			bestLoad = load;
			if (load <= 0) break;
		}
		return best;
	}

	live(jobId: string): Live | undefined {
		return this.#lives.get(jobId);
	}

	lives(): IterableIterator<Live> {
		return this.#lives.values();
	}

	hold(live: Live): void {
		this.#lives.set(live.jobId, live);
		const entry = this.#robots.get(live.robotId);
		if (!entry) return;
		if (entry.held === nothing) entry.held = new Map([[live.jobId, live]]);
		else (entry.held as Map<string, Live>).set(live.jobId, live);
		this.review(entry);
	}

	release(live: Live): void {
		if (this.#lives.get(live.jobId) !== live) return;
		this.#lives.delete(live.jobId);
		const entry = this.#robots.get(live.robotId);
		if (!entry) return;
		if (entry.held.has(live.jobId)) {
			if (entry.held.size === 1) entry.held = nothing;
			else (entry.held as Map<string, Live>).delete(live.jobId);
		}
		this.review(entry);
	}
}

/** What it says of itself, and, stronger, what is said of it. */
function termsOf(
	stored: StoredRobot,
	device: KnownDevice | undefined,
): Pick<RobotEntry, 'labels' | 'capabilities'> {
	const labels = { ...parse(stored.labels), ...device?.labels, ...parse(stored.lockedLabels) };
	const capabilities = JSON.parse(stored.capabilities) as string[];
	if (!device || device.capabilities.length === 0) return { labels, capabilities };
	return { labels, capabilities: [...new Set([...capabilities, ...device.capabilities])] };
}

/** The clients without one of that name. */
export function lessOne(clients: readonly string[], client: string | null = null) {
	const at = client === null ? -1 : clients.indexOf(client);
	return at < 0 ? clients : clients.toSpliced(at, 1);
}

/** Who has a client, of the attempts that a robot holds. */
export function holderOf({ held }: RobotEntry, client: string): Live | undefined {
	for (const live of held.values()) if (live.client === client) return live;
	return undefined;
}

/** Nothing more fits on it: every slot is held, or every client. */
export function isFull(entry: RobotEntry): boolean {
	const { held, stored, clients } = entry;
	if (held.size >= stored.slots) return true;
	return clients.length > 0 && clients.every((client) => holderOf(entry, client));
}

function parse(json: string): Record<string, string> {
	return JSON.parse(json) as Record<string, string>;
}

/**
 * The robots and what they hold, as memory. Liveness belongs to a session and lives only here; a hold
 * belongs to an attempt and lives in the store, of which `held` is the copy. A slot is counted from
 * holds, never kept as a number of its own; so is the room of a constellation or a pool, and of the gates that jobs
 * share (gates.ts).
 */
import type { AttemptRef, Priority, WaitingFor } from '../../protocol';
import { groupsByRobot, type GroupOfRobots, isInPool, type PoolTerms } from '../core/areas';
import type { Terms } from '../core/matching';
import type { Policy } from '../core/retry';
import type { Gates } from './gates';
import type { RobotSink } from './index';
import type { KnownDevice } from './devices';
import type { Sparing } from './sparing';
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
	readonly affinity: string | null;
	/** Before this attempt. */
	readonly tries: number;
	readonly losses: number;
	readonly createdAt: number;
	/** When its job first began, in an attempt before this one. */
	readonly firstStartedAt: number | null;
	readonly lane: string;
	readonly shareKey: string;
	/** What it has besides its robot: see core/needs. */
	readonly needs: string;
	/** Taken on its robot. */
	readonly slots: number;
	readonly rank: number;
	readonly priority: Priority;
	readonly owner: string;
	/** Of spec and variables. */
	readonly bytes: number;
	state: 'dispatched' | 'running';
	cancelRequestedAt: number | null;
	/** When it was given to its robot; on the wall, for people. */
	readonly givenAt: number;
	/** Monotonic. */
	assignedAt: number;
	startedAt: number | null;
	/** The job's deadline; once the job has been given away, no step of the wall clock moves it. */
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
	/** How busy its processor is, by its last heartbeat: see core/strategy. */
	busy: number;
	/** It says what it finds out about its machine. */
	readonly tellsFacts: boolean;
	/** It can place files and collect them. */
	readonly takesFiles: boolean;
	/** By id of the message sent: who waits for its answer. Absent when nobody does. */
	waiting?: Map<string, (how: 'answered' | 'gone') => void>;
	/** Lines about what it said of attempts that are not its own. Absent while it said nothing of them. */
	strangers?: Sparing;
}

export interface RobotEntry extends Terms {
	stored: StoredRobot;
	/** What it was registered with, if it was. */
	device?: KnownDevice;
	/** Limits that it shares with others: of its constellation, of its pools. */
	gates: readonly Gate[];
	/** Names of the groups and pools it is in. */
	groups: readonly string[];
	pools: readonly string[];
	labels: Record<string, string>;
	capabilities: string[];
	clients: readonly string[];
	slots: number;
	session: Session | undefined;
	/** Monotonic instant at which the last session ended. */
	awaySince: number;
	/** How its last tries came out: see core/record. */
	recent: string;
	/** Epoch of its last turn by round robin; 0 = it had none. */
	turn: number;
	/** Its place among the free ones while they are served: the lower, the sooner. */
	place: number;
	/** Its jobs, as its gates count them. */
	counted: number;
	/** The highest number of a socket on which it said hello. */
	newestSocket: number;
	/** By job. Change it only with `hold` and `release`: all robots that hold nothing share one map. */
	held: ReadonlyMap<string, Live>;
	/** Slots that `held` takes beyond one each. */
	extra: number;
	/** Attempts promised to assigns, and attempts ended by results, of the turn being committed. */
	reserved: number;
	freeing: number;
	/** Slots beyond one each that the promised attempts take, less those of the ending ones. */
	extraPlanned: number;
	/** The clients that go with them. */
	promised: readonly string[];
	returning: readonly string[];
}

/** What people know it by. */
interface Known {
	readonly name: string;
	readonly labels: Readonly<Record<string, string>>;
}

/** Robots that together run at most so many jobs. */
interface Gate {
	readonly of: 'constellation' | 'pool';
	readonly name: string;
	limit: number;
	readonly members: Set<RobotEntry>;
	/** Jobs of all its members: what each of them counted at its last review. */
	used: number;
	/** Whether there was room at the last look: members are looked at anew when that changes. */
	open: boolean;
}

/** An empty map of its own for each of thousands of idle robots would be a tenth of what they cost. */
const nothing: ReadonlyMap<string, Live> = new Map();
const nobody: readonly string[] = [];
/** How many removed robots are still known by name, the latest ones. */
const maxGone = 10_000;
const noGates: readonly Gate[] = [];

export class Fleet {
	readonly #gates: Gates;
	readonly #robots = new Map<string, RobotEntry>();
	readonly #gone = new Map<string, Known>();
	readonly #byName = new Map<string, Set<RobotEntry>>();
	readonly #lives = new Map<string, Live>();
	/** Robots that could take a job now, longest unused first. */
	readonly #free = new Set<RobotEntry>();
	/** By constellation. */
	readonly #constellations = new Map<string, Gate>();
	/** By pool; those without a limit have none. */
	readonly #poolGates = new Map<string, Gate>();
	#groups: ReadonlyMap<string, GroupOfRobots> = new Map();
	/** By robot: the groups it is in. */
	#groupsOf: ReadonlyMap<string, readonly string[]> = new Map();
	#pools: ReadonlyMap<string, PoolTerms> = new Map();
	#assigning = true;

	constructor(gates: Gates) {
		this.#gates = gates;
	}

	/** While false, no robot counts as free: nothing is given away. */
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
		const { slots } = stored;
		if (entry) {
			this.#unname(entry);
			Object.assign(entry, { stored, labels, capabilities, clients, slots });
		} else {
			entry = {
				robotId: stored.id,
				stored,
				labels,
				capabilities,
				clients,
				slots,
				session: undefined,
				awaySince: 0,
				recent: '',
				turn: 0,
				place: 0,
				counted: 0,
				newestSocket: 0,
				gates: noGates,
				groups: nobody,
				pools: nobody,
				held: nothing,
				extra: 0,
				reserved: 0,
				freeing: 0,
				extraPlanned: 0,
				promised: nobody,
				returning: nobody,
			};
			this.#robots.set(stored.id, entry);
		}
		const namesakes = this.#byName.get(stored.name);
		if (namesakes) namesakes.add(entry);
		else this.#byName.set(stored.name, new Set([entry]));
		this.#place(entry);
		return entry;
	}

	/** It was registered as this device, or (undefined) is none any more. */
	putDevice(entry: RobotEntry, device: KnownDevice | undefined): void {
		if (device) entry.device = device;
		else delete entry.device;
		Object.assign(entry, termsOf(entry.stored, device));
		this.#place(entry);
	}

	/** The robots of this constellation, including those that are here already, together run at most so many jobs. */
	limit(name: string, limit: number): void {
		let gate = this.#constellations.get(name);
		if (!gate) {
			gate = gateOf('constellation', name, limit);
			this.#constellations.set(name, gate);
		}
		gate.limit = limit;
		for (const entry of this.#robots.values()) {
			if (entry.device?.constellationId === name) this.#place(entry);
		}
	}

	/** Groups and pools as they are from now on. Answers the robots whose groups or pools changed. */
	arrange(
		groups: ReadonlyMap<string, GroupOfRobots>,
		pools: ReadonlyMap<string, PoolTerms>,
	): RobotEntry[] {
		this.#groups = groups;
		this.#groupsOf = groupsByRobot(groups);
		this.#pools = pools;
		for (const name of this.#poolGates.keys()) if (!pools.has(name)) this.#poolGates.delete(name);
		for (const { name, maxJobs } of pools.values()) {
			const gate = this.#poolGates.get(name);
			if (maxJobs === null) this.#poolGates.delete(name);
			else if (gate) gate.limit = maxJobs;
			else this.#poolGates.set(name, gateOf('pool', name, maxJobs));
		}
		return [...this.#robots.values()].filter((entry) => {
			const before = [entry.groups, entry.pools];
			this.#place(entry);
			return !isSame(before[0]!, entry.groups) || !isSame(before[1]!, entry.pools);
		});
	}

	hasGroup(name: string): boolean {
		return this.#groups.has(name);
	}

	/** Names of the groups directly inside this one. */
	groupsIn(name: string): string[] {
		return [...this.#groups.values()]
			.filter(({ parent }) => parent === name)
			.map((group) => group.name);
	}

	hasPool(name: string): boolean {
		return this.#pools.has(name);
	}

	/** `undefined` = the pool is not there, or has no limit. */
	gateOfPool(name: string): Gate | undefined {
		return this.#poolGates.get(name);
	}

	/** Puts it into the groups and pools it belongs to by now, and behind their gates. */
	#place(entry: RobotEntry): void {
		entry.groups = this.#groupsOf.get(entry.robotId) ?? nobody;
		entry.pools =
			this.#pools.size === 0
				? nobody
				: [...this.#pools.values()].filter((pool) => isInPool(pool, entry)).map(({ name }) => name);
		const gates = [
			this.#constellations.get(entry.device?.constellationId ?? ''),
			...entry.pools.map((name) => this.#poolGates.get(name)),
		].filter((gate) => gate !== undefined);
		const left = this.#leaveGates(entry);
		entry.gates = gates.length === 0 ? noGates : gates;
		for (const gate of gates) gate.members.add(entry);
		for (const gate of left) if (!gates.includes(gate)) this.#look(gate);
		this.review(entry);
	}

	/** What it counts there goes with it. */
	#leaveGates(entry: RobotEntry): readonly Gate[] {
		const left = entry.gates;
		for (const gate of left) {
			gate.members.delete(entry);
			gate.used -= entry.counted;
		}
		entry.counted = 0;
		entry.gates = noGates;
		return left;
	}

	/** How many more jobs the robots behind the gate may run. */
	room({ limit, used }: Gate): number {
		return limit - used;
	}

	get(robotId: string): RobotEntry | undefined {
		return this.#robots.get(robotId);
	}

	/** For people, also of a robot that was removed; its id when nobody knows it any more. */
	readonly nameOf = (robotId: string): string => this.known(robotId)?.name ?? robotId;

	/** A robot that was removed is known as it last was. */
	known(robotId: string): Known | undefined {
		const entry = this.get(robotId);
		return entry ? { name: entry.stored.name, labels: entry.labels } : this.#gone.get(robotId);
	}

	/** A robot that was removed, which jobs and events may still mention. */
	gone(stored: StoredRobot, labels = termsOf(stored, undefined).labels): void {
		this.#gone.set(stored.id, { name: stored.name, labels });
		if (this.#gone.size > maxGone) this.#gone.delete(this.#gone.keys().next().value!);
	}

	all(): IterableIterator<RobotEntry> {
		return this.#robots.values();
	}

	/** By id, or by name; `ambiguous` when a name is not enough. Removed robots are not found. */
	find(robot: string): RobotEntry | 'ambiguous' | undefined {
		const byId = this.#robots.get(robot);
		if (byId) return byId;
		const namesakes = this.#byName.get(robot);
		if (namesakes === undefined) return undefined;
		const [first, second] = namesakes;
		return second ? 'ambiguous' : first;
	}

	#unname(entry: RobotEntry): void {
		const { name } = entry.stored;
		const namesakes = this.#byName.get(name);
		namesakes?.delete(entry);
		if (namesakes?.size === 0) this.#byName.delete(name);
	}

	remove(robotId: string): void {
		const entry = this.#robots.get(robotId);
		if (!entry) return;
		this.#robots.delete(robotId);
		this.gone(entry.stored, entry.labels);
		this.#unname(entry);
		this.#free.delete(entry);
		// What it held no longer counts.
		for (const gate of this.#leaveGates(entry)) this.#look(gate);
	}

	/** Slots that no attempt has, nor gets in this turn. */
	freeSlots({ stored, held, extra, reserved, freeing, extraPlanned }: RobotEntry): number {
		return stored.slots - (held.size + extra + reserved - freeing + extraPlanned);
	}

	/** Whether a job that takes this many slots may be given to it in this turn. */
	fits(entry: RobotEntry, slots = 1): boolean {
		return this.available(entry) > 0 && (slots === 1 || this.freeSlots(entry) >= slots);
	}

	/** Assigns it may still get in this turn: each takes a slot, and a client where it has some. */
	available(entry: RobotEntry): number {
		return this.isOpen(entry) ? this.spare(entry) : 0;
	}

	/** The same, whether or not it takes jobs. */
	spare(entry: RobotEntry): number {
		if (!this.#assigning) return 0;
		const slots = this.freeSlots(entry);
		const own =
			entry.clients.length === 0 ? slots : Math.min(slots, this.freeClients(entry).length);
		return entry.gates === noGates
			? own
			: entry.gates.reduce((room, gate) => Math.min(room, this.room(gate)), own);
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
		return (
			session !== undefined &&
			!session.stopping &&
			stored.closed === null &&
			stored.quarantine === null
		);
	}

	/** Sends the robot to the end of the line, so that ties go to the one unused for longest. */
	lastInLine(entry: RobotEntry): void {
		this.#free.delete(entry);
		this.review(entry);
	}

	/** Puts the robot among the free ones, at the end, or takes it out. Call after any change of its slots. */
	review(entry: RobotEntry): void {
		if (entry.gates !== noGates) this.#count(entry);
		this.#review(entry);
	}

	/** Thousands may share a gate: it only adds the difference from what this one counted before. */
	#count(entry: RobotEntry): void {
		const jobs = usedBy(entry);
		const more = jobs - entry.counted;
		entry.counted = jobs;
		for (const gate of entry.gates) {
			gate.used += more;
			this.#look(gate);
		}
	}

	/** When it opens or closes, all behind it are looked at anew. */
	#look(gate: Gate): void {
		if (gate.open === this.room(gate) > 0) return;
		gate.open = !gate.open;
		for (const member of gate.members) this.#review(member);
	}

	#review(entry: RobotEntry): void {
		if (this.available(entry) <= 0) this.#free.delete(entry);
		else if (!this.#free.has(entry)) this.#free.add(entry);
	}

	get free(): ReadonlySet<RobotEntry> {
		return this.#free;
	}

	live(jobId: string): Live | undefined {
		return this.#lives.get(jobId);
	}

	lives(): IterableIterator<Live> {
		return this.#lives.values();
	}

	hold(live: Live): void {
		this.#lives.set(live.jobId, live);
		this.#gates.hold(live);
		const entry = this.#robots.get(live.robotId);
		if (!entry) return;
		if (entry.held === nothing) entry.held = new Map([[live.jobId, live]]);
		else (entry.held as Map<string, Live>).set(live.jobId, live);
		if (live.slots > 1) entry.extra = extraOf(entry);
		this.review(entry);
	}

	release(live: Live): void {
		if (this.#lives.get(live.jobId) !== live) return;
		this.#lives.delete(live.jobId);
		this.#gates.release(live);
		const entry = this.#robots.get(live.robotId);
		if (!entry) return;
		if (entry.held.has(live.jobId)) {
			if (entry.held.size === 1) entry.held = nothing;
			else (entry.held as Map<string, Live>).delete(live.jobId);
			if (live.slots > 1) entry.extra = extraOf(entry);
		}
		this.review(entry);
	}
}

function gateOf(of: Gate['of'], name: string, limit: number): Gate {
	return { of, name, limit, members: new Set(), used: 0, open: true };
}

/** Its holds, with what the turn under way adds and takes. */
function usedBy({ held, reserved, freeing }: RobotEntry): number {
	return held.size + reserved - freeing;
}

/** Share of its slots that is in use. */
export function loadOf(entry: RobotEntry): number {
	return (usedBy(entry) + entry.extra + entry.extraPlanned) / entry.stored.slots;
}

function extraOf({ held }: RobotEntry): number {
	let extra = 0;
	for (const { slots } of held.values()) extra += slots - 1;
	return extra;
}

const isSame = (a: readonly string[], b: readonly string[]) =>
	a.length === b.length && a.every((name, i) => name === b[i]);

/** What it says of itself, and what is said of it, which takes precedence. */
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

/** Which of the attempts that a robot holds has a client. */
export function holderOf({ held }: RobotEntry, client: string): Live | undefined {
	for (const live of held.values()) if (live.client === client) return live;
	return undefined;
}

/** Whether nothing more fits on it: every slot is held, or every client. */
export function isFull(entry: RobotEntry): boolean {
	const { held, extra, stored, clients } = entry;
	if (held.size + extra >= stored.slots) return true;
	return clients.length > 0 && clients.every((client) => holderOf(entry, client));
}

function parse(json: string): Record<string, string> {
	return JSON.parse(json) as Record<string, string>;
}

/**
 * Gives waiting jobs to free robots. Called in two places of a turn: for a job that is just being
 * submitted (submit and assign then share one commit), and at its end for every robot that is or
 * becomes free in it (so do result and next assign).
 *
 * Slots are reserved while the turn plans and become holds when it is committed.
 */
import type { JobAssignment, Watch, WireWatch } from '../../protocol';
import { capsOnWire, limits } from '../../protocol';
import { wishesOf } from '../../kinds';
import { needsWorkspace } from '../../kinds/files';
import { barred } from '../core/bars';
import { needsOf, nothing, rateOf } from '../core/needs';
import { before, inLineSince } from '../core/rank';
import { type Policy, policyOf } from '../core/retry';
import type { Asked, Head, NewAttempt, NewJob, Queue } from '../store/store';
import type { Clock } from './clock';
import type { Context } from './context';
import { lessOne, type Live, loadOf, type RobotEntry } from './fleet';
import type { Lane, Window } from './lanes';
import { Passing } from './passing';
import { Picking } from './picking';
import type { Turn } from './turns';

const nothingSpecial = { bars: null, affinity: null };
/** How many waiting jobs of one queue are asked whether they leave a robot to others. */
const maxAsked = 64;
/** More than there are steps of busyness. */
const busySteps = 16;
/** How many robots are asked for something more urgent of their own; each hop finds something better. */
const maxHops = 16;

/** The part of a waiting job that says whether it leaves a robot to others. */
type Waits = Pick<Head, 'rank' | 'priority' | 'bars' | 'affinity'>;

/** The part of a new job that says whether it can start at once. */
export type NewQueued = Pick<NewJob, 'id' | 'rank' | 'needs' | 'affinity'>;

export type AssignedJob = Asked & Queue & Omit<Head, 'attempt' | 'asked'>;

export class Assigning {
	readonly #context: Context;
	readonly #picking: Picking;
	readonly passing: Passing;

	constructor(context: Context) {
		this.#context = context;
		this.#picking = new Picking(context);
		this.passing = new Passing(context);
	}

	/** A free robot for a new job, unless older work waits in its lane already, or the job itself has to wait. */
	robotFor(lane: Lane, job: NewQueued, now: number): RobotEntry | undefined {
		// A gate that opens by itself may have opened by now: those in line go first.
		if (job.needs !== nothing) this.#openGates();
		if (lane.open.size > 0) return undefined;
		if (job.needs !== nothing && !this.#lets(job, now)) return undefined;
		const robot = this.#freeFor(lane, job.affinity ?? null, now);
		return robot && !this.passing.keptRobot(robot, job, now) ? robot : undefined;
	}

	/** Whether all gates of a new job have room for it. */
	#lets(job: NewQueued, now: number): boolean {
		this.passing.look();
		return (
			this.#context.gates.lacking(needsOf(job.needs)) === undefined &&
			this.passing.keptFrom(job, job.needs, now) === undefined
		);
	}

	#freeFor(lane: Lane, affinity: string | null, now: number): RobotEntry | undefined {
		const { fleet } = this.#context;
		const { robot, client, preferWaitMs } = lane.rule;
		if (robot === undefined) {
			const wish = affinity === null ? nothingSpecial : { bars: null, affinity };
			const picked = this.#picking.pick(lane, wish, now);
			if (preferWaitMs === undefined || !picked) return picked;
			const until = this.#picking.keepsAwayUntil(lane, wish, picked, now, now);
			if (until > 0) this.#context.fillAt(until);
			return until > 0 ? undefined : picked;
		}
		const pinned = lane.robots.has(robot) ? fleet.get(robot) : undefined;
		return pinned && fleet.fits(pinned, lane.rule.slots) && fleet.hasClient(pinned, client)
			? pinned
			: undefined;
	}

	/** Whether something waiting goes first: a robot that becomes free in this turn is not for whoever just comes. */
	hasWorkBefore(entry: RobotEntry, job: Omit<Place, 'window' | 'at'>, now: number): boolean {
		const { lanes } = this.#context;
		if (!lanes.mayServe(entry.robotId)) return false;
		const place = this.bestFor(entry, now);
		return place !== undefined && lanes.shares.before(place, job);
	}

	/**
	 * Reserves what the job takes, with the client that is wanted or any that is free, and makes the attempt. `picked` =
	 * the robot was just chosen for this job.
	 */
	reserve(
		turn: Turn,
		entry: RobotEntry,
		number: number,
		lane: Lane,
		needs: string,
		by: 'job' | 'slot' = 'job',
		picked = true,
	): NewAttempt {
		const { fleet, ids, gates } = this.#context;
		const client = lane.rule.client ?? fleet.freeClients(entry)[0];
		const attempt: NewAttempt = {
			number,
			epoch: this.#context.epochs.next(),
			token: ids.token(),
			robotId: entry.robotId,
			at: turn.now,
		};
		if (client !== undefined) attempt.client = client;
		if (lane.rule.robot === undefined) {
			attempt.choice = this.#picking.told(lane, entry, by, picked);
		}
		if (this.#takesTurns(lane)) {
			attempt.turn = { before: entry.turn };
			entry.turn = attempt.epoch;
		}
		if (needs !== nothing) {
			gates.promise(attempt.epoch, needsOf(needs));
			const rate = rateOf(needs);
			if (rate) attempt.start = { key: rate.name, until: turn.now + gates.keepMs(rate) };
			this.passing.look();
		}
		const { slots } = lane.rule;
		if (slots !== undefined) attempt.slots = slots;
		entry.reserved += 1;
		entry.extraPlanned += (slots ?? 1) - 1;
		if (client !== undefined) entry.promised = [...entry.promised, client];
		fleet.lastInLine(entry);
		turn.undo.push(() => this.unreserve(entry, attempt));
		return attempt;
	}

	#takesTurns(lane: Lane): boolean {
		return lane.rule.robot === undefined && this.#picking.strategyOf(lane) === 'round_robin';
	}

	unreserve(entry: RobotEntry, attempt: NewAttempt): void {
		this.#keep(entry, attempt);
		this.#context.gates.unpromise(attempt.epoch);
		if (attempt.turn && entry.turn === attempt.epoch) entry.turn = attempt.turn.before;
		this.#context.fleet.review(entry);
	}

	/** What was promised is taken, or not needed. */
	#keep(entry: RobotEntry, { client, slots = 1 }: NewAttempt): void {
		entry.reserved -= 1;
		entry.extraPlanned -= slots - 1;
		entry.promised = lessOne(entry.promised, client);
	}

	/** The commit carried the assignment: it holds its slot, and the robot is told. */
	assigned(entry: RobotEntry, attempt: NewAttempt, job: AssignedJob): void {
		const { clock, fleet, gates } = this.#context;
		this.#keep(entry, attempt);
		const live = liveOf(job, attempt, clock);
		gates.started(live);
		fleet.hold(live);
		// Removed by a commit ahead of this one: it was told nothing, and no hello will prove that.
		if (fleet.get(entry.robotId) !== entry) return this.#context.neverSent(live);
		// A robot that went away meanwhile does not know the attempt: its next hello proves that.
		const { session } = entry;
		if (session === undefined) return;
		const assignment = frame(live, job);
		if (session.takesFiles || !needsWorkspace(wishesOf(job.kind, assignment.spec))) {
			session.sink.assign(assignment);
		} else this.#context.cannot(live, withoutFiles);
	}

	/**
	 * Free robots take the best heads of the lanes they fit, the least loaded robot first. A job that cares which
	 * robot it gets goes to the one its strategy chooses.
	 */
	fill(turn: Turn): void {
		const { fleet, lanes } = this.#context;
		this.#openGates();
		if (lanes.waiting.size === 0) return;
		this.#picking.serving();
		this.passing.look();
		const line: RobotEntry[] = [];
		for (const entry of [...fleet.free]) {
			if (lanes.waiting.size === 0) break;
			if (!lanes.mayServe(entry.robotId)) continue;
			// A robot served before it may have closed a gate, or left it a job.
			if (fleet.available(entry) <= 0) continue;
			entry.place = placeOf(entry);
			// None is better than an idle one: as long as there are some, the others are not compared.
			if (entry.place === 0) {
				if (!this.#serve(turn, entry) || fleet.available(entry) <= 0) continue;
				entry.place = placeOf(entry);
			}
			line.push(entry);
		}
		if (line.length > 1) line.sort((a, b) => a.place - b.place);
		this.#fillInTurn(turn, line);
		this.#picking.served();
	}

	/** Opens those that open by themselves, and notes when to look for the next of them. */
	#openGates(): void {
		const { gates, clock } = this.#context;
		const inMs = gates.tick();
		if (inMs !== undefined) this.#context.fillAt(clock.now() + inMs);
	}

	/** The least loaded in line takes one job, then whichever is least loaded by then. */
	#fillInTurn(turn: Turn, line: readonly RobotEntry[]): void {
		const { fleet, lanes } = this.#context;
		// Those that got one and may get more, again in order.
		const again: RobotEntry[] = [];
		let [next, nextAgain] = [0, 0];
		while (lanes.waiting.size > 0) {
			const fresh = line[next];
			const served = again[nextAgain];
			const entry = !served || (fresh && fresh.place <= served.place) ? fresh : served;
			if (!entry) return;
			if (entry === fresh) next += 1;
			else nextAgain += 1;
			if (fleet.available(entry) <= 0) continue;
			// One that got a job which another left to it comes later.
			const is = placeOf(entry);
			if (is <= entry.place && !this.#serve(turn, entry)) continue;
			if (fleet.available(entry) <= 0) continue;
			entry.place = placeOf(entry);
			insert(again, entry, nextAgain);
		}
	}

	/**
	 * Gives away the best job this robot could have: to it, or to the robot that the job's strategy chooses, unless that
	 * one has something more urgent, which then goes first. False when there is no job for it.
	 */
	#serve(turn: Turn, entry: RobotEntry): boolean {
		let robot = entry;
		let place = this.bestFor(robot, turn.now);
		let picked = false;
		for (
			let hops = 0;
			place && hops < maxHops && this.#picking.isChoosy(place.window.lane);
			hops += 1
		) {
			const { lane, heads } = place.window;
			const chosen = this.#picking.pick(lane, heads[place.at]!, turn.now);
			picked = chosen === robot;
			if (!chosen || picked) break;
			const own = this.bestFor(chosen, turn.now);
			if (!own) break;
			robot = chosen;
			picked = own.id === place.id;
			if (picked) break;
			place = own;
		}
		if (!place) return false;
		this.#assign(turn, robot, place, picked);
		return true;
	}

	/** Looks at many robots in one go, during which none comes or goes. */
	atOnce<T>(look: () => T): T {
		this.#picking.serving();
		try {
			return look();
		} finally {
			this.#picking.served();
		}
	}

	/** Where the job is that the robot would get next. One that waits for a client that is taken stops nobody. */
	bestFor(entry: RobotEntry, now: number): Place | undefined {
		const { lanes, fleet } = this.#context;
		const free = fleet.freeClients(entry);
		const slots = fleet.freeSlots(entry);
		let best: Place | undefined;
		let kept: Head | undefined;
		let owed: Place | undefined;
		for (const lane of lanes.waitingFor(entry.robotId)) {
			const { client } = lane.rule;
			// When all are taken nobody can say which one is free next.
			if (client !== undefined && free.length > 0 && !free.includes(client)) continue;
			const { slots: wanted = 1 } = lane.rule;
			// Nor, on a robot that is full, how many slots are free next.
			if (wanted > 1 && slots > 0) {
				const head = this.passing.keeps(lane, entry, now);
				if (head && (!kept || before(head, kept))) kept = head;
				if (wanted > slots) continue;
			}
			for (const window of lane.open) {
				const { needs } = window;
				const gated = needs !== nothing;
				if (gated && this.#shuts(window)) continue;
				const at = this.#firstFor(entry, window, now);
				if (at < 0) continue;
				const { id, rank } = window.heads[at]!;
				// Those behind it in the queue stand behind the same owed one.
				if (gated && this.passing.keptFrom({ id, rank }, needs, now)) continue;
				const place = { window, at, id, rank, shareKey: window.shareKey };
				if (!best || lanes.shares.before(place, best)) best = place;
				if (id === kept?.id) owed = place;
			}
		}
		// The robot is kept: nobody behind that job gets a slot of it, however few they take.
		return best && kept && !before(best, kept) ? (owed?.id === kept.id ? owed : undefined) : best;
	}

	/** Whether a gate has no room for the jobs of a queue; if so, the queue is shut. */
	#shuts(window: Window): boolean {
		const { lanes, gates } = this.#context;
		const lacking = gates.lacking(needsOf(window.needs));
		if (lacking) lanes.shut(window, lacking);
		if (lacking?.of === 'rate') this.#openGates();
		return lacking !== undefined;
	}

	/** Index of the first in this queue that may go to this robot and does not wait for another one. */
	#firstFor(entry: RobotEntry, { lane, heads }: Window, now: number): number {
		// Those behind them are no worse off: they go when those before them have waited long enough.
		let asked = 0;
		for (let at = 0; at < heads.length && asked < maxAsked; at += 1) {
			const head = heads[at]!;
			// However long it waits, it does not go here.
			if (head.bars !== null && barred(head.bars, entry.robotId, now, lane.robots)) continue;
			if (!this.keepsAway(lane, head, entry, now)) return at;
			asked += 1;
		}
		return -1;
	}

	/** Whether it still waits for a robot it would rather have. */
	keepsAway(lane: Lane, head: Waits, entry: RobotEntry, now: number): boolean {
		if (lane.rule.preferWaitMs === undefined) return false;
		const since = inLineSince(head.rank, head.priority);
		const until = this.#picking.keepsAwayUntil(lane, head, entry, since, now);
		if (until > 0) this.#context.fillAt(until);
		return until > 0;
	}

	#assign(turn: Turn, entry: RobotEntry, { window, at }: Place, picked: boolean): void {
		const { lanes, turns } = this.#context;
		const { shareKey, needs } = window;
		const queue = { lane: window.lane.key, shareKey, needs };
		const head = lanes.take(window, at);
		if (!turn.touch(head.id)) {
			// Being changed in this very turn (a cancel, say): look again when that is done.
			lanes.doubt(queue);
			return;
		}
		const attempt = this.reserve(turn, entry, head.attempt + 1, window.lane, needs, 'slot', picked);
		turn.undo.push(() => lanes.doubt(queue));
		turn.add('assign', { jobId: head.id, attempt, tell: !head.asked }, (answer) => {
			const asked = answer === true ? head.asked : answer;
			if (asked) {
				this.#context.backlog.leave({ ...head, state: 'queued', lane: queue.lane });
				this.assigned(entry, attempt, { ...head, ...asked, ...queue });
				return;
			}
			// The job had moved on: the slot is for the next one.
			this.unreserve(entry, attempt);
			turns.nudge();
		});
	}
}

/** Where a job lies: its queue, and how many are before it. */
interface Place {
	window: Window;
	at: number;
	id: string;
	rank: number;
	shareKey: string;
}

const withoutFiles =
	'The agent on this robot can neither place files nor collect them; update it: npm install -g robot-fleet-agent@latest.';

/** Idle robots come first, then by load, then by how busy they are: a whole processor weighs less than any slot. */
function placeOf(entry: RobotEntry): number {
	const load = Math.ceil(loadOf(entry) * 1e6);
	return load * busySteps + (entry.session?.busy ?? 0);
}

/** After all that are no heavier; most go to the end. */
function insert(line: RobotEntry[], entry: RobotEntry, from: number): void {
	let at = line.length;
	while (at > from && line[at - 1]!.place > entry.place) at -= 1;
	if (at === line.length) line.push(entry);
	else line.splice(at, 0, entry);
}

type GivenAttempt = Pick<NewAttempt, 'number' | 'epoch' | 'token' | 'robotId' | 'at'> & {
	client?: string | null;
};

/** What is known of an attempt that was just given to its robot. */
export function liveOf(
	job: Omit<AssignedJob, 'spec' | 'variables'>,
	attempt: GivenAttempt,
	clock: Clock,
): Live {
	const policy = policyOf(job.policy);
	return {
		jobId: job.id,
		parentId: job.parentId,
		kind: job.kind,
		number: attempt.number,
		epoch: attempt.epoch,
		token: attempt.token,
		robotId: attempt.robotId,
		client: attempt.client ?? null,
		policy,
		bars: job.bars,
		affinity: job.affinity,
		tries: job.tries,
		losses: job.losses,
		createdAt: job.createdAt,
		firstStartedAt: job.startedAt,
		lane: job.lane,
		shareKey: job.shareKey,
		needs: job.needs,
		slots: policy.slots ?? 1,
		rank: job.rank,
		priority: job.priority,
		owner: job.owner,
		bytes: job.bytes,
		state: 'dispatched',
		cancelRequestedAt: null,
		givenAt: attempt.at,
		assignedAt: clock.monotonic(),
		startedAt: null,
		endsAt: endsAt(policy, clock),
		remindedAt: null,
		revokedAt: null,
		lossLeftMs: policy.onLoss.waitMs,
	};
}

/** The job's deadline on the monotonic clock. */
function endsAt({ timeouts }: Policy, clock: Clock): number | null {
	const { deadlineAt } = timeouts;
	return deadlineAt === undefined ? null : clock.monotonic() + deadlineAt - clock.now();
}

function frame(live: Live, job: AssignedJob): JobAssignment {
	const { timeouts, watch, caps } = live.policy;
	return {
		job_id: live.jobId,
		attempt: live.number,
		epoch: live.epoch,
		token: live.token,
		kind: job.kind,
		spec: JSON.parse(job.spec),
		variables: JSON.parse(job.variables) as Record<string, unknown>,
		...(live.client === null ? {} : { client: live.client }),
		timeouts: {
			run_ms: timeouts.runMs,
			...(timeouts.silenceMs === undefined ? {} : { silence_ms: timeouts.silenceMs }),
			...(timeouts.inputMs === undefined ? {} : { input_ms: timeouts.inputMs }),
			grace_ms: limits.graceMs,
		},
		on_disconnect: live.policy.onDisconnect,
		...(live.policy.onHang === 'report' ? {} : { on_hang: live.policy.onHang }),
		...(watch === undefined ? {} : { watch: watchOnWire(watch) }),
		...(caps === undefined ? {} : { caps: capsOnWire(caps) }),
	};
}

function watchOnWire({ class: sort, noOutputMs, totalMs, idleMs }: Watch): WireWatch {
	return {
		...(sort === undefined ? {} : { class: sort }),
		...(noOutputMs === undefined ? {} : { no_output_ms: noOutputMs }),
		...(totalMs === undefined ? {} : { total_ms: totalMs }),
		...(idleMs === undefined ? {} : { idle_ms: idleMs }),
	};
}

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
import { type Policy, policyOf } from '../core/retry';
import type { Asked, Head, NewAttempt, Queue } from '../store/store';
import type { Clock } from './clock';
import type { Context } from './context';
import { lessOne, type Live, type RobotEntry } from './fleet';
import type { Lane, Window } from './lanes';
import type { Turn } from './turns';

export type AssignedJob = Asked & Queue & Omit<Head, 'attempt' | 'asked'>;

export class Assigning {
	readonly #context: Context;

	constructor(context: Context) {
		this.#context = context;
	}

	/** A free robot for a job of this lane, unless older work waits there already. */
	robotFor(lane: Lane): RobotEntry | undefined {
		if (lane.queues.size > 0) return undefined;
		const { fleet } = this.#context;
		const { robot, client } = lane.rule;
		if (robot === undefined) return fleet.pick(lane.robots, client);
		const pinned = lane.robots.has(robot) ? fleet.get(robot) : undefined;
		return pinned && fleet.available(pinned) > 0 && fleet.hasClient(pinned, client)
			? pinned
			: undefined;
	}

	/** Reserves a slot, with the client that is wanted or any that is free, and makes the attempt. */
	reserve(turn: Turn, entry: RobotEntry, number: number, wanted?: string): NewAttempt {
		const { fleet, ids } = this.#context;
		const client = wanted ?? fleet.freeClients(entry)[0];
		const attempt = {
			number,
			epoch: this.#context.nextEpoch(),
			token: ids.token(),
			robotId: entry.robotId,
			...(client === undefined ? {} : { client }),
			at: turn.now,
		};
		entry.reserved += 1;
		if (client !== undefined) entry.promised = [...entry.promised, client];
		fleet.lastInLine(entry);
		turn.undo.push(() => this.unreserve(entry, attempt));
		return attempt;
	}

	unreserve(entry: RobotEntry, attempt: NewAttempt): void {
		this.#keep(entry, attempt);
		this.#context.fleet.review(entry);
	}

	/** What was promised is taken, or not needed. */
	#keep(entry: RobotEntry, { client }: NewAttempt): void {
		entry.reserved -= 1;
		entry.promised = lessOne(entry.promised, client);
	}

	/** The commit carried the assignment: it holds its slot, and the robot is told. */
	assigned(entry: RobotEntry, attempt: NewAttempt, job: AssignedJob): void {
		const { clock, fleet } = this.#context;
		const policy = policyOf(job.policy);
		this.#keep(entry, attempt);
		const live: Live = {
			jobId: job.id,
			parentId: job.parentId,
			kind: job.kind,
			number: attempt.number,
			epoch: attempt.epoch,
			token: attempt.token,
			robotId: entry.robotId,
			client: attempt.client ?? null,
			policy,
			bars: job.bars,
			tries: job.tries,
			losses: job.losses,
			createdAt: job.createdAt,
			lane: job.lane,
			shareKey: job.shareKey,
			rank: job.rank,
			priority: job.priority,
			owner: job.owner,
			bytes: job.bytes,
			state: 'dispatched',
			cancelRequestedAt: null,
			assignedAt: clock.monotonic(),
			startedAt: null,
			endsAt: endsAt(policy, clock),
			remindedAt: null,
			revokedAt: null,
			lossLeftMs: policy.onLoss.waitMs,
		};
		fleet.hold(live);
		// A robot that went away meanwhile does not know the attempt: its next hello proves that.
		const { session } = entry;
		if (session === undefined) return;
		const assignment = frame(live, job);
		if (session.takesFiles || !needsWorkspace(wishesOf(job.kind, assignment.spec))) {
			session.sink.assign(assignment);
		} else this.#context.cannot(live, withoutFiles);
	}

	/** Every free robot takes the best heads of the lanes it fits. */
	fill(turn: Turn): void {
		const { fleet, lanes } = this.#context;
		if (lanes.waiting.size === 0) return;
		for (const entry of [...fleet.free]) {
			while (fleet.available(entry) > 0) {
				const best = this.bestFor(entry, turn.now);
				if (!best) break;
				this.#assign(turn, entry, best);
			}
		}
	}

	/** Where the job lies that the robot would get next. Who waits for a client that is taken stops nobody. */
	bestFor(entry: RobotEntry, now: number): Place | undefined {
		const { lanes, fleet } = this.#context;
		const free = fleet.freeClients(entry);
		let best: Place | undefined;
		for (const lane of lanes.waitingFor(entry.robotId)) {
			const { client } = lane.rule;
			// When all are taken nobody can say which one is free next.
			if (client !== undefined && free.length > 0 && !free.includes(client)) continue;
			for (const window of lane.queues.values()) {
				const at = window.heads.findIndex(
					(head) => !barred(head.bars, entry.robotId, now, lane.robots),
				);
				if (at < 0) continue;
				const { id, rank } = window.heads[at]!;
				const place = { window, at, id, rank, shareKey: window.shareKey };
				if (!best || lanes.shares.before(place, best)) best = place;
			}
		}
		return best;
	}

	#assign(turn: Turn, entry: RobotEntry, { window, at }: Place): void {
		const { lanes, turns } = this.#context;
		const queue = { lane: window.lane.key, shareKey: window.shareKey };
		const head = lanes.take(window, at);
		if (!turn.touch(head.id)) {
			// Being changed in this very turn (a cancel, say): look again when that is done.
			lanes.doubt(queue);
			return;
		}
		const attempt = this.reserve(turn, entry, head.attempt + 1, window.lane.rule.client);
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

/** The job's deadline on the monotonic clock. */
export function endsAt({ timeouts }: Policy, clock: Clock): number | null {
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

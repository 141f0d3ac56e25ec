/**
 * Gives waiting jobs to free robots. Called in two places of a turn: for a job that is just being
 * submitted (submit and assign then share one commit), and at its end for every robot that is or
 * becomes free in it (so do result and next assign).
 *
 * Slots are reserved while the turn plans and become holds when it is committed.
 */
import type { JobAssignment } from '../../protocol';
import { limits } from '../../protocol';
import { barred } from '../core/bars';
import { type Policy, policyOf } from '../core/retry';
import type { Asked, Head, NewAttempt, Queue } from '../store/store';
import type { Clock } from './clock';
import type { Context } from './context';
import type { Live, RobotEntry } from './fleet';
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
		if (lane.rule.robot === undefined) return fleet.pick(lane.robots);
		const pinned = lane.robots.has(lane.rule.robot) ? fleet.get(lane.rule.robot) : undefined;
		return pinned && fleet.available(pinned) > 0 ? pinned : undefined;
	}

	/** Reserves a slot and makes the attempt. */
	reserve(turn: Turn, entry: RobotEntry, number: number): NewAttempt {
		const { fleet, ids } = this.#context;
		entry.reserved += 1;
		fleet.lastInLine(entry);
		turn.undo.push(() => this.unreserve(entry));
		return {
			number,
			epoch: this.#context.nextEpoch(),
			token: ids.token(),
			robotId: entry.robotId,
			at: turn.now,
		};
	}

	unreserve(entry: RobotEntry): void {
		entry.reserved -= 1;
		this.#context.fleet.review(entry);
	}

	/** The commit carried the assignment: it holds its slot, and the robot is told. */
	assigned(entry: RobotEntry, attempt: NewAttempt, job: AssignedJob): void {
		const { clock, fleet } = this.#context;
		const policy = policyOf(job.policy);
		entry.reserved -= 1;
		const live: Live = {
			jobId: job.id,
			parentId: job.parentId,
			kind: job.kind,
			number: attempt.number,
			epoch: attempt.epoch,
			token: attempt.token,
			robotId: entry.robotId,
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
		entry.session?.sink.assign(frame(live, job));
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

	/** Where the job lies that the robot would get next. */
	bestFor(entry: RobotEntry, now: number): Place | undefined {
		const { lanes } = this.#context;
		let best: Place | undefined;
		for (const lane of lanes.waitingFor(entry.robotId)) {
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
		const attempt = this.reserve(turn, entry, head.attempt + 1);
		turn.undo.push(() => lanes.doubt(queue));
		turn.add('assign', { jobId: head.id, attempt, tell: !head.asked }, (answer) => {
			const asked = answer === true ? head.asked : answer;
			if (asked) {
				this.#context.backlog.leave({ ...head, state: 'queued', lane: queue.lane });
				this.assigned(entry, attempt, { ...head, ...asked, ...queue });
				return;
			}
			// The job had moved on: the slot is for the next one.
			this.unreserve(entry);
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

/** The job's deadline on the monotonic clock. */
export function endsAt({ timeouts }: Policy, clock: Clock): number | null {
	const { deadlineAt } = timeouts;
	return deadlineAt === undefined ? null : clock.monotonic() + deadlineAt - clock.now();
}

function frame(live: Live, job: AssignedJob): JobAssignment {
	const { timeouts } = live.policy;
	return {
		job_id: live.jobId,
		attempt: live.number,
		epoch: live.epoch,
		token: live.token,
		kind: job.kind,
		spec: JSON.parse(job.spec),
		variables: JSON.parse(job.variables) as Record<string, unknown>,
		timeouts: {
			run_ms: timeouts.runMs,
			...(timeouts.silenceMs === undefined ? {} : { silence_ms: timeouts.silenceMs }),
			...(timeouts.inputMs === undefined ? {} : { input_ms: timeouts.inputMs }),
			grace_ms: limits.graceMs,
		},
		on_disconnect: live.policy.onDisconnect,
		...(live.policy.onHang === 'report' ? {} : { on_hang: live.policy.onHang }),
	};
}

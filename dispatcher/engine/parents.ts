/**
 * Jobs that are done by others: a parent has no attempt and no slot. When it starts, its robots are
 * chosen and each gets a child in the same commit; the commit that ends the last child ends the parent.
 * Nothing of a parent is kept in memory, so nothing is forgotten when the service dies.
 */
import { type JobError, limits, Problem, type SubmitAnswer, type Target } from '../../protocol';
import { chooseRobots, fanOutOf } from '../core/fan-out';
import {
	describeRule,
	laneKey,
	laneRule,
	laneWith,
	misfit,
	preferenceOf,
	ruleOf,
} from '../core/matching';
import { rank } from '../core/rank';
import { policyOf } from '../core/retry';
import type { AsRead, Deeds, StoredJob } from '../store/store';
import { waitingOf } from './backlog';
import type { Context } from './context';
import { loadOf, type RobotEntry } from './fleet';
import { earlierAnswer, type Placing, type Prepared, startOf } from './placing';
import type { Turn } from './turns';
import { asRead, type WaitingJobs } from './waiting';

type Parent = Pick<
	StoredJob,
	| 'id'
	| 'kind'
	| 'lane'
	| 'shareKey'
	| 'priority'
	| 'createdAt'
	| 'createdBy'
	| 'spec'
	| 'variables'
	| 'target'
	| 'policy'
>;

export class Parents {
	readonly #context: Context;
	readonly #placing: Placing;
	readonly #waiting: WaitingJobs;

	constructor(context: Context, placing: Placing, waiting: WaitingJobs) {
		this.#context = context;
		this.#placing = placing;
		this.#waiting = waiting;
	}

	/** Stores a new parent; one that is eligible starts in the same commit. */
	insert(
		turn: Turn,
		prepared: Prepared,
		answer: (answer: SubmitAnswer | Problem) => void,
		fail: (error: Error) => void,
	): void {
		const { job, idempotency } = prepared;
		const robots = this.choose(job);
		if (robots instanceof Problem) {
			if (!idempotency) answer(robots);
			else {
				// The same request may have found its robots when it came first.
				this.#context.store
					.read('keyed', idempotency)
					.then((earlier) => answer(earlier ? earlierAnswer(earlier, prepared) : robots))
					.catch(fail);
			}
			return;
		}
		// Its children need room too; how many there may be is limited on its own.
		const admitted = this.#placing.admit(turn, job);
		if (admitted instanceof Problem) {
			answer(admitted);
			return;
		}
		turn.touch(job.id);
		turn.add('insertJob', prepared, (earlier) => {
			admitted();
			if (earlier) {
				answer(earlierAnswer(earlier, prepared));
				return;
			}
			if (job.state === 'pending') this.#placing.placed(job, undefined);
			answer({ jobId: job.id, state: job.state === 'queued' ? 'running' : job.state });
		});
		if (job.state === 'queued') this.#start(turn, job, 'queued', robots);
	}

	/** A parent that waited for its time has become eligible. */
	start(job: StoredJob): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#context.turns.push({
				plan: (turn) => {
					if (!turn.touch(job.id)) return 'later';
					const robots = this.choose(job);
					if (robots instanceof Problem) this.#cannotStart(turn, job, robots, resolve);
					else {
						this.#start(turn, job, 'pending', robots, asRead(job), (started) => {
							if (started) this.#context.backlog.leave(waitingOf(job));
							resolve();
						});
					}
				},
				fail: reject,
			});
		});
	}

	#start(
		turn: Turn,
		parent: Parent,
		from: 'pending' | 'queued',
		robots: RobotEntry[],
		was?: AsRead,
		done: (started: boolean) => void = () => undefined,
	): void {
		const common = this.#inherited(parent, turn.now);
		const { client } = laneRule(parent.lane);
		const policy = policyOf(parent.policy);
		const children = robots.map(({ robotId }) => {
			const id = this.#context.ids.next();
			const target = { robot: robotId, ...(client === undefined ? {} : { client }) };
			const lane = laneWith(laneKey(ruleOf(target, robotId)), policy);
			turn.touch(id);
			const place = this.#placing.reserve(turn, { state: 'queued', lane });
			return { id, cell: robotId, lane, target: JSON.stringify(target), place };
		});
		const wish = {
			parentId: parent.id,
			from,
			...(was ? { was } : {}),
			at: turn.now,
			common,
			children: children.map(({ place, ...child }) => ({
				...child,
				...(place ? { attempt: place.attempt } : {}),
			})),
		};
		turn.add('startParent', wish, (started) => {
			for (const { place, ...child } of children) {
				if (started) {
					this.#placing.placed({ ...common, ...child, parentId: parent.id, children: null }, place);
				} else if (place) this.#placing.release(place);
			}
			done(started);
		});
	}

	/** What the children have of their parent. Of its time in the queue they have what is left. */
	#inherited(parent: Parent, now: number): Deeds['startParent']['in']['common'] {
		const policy = policyOf(parent.policy);
		const { queueMs } = policy.timeouts;
		const left =
			queueMs === undefined
				? policy
				: {
						...policy,
						timeouts: {
							...policy.timeouts,
							queueMs: Math.max(1, parent.createdAt + queueMs - now),
						},
					};
		return {
			...startOf(left, now, now),
			kind: parent.kind,
			shareKey: parent.shareKey,
			rank: rank(now, parent.priority),
			priority: parent.priority,
			createdAt: now,
			createdBy: parent.createdBy,
			retryOf: null,
			spec: parent.spec,
			variables: parent.variables,
		};
	}

	/** The robots that would each get a child now. */
	choose(parent: Pick<Parent, 'lane' | 'target' | 'spec' | 'variables'>): RobotEntry[] | Problem {
		const { fleet } = this.#context;
		const rule = laneRule(parent.lane);
		// Longest unused first, as long as that is known.
		const all = [...fleet.free, ...[...fleet.all()].filter((entry) => !fleet.free.has(entry))];
		const matching = all.filter((entry) => misfit(rule, entry) === undefined);
		const mode = fanOutOf(JSON.parse(parent.target) as Target)!;
		const chosen = chooseRobots(
			mode,
			matching.map((entry) => ({
				robotId: entry.robotId,
				open: fleet.isOpen(entry),
				free: fleet.hasClient(entry, rule.client) ? fleet.available(entry) : 0,
				load: loadOf(entry),
				preference: preferenceOf(rule, entry),
			})),
		);
		if (!chosen) {
			return new Problem('too-few-robots', {
				matching: matching.length,
				robots: all.length,
				rule: describeRule(rule, fleet.nameOf),
				wanted: mode === 'all' ? 'all' : mode.count,
			});
		}
		const bytes = Buffer.byteLength(parent.spec) + Buffer.byteLength(parent.variables);
		const { maxChildren, maxChildrenBytes } = limits;
		if (chosen.length > maxChildren || chosen.length * bytes > maxChildrenBytes) {
			return new Problem('too-many-children', {
				children: chosen.length,
				bytes,
				maxChildren,
				maxBytes: maxChildrenBytes,
			});
		}
		return chosen.map((robotId) => fleet.get(robotId)!);
	}

	#cannotStart(turn: Turn, job: StoredJob, problem: Problem, done: () => void): void {
		const error: JobError = {
			type: 'dependency',
			message: `The job could not start. ${problem.message}`,
		};
		const move = {
			to: 'failed',
			cause: 'dependency',
			reason: problem.code,
			by: 'dispatcher',
			error: JSON.stringify(error),
		} as const;
		this.#waiting.move(turn, job, move, () => done());
	}
}

/**
 * Jobs that are done by others: a parent has no attempt and no slot. When it starts, its robots are
 * chosen and each gets a child in the same commit; the commit that ends the last child ends the parent.
 * In a rollout all children are there from the start, kept back, and each step lets a batch go (family.ts). Nothing
 * of a parent is kept in memory, so nothing is forgotten when the service dies.
 */
import { type JobError, limits, Problem, type SubmitAnswer, type Target } from '../../protocol';
import { chooseRobots, describeFanOut, type FanOut, fanOutOf, meantBy } from '../core/fan-out';
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
import { batchesOf, type Plan, planOf, shutUntil } from '../core/rollout';
import type { AsRead, Deeds, StoredJob } from '../store/store';
import { waitingOf } from './backlog';
import type { Context } from './context';
import { childEnds } from './family';
import { type Fleet, loadOf, type RobotEntry } from './fleet';
import { earlierAnswer, type Placing, type Prepared, startOf } from './placing';
import type { Turn } from './turns';
import { asRead, type WaitingJobs } from './waiting';

type Parent = Pick<
	StoredJob,
	| 'id'
	| 'kind'
	| 'lane'
	| 'shareKey'
	| 'needs'
	| 'priority'
	| 'createdAt'
	| 'createdBy'
	| 'spec'
	| 'variables'
	| 'target'
	| 'policy'
>;

/** Which robots get a child, in this order, and which do not because they are away. */
interface Choice {
	robots: RobotEntry[];
	skipped: string[];
}

/** A turn with this many takes no further parent: whoever else waits for it would wait long. */
const manyChildren = 1_000;

export class Parents {
	readonly #context: Context;
	readonly #placing: Placing;
	readonly #waiting: WaitingJobs;

	constructor(context: Context, placing: Placing, waiting: WaitingJobs) {
		this.#context = context;
		this.#placing = placing;
		this.#waiting = waiting;
	}

	/** Stores a new parent; one that is eligible starts in the same commit, unless that carries many children already. */
	insert(
		turn: Turn,
		prepared: Prepared,
		answer: (answer: SubmitAnswer | Problem) => void,
		fail: (error: Error) => void,
	): 'later' | void {
		if (turn.children >= manyChildren) return 'later';
		const { job, idempotency } = prepared;
		const refuse = (problem: Problem) => {
			if (!idempotency) return answer(problem);
			// The same request may have found its robots, and room, when it came first.
			this.#context.store
				.read('keyed', idempotency)
				.then((earlier) => answer(earlier ? earlierAnswer(earlier, prepared) : problem))
				.catch(fail);
		};
		const chosen = this.choose(job);
		if (chosen instanceof Problem) return refuse(chosen);
		const starts = job.state === 'queued';
		// Its children are what waits.
		const admitted = this.#placing.admit(turn, job, starts ? chosen.robots.length : 1);
		if (admitted instanceof Problem) return refuse(admitted);
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
		if (starts) this.#start(turn, job, 'queued', chosen);
	}

	/** A parent that waited for its time has become eligible. */
	start(job: StoredJob): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#context.turns.push({
				plan: (turn) => {
					if (turn.children >= manyChildren || !turn.touch(job.id)) return 'later';
					const chosen = this.choose(job);
					if (chosen instanceof Problem) this.#cannotStart(turn, job, chosen, resolve);
					else {
						this.#start(turn, job, 'pending', chosen, asRead(job), (started) => {
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
		{ robots, skipped }: Choice,
		was?: AsRead,
		done: (started: boolean) => void = () => undefined,
	): void {
		turn.children += robots.length;
		const policy = policyOf(parent.policy);
		const plan = policy.rollout && planOf(policy.rollout, robots.length, policy.timeouts);
		const common = this.#inherited(parent, turn.now, plan);
		const batches = plan && batchesOf(plan);
		const { client } = laneRule(parent.lane);
		const children = robots.map(({ robotId }, i) => {
			const id = this.#context.ids.next();
			const target = { robot: robotId, ...(client === undefined ? {} : { client }) };
			const lane = laneWith(laneKey(ruleOf(target, robotId)), policy);
			turn.touch(id);
			const place = this.#placing.reserve(turn, { ...common, id, lane });
			const batch = batches && { batch: batches[i]! };
			return { id, cell: robotId, lane, target: JSON.stringify(target), ...batch, place };
		});
		const wish = {
			parentId: parent.id,
			from,
			...(was ? { was } : {}),
			at: turn.now,
			common,
			skipped,
			...(plan ? { plan } : {}),
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
		// The first batch goes in this very commit.
		if (plan) childEnds(this.#context, turn, parent.id);
	}

	/**
	 * What the children get from their parent. Of its time in the queue they get what is left; those of a batch
	 * get it from when the batch is let go.
	 */
	#inherited(
		parent: Parent,
		now: number,
		plan: Plan | undefined,
	): Deeds['startParent']['in']['common'] {
		const { rollout: _, ...policy } = policyOf(parent.policy);
		const { timeouts } = policy;
		const queueSince = plan ? null : parent.createdAt;
		const limited = timeouts.queueMs === undefined ? policy : { ...policy, queueSince };
		return {
			...startOf(limited, now, now),
			...(plan ? { state: 'pending', dueAt: shutUntil(timeouts) } : {}),
			kind: parent.kind,
			shareKey: parent.shareKey,
			needs: parent.needs,
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
	choose(parent: Pick<Parent, 'lane' | 'target' | 'spec' | 'variables'>): Choice | Problem {
		const { fleet } = this.#context;
		const rule = laneRule(parent.lane);
		// Longest unused first, as long as that is known.
		const all = [...fleet.free, ...[...fleet.all()].filter((entry) => !fleet.free.has(entry))];
		const target = JSON.parse(parent.target) as Target;
		const mode = fanOutOf(target)!;
		const partsOf = partingOf(fleet, mode);
		const isMeant = meantBy(mode);
		// A robot that is named is meant, even a simulated one.
		const named = typeof mode === 'object' && 'robots' in mode;
		const fits = (entry: RobotEntry) =>
			misfit(named ? { ...rule, robot: entry.robotId } : rule, entry) === undefined;
		const matching = all.filter((entry) => fits(entry) && isMeant(entry.robotId, partsOf(entry)));
		const chosen = chooseRobots(
			mode,
			matching.map((entry) => ({
				robotId: entry.robotId,
				open: fleet.isOpen(entry),
				free:
					fleet.hasClient(entry, rule.client) && fleet.fits(entry, rule.slots)
						? fleet.available(entry)
						: 0,
				load: loadOf(entry),
				preference: preferenceOf(rule, entry),
				away: entry.session === undefined,
				parts: partsOf(entry),
			})),
			target.away,
		);
		if (!chosen) {
			const facts = { matching: matching.length, rule: describeRule(rule, fleet.nameOf) };
			const wanted = describeFanOut(mode);
			if (target.away !== 'skip' || matching.length === 0) {
				return new Problem('too-few-robots', { ...facts, robots: all.length, wanted });
			}
			const here = matching.filter(({ session }) => session).length;
			return new Problem('too-few-here', { ...facts, here, wanted });
		}
		const bytes = Buffer.byteLength(parent.spec) + Buffer.byteLength(parent.variables);
		const { maxChildren, maxChildrenBytes } = limits;
		const count = chosen.robots.length;
		if (count > maxChildren || count * bytes > maxChildrenBytes) {
			return new Problem('too-many-children', {
				children: count,
				bytes,
				maxChildren,
				maxBytes: maxChildrenBytes,
			});
		}
		const { robots, skipped } = chosen;
		return { robots: robots.map((robotId) => fleet.get(robotId)!), skipped };
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

/** Which parts a robot is in, where one robot of each is wanted. */
export function partingOf(fleet: Fleet, mode: FanOut): (entry: RobotEntry) => readonly string[] {
	if (typeof mode === 'object' && 'perLabel' in mode) {
		const { perLabel } = mode;
		return ({ labels }) => (Object.hasOwn(labels, perLabel) ? [labels[perLabel]!] : []);
	}
	if (typeof mode !== 'object' || !('perGroup' in mode)) return () => [];
	const groups = fleet.groupsIn(mode.perGroup);
	return (entry) => groups.filter((group) => entry.groups.includes(group));
}

/** What would become of a job: everything a submit does, up to where it would be stored. Nothing is changed. */
import { kinds } from '../../kinds';
import { type JobClash, type JobPreview, type Job, Problem, type Submit } from '../../protocol';
import { fanOutOf } from '../core/fan-out';
import { nearest } from '../core/nearest';
import { policyOf } from '../core/retry';
import type { Assigning } from './assigning';
import type { Context } from './context';
import type { Caller } from './index';
import type { Intake } from './intake';
import type { Jobs } from './jobs';
import type { Lookout } from './lookout';
import type { Parents } from './parents';
import { earlierAnswer, type Placing, type Prepared } from './placing';

/** Robots that match, and robots that a job for several would get. */
const shownRobots = 20;
const shownPicked = 100;

export interface PreviewParts {
	jobs: Jobs;
	assigning: Assigning;
	placing: Placing;
	parents: Parents;
	lookout: Lookout;
	intake: Intake;
}

export class Previews {
	readonly #context: Context;
	readonly #parts: PreviewParts;

	constructor(context: Context, parts: PreviewParts) {
		this.#context = context;
		this.#parts = parts;
	}

	async preview(submit: Submit, by: Caller): Promise<JobPreview> {
		const clashes: JobClash[] = [];
		const refuse = (problem: Problem, more = '') =>
			clashes.push({ code: problem.code, text: problem.message + more, refused: true });
		try {
			this.#parts.intake.check();
		} catch (error) {
			refuse(asProblem(error));
		}
		let prepared: Prepared;
		try {
			prepared = this.#parts.jobs.prepare(submit, by);
		} catch (error) {
			const problem = asProblem(error);
			refuse(problem, this.#meant(problem));
			return refused(clashes, null, null);
		}
		const earlier = await this.#earlier(prepared);
		const job = this.#written(submit, prepared);
		const robots = this.#parts.lookout.robots(
			{ bars: null, affinity: null, ...prepared.job },
			{ limit: shownRobots, only: 'matching' },
		);
		if (earlier instanceof Problem) refuse(earlier);
		else if (earlier) {
			const text = `This request has already been made: a submit is answered with job ${earlier.jobId}.`;
			clashes.push({ code: 'same-request', text, refused: false });
			const same = { text, state: earlier.state, picked: [] };
			return { accepted: clashes.length === 1, ...same, robots, clashes, job };
		}
		const nobody = this.#parts.jobs.nobodyFits(prepared);
		if (nobody) {
			const { code, message: text } = nobody;
			clashes.push({ code, text, refused: submit.strict === true });
		}
		this.#pool(submit, clashes);
		const outcome = this.#outcome(submit, prepared);
		if (outcome instanceof Problem) refuse(outcome);
		const first = clashes.find((clash) => clash.refused);
		if (first || outcome instanceof Problem) return refused(clashes, robots, job);
		return { accepted: true, ...outcome, robots, clashes, job };
	}

	/** Where it would be after its commit. */
	#outcome(
		submit: Submit,
		{ job }: Prepared,
	): Pick<JobPreview, 'text' | 'state' | 'picked'> | Problem {
		const { fleet, lanes, clock } = this.#context;
		const { assigning, lookout, parents, placing } = this.#parts;
		const later = job.state === 'pending';
		const when = `It would wait until ${new Date(job.readyAt).toISOString()}`;
		if (fanOutOf(submit.target ?? {}) !== undefined) {
			const chosen = parents.choose(job);
			if (chosen instanceof Problem) return chosen;
			const full = placing.full(job);
			if (full) return full;
			const { robots: found, skipped } = chosen;
			const out = skipped.length === 0 ? '' : `, and leave out ${skipped.length} that are away`;
			const robots = `${found.length} ${found.length === 1 ? 'robot' : 'robots'}${out}`;
			return {
				text: later ? `${when}; now it would be for ${robots}.` : `It would run on ${robots}.`,
				state: later ? 'pending' : 'running',
				picked: found.slice(0, shownPicked).map(pickOf),
			};
		}
		const lane = lanes.get(job.lane);
		const robot = fleet.assigning ? assigning.robotFor(lane, job, clock.now()) : undefined;
		if (robot && !later) {
			return {
				text: `It would start on ${robot.stored.name} at once.`,
				state: 'dispatched',
				picked: [pickOf(robot)],
			};
		}
		const full = placing.full(job);
		if (full) return full;
		if (later) {
			const now = robot ? `; now it would start on ${robot.stored.name}` : '';
			return { text: `${when}${now}.`, state: 'pending', picked: robot ? [pickOf(robot)] : [] };
		}
		const behind = lane.queues.size > 0 ? 'behind others that ask for the same' : 'in line';
		const why = lookout.whyQueued({ bars: null, affinity: null, ...job });
		return { text: `It would wait ${behind}. ${why}`, state: 'queued', picked: [] };
	}

	/** What is there already under its key or its likeness, or what is missing of its files. */
	async #earlier(
		prepared: Prepared,
	): Promise<{ jobId: string; state: Job['state'] } | Problem | undefined> {
		const { store } = this.#context;
		const { idempotency, dedupe, files = [] } = prepared;
		const keyed = idempotency && (await store.read('keyed', idempotency));
		if (keyed) return earlierAnswer(keyed, prepared);
		for (const id of files) {
			const have = (await store.read('file', { id }))?.state ?? null;
			if (have !== 'ready') return earlierAnswer({ noFile: id, have }, prepared);
		}
		const sameAs = dedupe && (await store.read('duplicate', dedupe));
		return sameAs ? earlierAnswer({ sameAs }, prepared) : undefined;
	}

	#pool({ target = {} }: Submit, clashes: JobClash[]): void {
		const { pool } = target;
		const gate = pool === undefined ? undefined : this.#context.fleet.gateOfPool(pool);
		if (!gate || this.#context.fleet.room(gate) > 0) return;
		const text = `The pool ${pool} runs ${gate.limit} jobs at most, and has no room now.`;
		clashes.push({ code: 'pool-full', text, refused: false });
	}

	/** The request as it was understood. */
	#written(submit: Submit, { job }: Prepared): Submit {
		const { timeouts, retry, onLoss, onDisconnect, onHang, idempotent } = policyOf(job.policy);
		const { kind, variables = {} } = submit;
		const pinned = submit.target?.robot !== undefined || job.children !== null;
		return {
			...submit,
			spec: kinds.get(kind)!.fill?.(submit.spec, variables) ?? submit.spec,
			target: submit.target ?? {},
			priority: job.priority,
			variables,
			timeouts,
			retry,
			onLoss,
			onDisconnect,
			onHang,
			idempotent,
			...(pinned
				? {}
				: { strategy: submit.strategy ?? this.#context.settings.strategy ?? 'least_loaded' }),
			...(job.affinity ? { affinityKey: job.affinity } : {}),
		};
	}

	#meant({ code, details }: Problem): string {
		if (code !== 'unknown-robot') return '';
		const names = [...this.#context.fleet.all()].map(({ stored }) => stored.name);
		const near = nearest(String(details['robot']), names);
		return near === undefined ? '' : ` Did you mean ${near}?`;
	}
}

function refused(
	clashes: JobClash[],
	robots: JobPreview['robots'],
	job: JobPreview['job'],
): JobPreview {
	const { text } = clashes.find((clash) => clash.refused)!;
	return { accepted: false, text, state: null, picked: [], robots, clashes, job };
}

const pickOf = ({ robotId, stored }: { robotId: string; stored: { name: string } }) => ({
	...{ robotId, name: stored.name },
});

function asProblem(error: unknown): Problem {
	if (error instanceof Problem) return error;
	throw error;
}

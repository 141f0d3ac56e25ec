/**
 * Submits made at the same time travel together: calls that come while a request is under way wait for
 * it and share the next one. A lone submit goes out at once, in a request of its own; the service's
 * group commit does the same with what arrives, so nothing waits longer than for one commit.
 */
import { Problem, type Submit, type SubmitAnswer } from '../protocol';
import type { BulkAnswer } from './calls';

interface Waiting {
	job: Submit;
	resolve(answer: SubmitAnswer): void;
	reject(error: unknown): void;
}

/** A second request is being read and checked while the first one's commit syncs. */
const maxUnderWay = 2;
const maxTogether = 256;

export class Gatherer {
	readonly #sendMany: (jobs: Submit[]) => Promise<BulkAnswer[]>;
	readonly #waiting: Waiting[] = [];
	#underWay = 0;
	#scheduled = false;

	constructor(sendMany: (jobs: Submit[]) => Promise<BulkAnswer[]>) {
		this.#sendMany = sendMany;
	}

	submit(job: Submit): Promise<SubmitAnswer> {
		return new Promise((resolve, reject) => {
			this.#waiting.push({ job, resolve, reject });
			this.#schedule();
		});
	}

	/** Everything that one piece of code submits in a row goes together. */
	#schedule(): void {
		if (this.#scheduled || this.#underWay >= maxUnderWay) return;
		this.#scheduled = true;
		queueMicrotask(() => {
			this.#scheduled = false;
			const group = this.#waiting.splice(0, maxTogether);
			if (group.length > 0) void this.#run(group);
			if (this.#waiting.length > 0) this.#schedule();
		});
	}

	async #run(group: Waiting[]): Promise<void> {
		this.#underWay += 1;
		await this.#deliver(group);
		this.#underWay -= 1;
		if (this.#waiting.length > 0) this.#schedule();
	}

	async #deliver(group: Waiting[]): Promise<void> {
		try {
			const answers = await this.#sendMany(group.map(({ job }) => job));
			for (const [i, { resolve, reject }] of group.entries()) {
				const answer = answers[i]!;
				if ('error' in answer) reject(ownProblem(answer));
				else resolve(answer);
			}
		} catch (error) {
			// Each may be small enough by itself. The service took none of them.
			if (error instanceof Problem && error.code === 'too-large' && group.length > 1) {
				const half = Math.ceil(group.length / 2);
				await this.#deliver(group.slice(0, half));
				await this.#deliver(group.slice(half));
				return;
			}
			for (const { reject } of group) reject(error);
		}
	}
}

/** Each caller knows nothing of the others: to it, `jobs[7].spec` is `spec`. */
function ownProblem(answer: BulkAnswer): Problem {
	const problem = Problem.fromBody(answer) ?? new Problem('internal', { reference: 'no answer' });
	const { path } = problem.details;
	if (typeof path !== 'string') return problem;
	return new Problem(problem.code, {
		...problem.details,
		path: path.replace(/^jobs\[\d+\]\.?/, ''),
	});
}

/** The doors to jobs: submit, read, wait, cancel, retry. */
import { kinds } from '../../kinds';
import { limits, Problem, type Submit, toSeedNames } from '../../protocol';
import {
	answers,
	input,
	jobQuery,
	jobsQuery,
	moveJob,
	namesQuery,
	outputQuery,
	pageQuery,
	peekQuery,
	resumeRequest,
	retryRequest,
	submit,
	submitMany,
	type Validator,
	validatorOf,
	whyQuery,
} from '../../protocol/schemas';
import { Type } from 'typebox';
import { queryOf } from './bulk-doors';
import { type Door, door } from './door';
import { followOutput, sendOutput } from './output';

const one = validatorOf(submit);
const many = validatorOf(submitMany);
const specs = new Map<string, Validator<unknown>>(
	[...kinds].map(([name, kind]) => [name, validatorOf(kind.schema, 'spec')]),
);

/** What is wrong with the shape of one job, its kind and its spec; the meaning is the engine's. */
export function submitMistake(value: unknown, path = ''): Problem | undefined {
	const mistake = one.mistake(value, path);
	if (mistake) return mistake;
	const { kind, spec } = value as Submit;
	return specMistake(kind, spec, path === '' ? 'spec' : `${path}.spec`);
}

export function specMistake(kind: string, spec: unknown, path: string): Problem | undefined {
	const validator = specs.get(kind);
	if (!validator) {
		return new Problem('unknown-kind', { kind, known: [...kinds.keys()].join(', ') });
	}
	return validator.mistake(spec, path);
}

const inNames = (names: 'seed' | undefined, value: unknown) =>
	names === 'seed' ? toSeedNames(value) : value;

const waitOf = (waitMs: number | undefined) =>
	waitMs === undefined || waitMs === 0 ? undefined : Math.min(waitMs, limits.maxWaitMs);

export const jobDoors = {
	submit: door({
		// Either shape; the field `jobs` shows which was meant, so that mistakes are reported in its terms.
		body: Type.Unknown(),
		bodyShown: {
			oneOf: [submit, { ...submitMany, properties: { jobs: { type: 'array', items: submit } } }],
		},
		answer: Type.Union([answers.submitAnswer, answers.bulkAnswer]),
		status: 202,
		async run({ body, caller }, { engine }) {
			if (typeof body !== 'object' || body === null || !Object.hasOwn(body, 'jobs')) {
				const mistake = submitMistake(body);
				if (mistake) throw mistake;
				const [answer] = await engine.submit([body as Submit], caller);
				if (answer instanceof Problem) throw answer;
				return answer;
			}
			const { jobs } = many.parse(body);
			const mistakes = jobs.map((entry, i) => submitMistake(entry, `jobs[${i}]`));
			const good = jobs.filter((_entry, i) => mistakes[i] === undefined) as Submit[];
			const accepted = good.length > 0 ? await engine.submit(good, caller) : [];
			let next = 0;
			return {
				jobs: mistakes.map((mistake) => {
					const answer = mistake ?? accepted[next++]!;
					return answer instanceof Problem ? { error: answer.toBody() } : answer;
				}),
			};
		},
	}),
	jobs: door({
		query: jobsQuery,
		answer: answers.pageOf(answers.job),
		async run({ query }, { engine }) {
			const { names, limit = 100, cursor, dead, ...selection } = query;
			const filter = await queryOf({ ...selection, ...(dead ? { dead: true } : {}) }, engine);
			const page = await engine.jobs({
				...filter,
				limit,
				...(cursor === undefined ? {} : { cursor }),
			});
			return inNames(names, page);
		},
	}),
	job: door({
		query: jobQuery,
		answer: answers.job,
		async run({ id, query, signal }, { engine }) {
			const waitMs = waitOf(query.waitMs);
			const job = await (waitMs === undefined ? engine.job(id) : engine.job(id, waitMs, signal()));
			return inNames(query.names, job);
		},
	}),
	jobAttempts: door({
		query: namesQuery,
		answer: answers.listOf(answers.attempt),
		run: async ({ id, query }, { engine }) =>
			inNames(query.names, { items: await engine.attempts(id) }),
	}),
	jobTimeline: door({
		query: namesQuery,
		answer: answers.listOf(answers.timelineEntry),
		run: async ({ id, query }, { engine }) =>
			inNames(query.names, { items: await engine.timeline(id) }),
	}),
	jobCells: door({
		query: pageQuery,
		answer: answers.cells,
		run: ({ id, query: { limit = 100, ...rest } }, { engine }) =>
			engine.cells(id, { limit, ...rest }),
	}),
	jobPause: door({
		answer: answers.job,
		run: ({ id, caller }, { engine }) => engine.pauseRollout(id, caller),
	}),
	jobResume: door({
		body: resumeRequest,
		bodyOptional: true,
		answer: answers.job,
		run: ({ id, body, caller }, { engine }) => engine.resumeRollout(id, body, caller),
	}),
	jobWhy: door({
		query: whyQuery,
		answer: answers.why,
		run({ id, query: { robots, limit = 100, cursor } }, { engine }) {
			if (robots === undefined) return engine.why(id);
			return engine.why(id, {
				limit,
				...(cursor === undefined ? {} : { cursor }),
				...(robots === 'matching' ? { only: robots } : {}),
			});
		},
	}),
	jobPreview: door({
		body: Type.Unknown(),
		bodyShown: submit,
		answer: answers.jobPreview,
		async run({ body, caller }, { engine }) {
			const mistake = submitMistake(body);
			if (mistake) throw mistake;
			return engine.preview(body as Submit, caller);
		},
	}),
	jobOutput: door({
		query: outputQuery,
		run: (ask, house) =>
			/\btext\/event-stream\b/.test(ask.request.headers.accept ?? '')
				? followOutput(ask, house)
				: sendOutput(ask, house),
	}),
	jobCancel: door({
		answer: answers.job,
		run: ({ id, caller }, { engine }) => engine.cancel(id, caller),
	}),
	jobInput: door({
		body: input,
		answer: answers.inputAnswer,
		run: ({ id, body, signal }, { engine }) => engine.input(id, body, signal()),
	}),
	jobRetry: door({
		body: retryRequest,
		bodyOptional: true,
		answer: answers.retryAnswer,
		status: 202,
		run: ({ id, body, caller }, { engine }) => engine.retry(id, caller, body),
	}),
	jobStatus: door({
		body: moveJob,
		answer: answers.job,
		run: ({ id, body, caller }, { engine }) => engine.moveJob(id, body.state, caller),
	}),
	queueStats: door({ answer: answers.queueStats, run: (_ask, { engine }) => engine.queueStats() }),
	queuePeek: door({
		query: peekQuery,
		answer: Type.Object({ job: Type.Union([answers.job, Type.Null()]) }),
		run: async ({ query }, { engine }) => ({ job: await engine.peek(query.robot) }),
	}),
} as const satisfies Record<string, Door>;

export { waitOf };

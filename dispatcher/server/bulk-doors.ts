/** The doors to what operators do to jobs: change a waiting one, change many at once, deal with dead letters. */
import type { JobSelection } from '../../protocol';
import { Problem } from '../../protocol';
import {
	answers,
	bulkRequest,
	dismissRequest,
	holdAnswer,
	jobChange,
	pageQuery,
	replayRequest,
} from '../../protocol/schemas';
import type { Engine, JobFilter } from '../engine';
import { type Door, door } from './door';

export const bulkDoors = {
	jobChange: door({
		body: jobChange,
		answer: answers.job,
		run: ({ id, body, caller }, { engine }) => engine.change(id, body, caller),
	}),
	jobAnswer: door({
		body: holdAnswer,
		answer: answers.job,
		run: ({ id, body, caller }, { engine }) => engine.answer(id, body, caller),
	}),
	jobsBulk: door({
		body: bulkRequest,
		answer: answers.bulkResult,
		async run({ body, caller, signal }, { engine }) {
			const filter = await queryOf(body.filter, engine);
			return engine.bulk({ ...body, filter }, caller, signal());
		},
	}),
	deadLetters: door({
		query: pageQuery,
		answer: answers.pageOf(answers.deadLetterGroup),
		run: ({ query: { limit = 100, ...rest } }, { engine }) =>
			engine.deadLetters({ limit, ...rest }),
	}),
	deadLetterJobs: door({
		query: pageQuery,
		answer: answers.pageOf(answers.job),
		run: ({ id, query: { limit = 100, ...rest } }, { engine }) =>
			engine.deadLetterJobs(id, { limit, ...rest }),
	}),
	deadLettersReplay: door({
		body: replayRequest,
		answer: answers.bulkResult,
		run: ({ body, caller, signal }, { engine }) => engine.replay(body, caller, signal()),
	}),
	deadLettersDismiss: door({
		body: dismissRequest,
		answer: answers.bulkResult,
		run: ({ body, caller, signal }, { engine }) => engine.dismiss(body, caller, signal()),
	}),
} as const satisfies Record<string, Door>;

/** A selection with its robot looked up. */
export async function queryOf(
	{ robot, parent, ...rest }: JobSelection,
	engine: Engine,
): Promise<Omit<JobFilter, 'limit' | 'cursor'>> {
	return {
		...rest,
		...(parent === undefined ? {} : { parentId: parent }),
		...(robot === undefined ? {} : { robotId: await robotIdOf(robot, engine) }),
	};
}

/** Jobs of a robot that was removed are still found by its id. */
async function robotIdOf(robot: string, engine: Engine): Promise<string> {
	try {
		return (await engine.robot(robot)).robotId;
	} catch (error) {
		if (
			error instanceof Problem &&
			error.code === 'no-such-robot' &&
			/^[0-9a-f-]{36}$/.test(robot)
		) {
			return robot;
		}
		throw error;
	}
}

/** What became of a job, as the field `job` of an item and as words for a person. */
import type { IDataObject } from 'n8n-workflow';
import {
	causes,
	type Children,
	finalStates,
	isFinal,
	type Robot,
	type Wait,
	type WaitedJob,
} from '../../protocol';
import type { Fleet } from './connection';
import type { Refusal } from './refusals';

/** What happens to an item whose job still runs when the wait is over. */
export type AfterLimit = 'continue' | 'onError';

export interface Outcome {
	/** The field `job`. */
	job: IDataObject;
	/** Set when the item follows "On Error". */
	refusal?: Refusal;
	/** Enough others completed: it goes to an error output, but stops nothing. */
	tolerated?: true;
}

/** One outcome for each job id of the wait. */
export async function outcomesOf(
	{ client }: Fleet,
	wait: Wait,
	afterLimit: AfterLimit,
): Promise<Map<string, Outcome>> {
	const names = await robotNamesOf(client, wait);
	const blame = blameOf(wait);
	return new Map(
		wait.jobs.map((job) => {
			const robot = job.robotId === null ? null : (names.get(job.robotId) ?? job.robotId);
			return [job.jobId, outcomeOf(job, robot, wait, blame, afterLimit)];
		}),
	);
}

/** Up to this many robots are asked for one by one: a list of a large fleet would keep n8n's own thread busy. */
const maxAsked = 8;

async function robotNamesOf(
	client: Fleet['client'],
	{ jobs }: Wait,
): Promise<ReadonlyMap<string, string>> {
	const ids = [...new Set(jobs.flatMap(({ robotId }) => (robotId === null ? [] : [robotId])))];
	const asked = async () =>
		await Promise.all(ids.map(async (id) => await client.robot(id).catch(() => undefined)));
	// A name is for people only; without it the id has to do.
	const robots: Array<Robot | undefined> =
		ids.length > maxAsked ? await client.robots().catch(() => []) : await asked();
	return new Map(robots.flatMap((robot) => (robot ? [[robot.robotId, robot.name] as const] : [])));
}

/** What the wait counts as failures besides the jobs that failed: a wait that failed has at least one. */
interface Blame {
	/** Cancelled jobs are no failures: others had decided the wait, and these were no longer needed. */
	spares: boolean;
	/** No job has failed as a whole: it was some robots of a job that may still run. */
	robots: boolean;
}

function blameOf({ cancelRest, timedOut, met, counts, jobs }: Wait): Blame {
	const spares = cancelRest && !timedOut && jobs.some((job) => decided(job, met));
	const failed = jobs.some(
		({ state, cause }) =>
			isFinal(state) && state !== 'completed' && !(spares && cause === 'cancelled'),
	);
	return { spares, robots: counts === 'completed' && !timedOut && !met && !failed };
}

/** Whether this job, by its end or its end on some robots, can be the one that cancelled the others. */
function decided({ state, cause, children }: WaitedJob, met: boolean): boolean {
	const onRobots = children && children.failed + children.timeout + (met ? children.completed : 0);
	if (onRobots) return true;
	return isFinal(state) && cause !== 'cancelled' && (met || state !== 'completed');
}

/** The number of robots on which it has ended without completing. */
const lostOf = (children: Children): number =>
	finalStates.reduce((sum, state) => sum + children[state], -children.completed);

function outcomeOf(
	job: WaitedJob,
	robot: string | null,
	wait: Wait,
	blame: Blame,
	afterLimit: AfterLimit,
): Outcome {
	const final = isFinal(job.state);
	const timedOut = wait.timedOut && !final;
	const view = viewOf(job, robot, timedOut);
	const lost = blame.robots && job.children !== null && lostOf(job.children) > 0;
	// No longer waited for once enough others had ended: then it is left as it is, and no failure.
	const left = final ? job.cause === 'cancelled' && blame.spares : !timedOut;
	const failed = final ? job.state !== 'completed' : afterLimit === 'onError';
	if (!lost && (left || !failed)) return { job: view };
	const refusal = { ...inWords(job, robot, timedOut), details: view };
	const tolerated = final && wait.met && wait.counts === 'completed';
	return { job: view, refusal, ...(tolerated ? { tolerated } : {}) };
}

export function viewOf(job: WaitedJob, robot: string | null, timedOut: boolean): IDataObject {
	const { result } = job;
	return {
		id: job.jobId,
		state: job.state,
		cause: job.cause,
		robot,
		exitCode: result?.exitCode ?? null,
		signal: result?.signal ?? null,
		stdout: result?.stdout ?? '',
		stderr: result?.stderr ?? '',
		truncated: result?.truncated ?? false,
		outputs: (result?.outputs ?? {}) as IDataObject,
		// What it has collected; Download File of the node Robot Fleet takes these IDs.
		files: (result?.files ?? []) as unknown as IDataObject[],
		durationMs: result?.durationMs ?? null,
		error: (job.error ?? result?.error ?? null) as IDataObject | null,
		timedOut,
		// A job for several robots: how it went on each is in "outputs" when it has ended.
		...(job.children ? { children: { ...job.children } } : {}),
	};
}

function inWords(job: WaitedJob, robot: string | null, timedOut: boolean): Refusal {
	const where = `Job ${job.jobId}${robot === null ? '' : ` on ${robot}`}`;
	if (timedOut) {
		return {
			message: `The job is still ${job.state} and the wait time is over`,
			description: `${where} runs on. Give it more time in "Limit Wait Time", or wait for it again.`,
		};
	}
	const last = lastLine(job.result?.stderr ?? '') ?? job.error?.message;
	return { message: messageOf(job), description: last ? `${where}: ${last}` : where };
}

function messageOf({ state, cause, result, children }: WaitedJob): string {
	const byRobots = cause === 'dependency' || state === 'completed' || !isFinal(state);
	if (byRobots && children && children.total > 0) {
		return `The job completed on ${children.completed} of ${children.total} robots`;
	}
	if (cause === 'exit_code' && typeof result?.exitCode === 'number') {
		return `The command ended with exit code ${result.exitCode}`;
	}
	if (cause === 'signal' && result?.signal) return `The command was ended by ${result.signal}`;
	return cause === null ? `The job ended as ${state}` : causes[cause].replace(/\.$/, '');
}

function lastLine(text: string): string | undefined {
	return text.trimEnd().split('\n').at(-1)?.trim().slice(0, 500) || undefined;
}

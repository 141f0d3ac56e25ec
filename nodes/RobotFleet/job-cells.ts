/** How a job for several robots went, one item for each robot. */
import type { Cells, JobResult } from '../../protocol';
import { chosenJob, fromPages, jobLocator, manyFields } from './fields';
import { type Ask, type Found, found, type Operation } from './operation';

type Cell = Cells['items'][number];

export const getCells: Operation = {
	name: 'Get Robot Results',
	value: 'getCells',
	action: 'Get the result on each robot of a job',
	description: 'Get the results of a job for several robots, one item per robot',
	fields: [
		jobLocator,
		...manyFields,
		{
			displayName: 'Include Output',
			name: 'includeOutput',
			type: 'boolean',
			default: true,
			description:
				'Whether to add what the job printed on each robot (the end of it, as text) and its outputs',
		},
	],
	run: async (ask) => {
		const jobId = chosenJob(ask);
		const cells = await fromPages<Cell>(ask, (page) => ask.client.cells(jobId, page));
		if (!ask.value('includeOutput', true)) return cells;
		return await withOutput(ask, cells);
	},
};

/** How many are asked for at the same time. */
const atOnce = 8;

async function withOutput(ask: Ask, cells: Found[]): Promise<Found[]> {
	const whole: Found[] = [];
	for (let at = 0; at < cells.length; at += atOnce) {
		const jobs = cells.slice(at, at + atOnce).map(async ({ json }) => {
			const { result } = await ask.client.job(String(json.jobId));
			return { ...json, ...outputOf(result) };
		});
		whole.push(...found(await Promise.all(jobs)));
	}
	return whole;
}

function outputOf(result: JobResult | null) {
	return {
		stdout: result?.stdout ?? '',
		stderr: result?.stderr ?? '',
		truncated: result?.truncated ?? false,
		outputs: result?.outputs ?? {},
		durationMs: result?.durationMs ?? null,
	};
}

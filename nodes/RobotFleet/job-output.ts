/** What a job has printed: the end of it as text, or all of it as a file. */
import type { Bytes } from '../../client';
import type { Job, Stream } from '../../protocol';
import { chosenJob, jobLocator } from './fields';
import { outputField, storeBytes } from './job-files';
import { type Ask, type Found, type Operation, shownFor } from './operation';

const kib = 1024;

export const getOutput: Operation = {
	name: 'Get Output',
	value: 'getOutput',
	action: 'Get the output of a job',
	description: 'Get what a job has printed so far, also while it runs',
	fields: [
		jobLocator,
		{
			displayName: 'Stream',
			name: 'stream',
			type: 'options',
			options: [
				{ name: 'Standard Error', value: 'stderr' },
				{ name: 'Standard Output', value: 'stdout' },
			],
			default: 'stdout',
		},
		{
			displayName: 'Output As',
			name: 'outputAs',
			type: 'options',
			options: [
				{
					name: 'File',
					value: 'file',
					description: 'All of it, as binary data that is stored in n8n piece by piece',
				},
				{ name: 'Text', value: 'text', description: 'The end of it, in the field "text"' },
			],
			default: 'text',
		},
		{
			displayName: 'Max Size (KiB)',
			name: 'maxKib',
			type: 'number',
			typeOptions: { minValue: 1 },
			default: 256,
			description: 'How much of the end of the output to get',
			displayOptions: { show: { outputAs: ['text'] } },
		},
		shownFor(outputField, { outputAs: ['file'] }),
	],
	run,
};

async function run(ask: Ask): Promise<Found[]> {
	const stream = ask.value<Stream>('stream', 'stdout');
	const job = await ask.client.job(chosenJob(ask));
	const { jobId, state } = job;
	const { signal } = ask;
	if (ask.value<string>('outputAs', 'text') === 'file') {
		const { bytes, ...facts } = await ask.client.output(jobId, { stream, signal });
		const field = ask.text('binaryField') || 'data';
		const data = await storeBytes(ask, bytes, `${jobId}.${stream}.txt`, 'text/plain');
		return [{ json: { jobId, state, stream, ...facts }, binary: { [field]: data } }];
	}
	const from = startOf(job, stream, Number(ask.value('maxKib', 256)) * kib);
	const { bytes, ...facts } = await ask.client.output(jobId, { stream, from, signal });
	const text = await textOf(bytes, facts.from > 0);
	return [{ json: { jobId, state, stream, ...facts, truncated: facts.from > 0, text } }];
}

function startOf(job: Job, stream: Stream, maxBytes: number): number {
	return Math.max(0, job.output[stream] - Math.max(1, Math.floor(maxBytes)));
}

/** Text whose beginning was cut off may start in the middle of a character, which is left out. */
async function textOf(bytes: Bytes, isCut: boolean): Promise<string> {
	const pieces: Uint8Array[] = [];
	for await (const piece of bytes) pieces.push(piece);
	const all = Buffer.concat(pieces);
	let start = 0;
	while (isCut && start < Math.min(3, all.length) && (all[start]! & 0xc0) === 0x80) start += 1;
	return all.toString('utf8', start);
}

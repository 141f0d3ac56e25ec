/**
 * Moves files that jobs bring along or have collected between the binary data of n8n and the service. Bytes go
 * through piece by piece, both ways; what was sent before a cut is not sent again.
 */
import { type IBinaryData, type INodeProperties, NodeOperationError, sleep } from 'n8n-workflow';
import type { Bytes } from '../../client';
import { type FileRecord, Problem } from '../../protocol';
import { sha256 } from '../shared/digest';
import { asProblem, BadParameter } from '../shared/refusals';
import { chosenJob, jobLocator } from './fields';
import { type Ask, type Found, found, type Operation, shownFor } from './operation';

/** Bytes of one call: what a cut can cost, and what is in memory. */
const pieceBytes = 8 * 1024 * 1024;
const tries = 5;
const pauseMs = 1_000;

export const outputField: INodeProperties = {
	displayName: 'Put Output File in Field',
	name: 'binaryField',
	type: 'string',
	default: 'data',
	required: true,
	hint: 'The name of the output binary field to put the file in',
};

/** Where Wait for Execution, Dispatch to Robot, Submit Job and Job: Get put the job's ID; a failed job's comes first. */
const jobOfItem = {
	mode: 'id',
	value: '={{ $json.error && $json.details?.id || ($json.job?.id ?? $json.jobId) }}',
};

export const downloadFile: Operation = {
	name: 'Download File',
	value: 'downloadFile',
	action: 'Download a file of a job',
	description: 'Get files that jobs have collected, or that were uploaded for them, as binary data',
	fields: [
		{
			displayName: 'Download',
			name: 'download',
			type: 'options',
			options: [
				{
					name: 'All Files of a Job',
					value: 'job',
					description: 'What the job has collected, one item for each file',
				},
				{ name: 'One File', value: 'file', description: 'A file by its ID' },
			],
			default: 'job',
		},
		{
			displayName: 'File ID',
			name: 'fileId',
			type: 'string',
			default: '={{ $json.fileId }}',
			required: true,
			description: 'As Upload File returned it, or as listed in the field "files" of a job',
			displayOptions: { show: { download: ['file'] } },
		},
		shownFor({ ...jobLocator, default: jobOfItem }, { download: ['job'] }),
		outputField,
	],
	run: async (ask) =>
		ask.value<string>('download', 'job') === 'file'
			? [await download(ask, await ask.client.file(fileIdOf(ask)))]
			: await downloadAll(ask),
};

export const uploadFile: Operation = {
	name: 'Upload File',
	value: 'uploadFile',
	action: 'Upload a file for jobs',
	description:
		'Send binary data to the service; jobs name it by its ID in "Files" and find it in their workspace',
	fields: [
		{
			displayName: 'Input Binary Field',
			name: 'binaryField',
			type: 'string',
			default: 'data',
			required: true,
			hint: 'The name of the input binary field that holds the file',
		},
		{
			displayName: 'File Name',
			name: 'fileName',
			type: 'string',
			default: '',
			placeholder: 'e.g. app.json',
			description:
				'Shown to people and used for the download; the name of the binary data when empty',
		},
	],
	run: upload,
};

// ---------------------------------------------------------------------------- from the service

function fileIdOf(ask: Ask): string {
	const id = ask.text('fileId');
	if (id !== '') return id;
	throw new BadParameter(
		'The item has no file ID',
		'Set "File ID" to what Upload File returned, e.g. {{ $json.fileId }}',
	);
}

async function download(ask: Ask, file: FileRecord): Promise<Found> {
	const name = baseOf(file.path ?? file.name);
	const bytes = await ask.client.fileContent(file.fileId, ask.signal);
	const data = await storeBytes(ask, bytes, name);
	// Since 2.0 n8n tells the length of what it stored.
	if (data.bytes !== undefined && data.bytes !== file.bytes) throw cutOff(ask);
	return { ...found(file)[0]!, binary: { [ask.text('binaryField') || 'data']: data } };
}

async function downloadAll(ask: Ask): Promise<Found[]> {
	const { jobId, state, result } = await ask.client.job(chosenJob(ask));
	if (result === null) {
		throw new BadParameter(
			`The job is ${state} and has no files yet`,
			'Wait for its end first, with Wait for Execution',
		);
	}
	const all: Found[] = [];
	for (const { fileId, path, bytes, error } of result.files ?? []) {
		if (fileId === undefined) all.push({ json: { jobId, path, bytes, missing: error ?? null } });
		else all.push(await download(ask, await ask.client.file(fileId)));
	}
	return all;
}

/** The transports of nodes hand on streams of Node.js, as n8n wants them. */
type Storable = Parameters<Ask['context']['helpers']['prepareBinaryData']>[0];

/** Into the binary data of n8n, wherever n8n keeps it. */
export async function storeBytes(
	ask: Ask,
	bytes: Bytes,
	name: string,
	mimeType = /\.\w+$/.test(name) ? undefined : 'application/octet-stream',
): Promise<IBinaryData> {
	try {
		return await ask.context.helpers.prepareBinaryData(bytes as Storable, name, mimeType);
	} catch (error) {
		(bytes as { destroy?(): void }).destroy?.();
		throw asProblem(error) ?? cutOff(ask, error);
	}
}

function cutOff({ context, itemIndex }: Ask, error?: unknown): Error {
	return new NodeOperationError(context.getNode(), 'The file was cut off in transit', {
		description: `Run the step again; "Retry On Fail" in its settings does so by itself${
			error instanceof Error ? ` (${error.message})` : ''
		}`,
		itemIndex,
	});
}

const baseOf = (path: string) => path.split(/[/\\]/).at(-1) || 'file';

// ---------------------------------------------------------------------------- to the service

async function upload(ask: Ask): Promise<Found[]> {
	const { context, itemIndex, client } = ask;
	const field = ask.text('binaryField') || 'data';
	const binary = context.helpers.assertBinaryData(itemIndex, field);
	const name = ask.text('fileName') || binary.fileName || field;
	const { source, bytes } = await sourceOf(ask, binary);
	let record: FileRecord | undefined;
	let at = 0;
	for await (const piece of inPieces(source)) {
		// What is here as a whole gets a digest, so the same step done again finds the same file.
		const digest = piece.length === bytes ? { sha256: await sha256(piece) } : {};
		record ??= await client.createFile({ name, bytes, ...digest });
		record = await sendPiece(ask, record, at, piece);
		at += piece.length;
	}
	if (record!.state !== 'ready') {
		throw new Problem('file-not-ready', { id: record!.fileId, have: at, bytes });
	}
	return found(record!);
}

async function sourceOf({ context: { helpers } }: Ask, { id, data }: IBinaryData) {
	if (id === undefined) {
		const buffer = Buffer.from(data, 'base64');
		return { source: [buffer], bytes: buffer.length };
	}
	const { fileSize } = await helpers.getBinaryMetadata(id);
	return { source: await helpers.getBinaryStream(id), bytes: fileSize };
}

/** At least one, which is empty when there is nothing. */
async function* inPieces(
	source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
	let waiting: Uint8Array[] = [];
	let length = 0;
	let sent = false;
	for await (const chunk of source) {
		for (let at = 0; at < chunk.length; at += pieceBytes) {
			const part = chunk.subarray(at, at + pieceBytes);
			if (length > 0 && length + part.length > pieceBytes) {
				yield Buffer.concat(waiting);
				sent = true;
				waiting = [];
				length = 0;
			}
			waiting.push(part);
			length += part.length;
		}
	}
	if (length > 0 || !sent) yield Buffer.concat(waiting);
}

/** Continues where the service says that its bytes end. */
async function sendPiece(
	{ client, signal }: Ask,
	known: FileRecord,
	at: number,
	piece: Uint8Array,
): Promise<FileRecord> {
	let record = known;
	const end = at + piece.length;
	for (let failures = 0; ;) {
		const { fileId, have, state } = record;
		if (state === 'ready' || (have >= end && piece.length > 0)) return record;
		if (have < at) throw new Problem('file-offset', { have });
		const sent = await client.writeFile(fileId, have, piece.subarray(have - at), signal).then(
			(stored) => ({ stored }),
			(error: unknown) => ({ error }),
		);
		if ('stored' in sent) {
			record = sent.stored;
			if (piece.length === 0) return record;
			continue;
		}
		const problem = asProblem(sent.error);
		const again = problem?.retry || problem?.code === 'file-offset';
		if (!again || ++failures >= tries) throw sent.error;
		await sleep(pauseMs);
		record = await client.file(fileId);
		if (record.have > have) failures = 0;
	}
}

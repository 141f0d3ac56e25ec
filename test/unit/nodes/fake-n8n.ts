/** The part of n8n that our nodes see, as whole small objects. */
import { Readable } from 'node:stream';
import type {
	IBinaryData,
	ICredentialTestFunctions,
	IDataObject,
	IExecuteFunctions,
	IHttpRequestOptions,
	ILoadOptionsFunctions,
	INode,
	INodeExecutionData,
	ITriggerFunctions,
	IWebhookFunctions,
} from 'n8n-workflow';
import type { Send, SendRequest } from '../../../client';
import type { FakeService } from './fake-service';

export type Parameters = Record<string, unknown>;

/** One execution of n8n, with what it stores while it is parked. */
export class FakeExecution {
	instanceId = 'instance-a';
	id = '17';
	token = 'token-1';
	runIndex = 0;
	node: INode = {
		id: 'b5f0c8d2-node',
		name: 'Wait "a" }} b',
		type: 'n8n-nodes-robot-fleet.waitForExecution',
		typeVersion: 1,
		position: [0, 0],
		parameters: {},
	};
	items: INodeExecutionData[] = [{ json: {} }];
	context: IDataObject = {};
	metadata: IDataObject = {};
	/** What is said to the person at the editor. */
	hints: string[] = [];
	waitTill: Date | undefined;
	cancel = new AbortController();
	credential: IDataObject = { connection: 'server', url: 'http://fleet', apiKey: 'k' };
	/** What is stored of binary data, by its id. */
	readonly binaries = new Map<string, Buffer>();

	/** A small whole service, or the way to a real one. */
	constructor(readonly service: { send: Send }) {}

	get resumeUrl() {
		return `https://n8n.example.com/webhook-waiting/${this.id}?signature=${this.token}`;
	}

	/** A parameter given as a function is read per item. */
	asExecute(parameters: Parameters): IExecuteFunctions {
		const parts = {
			...this.#base(),
			getInputData: () => this.items,
			getNodeParameter: (name: string, itemIndex: number, fallback?: unknown) => {
				const value = parameters[name];
				if (value === undefined) return fallback;
				return typeof value === 'function'
					? (value as (item: INodeExecutionData, i: number) => unknown)(
							this.items[itemIndex]!,
							itemIndex,
						)
					: value;
			},
			continueOnFail: () => (this.node.onError ?? 'stopWorkflow') !== 'stopWorkflow',
			getContext: () => this.context,
			addExecutionHints: (...hints: { message: string }[]) =>
				this.hints.push(...hints.map(({ message }) => message)),
			getExecuteData: () => ({ node: this.node, metadata: this.metadata }),
			setMetadata: (metadata: IDataObject) => Object.assign(this.metadata, metadata),
			getExecutionCancelSignal: () => this.cancel.signal,
			onExecutionCancellation: (handler: () => unknown) =>
				this.cancel.signal.addEventListener('abort', () => handler(), { once: true }),
			putExecutionToWait: async (till: Date) => {
				this.waitTill = till;
			},
		};
		return parts as unknown as IExecuteFunctions;
	}

	/** As n8n makes it for a POST to the resume URL. */
	asWebhook(body: unknown): IWebhookFunctions & {
		response: FakeResponse;
		executeData: { node: INode; metadata: IDataObject };
	} {
		const response = new FakeResponse();
		const executeData = { node: { ...this.node }, metadata: { ...this.metadata } };
		const parts = {
			...this.#base(),
			getBodyData: () => body,
			getResponseObject: () => response,
			executeData,
			response,
		};
		return parts as never;
	}

	asLoadOptions(parameters: Parameters): ILoadOptionsFunctions {
		const parts = {
			...this.#base(),
			getCurrentNodeParameter: (name: string) => parameters[name],
		};
		return parts as unknown as ILoadOptionsFunctions;
	}

	#base() {
		return {
			getNode: () => this.node,
			getExecutionId: () => this.id,
			getInstanceId: () => this.instanceId,
			getTimezone: () => 'America/New_York',
			getCredentials: async () => this.credential,
			evaluateExpression: (expression: string) => this.#evaluate(expression),
			helpers: { ...helpersOf(this.service), ...this.#binaryHelpers() },
		};
	}

	/** As in the mode in which n8n keeps binary data in files. */
	#binaryHelpers() {
		return {
			assertBinaryData: (itemIndex: number, field: string) => {
				const binary = this.items[itemIndex]?.binary?.[field];
				if (!binary) throw new Error(`This operation expects a binary file '${field}'`);
				return binary;
			},
			getBinaryMetadata: async (id: string) => ({ fileSize: this.binaries.get(id)!.length }),
			getBinaryStream: async (id: string) => Readable.from(inChunks(this.binaries.get(id)!)),
			prepareBinaryData: async (data: Readable, fileName: string, mimeType = 'by/name') => {
				const chunks: Buffer[] = [];
				for await (const chunk of data) chunks.push(chunk as Buffer);
				return this.store(Buffer.concat(chunks), fileName, mimeType);
			},
		};
	}

	store(content: Buffer, fileName: string, mimeType = 'text/plain'): IBinaryData {
		const id = `filesystem-v2:${this.binaries.size}`;
		this.binaries.set(id, content);
		return { id, data: 'filesystem-v2', fileName, mimeType, bytes: content.length };
	}

	#evaluate(expression: string): unknown {
		const node = /^\{\{ \$node\[("(?:[^"\\]|\\.)*")\]\.context\["(\w+)"\] \}\}$/.exec(expression);
		if (node) {
			// What stands between the braces must not look like their end.
			if (node[1]!.includes('}}')) throw new Error('the expression ends early');
			return JSON.parse(node[1]!) === this.node.name ? this.context[node[2]!] : undefined;
		}
		switch (expression) {
			case '{{ $execution.resumeUrl }}':
				return this.resumeUrl;
			case '{{ $runIndex }}':
				return this.runIndex;
			case '{{ $input.all() }}':
				return structuredClone(this.items);
			default:
				throw new Error(`no idea what ${expression} is`);
		}
	}
}

export class FakeResponse {
	code = 0;
	body: unknown;

	status(code: number) {
		this.code = code;
		return this;
	}

	json(body: unknown) {
		this.body = body;
		return this;
	}
}

/** A trigger context that records what it emits, and lets a test end the runs. */
export class FakeTrigger {
	emitted: Array<{ json: IDataObject; key: string | undefined }> = [];
	errors: Error[] = [];
	activation = 'activate';
	mode = 'trigger';
	/** Settles the run of each emission; by default at once. */
	run: () => Promise<unknown> = async () => ({});

	constructor(
		readonly execution: FakeExecution,
		readonly parameters: Parameters,
	) {}

	asTrigger(): ITriggerFunctions {
		const { execution, parameters } = this;
		const parts = {
			getNode: () => execution.node,
			getInstanceId: () => execution.instanceId,
			getCredentials: async () => execution.credential,
			getWorkflow: () => ({ id: 'wf-1', name: 'Nightly', active: true }),
			getTimezone: () => 'America/New_York',
			getMode: () => this.mode,
			getActivationMode: () => this.activation,
			getNodeParameter: (name: string, fallback: unknown) => parameters[name] ?? fallback,
			logger: { debug: () => undefined },
			emit: (
				data: INodeExecutionData[][],
				_response: unknown,
				done?: { resolve(run: unknown): void; reject(error: Error): void },
				key?: string,
			) => {
				this.emitted.push({ json: data[0]![0]!.json, key });
				if (done) this.run().then(done.resolve, done.reject);
			},
			emitError: (error: Error) => this.errors.push(error),
			helpers: { ...helpersOf(execution.service), createDeferredPromise: deferred },
		};
		return parts as unknown as ITriggerFunctions;
	}
}

export function asCredentialTest(service: FakeService): ICredentialTestFunctions {
	const request = async ({ uri, ...rest }: IDataObject) =>
		await answer(service, { ...rest, url: uri } as unknown as IHttpRequestOptions);
	return { helpers: { request } } as unknown as ICredentialTestFunctions;
}

function* inChunks(content: Buffer) {
	for (let at = 0; at < content.length; at += 65_536) yield content.subarray(at, at + 65_536);
}

function helpersOf(service: { send: Send }) {
	return {
		httpRequestWithAuthentication: async (_name: string, options: IHttpRequestOptions) =>
			await answer(service, options),
	};
}

/** Of what is to be a stream, a refusal is one as well. */
async function answer(service: { send: Send }, options: IHttpRequestOptions) {
	const { pathname, search, searchParams } = new URL(options.url);
	const { body: sent } = options;
	const stream = options.encoding === 'stream';
	const { status, body, headers } = await service.send({
		method: options.method as SendRequest['method'],
		path: `${pathname}${search}`,
		...(Buffer.isBuffer(sent) ? { bytes: sent } : { body: sent }),
		...(stream ? { stream } : {}),
		signal: options.abortSignal as AbortSignal | undefined,
		waitMs: Number(searchParams.get('waitMs') ?? 0),
	});
	const refused = stream && status !== 200;
	return {
		statusCode: status,
		body: refused ? Readable.from([Buffer.from(JSON.stringify(body))]) : (body ?? ''),
		headers,
	};
}

function deferred() {
	let resolve!: (value: unknown) => void;
	let reject!: (error: Error) => void;
	const promise = new Promise((yes, no) => {
		resolve = yes;
		reject = no;
	});
	return { promise, resolve, reject };
}

/**
 * What n8n makes of a run of a node that goes on after errors (n8n-core 2.41.1, workflow-execute): a node that throws
 * has its input passed on by the first output, an item with an `error` beside its json loses the json, and only an
 * item whose json has no other keys than these three goes to the error output, with the fields of its input item.
 */
export async function outputsOf(
	execution: FakeExecution,
	run: () => Promise<INodeExecutionData[][]>,
): Promise<{ success: INodeExecutionData[]; error: INodeExecutionData[] }> {
	let items: INodeExecutionData[];
	try {
		items = (await run())[0]!;
	} catch {
		return { success: execution.items.map(withoutJsonOfErrors), error: [] };
	}
	const known = ['error', 'message', 'details'];
	const isError = ({ error, json }: INodeExecutionData) =>
		error ?? (json.error && Object.keys(json).every((key) => known.includes(key)));
	const output = execution.node.onError === 'continueErrorOutput';
	const error = output ? items.filter(isError) : [];
	return {
		success: items.filter((item) => !error.includes(item)).map(withoutJsonOfErrors),
		error: error
			.map((item) => {
				const { item: index } = item.pairedItem as { item: number };
				return { ...item, json: { ...execution.items[index]!.json, ...item.json } };
			})
			.map(withoutJsonOfErrors),
	};
}

function withoutJsonOfErrors(item: INodeExecutionData): INodeExecutionData {
	return item.error === undefined ? item : { ...item, json: { error: item.error.message } };
}

/** The part of n8n that our nodes see, as whole small objects. */
import type {
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
import type { SendRequest } from '../../../client';
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
	waitTill: Date | undefined;
	cancel = new AbortController();
	credential: IDataObject = { connection: 'server', url: 'http://fleet', apiKey: 'k' };

	constructor(readonly service: FakeService) {}

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
			setMetadata: (metadata: IDataObject) => Object.assign(this.metadata, metadata),
			getExecutionCancelSignal: () => this.cancel.signal,
			putExecutionToWait: async (till: Date) => {
				this.waitTill = till;
			},
		};
		return parts as unknown as IExecuteFunctions;
	}

	/** As n8n makes it for a POST to the resume URL. */
	asWebhook(
		body: unknown,
	): IWebhookFunctions & { response: FakeResponse; executeData: IDataObject } {
		const response = new FakeResponse();
		const executeData: IDataObject = { metadata: { ...this.metadata } };
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
			getCredentials: async () => this.credential,
			evaluateExpression: (expression: string) => this.#evaluate(expression),
			helpers: helpersOf(this.service),
		};
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

function helpersOf(service: FakeService) {
	return {
		httpRequestWithAuthentication: async (_name: string, options: IHttpRequestOptions) =>
			await answer(service, options),
	};
}

async function answer(service: FakeService, options: IHttpRequestOptions) {
	const { pathname, search, searchParams } = new URL(options.url);
	const { status, body } = await service.send({
		method: options.method as SendRequest['method'],
		path: `${pathname}${search}`,
		body: options.body,
		signal: options.abortSignal as AbortSignal | undefined,
		waitMs: Number(searchParams.get('waitMs') ?? 0),
	});
	return { statusCode: status, body: body ?? '' };
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

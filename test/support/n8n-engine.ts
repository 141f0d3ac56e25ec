/**
 * n8n without its server and database: the real loader, the real engine and the real contexts of the
 * prepared n8n run workflows with our nodes. What n8n's server does around them is done here in the same
 * order: an execution that waits is stored as text, a poke is answered under `/webhook-waiting`, one of
 * many claims the execution, and the deadline of a wait resumes it without asking a node.
 *
 * Needs the environment n8n-environment.cjs. What is missing here (publication, queue, editor) is tested
 * in the whole n8n.
 */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type {
	ICredentialType,
	IDataObject,
	IHttpRequestOptions,
	INode,
	INodeExecutionData,
	INodeType,
	IRun,
	IRunExecutionData,
	IWebhookData,
	IWebhookResponseData,
	IWorkflowExecuteAdditionalData,
	Workflow,
	WorkflowExecuteMode,
} from 'n8n-workflow';

interface Loader {
	loadAll(): Promise<void>;
	loadNodeFromFile(path: string): void;
	reset(): void;
	releaseTypes(): void;
	ensureTypesLoaded(): Promise<void>;
	getNode(type: string): { type: INodeType };
	getCredential(name: string): { type: ICredentialType };
}

type Running = Promise<IRun> & { cancel(): void };

/** What n8n-environment.cjs puts there. */
interface Runtime {
	modules: string;
	/** n8n's user folder. */
	folder: string;
	core: {
		PackageDirectoryLoader: new (folder: string) => Loader;
		WorkflowExecute: new (
			additional: IWorkflowExecuteAdditionalData,
			mode: WorkflowExecuteMode,
			data?: IRunExecutionData,
		) => {
			run(options: { workflow: Workflow; startNode?: INode; triggerToStartFrom?: object }): Running;
			processRunExecutionData(workflow: Workflow): Running;
		};
		WebhookContext: new (
			workflow: Workflow,
			node: INode,
			additional: IWorkflowExecuteAdditionalData,
			mode: WorkflowExecuteMode,
			webhook: IWebhookData,
			closeFunctions: unknown[],
			data: IRunExecutionData,
		) => never;
		ExecutionLifecycleHooks: new (
			mode: WorkflowExecuteMode,
			executionId: string,
			workflow: object,
		) => never;
	};
	workflow: typeof import('n8n-workflow');
	parse(text: string): IRunExecutionData;
	stringify(data: unknown): string;
	own<T>(value: T): T;
	setEnv(env: Record<string, string | undefined>): void;
	global: Record<symbol, unknown>;
}

export const n8nRuntime = (globalThis as unknown as { n8nRuntime: Runtime }).n8nRuntime;

const mode: WorkflowExecuteMode = 'trigger';
const ours = 'n8n-nodes-robot-fleet';

/** Nodes of n8n itself that the workflows of tests use. */
const base = ['ManualTrigger', 'NoOp', 'Set', 'SplitInBatches'];

export type TestNode = Pick<INode, 'name' | 'type'> & Partial<INode>;

export interface TestWorkflow {
	nodes: TestNode[];
	/** From a node to others: one list for each of its outputs. */
	connections: Record<string, string[][]>;
}

const final: Row['status'][] = ['success', 'error', 'canceled'];

interface Row {
	id: string;
	status: IRun['status'] | 'running';
	workflow: object;
	/** As the database keeps it. */
	text: string;
	waitTill?: Date;
	running?: Running;
}

export interface Ended {
	status: Row['status'];
	error?: { name: string; message: string; description?: string | null };
	lastNode?: string;
	/** The items of an output in the newest run of a node. */
	items(node: string, output?: number): INodeExecutionData[];
	/** How often a node ran. */
	runs(node: string): number;
}

export class EngineHost implements AsyncDisposable {
	#loader: Loader;
	readonly #folder: string;
	readonly #base: Loader;
	readonly #server: Server;
	readonly #rows = new Map<string, Row>();
	/** Called whenever a row changes. */
	#changed = Promise.withResolvers<void>();
	/** What every node has as its credential. */
	credential: IDataObject = {};
	/** Each poke that came, with what was answered. */
	readonly pokes: Array<{
		executionId: string;
		body: IDataObject;
		status: number;
		answer: unknown;
	}> = [];

	private constructor(folder: string, loader: Loader, baseLoader: Loader) {
		this.#folder = folder;
		this.#loader = loader;
		this.#base = baseLoader;
		this.#server = createServer((request, response) => void this.#serve(request, response));
	}

	/** `folder` is the package as it is installed. */
	static async open(folder: string): Promise<EngineHost> {
		const { core, modules } = n8nRuntime;
		const loader = new core.PackageDirectoryLoader(folder);
		await loader.loadAll();
		const baseLoader = new core.PackageDirectoryLoader(`${modules}/n8n-nodes-base`);
		for (const name of base) baseLoader.loadNodeFromFile(`dist/nodes/${name}/${name}.node.js`);
		const host = new EngineHost(folder, loader, baseLoader);
		await new Promise<void>((resolve) => host.#server.listen(0, '127.0.0.1', resolve));
		return host;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const { running } of this.#rows.values()) running?.cancel();
		this.#server.closeAllConnections();
		await new Promise((resolve) => this.#server.close(resolve));
	}

	/** What n8n does after it has put another version of the package in its place. */
	async updatePackage(): Promise<void> {
		this.#loader.reset();
		this.#loader = new n8nRuntime.core.PackageDirectoryLoader(this.#folder);
		await this.#loader.loadAll();
	}

	/** What n8n does when somebody asks for its node types after a while. */
	async refreshTypes(): Promise<void> {
		this.#loader.releaseTypes();
		await this.#loader.ensureTypesLoaded();
	}

	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	/** Starts at the first node of the workflow, with these items. */
	start(test: TestWorkflow, items: IDataObject[] = [{}]): string {
		const { core } = n8nRuntime;
		const id = String(this.#rows.size + 1);
		const row: Row = { id, status: 'running', workflow: workflowOf(test), text: '' };
		this.#rows.set(id, row);
		const workflow = this.#workflow(row);
		const execute = new core.WorkflowExecute(this.#additional(row), mode);
		const data = { main: [items.map((json) => ({ json }))] };
		const running = execute.run({
			workflow,
			startNode: workflow.getNode(test.nodes[0]!.name)!,
			triggerToStartFrom: n8nRuntime.own({ name: test.nodes[0]!.name, data: { data } }),
		});
		this.#follow(row, running);
		return id;
	}

	/** Of the execution that runs now; n8n's stop button. */
	stop(id: string): void {
		this.#rows.get(id)!.running?.cancel();
	}

	async parked(id: string): Promise<{ data: IRunExecutionData; waitTill: Date }> {
		const { text, waitTill } = await this.#reached(id, ['waiting']);
		return { data: n8nRuntime.parse(text), waitTill: waitTill! };
	}

	async ended(id: string): Promise<Ended> {
		const { status, text } = await this.#reached(id, final);
		const { resultData } = n8nRuntime.parse(text);
		return {
			status,
			error: resultData.error as Ended['error'],
			lastNode: resultData.lastNodeExecuted,
			items: (node, output = 0) => resultData.runData[node]?.at(-1)?.data?.main?.[output] ?? [],
			runs: (node) => resultData.runData[node]?.length ?? 0,
		};
	}

	status(id: string): Row['status'] {
		return this.#rows.get(id)!.status;
	}

	/** What n8n does when the deadline of a wait has come: no node is asked. */
	resumeAtDeadline(id: string): void {
		const row = this.#rows.get(id)!;
		if (row.status !== 'waiting') throw new Error(`execution ${id} is ${row.status}`);
		this.#resume(row, n8nRuntime.parse(row.text));
	}

	/** A poke as anybody could send it. */
	async poke(id: string, body: object): Promise<{ status: number; answer: unknown }> {
		const { data } = this.#read(id);
		const node = data.executionData!.nodeExecutionStack[0]?.node.id ?? 'none';
		const url = `${this.url}/webhook-waiting/${id}/${node}?signature=${data.resumeToken}`;
		const answer = await fetch(url, {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify(body),
		});
		return { status: answer.status, answer: (await answer.json()) as unknown };
	}

	// ------------------------------------------------------------------------ rows

	#read(id: string): { row: Row; data: IRunExecutionData } {
		const row = this.#rows.get(id)!;
		return { row, data: n8nRuntime.parse(row.text) };
	}

	#follow(row: Row, running: Running): void {
		row.running = running;
		void running.then((run) => {
			row.status = run.status;
			row.waitTill = run.waitTill ?? undefined;
			row.text = n8nRuntime.stringify(run.data);
			row.running = undefined;
			this.#changed.resolve();
			this.#changed = Promise.withResolvers();
		});
	}

	async #reached(id: string, wanted: Row['status'][], deadlineMs = 30_000): Promise<Row> {
		const row = this.#rows.get(id)!;
		const not = () =>
			new Error(`execution ${id} is ${this.#tell(row)}, not ${wanted.join(' or ')}`);
		let timer: NodeJS.Timeout | undefined;
		const late = new Promise<never>((_, reject) => {
			timer = setTimeout(() => reject(not()), deadlineMs);
		});
		try {
			while (!wanted.includes(row.status)) {
				if (final.includes(row.status)) throw not();
				await Promise.race([this.#changed.promise, late]);
			}
			return row;
		} finally {
			clearTimeout(timer);
		}
	}

	#tell({ status, text }: Row): string {
		if (text === '') return status;
		const { error, lastNodeExecuted } = n8nRuntime.parse(text).resultData;
		const words = error ? ` with "${error.message}" (${String(error.description)})` : '';
		return `${status} at ${lastNodeExecuted}${words}`;
	}

	/** The claim: of two, one finds the row no longer waiting. */
	#resume(row: Row, data: IRunExecutionData): void {
		const { core } = n8nRuntime;
		row.status = 'running';
		const additional = this.#additional(row);
		(additional as { restartExecutionId?: string }).restartExecutionId = row.id;
		const execute = new core.WorkflowExecute(additional, mode, data);
		this.#follow(row, execute.processRunExecutionData(this.#workflow(row)));
	}

	// ------------------------------------------------------------------------ what nodes see

	#workflow(row: Row): Workflow {
		return new n8nRuntime.workflow.Workflow({
			...(n8nRuntime.own(row.workflow) as { nodes: INode[]; connections: object }),
			id: 'workflow-1',
			name: 'Test',
			active: false,
			settings: { executionOrder: 'v1' },
			nodeTypes: {
				getByName: (type: string) => this.#type(type),
				getByNameAndVersion: (type: string, version?: number) =>
					n8nRuntime.workflow.NodeHelpers.getVersionedNodeType(this.#type(type), version),
				getKnownTypes: () => ({}),
			},
		} as never);
	}

	#type(fullName: string): INodeType {
		const [packageName, name] = fullName.split('.') as [string, string];
		return (packageName === ours ? this.#loader : this.#base).getNode(name).type;
	}

	#additional(row: Row): IWorkflowExecuteAdditionalData {
		const { core } = n8nRuntime;
		const webhookWaitingBaseUrl = `${this.url}/webhook-waiting`;
		return {
			currentNodeExecutionIndex: 0,
			executionId: row.id,
			hooks: new core.ExecutionLifecycleHooks(mode, row.id, row.workflow),
			webhookWaitingBaseUrl,
			formWaitingBaseUrl: `${this.url}/form-waiting`,
			variables: {},
			setExecutionStatus: () => undefined,
			credentialsHelper: {
				getParentTypes: () => [],
				isCredentialUsableByNode: () => true,
				getDecrypted: async () => ({ ...this.credential }),
				preAuthentication: async () => undefined,
				authenticate: async (data: never, type: string, options: IHttpRequestOptions) => {
					const { authenticate } = this.#loader.getCredential(type).type;
					if (typeof authenticate !== 'function') throw new Error(`${type} has no authenticate()`);
					return await authenticate(data, options);
				},
			},
		} as unknown as IWorkflowExecuteAdditionalData;
	}

	// ------------------------------------------------------------------------ /webhook-waiting

	async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
		const url = new URL(request.url ?? '/', this.url);
		const [, endpoint, executionId = '', suffix = ''] = url.pathname.split('/');
		const chunks: Buffer[] = [];
		for await (const chunk of request) chunks.push(chunk as Buffer);
		const text = Buffer.concat(chunks).toString('utf8');
		const body = n8nRuntime.own(text === '' ? {} : (JSON.parse(text) as IDataObject));
		const say = (status: number, answer: unknown) => {
			this.pokes.push({ executionId, body, status, answer });
			response.writeHead(status, { 'content-type': 'application/json' });
			response.end(JSON.stringify(answer));
		};
		const message = (words: string) => ({
			message: `The execution "${executionId}" ${words}`,
		});
		try {
			const row = this.#rows.get(executionId);
			if (endpoint !== 'webhook-waiting' || !row) return say(404, message('does not exist.'));
			if (row.text === '') return say(409, message('is running already.'));
			const data = n8nRuntime.parse(row.text);
			if (url.searchParams.get('signature') !== data.resumeToken) {
				return say(401, { error: 'Invalid token' });
			}
			if (row.status === 'running') return say(409, message('is running already.'));
			if (data.resultData.error) return say(409, message('has finished with error.'));
			if (row.status !== 'waiting') return say(409, message('has finished already.'));
			const result = await this.#askNode(row, data, request, suffix, body, say);
			if (result === undefined) return say(404, message('has no waiting webhook of this path.'));
			if (result.workflowData !== undefined) {
				// Another poke may have claimed it while the node asked the service.
				if (this.status(executionId) !== 'waiting')
					return say(500, message('is resuming already.'));
				const entry = data.executionData!.nodeExecutionStack[0]!;
				entry.data.main = result.workflowData as never;
				entry.metadata = { ...entry.metadata, forwardAllOutputs: true } as never;
				this.#resume(row, data);
			}
			if (!result.noWebhookResponse) say(200, result.webhookResponse);
		} catch (error) {
			say(500, { message: String(error) });
		}
	}

	/** Undefined when the node has no such webhook (any more). */
	async #askNode(
		row: Row,
		data: IRunExecutionData,
		request: IncomingMessage,
		suffix: string,
		body: IDataObject,
		say: (status: number, answer: unknown) => void,
	): Promise<IWebhookResponseData | undefined> {
		const { core } = n8nRuntime;
		const last = data.resultData.lastNodeExecuted!;
		data.executionData!.nodeExecutionStack[0]!.node.disabled = true;
		data.waitTill = undefined;
		data.resultData.runData[last]!.pop();
		const workflow = this.#workflow(row);
		const node = workflow.getNode(last)!;
		const type = workflow.nodeTypes.getByNameAndVersion(node.type, node.typeVersion);
		const webhookDescription = type.description.webhooks?.find(
			({ path, httpMethod, restartWebhook }) =>
				restartWebhook === true &&
				httpMethod === request.method &&
				workflow.expression.getSimpleParameterValue(node, path, 'internal', {}) === suffix,
		);
		if (!webhookDescription || !type.webhook) return undefined;
		const response = {
			status: (code: number) => ({ json: (answer: unknown) => say(code, answer) }),
		};
		const additional = {
			...this.#additional(row),
			httpRequest: { body, headers: request.headers, params: {}, query: {} },
			httpResponse: response,
		} as unknown as IWorkflowExecuteAdditionalData;
		const webhook = { node: node.name, webhookDescription } as unknown as IWebhookData;
		return await type.webhook.call(
			new core.WebhookContext(workflow, node, additional, mode, webhook, [], data),
		);
	}
}

/**
 * The package in a folder outside the clone, where only n8n's own modules are found. `npm run build`
 * comes before. With a version, as if it were that one; what was there is replaced.
 */
export function installBuilt(into: string, version?: string): string {
	const root = join(__dirname, '../..');
	if (!existsSync(join(root, 'dist/embedded/service.js'))) {
		throw new Error('There is no dist/: run "npm run build" first');
	}
	rmSync(join(into, 'dist'), { recursive: true, force: true });
	cpSync(join(root, 'dist'), join(into, 'dist'), { recursive: true });
	const text = readFileSync(join(root, 'package.json'), 'utf8');
	const { name, version: own, n8n } = JSON.parse(text) as Record<string, unknown>;
	const manifest = { name, version: version ?? own, n8n };
	writeFileSync(join(into, 'package.json'), JSON.stringify(manifest));
	return into;
}

/** As it is exported from the editor. */
function workflowOf({ nodes, connections }: TestWorkflow): object {
	return {
		nodes: nodes.map((node, at) => ({
			id: `node-${at}`,
			typeVersion: 1,
			position: [at * 200, 0],
			parameters: {},
			...(node.type.startsWith(`${ours}.`)
				? { credentials: { robotFleetApi: { id: '1', name: 'Fleet' } } }
				: {}),
			...node,
		})),
		connections: Object.fromEntries(
			Object.entries(connections).map(([from, outputs]) => [
				from,
				{ main: outputs.map((to) => to.map((node) => ({ node, type: 'main', index: 0 }))) },
			]),
		),
	};
}

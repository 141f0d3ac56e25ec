/**
 * Speaks to a running n8n as its editor does: signs in, keeps the cookie, and has one verb for each
 * thing a test or a demonstration wants of n8n. Knows nothing of how that n8n was started.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { request } from './loopback.mjs';
import { until } from './until.mjs';

const publicationDeadlineMs = 60_000;

/** n8n refused a call. `status` and `body` are its answer. */
export class N8nRefusal extends Error {
	/** @param {string} call @param {number} status @param {string} text @param {unknown} body */
	constructor(call, status, text, body) {
		super(`${call} answered ${status}: ${text.slice(0, 500)}`);
		this.name = 'N8nRefusal';
		this.status = status;
		this.body = body;
	}
}

/**
 * @typedef {object} Owner
 * @property {string} email
 * @property {string} password
 * @property {string} [firstName]
 * @property {string} [lastName]
 */

/**
 * @typedef {object} ExecutionSummary
 * @property {string} id
 * @property {string} workflowId
 * @property {string} status new, running, waiting, success, error, canceled, crashed or unknown
 * @property {string} mode
 * @property {string} [waitTill]
 */

/** @typedef {ExecutionSummary & {data: any}} Execution with all its run data, decoded */

export class EditorApi {
	/** @type {Map<string, string>} */
	#cookies = new Map();
	/** @type {Owner | undefined} */
	#owner;
	/** @type {string | undefined} */
	#apiKey;
	/** @type {(text: string) => any} */
	#decode;

	/**
	 * @param {string} baseUrl
	 * @param {string} n8nBin n8n's entry file: run data comes in an encoding whose decoder lies there
	 */
	constructor(baseUrl, n8nBin) {
		this.baseUrl = baseUrl;
		this.#decode = createRequire(n8nBin)('flatted').parse;
	}

	/**
	 * A call as anybody could make it, a webhook's for instance.
	 *
	 * @param {string} method
	 * @param {string} path
	 * @param {Parameters<typeof request>[1]} [options]
	 */
	request(method, path, options = {}) {
		return request(this.baseUrl + path, { ...options, method });
	}

	/**
	 * A call as the editor makes it.
	 *
	 * @param {string} method
	 * @param {string} path below /rest
	 * @param {unknown} [body]
	 * @returns {Promise<any>} what n8n puts under `data`
	 */
	async rest(method, path, body) {
		const cookie = [...this.#cookies].map((pair) => pair.join('=')).join('; ');
		const answer = await this.request(method, `/rest${path}`, {
			body,
			headers: cookie ? { cookie } : {},
		});
		for (const line of answer.headers['set-cookie'] ?? []) {
			const [name, value] = line.split(';', 1)[0].split(/=(.*)/s);
			this.#cookies.set(name, value);
		}
		const json = parse(answer.text);
		if (answer.status >= 200 && answer.status < 300) return json?.data ?? json;
		const text = json?.message ?? answer.text;
		throw new N8nRefusal(`${method} /rest${path}`, answer.status, text, json);
	}

	/** Whether this n8n is new and waits for its first person. Only one with the editor can tell. */
	async needsOwner() {
		const settings = await this.rest('GET', '/settings');
		return settings.userManagement.showSetupOnFirstLoad === true;
	}

	/** @param {Owner} owner */
	async setupOwner({ email, password, firstName = 'Robot', lastName = 'Fleet' }) {
		this.#owner = { email, password };
		return this.rest('POST', '/owner/setup', { email, password, firstName, lastName });
	}

	/** @param {Owner} [owner] by default the one set up or signed in before */
	async login(owner = this.#owner) {
		if (!owner) throw new Error('login() needs an email and a password, or a setupOwner() before');
		this.#owner = owner;
		const { email, password } = owner;
		return this.rest('POST', '/login', { emailOrLdapLoginId: email, password });
	}

	/** A key with every scope, for the public API (header X-N8N-API-KEY); made once. */
	async apiKey() {
		if (!this.#apiKey) {
			const scopes = await this.rest('GET', '/api-keys/scopes');
			const label = `robot-fleet ${randomBytes(4).toString('hex')}`;
			const made = await this.rest('POST', '/api-keys', { label, scopes, expiresAt: null });
			this.#apiKey = made.rawApiKey;
		}
		return /** @type {string} */ (this.#apiKey);
	}

	/**
	 * @param {{name: string, type: string, data: Record<string, unknown>}} credential
	 * @returns {Promise<{id: string, name: string}>} what a workflow's node names it by
	 */
	async createCredential(credential) {
		const { id, name } = await this.rest('POST', '/credentials', credential);
		return { id, name };
	}

	/**
	 * @param {Record<string, any>} workflow as exported from the editor; ids and positions of nodes may
	 * be missing
	 * @returns {Promise<{id: string, versionId: string, [field: string]: any}>}
	 */
	createWorkflow(workflow) {
		const nodes = (workflow.nodes ?? []).map(
			(/** @type {object} */ node, /** @type {number} */ i) => ({
				id: randomUUID(),
				position: [i * 220, 0],
				parameters: {},
				typeVersion: 1,
				...node,
			}),
		);
		return this.rest('POST', '/workflows', {
			name: `Workflow ${randomBytes(4).toString('hex')}`,
			connections: {},
			settings: {},
			...workflow,
			nodes,
		});
	}

	/**
	 * Publishes a workflow and waits until its triggers listen.
	 *
	 * @param {string} workflowId
	 */
	async activate(workflowId) {
		const { versionId } = await this.rest('GET', `/workflows/${workflowId}`);
		await this.rest('POST', `/workflows/${workflowId}/activate`, { versionId });
		const publication = await this.#publication(workflowId, ['published', 'partial', 'failed']);
		if (publication.status === 'published') return;
		const reasons = publication.triggers
			.filter((/** @type {any} */ trigger) => trigger.errorMessage)
			.map((/** @type {any} */ trigger) => trigger.errorMessage);
		throw new Error(`Workflow ${workflowId} was not activated: ${reasons.join('; ')}`);
	}

	/** @param {string} workflowId */
	async deactivate(workflowId) {
		await this.rest('POST', `/workflows/${workflowId}/deactivate`, {});
		await this.#publication(workflowId, ['not_published']);
	}

	/**
	 * n8n publishes in the background.
	 *
	 * @param {string} workflowId
	 * @param {string[]} wanted
	 * @returns {Promise<any>}
	 */
	#publication(workflowId, wanted) {
		let seen = /** @type {any} */ ({});
		return until(
			async () => {
				seen = await this.#publicationNow(workflowId);
				return wanted.includes(seen.status) ? seen : undefined;
			},
			{
				deadlineMs: publicationDeadlineMs,
				what: () => `workflow ${workflowId} to be ${wanted.join(' or ')}; it is ${seen.status}`,
			},
		);
	}

	/** @param {string} workflowId @returns {Promise<any>} */
	async #publicationNow(workflowId) {
		try {
			return await this.rest('GET', `/workflows/${workflowId}/publication-status`);
		} catch (error) {
			if (!(error instanceof N8nRefusal) || error.status !== 404) throw error;
			// An older n8n, which has done it by the time it answers.
			const { activeVersionId } = await this.rest('GET', `/workflows/${workflowId}`);
			return { status: activeVersionId ? 'published' : 'not_published' };
		}
	}

	/**
	 * The newest hundred.
	 *
	 * @param {{workflowId?: string, status?: string | string[]}} [filter]
	 * @returns {Promise<ExecutionSummary[]>}
	 */
	async executions({ workflowId, status } = {}) {
		const filter = JSON.stringify({ workflowId, status: status && [status].flat() });
		const query = new URLSearchParams({ filter, limit: '100' });
		return (await this.rest('GET', `/executions?${query}`)).results;
	}

	/**
	 * @param {string} id
	 * @returns {Promise<Execution>}
	 */
	async execution(id) {
		const execution = await this.rest('GET', `/executions/${id}`);
		const { data } = execution;
		return { ...execution, data: typeof data === 'string' ? this.#decode(data) : data };
	}

	/**
	 * The first execution, newest first, that fulfils the predicate.
	 *
	 * @param {(execution: ExecutionSummary) => boolean} predicate
	 * @param {number} [deadlineMs]
	 * @param {Parameters<EditorApi['executions']>[0]} [filter]
	 * @returns {Promise<Execution>}
	 */
	async waitForExecution(predicate, deadlineMs = 30_000, filter = {}) {
		let seen = /** @type {ExecutionSummary[]} */ ([]);
		const found = await until(
			async () => {
				seen = await this.executions(filter);
				return seen.find(predicate);
			},
			{
				deadlineMs,
				what: () => `an execution; there are: ${seen.map(shortly).join(', ') || 'none'}`,
			},
		);
		return this.execution(found.id);
	}

	/**
	 * A test run, as the editor's button starts it.
	 *
	 * @param {string} workflowId
	 * @param {string} triggerName
	 * @returns {Promise<{executionId?: string, waitingForWebhook?: boolean}>} a workflow that starts
	 * with a webhook has no execution yet: it listens on its test URL
	 */
	async runManually(workflowId, triggerName) {
		const path = `/workflows/${workflowId}/run`;
		const asked = { triggerToStartFrom: { name: triggerName } };
		try {
			return await this.rest('POST', path, asked);
		} catch (error) {
			if (!(error instanceof N8nRefusal) || error.status !== 500) throw error;
			// An older n8n wants the workflow along.
			const workflowData = await this.rest('GET', `/workflows/${workflowId}`);
			return await this.rest('POST', path, { ...asked, workflowData });
		}
	}

	/** @param {string} id */
	stopExecution(id) {
		return this.rest('POST', `/executions/${id}/stop`);
	}
}

/** @param {ExecutionSummary} execution */
function shortly({ id, workflowId, status }) {
	return `${id} of ${workflowId} (${status})`;
}

/** @param {string} text @returns {any} undefined if it is no JSON: a page, say, from an n8n that starts */
function parse(text) {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

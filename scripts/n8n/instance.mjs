/**
 * One real n8n on this machine, for tests and for `npm start`: created in a user folder, started,
 * killed, started again. Everything the editor can do with it is inherited from EditorApi.
 *
 * It listens on loopback only, shares nothing with the person's own n8n, and does not outlive us.
 */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { installCommunityPackage } from './communityPackage.mjs';
import { EditorApi } from './editorApi.mjs';
import { n8nEnvironment } from './environment.mjs';
import { freePorts } from './loopback.mjs';
import { findNode24 } from './node24.mjs';
import { endWithUs } from './offspring.mjs';
import { until } from './until.mjs';

const linesKept = 2_000;
const linesShown = 40;
const startDeadlineMs = 180_000;
const stopDeadlineMs = 40_000;

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/**
 * @typedef {object} Options
 * @property {{bin: string, node?: string}} runtime what prepareN8n() answered
 * @property {string} userFolder holds everything this n8n remembers; made if missing
 * @property {'start' | 'worker' | 'webhook'} [command] which of n8n's processes; by default all in one
 * @property {number} [port] its own, by default a free one
 * @property {number} [brokerPort] its task broker's, by default a free one
 * @property {Record<string, string | undefined>} [env] wins over ours
 * @property {boolean} [ui] with the editor; default false
 * @property {(line: string) => void} [log] receives each line n8n prints
 * @property {string} [logFile] each line is added to this file
 */

export class N8n extends EditorApi {
	#options;
	#env;
	/** @type {ChildProcess | undefined} */
	#child;
	/** @type {Promise<string>} */
	#gone = Promise.resolve('not started');
	/** @type {string[]} */
	#lines = [];

	/** @param {Options} options @returns {Promise<N8n>} not started yet */
	static async create(options) {
		const [free, freeForBroker] = await freePorts(2);
		await mkdir(options.userFolder, { recursive: true });
		if (options.logFile) await mkdir(dirname(options.logFile), { recursive: true });
		return new N8n(options, options.port ?? free, options.brokerPort ?? freeForBroker);
	}

	/**
	 * Use `N8n.create`.
	 *
	 * @param {Options} options
	 * @param {number} port
	 * @param {number} brokerPort
	 */
	constructor(options, port, brokerPort) {
		super(`http://127.0.0.1:${port}`, options.runtime.bin);
		const node = options.runtime.node ?? findNode24().bin;
		const { userFolder, ui = false, env: more = {} } = options;
		this.port = port;
		this.userFolder = userFolder;
		this.#options = { ...options, node };
		const all = options.command === 'worker' ? { ...healthOfWorker(port), ...more } : more;
		this.#env = n8nEnvironment({ node, userFolder, port, brokerPort, ui, more: all });
	}

	/** @returns {number | undefined} of the running n8n */
	get pid() {
		return this.#child?.pid;
	}

	/** Settles when the process that runs now is gone, with how it ended. */
	get gone() {
		return this.#gone;
	}

	/** What n8n printed last, over all its starts. */
	get lines() {
		return [...this.#lines];
	}

	/**
	 * Resolves when n8n answers calls. Workflows that were active follow a moment later.
	 *
	 * @param {object} [options]
	 * @param {number} [options.deadlineMs]
	 */
	async start({ deadlineMs = startDeadlineMs } = {}) {
		if (this.#child) throw new Error(`This n8n runs already, as process ${this.pid}`);
		const child = this.#spawn();
		const gone = () => this.#child !== child;
		try {
			await until(async () => gone() || (await this.#isReady()), {
				deadlineMs,
				what: () => 'n8n to be ready',
			});
			if (gone()) throw new Error(`n8n ended at its start (${child.signalCode ?? child.exitCode})`);
		} catch (error) {
			await this.kill();
			throw new Error(`${/** @type {Error} */ (error).message}. Its last words:\n${this.#tail()}`);
		}
	}

	/**
	 * Resolves when the process is gone.
	 *
	 * @param {NodeJS.Signals} [signal]
	 */
	async kill(signal = 'SIGKILL') {
		this.#child?.kill(signal);
		await this.#gone;
	}

	/** Asks n8n to end, and makes it if it does not. Twice, or before a start, is harmless. */
	async stop() {
		const force = setTimeout(() => this.#child?.kill('SIGKILL'), stopDeadlineMs);
		try {
			await this.kill('SIGTERM');
		} finally {
			clearTimeout(force);
		}
	}

	/**
	 * Installs a packed community package as n8n would; seen at the next start.
	 *
	 * @param {string} tarball
	 */
	installPackage(tarball) {
		const { userFolder, node } = this.#options;
		return installCommunityPackage({ tarball, userFolder, node });
	}

	/**
	 * Runs another command of n8n (`execute`, `export:workflow`, …) in the same user folder, whether this n8n runs or not.
	 *
	 * @param {string[]} args
	 * @returns {Promise<{code: number | null, output: string}>}
	 */
	async command(args) {
		const { runtime, node } = this.#options;
		const [broker] = await freePorts(1);
		const child = endWithUs(
			spawn(node, [runtime.bin, ...args], {
				env: { ...this.#env, N8N_RUNNERS_BROKER_PORT: String(broker) },
				cwd: this.userFolder,
				stdio: ['ignore', 'pipe', 'pipe'],
				windowsHide: true,
			}),
			'SIGKILL',
		);
		let output = '';
		for (const stream of [child.stdout, child.stderr]) {
			stream.on('data', (/** @type {Buffer} */ piece) => (output += String(piece)));
		}
		const code = await new Promise((resolve, reject) => {
			child.once('error', reject);
			child.once('close', resolve);
		});
		return { code, output };
	}

	#spawn() {
		const { runtime, node, logFile, command = 'start' } = this.#options;
		const child = spawn(node, [runtime.bin, command], {
			env: this.#env,
			cwd: this.userFolder,
			stdio: ['ignore', 'pipe', 'pipe'],
			// A Ctrl+C in our terminal is ours to pass on: n8n has no part in our process group.
			detached: true,
			windowsHide: true,
		});
		const file = logFile ? createWriteStream(logFile, { flags: 'a' }) : undefined;
		for (const stream of [child.stdout, child.stderr]) {
			createInterface({ input: stream }).on('line', (line) => this.#keep(line, file));
		}
		this.#child = endWithUs(child, 'SIGKILL');
		this.#gone = new Promise((resolve) => {
			child.once('error', (error) => this.#keep(String(error), file));
			child.once('close', (code, signal) => {
				const how = signal ?? `exit code ${code}`;
				this.#child = undefined;
				if (file) file.end(() => resolve(how));
				else resolve(how);
			});
		});
		return child;
	}

	/** @param {string} line @param {NodeJS.WritableStream | undefined} file */
	#keep(line, file) {
		this.#lines.push(line);
		if (this.#lines.length > linesKept) this.#lines.shift();
		file?.write(`${line}\n`);
		this.#options.log?.(line);
	}

	#tail() {
		return this.#lines.slice(-linesShown).join('\n') || '(nothing)';
	}

	/** Its port is open, and answers 200 to anything, seconds before this does. */
	async #isReady() {
		try {
			const health = await this.request('GET', '/healthz/readiness', { timeoutMs: 5_000 });
			if (health.status !== 200) return false;
			if (this.#options.command === 'worker' || this.#options.command === 'webhook') return true;
			// An older n8n says that it is ready when only its database is.
			const login = await this.request('GET', '/rest/login', { timeoutMs: 5_000 });
			return login.status !== 404;
		} catch {
			// Nobody listens yet.
			return false;
		}
	}
}

/** A worker takes no calls; this opens its port for the one question whether it is ready. */
function healthOfWorker(/** @type {number} */ port) {
	return {
		QUEUE_HEALTH_CHECK_ACTIVE: 'true',
		QUEUE_HEALTH_CHECK_PORT: String(port),
		N8N_WORKER_SERVER_ADDRESS: '127.0.0.1',
	};
}

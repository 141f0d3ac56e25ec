/** The one robot on this machine: the agent as anybody runs it, with a data folder of its own. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { findNode24 } from '../n8n/node24.mjs';
import { endWithUs } from '../n8n/offspring.mjs';
import { until } from '../n8n/until.mjs';
import { readJson } from './state.mjs';

const connectMs = 30_000;
/** How long its jobs may go on when it is stopped; then they are asked to end, for 10 s more. */
const graceSeconds = 5;
const stopMs = 20_000;
/** How long the agent may take to kill its jobs. */
const hurryMs = 3_000;
const linesKept = 200;
const name = 'local-robot';

/** @typedef {import('./service.mjs').Service} Service */

export class Robot {
	#options;
	/** @type {import('node:child_process').ChildProcess | undefined} */
	#child;
	/** @type {string[]} */
	lines = [];
	/** Settles when the process is gone, with how it ended. @type {Promise<string>} */
	gone = Promise.resolve('not started');
	name = name;

	/** @param {{program: string, dataFolder: string, logFile: string, service: Service}} options */
	constructor(options) {
		this.#options = options;
	}

	get pid() {
		return this.#child?.pid;
	}

	/** Starts it, as the robot it was before if there was one. Does not wait for the connection. */
	async start() {
		const { program, dataFolder, logFile, service } = this.#options;
		const token = await this.#tokenIfNew();
		const self = ['--name', name, '--data', dataFolder, '--slots', '4', '--label', 'site=local'];
		const flags = ['--server', service.url, '--stop-grace', String(graceSeconds), ...self];
		const child = spawn(findNode24().bin, [program, ...flags], {
			cwd: dirname(dataFolder),
			env: environment(token),
			stdio: ['ignore', 'pipe', 'pipe'],
			// A Ctrl+C is ours to pass on, when its jobs may be stopped.
			detached: true,
			windowsHide: true,
		});
		const log = createWriteStream(logFile, { flags: 'a' });
		for (const stream of [child.stdout, child.stderr]) {
			createInterface({ input: stream }).on('line', (line) => {
				this.lines.push(line);
				if (this.lines.length > linesKept) this.lines.shift();
				log.write(`${line}\n`);
			});
		}
		this.#child = endWithUs(child, 'SIGKILL');
		this.gone = new Promise((resolve) => {
			child.once('error', (error) => this.lines.push(String(error)));
			child.once('close', (code, signal) => {
				this.#child = undefined;
				log.end(() => resolve(signal ?? `exit code ${code}`));
			});
		});
	}

	/** Resolves when the service sees it. */
	async connected() {
		const look = async () => (await this.#options.service.ask('GET', `/robots/${name}`))?.connected;
		await until(look, {
			deadlineMs: connectMs,
			what: () => `the robot to connect; it said:\n${this.lines.slice(-20).join('\n')}`,
		});
	}

	async stop() {
		const force = setTimeout(() => void this.kill(), stopMs);
		this.#child?.kill('SIGTERM');
		await this.gone;
		clearTimeout(force);
	}

	/** Asked twice, the agent kills its jobs and ends. Killed itself, it would leave them behind. */
	async kill() {
		const force = setTimeout(() => this.#child?.kill('SIGKILL'), hurryMs);
		this.#child?.kill('SIGTERM');
		this.#child?.kill('SIGTERM');
		await this.gone;
		clearTimeout(force);
	}

	/** A robot that the service knows needs none. */
	async #tokenIfNew() {
		const { dataFolder, service } = this.#options;
		const identity = await readJson(join(dataFolder, 'identity.json'));
		if (identity?.robotId && (await service.ask('GET', `/robots/${identity.robotId}`))) return;
		// One of the two has forgotten the other: a new robot takes the old one's place and name.
		await rm(dataFolder, { recursive: true, force: true });
		await service.ask('DELETE', `/robots/${name}`);
		return (await service.ask('POST', '/tokens', {})).token;
	}
}

/**
 * Jobs run in the person's own environment, without what npm and we put into it. The token goes
 * there and not on the command line, which anybody on the machine can read; the agent keeps it from
 * its jobs.
 *
 * @param {string | undefined} token
 */
function environment(token) {
	const ours =
		/^(npm_.*|INIT_CWD|SERVER_URL|API_KEY|HEARTBEAT_INTERVAL|LOG_LEVEL|ROBOT_FLEET_.*)$/i;
	const kept = Object.entries(process.env).filter(([name]) => !ours.test(name));
	return { ...Object.fromEntries(kept), ...(token ? { API_KEY: token } : {}) };
}

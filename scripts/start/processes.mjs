/** Processes that end with us, however we end. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { endWithUs } from '../n8n/offspring.mjs';

const linesShown = 20;

/** A process that should have gone on did not. */
export class Died extends Error {
	/** @param {string} who @param {string} how @param {string[]} lines @param {string} logFile */
	constructor(who, how, lines, logFile) {
		const last = lines.slice(-linesShown).map((line) => `  ${line}`);
		super([`${who} ended (${how}). Its last lines (all are in ${logFile}):`, ...last].join('\n'));
	}
}

/**
 * Stops what is still running when we are killed without a chance to do so ourselves: it notices
 * that its input ends. See watchdog.mjs.
 */
export class Watchdog {
	#child;

	/** @param {string} noteFile there while it stops something */
	constructor(noteFile) {
		const program = fileURLToPath(new URL('watchdog.mjs', import.meta.url));
		this.#child = spawn(process.execPath, [program, noteFile], {
			stdio: ['pipe', 'ignore', 'ignore'],
			// Not of our group: what kills that must not kill it.
			detached: true,
			windowsHide: true,
		});
		this.#child.on('error', () => undefined);
		this.#child.stdin.on('error', () => undefined);
		this.#child.unref();
		/** @type {import('node:net').Socket} */ (/** @type {unknown} */ (this.#child.stdin)).unref();
	}

	/** @param {number | undefined} pid the head of a process group */
	watch(pid) {
		if (pid) this.#child.stdin.write(`+${pid}\n`);
	}

	/** @param {number | undefined} pid */
	forget(pid) {
		if (pid) this.#child.stdin.write(`-${pid}\n`);
	}
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd: string, what: string}} options
 * @returns {Promise<void>}
 */
export async function runToItsEnd(program, args, { cwd, what }) {
	const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true });
	endWithUs(child, 'SIGTERM');
	let text = '';
	for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece) => (text += piece));
	const code = await new Promise((resolve, reject) => {
		child.once('error', reject);
		child.once('close', (exitCode, signal) => resolve(signal ?? exitCode));
	});
	if (code !== 0) throw new Error(`${what} failed (${code}). It said:\n${text.trim()}`);
}

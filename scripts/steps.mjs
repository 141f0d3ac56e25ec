/**
 * Runs commands one after the other, says how long each took, and ends with the first that fails.
 * Shared by check, test and the other long commands.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** @param {string} layer where jest leaves what it counted */
const countsOf = (layer) => join(root, `node_modules/.cache/robot-fleet/jest-${layer}.json`);

/**
 * All tests of one layer: the folder of that name under test/.
 *
 * @param {string} layer
 * @param {boolean} [quiet]
 * @returns {Step}
 */
export function jestStep(layer, quiet = false) {
	mkdirSync(dirname(countsOf(layer)), { recursive: true });
	rmSync(countsOf(layer), { force: true });
	const command = ['jest', '--json', `--outputFile=${countsOf(layer)}`];
	return { name: `${layer} tests`, command, env: { LAYER: layer }, quiet };
}

/**
 * The line that sums up all layers, for machines that read no other.
 *
 * @param {string[]} layers
 */
export function sayCounts(layers) {
	const counts = layers
		.map(countsOf)
		.filter((file) => existsSync(file))
		.map((file) => JSON.parse(readFileSync(file, 'utf8')));
	/** @param {string} name */
	const sum = (name) => counts.reduce((total, count) => total + count[name], 0);
	console.log(
		`\n${sum('numPassedTests')} passed, ${sum('numFailedTests')} failed, ${sum('numPendingTests') + sum('numTodoTests')} skipped`,
	);
}

/** @typedef {{ name: string, command: string[], env?: Record<string, string>, quiet?: boolean }} Step */

/**
 * @param {Step} step
 * @returns {Promise<{ code: number, text: string }>}
 */
function run({ command, env = {}, quiet = false }) {
	return new Promise((resolve, reject) => {
		const [program, ...args] = command;
		const child = spawn(/** @type {string} */ (program), args, {
			cwd: root,
			env: { ...process.env, ...env },
			stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
		});
		let text = '';
		for (const stream of [child.stdout, child.stderr]) {
			stream?.on('data', (piece) => (text += piece));
		}
		child.on('error', reject);
		child.on('close', (code) => resolve({ code: code ?? 1, text }));
	});
}

/** @param {number} ms */
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
/** @param {number} ms */
const minutes = (ms) => `${(ms / 60_000).toFixed(1)} min`;

/**
 * @param {Step[]} steps
 * @param {{ parallel?: number }} [how] quiet steps may run side by side
 */
export async function runSteps(steps, { parallel = 1 } = {}) {
	const from = performance.now();
	/** @type {string[]} */
	const table = [];
	const waiting = [...steps];
	let failed = false;
	const worker = async () => {
		for (let step = waiting.shift(); step && !failed; step = waiting.shift()) {
			if (!step.quiet) console.log(`\n── ${step.name}`);
			const begun = performance.now();
			const { code, text } = await run(step);
			const took = performance.now() - begun;
			table.push(
				`${code === 0 ? '✓' : '✗'} ${step.name.padEnd(28)} ${seconds(took).padStart(9)} ${minutes(took).padStart(9)}`,
			);
			if (code !== 0) {
				failed = true;
				if (text) console.error(`\n── ${step.name}\n${text}`);
			}
		}
	};
	await Promise.all(Array.from({ length: parallel }, worker));
	console.log(
		`\n${table.join('\n')}\n  ${'all'.padEnd(28)} ${seconds(performance.now() - from).padStart(9)} ${minutes(performance.now() - from).padStart(9)}`,
	);
	process.exitCode = failed ? 1 : 0;
}

/**
 * Runs npm with the Node we choose, whichever Node npm itself was installed with, and turns its
 * failures into one sentence that says what to do.
 */
import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { endWithUs } from './offspring.mjs';

const linesKept = 1000;

/** For runs whose output only matters when they fail. */
export const quiet = ['--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error'];

/** npm ended badly. `output` holds its last words, for whoever wants to know more. */
export class NpmError extends Error {
	/** @param {string} message @param {string[]} output */
	constructor(message, output) {
		super(message);
		this.name = 'NpmError';
		this.output = output;
	}
}

/**
 * @param {string[]} args
 * @param {object} options
 * @param {string} options.cwd
 * @param {string} options.node the Node that runs npm and every script npm starts
 * @param {Record<string, string>} [options.env] added to ours
 * @returns {Promise<void>}
 */
export async function npm(args, { cwd, node, env = {} }) {
	const output = /** @type {string[]} */ ([]);
	const cli = findNpm();
	const child = spawn(node, [cli, ...args], {
		cwd,
		env: { ...environment(node, cli), ...env },
		stdio: ['ignore', 'pipe', 'pipe'],
		windowsHide: true,
	});
	endWithUs(child, 'SIGTERM');
	const keep = (/** @type {Buffer} */ chunk) => {
		output.push(...chunk.toString().split(/\r?\n/).filter(Boolean));
		output.splice(0, output.length - linesKept);
	};
	child.stdout.on('data', keep);
	child.stderr.on('data', keep);
	const code = await new Promise((resolve, reject) => {
		child.once('error', reject);
		child.once('close', (exitCode, signal) => resolve(signal ?? exitCode));
	});
	if (code !== 0) throw new NpmError(explain(args, code, output.join('\n')), output);
}

/**
 * What npm's last words mean for a person. The first that fits wins, so the order goes from the
 * surest sign to the vaguest.
 */
const meanings = [
	[/ENOSPC|no space left/i, 'The disk is full: free some space and run this again.'],
	[/EACCES|EPERM|EROFS/, 'npm may not write where it has to: check who owns its cache and ours.'],
	[
		/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ERR_SOCKET_TIMEOUT|network request|ENOTCACHED/,
		'The npm registry cannot be reached: check the network, and "npm config get proxy", and run this again.',
	],
	[/ETARGET|E404|E403|E401/, 'The npm registry in use does not hand out a package we need.'],
	[/EINTEGRITY/, 'A download was damaged: run "npm cache verify" and then this again.'],
];

/** @param {string[]} args @param {unknown} code @param {string} output */
function explain(args, code, output) {
	const known = meanings.find(([sign]) => /** @type {RegExp} */ (sign).test(output));
	return String(known?.[1] ?? `"npm ${args[0]}" failed (${code}).`);
}

/** npm's own entry file: the npm that runs us, else the first on the PATH. */
function findNpm() {
	const running = process.env.npm_execpath;
	if (running?.endsWith('npm-cli.js') && existsSync(running)) return running;
	for (const folder of (process.env.PATH ?? '').split(delimiter)) {
		const entry = [join(folder, 'npm'), join(folder, 'node_modules/npm/bin/npm-cli.js')]
			.filter((file) => existsSync(file))
			.map((file) => realpathSync(file))
			.find((file) => file.endsWith('npm-cli.js'));
		if (entry) return entry;
	}
	throw new Error('npm is not on the PATH: install it (it comes with Node) and run this again.');
}

/**
 * Our environment without what an outer `npm run` left in it: its choice of workspace or package
 * would be taken for ours. Our Node comes first on the PATH, so that scripts use it too.
 *
 * @param {string} node
 * @param {string} cli npm's entry file
 */
function environment(node, cli) {
	const leftover = /^npm_(package_|lifecycle_|config_(workspace|local_prefix|dry_run))/i;
	const env = Object.fromEntries(
		Object.entries(process.env).filter(([name]) => !leftover.test(name)),
	);
	const path = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH';
	env[path] = [dirname(node), env[path]].join(delimiter);
	// npm looks for the machine's settings (registry, certificates) beside the Node that runs it,
	// and ours is not the one it was installed with.
	const settings = join(cli, '../../../../../etc/npmrc');
	if (!env.npm_config_globalconfig && existsSync(settings)) env.npm_config_globalconfig = settings;
	return env;
}

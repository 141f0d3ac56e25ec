/**
 * `npm run demo`: the whole thing without n8n, in seconds. A service, a robot, one job with live
 * output and its result, in this terminal; nothing stays behind.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './steps.mjs';

const service = join(root, 'dispatcher/dist/robot-fleet.js');
const agent = join(root, 'agent/dist/agent.js');
const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-demo-'));
const data = join(folder, 'service');
/** @type {import('node:child_process').ChildProcess[]} */
const running = [];

/** @param {string} text */
const say = (text) => console.log(`\n\x1b[1m${text}\x1b[0m`);

/**
 * Starts a program and waits for the line that says it is ready.
 *
 * @param {string[]} args
 * @param {RegExp} ready
 * @returns {Promise<string>} what the line says
 */
function start(args, ready) {
	const child = spawn(process.execPath, args, {
		stdio: ['ignore', 'pipe', 'pipe'],
		env: { ...process.env, LOG_LEVEL: 'warn' },
	});
	running.push(child);
	return new Promise((resolve, reject) => {
		let text = '';
		for (const stream of [child.stdout, child.stderr]) {
			stream.on('data', (piece) => {
				text += piece;
				const found = ready.exec(text);
				if (found) resolve(found[1] ?? '');
			});
		}
		child.on('exit', (code) => reject(new Error(`${args[0]} ended with ${code}: ${text}`)));
	});
}

/** @param {string[]} args */
function fleet(...args) {
	console.log(`\x1b[2m$ robot-fleet ${args.join(' ')}\x1b[0m`);
	return spawnSync(process.execPath, [service, ...args, '--data', data].filter(Boolean), {
		stdio: 'inherit',
	}).status;
}

try {
	if (!existsSync(service) || !existsSync(agent)) {
		say('Building …');
		const built = spawnSync('gulp', ['programs'], {
			cwd: root,
			stdio: ['ignore', 'ignore', 'inherit'],
			shell: process.platform === 'win32',
		});
		if (built.status !== 0) throw new Error('the build failed; run: npm run build');
	}
	say('1. The service: a durable queue in one process, on SQLite');
	const url = await start([service, 'serve', '--port', '0', '--data', data], /ready (http\S+)/);
	console.log(`   ${url}`);

	say('2. A robot: it dials out, with a key of its own');
	const made = spawnSync(process.execPath, [service, 'token', 'create', '--data', data], {
		encoding: 'utf8',
	});
	const token = made.stdout.trim();
	const name = await start(
		[
			agent,
			'--server',
			url,
			'--token',
			token,
			'--name',
			'demo-robot',
			'--data',
			join(folder, 'robot'),
		],
		/connected as (.+)/,
	);
	console.log(`   ${name}`);

	say('3. A job, with its output live');
	const script = 'for i in 1 2 3; do echo "step $i of 3"; sleep 0.4; done; uname -a';
	process.env.ROBOT_FLEET_URL = url;
	console.log(`\x1b[2m$ robot-fleet submit --wait --shell -- '${script}'\x1b[0m`);
	const status = spawnSync(
		process.execPath,
		[service, 'submit', '--wait', '--shell', '--data', data, '--', script],
		{ stdio: 'inherit' },
	).status;
	console.log(`   exit code ${status}`);

	say('4. What the service remembers');
	fleet('jobs', 'list');
	process.exitCode = status ?? 1;
} catch (error) {
	console.error(/** @type {Error} */ (error).message);
	process.exitCode = 1;
} finally {
	for (const child of running.reverse()) {
		child.removeAllListeners('exit');
		const gone = new Promise((resolve) => child.once('exit', resolve));
		if (child.exitCode === null && child.kill('SIGTERM')) await gone;
	}
	rmSync(folder, { recursive: true, force: true });
}

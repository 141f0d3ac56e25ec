/**
 * `npm start`: a real n8n with this package in it as n8n installs community packages, the service
 * inside n8n, one robot on this machine, a credential and the example workflows. What it remembers is
 * in .robot-fleet/; a second start finds everything in place. Ctrl+C stops all of it.
 *
 *   0 stopped as asked · 1 something failed or ended by itself · 2 used wrongly, or a port is taken
 */
import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { N8n } from './n8n/instance.mjs';
import { request } from './n8n/loopback.mjs';
import { prepareN8n } from './n8n/prepare.mjs';
import { createProgress } from './n8n/progress.mjs';
import { until } from './n8n/until.mjs';
import { buildIfChanged, withTarball } from './start/build.mjs';
import {
	activeWebhook,
	ensureCredential,
	ensureExamples,
	signIn,
	testCredential,
} from './start/furnish.mjs';
import { readOptions, usage, UsageError } from './start/options.mjs';
import { Died, Watchdog } from './start/processes.mjs';
import { Robot } from './start/robot.mjs';
import { Service } from './start/service.mjs';
import { readJson, State, writeJson } from './start/state.mjs';
import { root } from './steps.mjs';

const packageName = 'n8n-nodes-robot-fleet';
const serviceMs = 30_000;
const webhookMs = 30_000;
/** npm passes on the Ctrl+C that the terminal has already sent us: both count as one. */
const sameKeyMs = 700;
const parentEveryMs = 1_000;

if (!Promise.withResolvers) {
	const { node } = process.versions;
	console.error(
		`This is Node ${node}: use "npm start", which runs the Node 24 that "npm ci" brings.`,
	);
	process.exit(2);
}

const say = (/** @type {string} */ text) => console.log(text);
const progress = createProgress(process.stderr.isTTY ? undefined : say);
const state = new State(join(root, '.robot-fleet'));
/** Ends the start, or what it started: a signal, or the death of a process. */
const over = /** @type {PromiseWithResolvers<never>} */ (Promise.withResolvers());
/** What runs, in the order of its start. @type {Array<{stop(): Promise<unknown>, kill(): unknown}>} */
const running = [];
let isStopping = false;
/** Everything is up: from then on a Ctrl+C is the proper end. */
let isUp = false;

class Stopped extends Error {}

const exitCode = await main();
await stopAll();
// Whatever still goes on (a preparation cut short, say) ends with us.
process.exit(exitCode);

/** @returns {Promise<number>} the exit code */
async function main() {
	try {
		const options = readOptions(process.argv.slice(2), process.env);
		if (options.help) say(usage.trimEnd());
		else if (options.reset) await reset(options.yes);
		else await startAndStay(options);
		return 0;
	} catch (error) {
		if (error instanceof Stopped) {
			if (running.length > 0) say('\nStopping … (Ctrl+C again stops at once)');
			return isUp ? 0 : 130;
		}
		console.error(`\n${error instanceof Error ? error.message : error}`);
		return error instanceof UsageError ? 2 : 1;
	}
}

/** @param {import('./start/options.mjs').Options} options */
async function startAndStay(options) {
	listenForSignals();
	await Promise.race([start(options), over.promise]);
	isUp = true;
	await over.promise;
}

/** @param {import('./start/options.mjs').Options} options */
async function start({ n8nPort, servicePort }) {
	if (!existsSync(join(root, 'node_modules/gulp'))) {
		throw new UsageError('The packages are not there yet: run "npm ci" first.');
	}
	await state.open(say);
	await requireFreePort('N8N_PORT', n8nPort);
	await requireFreePort('ROBOT_FLEET_PORT', servicePort);
	const owner = await state.readOwner();
	await buildIfChanged(root, join(state.folder, 'build.json'), progress);

	const runtime = await prepareN8n(process.stderr.isTTY ? {} : { log: say });
	const n8n = await N8n.create({
		runtime,
		userFolder: state.n8n,
		port: n8nPort,
		ui: true,
		logFile: await freshLog('n8n'),
		env: {
			ROBOT_FLEET_PORT: String(servicePort),
			GENERIC_TIMEZONE: Intl.DateTimeFormat().resolvedOptions().timeZone,
		},
	});
	await install(n8n);

	const watchdog = new Watchdog(state.leftovers);
	await progress.step('Starting n8n', async () => {
		const ready = n8n.start();
		accompany('n8n', n8n, watchdog, 'n8n');
		await ready;
	});

	const service = new Service(`http://127.0.0.1:${servicePort}`, state.service);
	const known = await signIn(n8n, owner);
	const notes = await progress.step('Putting credential and examples in place', async () => {
		if (!known) return [];
		const credential = await ensureCredential(n8n);
		await testCredential(n8n, credential);
		const noteFile = join(state.n8n, 'examples.json');
		return ensureExamples(n8n, { folder: join(root, 'examples'), noteFile, credential });
	});

	const robot = new Robot({
		program: join(root, 'agent/dist/agent.js'),
		dataFolder: state.robot,
		logFile: await freshLog('robot'),
		service,
	});
	await progress.step('Connecting a robot', async () => {
		await service.ready(serviceMs);
		await robot.start();
		accompany('The robot', robot, watchdog, 'robot');
		await robot.connected();
	});
	await tell({ n8n, service, robot, owner, known, notes });
}

/** Installs the package as n8n would, unless this very package is there. */
async function install(/** @type {N8n} */ n8n) {
	const noteFile = join(state.n8n, 'installed.json');
	const manifest = join(state.n8n, '.n8n/nodes/node_modules', packageName, 'package.json');
	await withTarball(root, async (tarball, hash) => {
		if ((await readJson(noteFile))?.hash === hash && existsSync(manifest)) return;
		await progress.step('Installing the package in n8n', () => n8n.installPackage(tarball));
		await writeJson(noteFile, { hash });
	});
}

/**
 * Prints only what was tried a moment ago.
 *
 * @param {object} what
 * @param {N8n} what.n8n
 * @param {Service} what.service
 * @param {Robot} what.robot
 * @param {{email: string, password: string}} what.owner
 * @param {boolean} what.known whether that password still opens the editor
 * @param {Array<{id: string}>} what.notes
 */
async function tell({ n8n, service, robot, owner, known, notes }) {
	const [editor, openApi] = await Promise.all([
		request(n8n.baseUrl),
		request(`${service.url}/api/v1/openapi.json`),
	]);
	if (editor.status !== 200) throw new Error(`${n8n.baseUrl} answered ${editor.status}`);
	if (openApi.status !== 200) throw new Error(`${service.url} answered ${openApi.status}`);
	const webhook = known ? await activeWebhook(n8n, notes) : undefined;
	const answer = webhook && (await callWebhook(n8n, webhook));

	const place = (/** @type {string} */ path) => relative(process.cwd(), path) || '.';
	const account = known
		? [`  e-mail          ${owner.email}`, `  password        ${owner.password}`]
		: [
				`  e-mail          ${owner.email}, or the one you changed it to`,
				'  password        the one you chose',
			];
	const lines = [
		'',
		'Robot Fleet is running.',
		'',
		`  n8n editor      ${n8n.baseUrl}`,
		...account,
		`  Robot Fleet     ${service.url}   (API description: ${service.url}/api/v1/openapi.json)`,
		`  robot           ${robot.name}, connected`,
		'',
		'Open "Robot Fleet: uname on a click" in the editor and click "Execute workflow".',
		...(answer
			? [
					'Or let a webhook ask the robot, from another terminal:',
					'',
					`  curl -X ${webhook.method} ${n8n.baseUrl}${webhook.path}`,
					'',
					`It answered just now: ${answer}`,
				]
			: []),
		'',
		`Password, data and logs are in ${place(state.folder)}/. To start afresh: npm start -- --reset`,
		'Press Ctrl+C to stop.',
	];
	say(lines.join('\n'));
}

/** @param {N8n} n8n @param {{method: string, path: string}} webhook */
async function callWebhook(n8n, { method, path }) {
	let seen = '';
	const answer = await until(
		async () => {
			const { status, text } = await n8n.request(method, path);
			seen = `${status} ${text}`;
			// After a start n8n takes a moment to listen for its published workflows.
			return status === 404 ? undefined : { status, text };
		},
		{ deadlineMs: webhookMs, what: () => `${path} to answer; it says ${seen}` },
	);
	if (answer.status !== 200) throw new Error(`${path} answered ${seen}`);
	return answer.text.trim();
}

/**
 * Reports if the process ends without being asked to, and makes it end with us.
 *
 * @param {string} who
 * @param {N8n | Robot} child just started
 * @param {Watchdog} watchdog
 * @param {string} log
 */
function accompany(who, child, watchdog, log) {
	const { pid } = child;
	watchdog.watch(pid);
	running.push({ stop: () => child.stop(), kill: () => child.kill() });
	void child.gone.then((how) => {
		watchdog.forget(pid);
		const file = relative(process.cwd(), join(state.logs, `${log}.log`));
		if (!isStopping) over.reject(new Died(who, how, child.lines, file));
	});
}

/** The robot first, while the service still takes its last words. */
async function stopAll() {
	isStopping = true;
	while (running.length > 0) {
		await running.at(-1)?.stop();
		running.pop();
	}
	state.close();
}

function listenForSignals() {
	let first = 0;
	for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
		process.on(signal, () => {
			if (first === 0) {
				first = performance.now();
				over.reject(new Stopped());
				return;
			}
			if (performance.now() - first < sameKeyMs) return;
			void Promise.all(running.map((child) => child.kill())).then(() => process.exit(130));
		});
	}
	over.promise.catch(() => undefined);
	stopWithNpm();
}

/** npm hands a SIGTERM to the shell between us, which ends and tells nobody. */
function stopWithNpm() {
	if (process.env.npm_lifecycle_event === undefined) return;
	const { ppid } = process;
	const look = () => process.ppid === ppid || over.reject(new Stopped());
	setInterval(look, parentEveryMs).unref();
}

/** @param {string} variable @param {number} port */
async function requireFreePort(variable, port) {
	const free = await new Promise((resolve) => {
		const server = createServer().once('error', () => resolve(false));
		server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
	});
	if (free) return;
	throw new UsageError(
		`Port ${port} is taken by another program: stop that one, or set ${variable} to a free port, for example: ${variable}=${port + 1} npm start`,
	);
}

/** The previous one is kept, as NAME.before.log. */
async function freshLog(/** @type {string} */ name) {
	const file = join(state.logs, `${name}.log`);
	await rename(file, join(state.logs, `${name}.before.log`)).catch(() => undefined);
	return file;
}

/** @param {boolean} yes */
async function reset(yes) {
	if (!existsSync(state.folder)) {
		say('There is nothing to remove.');
		return;
	}
	await state.open(say);
	if (yes || (await confirm())) {
		await state.remove();
		say(`Removed ${state.folder}. The next npm start begins anew.`);
	} else say('Nothing was removed.');
}

async function confirm() {
	if (!process.stdin.isTTY) {
		throw new UsageError('Nobody is here to ask: add --yes (npm start -- --reset --yes).');
	}
	const question =
		`Remove ${state.folder}, with the workflows, credentials and executions of its n8n,\n` +
		'the jobs of its service and its logs? [y/N] ';
	const terminal = createInterface({ input: process.stdin, output: process.stdout });
	const answer = await terminal.question(question);
	terminal.close();
	return /^y(es)?$/i.test(answer.trim());
}

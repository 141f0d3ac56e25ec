/** The service as n8n hosts it, in a process of its own that ends as n8n may end. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FleetClient } from '../../client';
import { httpSend } from '../../dispatcher/cli/transport';
import { builtHost, programEnv, quietPort } from '../support/programs';

const folders: string[] = [];
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, maxRetries: 3 })));

/** Runs `then` when the service is there (`host`) or could not start (`error`), and says what came of it. */
async function hosted(port: number, then: string, dataFolder?: string, more: object = {}) {
	const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-'));
	folders.push(folder);
	const data = dataFolder ?? join(folder, 'data');
	const program = `
		const { startHost } = require(process.argv[1]);
		process.stdin.resume();
		startHost({
			dataFolder: process.argv[2],
			host: '127.0.0.1',
			port: ${port},
			callbackUrl: 'http://127.0.0.1:5678',
			...${JSON.stringify(more)},
			log: () => undefined,
		}).then((host) => [host], (error) => [undefined, error]).then(async ([host, error]) => { ${then} });`;
	const args = ['-e', program, builtHost(folder), data];
	const child = spawn(process.execPath, args, {
		env: programEnv(),
		stdio: ['pipe', 'pipe', 'inherit'],
	});
	let out = '';
	child.stdout.on('data', (piece) => (out += String(piece)));
	const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
	const said = new Promise<void>((resolve, reject) => {
		child.stdout.once('data', () => resolve());
		child.once('close', (code) => reject(new Error(`it ended with ${code}`)));
	});
	said.catch(() => undefined);
	return { child, said, exit, out: () => out };
}

test('a process that exits without a word: the last commit is on disk, the store is closed, the next start is whole', async () => {
	const port = await quietPort();
	const url = `http://127.0.0.1:${port}`;
	const data = join(mkdtempSync(join(tmpdir(), 'robot-fleet-')), 'data');
	folders.push(dirname(data));
	const client = () =>
		new FleetClient(httpSend({ url, key: readFileSync(join(data, 'admin.key'), 'utf8').trim() }));
	const ids: string[] = [];
	// A process waits for its service, but no longer than this: of a machine that stood still meanwhile nothing is told.
	const patienceMs = 2_000;
	for (let waitedMs = patienceMs; waitedMs >= patienceMs;) {
		const n8n = await hosted(
			port,
			`console.log('ready');
			process.stdin.once('data', () => {
				const from = performance.now();
				const say = () => require('node:fs').writeSync(1, Math.round(performance.now() - from) + ' ms');
				process.on('exit', say);
				process.exit(0);
			});`,
			data,
		);
		await n8n.said;
		const { jobId } = await client().submit({ kind: 'command', spec: { command: 'true' } });
		ids.push(jobId);
		n8n.child.stdin.write('exit');
		expect(await n8n.exit).toBe(0);
		waitedMs = Number(/(\d+) ms$/.exec(n8n.out())![1]);
	}
	expect(existsSync(join(data, 'service.json'))).toBe(false);
	const wal = join(data, 'robot-fleet.db-wal');
	expect(existsSync(wal) ? statSync(wal).size : 0).toBe(0);

	const next = await hosted(
		port,
		`console.log('ready'); process.stdin.once('data', () => host.close().then(() => process.exit(3)));`,
		data,
	);
	await next.said;
	for (const jobId of ids) expect((await client().job(jobId)).state).toBe('queued');
	next.child.stdin.write('exit');
	expect(await next.exit).toBe(3);
});

test('a port that is taken is a refusal with its sentence, and the process that hosts it lives on', async () => {
	const other = createServer();
	const port = await quietPort();
	await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', () => resolve()));
	const n8n = await hosted(
		port,
		`console.log(error.code, error.message); process.stdin.once('data', () => process.exit(7));`,
	);
	await n8n.said;
	expect(n8n.out()).toContain(
		`port-taken Port ${port} on 127.0.0.1 is in use; stop the other program`,
	);
	n8n.child.stdin.write('exit');
	expect(await n8n.exit).toBe(7);
	await new Promise((resolve) => other.close(resolve));
});

test('a setting that is wrong is named as whoever started n8n knows it', async () => {
	const wrong = { robotsListen: 'everywhere' };
	const n8n = await hosted(0, `console.log(error.message); process.exit(7);`, undefined, wrong);
	expect(await n8n.exit).toBe(7);
	expect(n8n.out()).toContain('ROBOT_FLEET_ROBOTS_LISTEN is "everywhere", it must be HOST:PORT');
});

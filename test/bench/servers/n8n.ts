/** The n8n that tests run, with our packed package in it, and what it says of its own event loop. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { N8n } from '../../../scripts/n8n/instance.mjs';
import { request } from '../../../scripts/n8n/loopback.mjs';
import { FleetClient } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { newFolder } from '../machine/folder';
import { root } from '../machine/installed';
import { freePort } from '../machine/spawned';
import { onExit } from '../machine/undo';

export interface RunningN8n {
	readonly n8n: N8n;
	/** Of the service inside it. */
	readonly url: string;
	readonly client: FleetClient;
	readonly credential: { id: string; name: string };
	/** p99 since the last call, in ms, as n8n's own metrics say. */
	lagP99Ms(): Promise<number>;
	/** Milliseconds of so many plain calls of the API from n8n's thread. */
	plain(count: number): Promise<number[]>;
	stop(): Promise<void>;
}

/** `prepare.mjs` prints the folder last; the first time it downloads n8n. */
export function n8nVersion(): string {
	return manifestOf(prepared()).version;
}

export async function startN8n(): Promise<RunningN8n> {
	const { folder, remove } = newFolder('n8n');
	const [port, plainPort] = [await freePort(), await freePort()];
	const dataFolder = join(folder, 'robot-fleet');
	const n8n = await N8n.create({
		runtime: { bin: join(prepared(), 'node_modules/n8n/bin/n8n') },
		userFolder: join(folder, 'user'),
		env: {
			N8N_METRICS: 'true',
			N8N_LOG_LEVEL: 'warn',
			ROBOT_FLEET_PORT: String(port),
			ROBOT_FLEET_DATA: dataFolder,
			EXTERNAL_HOOK_FILES: join(import.meta.dirname, 'hosts/n8n-plain.mjs'),
			BENCH_PLAIN_PORT: String(plainPort),
		},
	});
	const stop = onExit(() => n8n.stop());
	await n8n.installPackage(packed(folder));
	await n8n.start();
	await n8n.setupOwner({ email: 'owner@example.com', password: 'Robots1234' });
	const credential = await n8n.createCredential({
		name: 'This n8n',
		type: 'robotFleetApi',
		data: { connection: 'embedded' },
	});
	const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
	const tested = (await n8n.rest('POST', '/credentials/test', {
		credentials: { ...credential, type: 'robotFleetApi', data },
	})) as { status: string; message: string };
	if (tested.status !== 'OK') throw new Error(`the service did not start: ${tested.message}`);
	const key = readFileSync(join(dataFolder, 'admin.key'), 'utf8').trim();
	const url = `http://127.0.0.1:${port}`;
	return {
		n8n,
		url,
		client: new FleetClient(httpSend({ url, key })),
		credential,
		async lagP99Ms() {
			const { text } = await n8n.request('GET', '/metrics');
			const seconds = /^n8n_nodejs_eventloop_lag_p99_seconds(?:\{.*\})? (\S+)$/m.exec(text)?.[1];
			if (seconds === undefined) throw new Error('n8n says nothing of its event loop');
			return Number(seconds) * 1_000;
		},
		async plain(count) {
			const { status, text } = await request(`http://127.0.0.1:${plainPort}/?count=${count}`);
			if (status !== 200) throw new Error(`the plain calls failed: ${text}`);
			return JSON.parse(text) as number[];
		},
		async stop() {
			await stop();
			await remove();
		},
	};
}

function prepared(): string {
	const prepare = join(root, 'scripts/n8n/prepare.mjs');
	const said = execFileSync(process.execPath, [prepare], { stdio: ['ignore', 'pipe', 'inherit'] });
	return String(said).trim().split('\n').at(-1)!;
}

function manifestOf(runtime: string): { version: string } {
	const file = join(runtime, 'node_modules/n8n/package.json');
	return JSON.parse(readFileSync(file, 'utf8')) as { version: string };
}

function packed(folder: string): string {
	const args = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder];
	const name = String(execFileSync('npm', args, { cwd: root }))
		.trim()
		.split('\n')
		.at(-1)!;
	return join(folder, name);
}

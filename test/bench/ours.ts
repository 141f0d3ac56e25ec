/**
 * Our side of the comparison: the service as its own process on synced SQLite, robots in another,
 * this process submits through the public HTTP API with a key; validation, timeline and tokens are on.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnService } from './service';
import { type Figures, percentiles, type Size } from './figures';

const probes = 400;
const warmUps = 100;
const inFlight = 200;
const bulkSize = 1_000;

export async function measureOurs(root: string, size: Size): Promise<Figures> {
	const folder = mkdtempSync(join(tmpdir(), 'rf-bench-'));
	const service = await spawnService(root, folder);
	const agent = new Agent({ keepAlive: true, maxSockets: inFlight });
	let robots: ChildProcess | undefined;
	try {
		const key = readFileSync(join(folder, 'admin.key'), 'utf8').trim();
		const post = (path: string, body: object) => send(agent, service.url, key, path, body);
		const { token } = (await post('/api/v1/tokens', { uses: size.robots })) as { token: string };
		robots = fork(join(root, 'test/bench/dist/robots.mjs'), [
			service.url,
			token,
			String(size.robots),
		]);
		const latencies: number[] = [];
		const heard = new Map<string, (value: number) => void>();
		robots.on('message', (message: Record<string, number>) => {
			if (message['latencyNs'] !== undefined) latencies.push(message['latencyNs'] / 1e6);
			for (const [name, value] of Object.entries(message)) heard.get(name)?.(value);
		});
		const hear = (name: string) => new Promise<number>((resolve) => heard.set(name, resolve));
		await hear('ready');

		for (let i = 0; i < probes + warmUps; i += 1) {
			const started = hear('latencyNs');
			const ended = hear('done');
			robots.send({ expect: 1 });
			await post('/api/v1/jobs', job({ sentAt: String(process.hrtime.bigint()) }));
			await Promise.all([started, ended]);
		}
		const timed = async (submit: () => Promise<void>) => {
			const ended = hear('done');
			robots!.send({ expect: size.jobs });
			const from = performance.now();
			await submit();
			await ended;
			return size.jobs / ((performance.now() - from) / 1000);
		};
		const cpuBefore = service.cpuSeconds();
		const bulk = await timed(async () => {
			for (let i = 0; i < size.jobs; i += bulkSize) {
				const jobs = Array.from({ length: Math.min(bulkSize, size.jobs - i) }, () => job());
				await post('/api/v1/jobs', { jobs });
			}
		});
		const cpuPerJobUs = ((service.cpuSeconds() - cpuBefore) * 1e6) / size.jobs;
		const single = await timed(async () => {
			for (let i = 0; i < size.jobs; i += inFlight) {
				await Promise.all(
					Array.from({ length: Math.min(inFlight, size.jobs - i) }, () =>
						post('/api/v1/jobs', job()),
					),
				);
			}
		});
		return {
			bulkPerSecond: bulk,
			singlePerSecond: single,
			...percentiles(latencies.slice(warmUps)),
			serviceCpuPerJobUs: cpuPerJobUs,
		};
	} finally {
		robots?.kill('SIGKILL');
		agent.destroy();
		await service.stop();
		rmSync(folder, { recursive: true, force: true });
	}
}

/** The same 200 bytes that the peers carry. */
function job(variables: Record<string, string> = {}): object {
	return {
		kind: 'command',
		spec: { command: 'noop', args: ['x'.repeat(200)] },
		variables,
	};
}

function send(
	agent: Agent,
	url: string,
	key: string,
	path: string,
	body: object,
): Promise<unknown> {
	const text = JSON.stringify(body);
	return new Promise((resolve, reject) => {
		const call = request(
			url + path,
			{
				agent,
				method: 'POST',
				headers: {
					authorization: `Bearer ${key}`,
					'content-type': 'application/json',
					'content-length': Buffer.byteLength(text),
				},
			},
			(response) => {
				let answer = '';
				response.setEncoding('utf8');
				response.on('data', (piece: string) => (answer += piece));
				response.on('end', () =>
					response.statusCode! < 300
						? resolve(JSON.parse(answer))
						: reject(new Error(`${path}: ${response.statusCode} ${answer}`)),
				);
			},
		);
		call.on('error', reject);
		call.end(text);
	});
}

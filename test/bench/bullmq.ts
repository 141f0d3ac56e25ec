/**
 * The peer: BullMQ on Redis with every write synced before it is acknowledged, on the same work. Its
 * worker is a process of its own; a job ends when its return value is recorded.
 */
import { fork, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import { type Figures, percentiles, type Size } from './figures';

const probes = 400;
const warmUps = 100;
const inFlight = 200;
const bulkSize = 1_000;

export async function measureBullmq(root: string, size: Size): Promise<Figures> {
	const folder = mkdtempSync(join(tmpdir(), 'rf-bench-redis-'));
	const port = await freePort();
	const redis = spawn(
		'redis-server',
		[
			'--port',
			String(port),
			'--bind',
			'127.0.0.1',
			'--dir',
			folder,
			'--appendonly',
			'yes',
			'--appendfsync',
			'always',
			'--save',
			'',
		],
		{ stdio: ['ignore', 'pipe', 'inherit'] },
	);
	await new Promise<void>((resolve, reject) => {
		redis.once('error', reject);
		redis.stdout.on('data', (piece: Buffer) => {
			if (piece.includes('Ready to accept connections')) resolve();
		});
	});
	const connection = { host: '127.0.0.1', port };
	const queue = new Queue('bench', { connection });
	let worker: ChildProcess | undefined;
	try {
		worker = fork(join(root, 'test/bench/dist/bullmq-worker.mjs'), [
			String(port),
			String(size.robots),
		]);
		const latencies: number[] = [];
		const heard = new Map<string, (value: number) => void>();
		worker.on('message', (message: Record<string, number>) => {
			if (message['latencyNs'] !== undefined) latencies.push(message['latencyNs'] / 1e6);
			for (const [name, value] of Object.entries(message)) heard.get(name)?.(value);
		});
		const hear = (name: string) => new Promise<number>((resolve) => heard.set(name, resolve));
		await hear('ready');

		const completed = async (count: number) => {
			while ((await queue.getCompletedCount()) < count)
				await new Promise((resolve) => setTimeout(resolve, 10));
		};
		let total = 0;
		for (let i = 0; i < probes + warmUps; i += 1) {
			const started = hear('latencyNs');
			await queue.add('job', { ...body, sentAt: String(process.hrtime.bigint()) });
			await started;
			total += 1;
			await completed(total);
		}
		const timed = async (submit: () => Promise<void>) => {
			const from = performance.now();
			await submit();
			total += size.jobs;
			await completed(total);
			return size.jobs / ((performance.now() - from) / 1000);
		};
		const bulk = await timed(async () => {
			for (let i = 0; i < size.jobs; i += bulkSize) {
				const jobs = Array.from({ length: Math.min(bulkSize, size.jobs - i) }, () => ({
					name: 'job',
					data: body,
				}));
				await queue.addBulk(jobs);
			}
		});
		const single = await timed(async () => {
			for (let i = 0; i < size.jobs; i += inFlight) {
				await Promise.all(
					Array.from({ length: Math.min(inFlight, size.jobs - i) }, () => queue.add('job', body)),
				);
			}
		});
		return {
			bulkPerSecond: bulk,
			singlePerSecond: single,
			...percentiles(latencies.slice(warmUps)),
		};
	} finally {
		worker?.kill('SIGKILL');
		await queue.close();
		const gone = new Promise((resolve) => redis.once('exit', resolve));
		redis.kill('SIGTERM');
		await gone;
		rmSync(folder, { recursive: true, force: true });
	}
}

const body = { command: 'noop', pad: 'x'.repeat(200) };

function freePort(): Promise<number> {
	return new Promise((resolve) => {
		const server = createServer().listen(0, '127.0.0.1', () => {
			const { port } = server.address() as { port: number };
			server.close(() => resolve(port));
		});
	});
}

/**
 * BullMQ on a Redis that syncs every write before it acknowledges. One worker process with M jobs at
 * once, which is its best; a job ends when its return value is recorded.
 */
import { Queue } from 'bullmq';
import { Host } from '../machine/host';
import { versionOf } from '../machine/installed';
import { redisVersion, startRedis } from '../servers/redis';
import { type Contender, inBulks, inParallel, now, padding, type Rig } from './contender';

export const bullmq: Contender = {
	name: 'bullmq',
	title: 'BullMQ',
	version: `${versionOf('bullmq')}, Redis ${redisVersion()}`,
	settings: 'appendonly yes, appendfsync always; one worker process with concurrency M',

	async start(workers): Promise<Rig> {
		const redis = await startRedis();
		const queue = new Queue('bench', { connection: redis.connection });
		const host = await Host.start('bullmq-worker', String(redis.port), String(workers));
		const data = { command: 'noop', padding };
		const add = () => queue.add('job', data);
		return {
			serverPids: [redis.pid],
			workerPids: [host.pid],
			async bulk(count) {
				const recorded = await host.recorded(count);
				await inBulks(count, (size) =>
					queue.addBulk(Array.from({ length: size }, () => ({ name: 'job', data }))),
				);
				await recorded();
			},
			async single(count) {
				const recorded = await host.recorded(count);
				await inParallel(count, add);
				await recorded();
			},
			async latency() {
				const recorded = await host.recorded(1);
				const started = host.started();
				await queue.add('job', { ...data, sentAt: now() });
				await recorded();
				return started;
			},
			async stop() {
				await host.stop();
				await queue.close();
				await redis.stop();
			},
		};
	},
};

/**
 * graphile-worker twice: unbatched, where each job is fetched and completed on its own as ours is, and
 * with its local queue and batched completion, which is its best. It keeps no results, so the task
 * inserts one through a pool of its own.
 */
import { Logger, makeWorkerUtils } from 'graphile-worker';
import { Pool } from 'pg';
import { Host } from '../machine/host';
import { versionOf } from '../machine/installed';
import { postgresSettings, postgresVersion, startPostgres } from '../servers/postgres';
import { type Contender, inBulks, inParallel, now, padding, type Rig } from './contender';

export const graphileWorker = contender('graphile-worker', 'graphile-worker, unbatched', false);
export const graphileWorkerBatched = contender(
	'graphile-worker-batched',
	'graphile-worker, batched',
	true,
);

function contender(name: string, title: string, batched: boolean): Contender {
	return {
		name,
		title,
		version: `${versionOf('graphile-worker')}, PostgreSQL ${postgresVersion()}`,
		settings: `${postgresSettings}; ${
			batched
				? 'local queue of 500, completions gathered'
				: 'localQueue off, completeJobBatchDelay off'
		}; result inserted by the task, concurrency M`,
		start: (workers) => start(workers, batched),
	};
}

async function start(workers: number, batched: boolean): Promise<Rig> {
	const postgres = await startPostgres();
	// A pool of our own: the library does not wait for the end of one that it made.
	const pgPool = new Pool({ connectionString: postgres.url, max: 20 });
	pgPool.on('error', tell);
	pgPool.on('connect', (client) => client.on('error', tell));
	const utils = await makeWorkerUtils({ pgPool, logger: new Logger(() => () => {}) });
	await utils.migrate();
	await pgPool.query(
		'CREATE TABLE results (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id text NOT NULL, result jsonb NOT NULL)',
	);
	const how = batched ? 'batched' : 'unbatched';
	const host = await Host.start('graphile-worker', postgres.url, String(workers), how);
	const payload = { command: 'noop', padding };
	return {
		serverPids: [postgres.pid],
		workerPids: [host.pid],
		async bulk(count) {
			const recorded = await host.recorded(count);
			await inBulks(count, (size) =>
				utils.addJobs(Array.from({ length: size }, () => ({ identifier: 'bench', payload }))),
			);
			await recorded();
		},
		async single(count) {
			const recorded = await host.recorded(count);
			await inParallel(count, () => utils.addJob('bench', payload));
			await recorded();
		},
		async latency() {
			const recorded = await host.recorded(1);
			const started = host.started();
			await utils.addJob('bench', { ...payload, sentAt: now() });
			await recorded();
			return started;
		},
		async stop() {
			await host.stop();
			await utils.release();
			await pgPool.end();
			await postgres.stop();
		},
	};
}

/** That the server ends is our own doing: it may be quicker than the last connection's goodbye. */
function tell(error: Error & { code?: string }): void {
	if (error.code !== '57P01') console.error('graphile-worker:', error.message);
}

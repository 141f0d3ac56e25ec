/** graphile-worker's worker process. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, run, type WorkerPreset } from 'graphile-worker';
import { Pool } from 'pg';
import { ended, serveHarness, started } from './harness';

const [url, workers, how] = process.argv.slice(2) as [string, string, 'batched' | 'unbatched'];
const concurrentJobs = Number(workers);
const pool = new Pool({ connectionString: url, max: 10 });
const result = JSON.stringify({ ok: true, exitCode: 0 });

/** It says nothing when a completion is recorded. */
const settled = async () => {
	const open = 'SELECT 1 FROM graphile_worker._private_jobs LIMIT 1';
	while ((await pool.query(open)).rowCount !== 0) await sleep(5);
};

const batching: NonNullable<(typeof WorkerPreset)['worker']> =
	how === 'batched'
		? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
		: { localQueue: { size: -1 }, completeJobBatchDelay: -1, failJobBatchDelay: -1 };

await run({
	preset: {
		worker: {
			connectionString: url,
			concurrentJobs,
			maxPoolSize: 12,
			pollInterval: 1_000,
			...batching,
		},
	},
	logger: new Logger(() => () => {}),
	noHandleSignals: true,
	taskList: {
		async bench(payload, { job }) {
			started((payload as { sentAt?: string }).sentAt);
			await pool.query('INSERT INTO results (job_id, result) VALUES ($1, $2)', [job.id, result]);
			ended(settled);
		},
	},
});
serveHarness();

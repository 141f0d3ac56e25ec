/** pg-boss's worker process: four pollers, each with batches of M ÷ 4. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { PgBoss } from 'pg-boss';
import { ended, serveHarness, started } from './harness';

const [url, workers] = process.argv.slice(2) as [string, string];
const pollers = Math.min(4, Number(workers));
const queue = 'bench';

const watch = new Client(url);
await watch.connect();
/** It says nothing when a batch's completion is recorded. */
const settled = async () => {
	const open = "SELECT 1 FROM pgboss.job WHERE name = $1 AND state < 'completed' LIMIT 1";
	while ((await watch.query(open, [queue])).rowCount !== 0) await sleep(5);
};

const boss = new PgBoss({
	connectionString: url,
	max: 10,
	useListenNotify: true,
	schedule: false,
});
boss.on('error', (error) => console.error('pg-boss:', error));
await boss.start();
await boss.work<{ sentAt?: string }>(
	queue,
	{
		localConcurrency: pollers,
		batchSize: Math.ceil(Number(workers) / pollers),
		pollingIntervalSeconds: 0.5,
		notifyPollingIntervalSeconds: 0.5,
		burstWhenBatchFull: true,
	},
	async (jobs) => {
		for (const job of jobs) {
			started(job.data.sentAt);
			ended(settled);
		}
		return { ok: true, exitCode: 0 };
	},
);
serveHarness();

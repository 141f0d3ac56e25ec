/** BullMQ's worker process: M jobs at once on one connection. */
import { Worker } from 'bullmq';
import { ended, serveHarness, started } from './harness';

const [port, concurrency] = process.argv.slice(2).map(Number) as [number, number];
const worker = new Worker<{ sentAt?: string }>(
	'bench',
	async ({ data }) => {
		started(data.sentAt);
		return { ok: true, exitCode: 0 };
	},
	{ connection: { host: '127.0.0.1', port }, concurrency },
);
// Emitted when Redis has acknowledged the return value.
worker.on('completed', () => ended());
await worker.waitUntilReady();
serveHarness();

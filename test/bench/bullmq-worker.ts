/** BullMQ's side of the robots: one worker with M jobs at once, its best setting. */
import { Worker } from 'bullmq';

const [port, concurrency] = process.argv.slice(2).map(Number) as [number, number];
const worker = new Worker<{ sentAt?: string }>(
	'bench',
	async ({ data }) => {
		if (data.sentAt !== undefined) {
			process.send!({ latencyNs: Number(process.hrtime.bigint() - BigInt(data.sentAt)) });
		}
		return { ok: true, exitCode: 0 };
	},
	{ connection: { host: '127.0.0.1', port }, concurrency },
);
await worker.waitUntilReady();
process.send!({ ready: 1 });

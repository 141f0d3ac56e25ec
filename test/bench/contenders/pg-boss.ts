/**
 * pg-boss as its own guidance tunes it for throughput: jobs fetched and completed in batches, woken by
 * NOTIFY with the shortest poll behind it, no pause while batches come back full. A job ends when the
 * batch's output is recorded.
 */
import { PgBoss } from 'pg-boss';
import { Host } from '../machine/host';
import { versionOf } from '../machine/installed';
import { postgresSettings, postgresVersion, startPostgres } from '../servers/postgres';
import { type Contender, inBulks, inParallel, now, padding, type Rig } from './contender';

const queue = 'bench';

export const pgBoss: Contender = {
	name: 'pg-boss',
	title: 'pg-boss, tuned',
	version: `${versionOf('pg-boss')}, PostgreSQL ${postgresVersion()}`,
	settings: `${postgresSettings}; 4 pollers that fetch M ÷ 4 jobs at once, NOTIFY, 0.5 s polls, no pause while batches are full`,

	async start(workers): Promise<Rig> {
		const postgres = await startPostgres();
		const boss = new PgBoss({ connectionString: postgres.url, max: 20, useListenNotify: true });
		boss.on('error', (error) => console.error('pg-boss:', error));
		await boss.start();
		await boss.createQueue(queue, { notify: true });
		const host = await Host.start('pg-boss-worker', postgres.url, String(workers));
		const data = { command: 'noop', padding };
		return {
			serverPids: [postgres.pid],
			workerPids: [host.pid],
			async bulk(count) {
				const recorded = await host.recorded(count);
				await inBulks(count, (size) =>
					boss.insert(
						queue,
						Array.from({ length: size }, () => ({ data })),
					),
				);
				await recorded();
			},
			async single(count) {
				const recorded = await host.recorded(count);
				await inParallel(count, () => boss.send(queue, data));
				await recorded();
			},
			async latency() {
				const recorded = await host.recorded(1);
				const started = host.started();
				await boss.send(queue, { ...data, sentAt: now() });
				await recorded();
				return started;
			},
			async stop() {
				await host.stop();
				await boss.stop({ graceful: false });
				await postgres.stop();
			},
		};
	},
};

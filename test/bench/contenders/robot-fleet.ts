/**
 * Our side: the service as a process of its own on synced SQLite, simulated robots in another; this
 * process submits through the public HTTP API with a key. Validation, timeline and tokens are on.
 */
import { version } from '../../../dispatcher/package.json';
import type { Submit } from '../../../protocol';
import { newFolder } from '../machine/folder';
import { Host } from '../machine/host';
import { startService } from '../servers/service';
import { type Contender, inBulks, inParallel, now, padding, type Rig } from './contender';

export const robotFleet: Contender = {
	name: 'robot-fleet',
	title: 'Robot Fleet',
	version: `${version}, SQLite ${process.versions.sqlite}`,
	settings: 'SQLite WAL, synchronous FULL; public API, M robots on sockets of their own',

	async start(workers): Promise<Rig> {
		const { folder, remove } = newFolder('service');
		const service = await startService({ folder });
		const { client } = service;
		const host = await Host.start('robots');
		const { token } = await client.createToken({ uses: workers });
		await host.call('grow', service.url, token, workers);
		return {
			serverPids: [service.pid],
			workerPids: [host.pid],
			async bulk(count) {
				const recorded = await host.recorded(count);
				await inBulks(count, (size) => submitMany(size));
				await recorded();
			},
			async single(count) {
				const recorded = await host.recorded(count);
				await inParallel(count, () => client.submit(noop()));
				await recorded();
			},
			async latency() {
				const recorded = await host.recorded(1);
				const started = host.started();
				await client.submit(noop({ sentAt: now() }));
				await recorded();
				return started;
			},
			async stop() {
				await host.stop();
				await service.stop();
				await remove();
			},
		};

		async function submitMany(size: number): Promise<void> {
			const answers = await client.submitMany(Array.from({ length: size }, () => noop()));
			const refused = answers.find((answer) => 'error' in answer);
			if (refused) throw new Error(`a job was refused: ${JSON.stringify(refused)}`);
		}
	},
};

/** The same 200 bytes that the peers carry. */
export function noop(variables: Record<string, string> = {}): Submit {
	return { kind: 'command', spec: { command: 'noop', args: [padding] }, variables };
}

/** The doors for those who look after the service itself: its state, draining, backups, restored jobs. */
import { once } from 'node:events';
import { Problem } from '../../protocol';
import { answers, purgeRequest, releaseRequest } from '../../protocol/schemas';
import { type Ask, type Door, door, type House } from './door';

export const serviceDoors = {
	service: door({
		answer: answers.serviceStatus,
		run: (_ask, house) => status(house),
	}),
	serviceDrain: door({
		answer: answers.serviceStatus,
		async run({ caller }, house) {
			await house.engine.drain(caller);
			return status(house);
		},
	}),
	serviceResume: door({
		answer: answers.serviceStatus,
		async run({ caller }, house) {
			await house.engine.takeWork(caller);
			return status(house);
		},
	}),
	backupCreate: door({ run: sendBackup }),
	purge: door({
		body: purgeRequest,
		bodyOptional: true,
		answer: answers.purgeAnswer,
		run: ({ body }, { engine }) => engine.purge(body.dryRun ?? false),
	}),
	jobsRelease: door({
		body: releaseRequest,
		bodyOptional: true,
		answer: answers.releaseAnswer,
		run: ({ body, caller }, { engine }) => engine.release(body, caller),
	}),
} as const satisfies Record<string, Door>;

async function status({ engine, version, doors }: House) {
	return { version, ...(await engine.service()), doors: doors() };
}

const busy = new WeakSet<House>();

/** One at a time: each lies on the disk as a copy until it was sent. */
async function sendBackup({ reply, signal, caller }: Ask<unknown, unknown>, house: House) {
	if (busy.has(house)) throw new Problem('too-many', { what: 'backups at once', retryMs: 10_000 });
	busy.add(house);
	try {
		const backup = await house.takeBackup();
		try {
			const gone = signal();
			reply.hijack();
			const out = reply.raw;
			out.writeHead(200, {
				'content-type': 'application/x-tar',
				'content-disposition': `attachment; filename="${backup.fileName}"`,
				'cache-control': 'no-store',
				'x-content-type-options': 'nosniff',
			});
			let bytes = 0;
			try {
				for await (const piece of backup.bytes()) {
					if (gone.aborted || out.destroyed) throw new Error('the reader went away');
					bytes += piece.length;
					if (!out.write(piece)) await once(out, 'drain', { signal: gone });
				}
				out.end();
				await once(out, 'finish', { signal: gone });
			} catch (error) {
				// Cut short, the archive has no manifest: nobody can take it for a backup.
				out.destroy();
				house.log.warn('a backup was not sent completely', { error: (error as Error).message });
				return;
			}
			await house.engine.noteBackup({ at: backup.at, bytes });
			house.log.info('backup sent', { bytes, by: caller.name });
		} finally {
			backup.discard();
		}
	} finally {
		busy.delete(house);
	}
}

/** The commands that look after the service itself: backup, restore, drain. */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { type BackupManifest, calls, jobStates, paths, Problem, purgeables } from '../../protocol';
import {
	addressOf,
	clientOf,
	dataFolderOf,
	isOfN8n,
	json,
	startOf,
	type Terminal,
	urlIn,
	UsageMistake,
	when,
} from './terminal';
import { type Address, download } from './transport';

/** What works on a data folder whose service is stopped. */
export interface Upkeep {
	backup(dataFolder: string): Promise<{ bytes(): AsyncIterable<Uint8Array>; discard(): void }>;
	/** Reads a backup through and checks it; changes nothing. */
	preview(file: string): BackupManifest;
	restore(options: {
		file: string;
		dataFolder: string;
		force: boolean;
	}): Promise<{ manifest: BackupManifest; replaced: string | null }>;
}

interface Flags {
	json?: boolean;
	data?: string;
}

/** How often `drain --wait` looks. */
const lookMs = 500;

export function addUpkeep(program: Command, terminal: Terminal & { upkeep: Upkeep }): void {
	const { upkeep } = terminal;
	const command = (usage: string, summary: string, description: string, example: string) =>
		program
			.command(usage)
			.summary(summary)
			.description(description)
			.option('--json', 'print JSON')
			.addHelpText('after', `\nExample:\n  $ robot-fleet ${example}`);

	command(
		'backup <file>',
		'copy everything into one file, while the service runs',
		'Copies everything but the files of jobs (the folder files/) into one checked file: from the running service, or from the data folder when it is stopped. The file holds the API keys of the data folder: keep it as safe as those.',
		'backup /backups/robot-fleet.tar',
	)
		.option('--data <folder>', 'data folder of the service, running or stopped')
		.action(async (file: string, flags: Flags) => {
			const to = resolve(file);
			const draft = `${to}.${process.pid}.tmp`;
			try {
				await fetchBackup(terminal, flags.data, draft);
				const manifest = upkeep.preview(draft);
				renameSync(draft, to);
				terminal.out(flags.json ? json(manifest) : `${to}\n${manifestText(manifest)}`);
			} finally {
				rmSync(draft, { force: true });
			}
		});

	command(
		'restore <file>',
		'put a backup into the data folder of a stopped service',
		'Puts a backup into the data folder of a stopped service, after checking all of it. Jobs that were not final then wait until robots have reported and somebody says: robot-fleet jobs release --all.',
		'restore /backups/robot-fleet.tar --dry-run',
	)
		.option('--data <folder>', 'data folder to restore into (default ~/.robot-fleet)')
		.option('--force', 'replace the store that is there; it is kept beside the new one')
		.option('--dry-run', 'only check the file and say what is in it')
		.action(async (file: string, flags: Flags & { force?: boolean; dryRun?: boolean }) => {
			const from = resolve(file);
			if (flags.dryRun) {
				const manifest = upkeep.preview(from);
				terminal.out(flags.json ? json(manifest) : manifestText(manifest));
				return;
			}
			const dataFolder = resolve(dataFolderOf(terminal.env, flags.data));
			const { manifest, replaced } = await upkeep.restore({
				file: from,
				dataFolder,
				force: flags.force ?? false,
			});
			// A folder that n8n has not used yet does not tell whose it is.
			const or = isOfN8n(dataFolder) ? '' : ' (or n8n start, when it lives inside n8n)';
			const start = startOf(dataFolder) + or;
			terminal.out(
				flags.json
					? json({ manifest, dataFolder, replaced })
					: `${manifestText(manifest)}restored into ${dataFolder}\n${
							replaced ? `the old store is ${replaced}\n` : ''
						}next: ${start}, let the robots come back, then: robot-fleet jobs release --all\n`,
			);
		});

	command(
		'purge',
		'forget what has ended and is past its retention',
		'Forgets ended jobs, runs and events that are past their retention. The service does so by itself, bit by bit; this does it now.',
		'purge --dry-run',
	)
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.option('--dry-run', 'only count')
		.action(async (flags: Flags & { dryRun?: boolean }) => {
			const service = clientOf(terminal, flags.data);
			const total = await service.purge(flags.dryRun ?? false);
			while (total.more && !total.dryRun) {
				const next = await service.purge(false);
				for (const what of purgeables) total[what] += next[what];
				total.more = next.more;
			}
			const counts = purgeables.map((what) => `${total[what]} ${what}`).join(', ');
			terminal.out(
				flags.json
					? json(total)
					: `${total.dryRun ? 'would be forgotten' : 'forgotten'}: ${counts}${total.more ? ' or more' : ''}\n`,
			);
		});

	command(
		'drain',
		'take no new jobs and give none out; what runs goes on',
		'Takes no new jobs and gives none out, so that the service can be stopped at leisure; what runs goes on, and results are taken.',
		'drain --wait',
	)
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.option('--wait', 'answer only when nothing is running')
		.option('--undo', 'take work again')
		.action(async (flags: Flags & { wait?: boolean; undo?: boolean }) => {
			if (flags.wait && flags.undo) throw new UsageMistake('Say --wait or --undo, not both.');
			const service = clientOf(terminal, flags.data);
			let status = flags.undo ? await service.takeWork() : await service.drain();
			while (flags.wait && status.attempts > 0) {
				await terminal.sleep(lookMs);
				status = await service.service();
			}
			terminal.out(
				flags.json
					? json(status)
					: `${status.readiness}, ${status.attempts} ${status.attempts === 1 ? 'job is' : 'jobs are'} with robots\n`,
			);
		});
}

/** From the running service; when none answers, from the data folder. */
async function fetchBackup(
	terminal: Terminal & { upkeep: Upkeep },
	data: string | undefined,
	draft: string,
): Promise<void> {
	const folder = resolve(dataFolderOf(terminal.env, data));
	const local = data !== undefined || terminal.env.ROBOT_FLEET_URL === undefined;
	if (!local || urlIn(folder) !== undefined) {
		try {
			return await save(fromService(addressOf(terminal, data)), draft);
		} catch (error) {
			// A killed service leaves its address behind; the lock on the store tells whether it is alive.
			if (!local || !(error instanceof Problem) || error.code !== 'service-away') throw error;
		}
	}
	if (!existsSync(join(folder, 'robot-fleet.db'))) {
		throw new UsageMistake(`There is no store in ${folder}; say where it is with --data.`);
	}
	const backup = await terminal.upkeep.backup(folder);
	try {
		await save(backup.bytes(), draft);
	} finally {
		backup.discard();
	}
}

const fromService = (address: Address) =>
	download(address, calls.backupCreate.method, paths.api + calls.backupCreate.path);

async function save(bytes: AsyncIterable<Uint8Array>, file: string): Promise<void> {
	const out = openSync(file, 'wx', 0o600);
	try {
		for await (const piece of bytes) {
			for (let at = 0; at < piece.length;) at += writeSync(out, piece, at);
		}
		fsyncSync(out);
	} finally {
		closeSync(out);
	}
}

function manifestText({ at, version, store, files }: BackupManifest): string {
	const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
	const jobs = jobStates
		.filter((state) => store.jobs[state] > 0)
		.map((state) => `${store.jobs[state]} ${state}`)
		.join(', ');
	return [
		`taken      ${when(at)} UTC by version ${version}`,
		`size       ${(bytes / 1024 / 1024).toFixed(1)} MiB in ${files.length} files, all digests right`,
		`schema     ${store.schema}`,
		`jobs       ${jobs || 'none'}`,
		`robots     ${store.robots}`,
		`schedules  ${store.schedules}`,
		'',
	].join('\n');
}

/**
 * Starts the whole service in named steps (steps.ts), for `robot-fleet serve` and for the one embedded
 * in n8n. A failure says at which step; what was opened before it is closed again, last opened first.
 */
import {
	accessSync,
	chmodSync,
	constants,
	existsSync,
	mkdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statfsSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleepAwake } from 'node:timers/promises';
import { limits, Problem, type Scope } from '../protocol';
import type { Config } from './config';
import type { Caller, Engine } from './engine';
import { systemChance, systemClock } from './engine/clock';
import type { Log } from './engine/context';
import { createEngine } from './engine/create';
import { startServer } from './server';
import type { Relay } from './server/front';
import { CallbackDoor } from './server/callbacks';
import { backupOfRunning, sweepCopies } from './backup/take';
import { DataDisk } from './store/disk';
import { FileShelf } from './store/shelf';
import { openStore, StoreFull, StoreTaken } from './store/open';
import { Reserve } from './store/reserve';
import type { OpenStep } from './store/sqlite';
import type { Store } from './store/store';
import { Steps } from './steps';
import { version } from './package.json';

export interface ServiceOptions {
	config: Config;
	log: Log;
	/** The bundle that becomes the store's thread; absent = the store shares this thread. */
	threadEntry?: string;
	/** Embedded in n8n: n8n.key must exist and work, whatever happened to it. */
	embedded?: boolean;
	/** Called when the service cannot go on, e.g. the disk failed. It is already closing then. */
	onFatal(error: unknown): void;
}

export interface Service {
	url: string;
	robotsUrl: string | undefined;
	version: string;
	/** Contents of n8n.key; empty when an operator removed the file. */
	n8nKey: string;
	/** Rereads the operator's certificate; happens by itself a few seconds after its files change. */
	reload(): void;
	/** The robots' door for a listener of the process that hosts us. */
	relay(): Promise<Relay>;
	/** Takes no new work, treats what runs as the settings say, and puts all on disk. Harmless when called twice. */
	close(): Promise<void>;
}

const takenWaitMs = 60_000;
/** How long a service that is broken may take to close. */
const fatalMs = 5_000;

export async function startService(options: ServiceOptions): Promise<Service> {
	const { config, log } = options;
	const folder = config.dataFolder;
	const undo: (() => Promise<void> | void)[] = [];
	const closeAll = async () => {
		for (const deed of undo.splice(0).reverse()) {
			try {
				await deed();
			} catch (error) {
				log.error('a part of the service failed to stop', { error });
			}
		}
	};

	const steps = new Steps(systemClock, log);
	try {
		prepareFolder(folder);
		steps.begin('lock');
		const store = await openWhenFree(options, (step) => steps.begin(step));
		undo.push(() => store.close());
		sweepCopies(folder);
		if (store.migratedFrom !== null) {
			log.info('the store was upgraded', { from: store.migratedFrom, to: store.schema });
		}
		steps.begin('engine');
		const { n8nUrl } = config.engine;
		const callbacks = new CallbackDoor(n8nUrl === undefined ? [] : [new URL(n8nUrl).origin]);
		undo.push(() => callbacks.close());
		const engine = await createEngine({
			store,
			clock: systemClock,
			chance: systemChance,
			log,
			settings: {
				defaultJobTimeoutMs: config.engine.defaultJobTimeoutMs,
				acceptGatherMs: 10,
				strategy: config.engine.strategy,
				quarantineAfter: config.engine.quarantineAfter,
				sweepMs: config.engine.sweepMs,
				keepOutputMs: config.engine.keepOutputMs,
				keepOutputBytes: config.engine.keepOutputBytes,
				recoveryGraceMs: limits.recoveryGraceMs,
				minFreeBytes: config.engine.minFreeBytes,
				maxWaitingJobs: limits.maxWaitingJobs,
				maxWaitingBytes: limits.maxWaitingBytes,
				retention: config.engine.retention,
				...(n8nUrl === undefined ? {} : { callbackBase: n8nUrl }),
			},
			callbacks,
			disk: new DataDisk(folder, storeIn(folder), reserveIn(folder)),
			shelf: new FileShelf(join(folder, 'files')),
			fileLimits: config.files,
			// What is broken may never close; whoever restarts us must not wait for it.
			fatal: (error) =>
				void Promise.race([closeAll(), systemClock.sleep(fatalMs)]).then(() =>
					options.onFatal(error),
				),
		});
		undo.push(() => engine.stop());
		for (const note of config.warnings)
			log.warn('the settings may not be what was meant', { note });
		steps.begin('keys');
		await ensureKeys(engine, folder, options.embedded ?? false);
		await engine.hubKey();
		await engine.settleConstellation(config.constellation);
		steps.begin('listen');
		const { certificate: files, ...listen } = config.server;
		const server = await startServer({
			...listen,
			tls: { folder, ...(files && { files }) },
			private: options.embedded ?? false,
			onCertificate: () => {
				try {
					sayWhere();
				} catch (error) {
					// A full disk, perhaps: no reason to stop serving.
					log.warn('service.json still names the previous certificate', { error });
				}
			},
			engine,
			clock: systemClock,
			log,
			version,
			settings: config.shown,
			dialling: {
				reconnectDelayMs: config.reconnectDelayMs,
				insecure: config.server.insecure,
				chance: systemChance,
			},
			takeBackup: () =>
				backupOfRunning(store, {
					dataFolder: folder,
					version,
					now: systemClock.now(),
					...(options.threadEntry === undefined ? {} : { threadEntry: options.threadEntry }),
				}),
		});
		undo.push(() => server.close());
		const { url, robotsUrl = null } = server;
		// Whoever may read the folder trusts what this file says, whatever name the certificate is for.
		const sayWhere = () =>
			writePrivate(
				join(folder, 'service.json'),
				`${JSON.stringify({ url, robotsUrl, certificate: server.certificate, pid: process.pid, version })}\n`,
			);
		sayWhere();
		undo.push(() => rmSync(join(folder, 'service.json'), { force: true }));
		log.info('started', { version, schema: store.schema, ms: steps.done() });
		if (robotsUrl !== null) log.info('robots are served at', { url: robotsUrl });
		let closing: Promise<void> | undefined;
		return {
			url: server.url,
			robotsUrl: server.robotsUrl,
			version,
			n8nKey: readOr(join(folder, 'n8n.key'), ''),
			reload: () => server.reload(),
			relay: () => server.relay(),
			close: () =>
				(closing ??= windDown(engine, config, options)
					.catch((error: unknown) => log.error('winding down failed', { error }))
					.then(closeAll)),
		};
	} catch (error) {
		const failure = steps.failed(error);
		await closeAll();
		throw failure;
	}
}

const system: Caller = { keyId: 'system', name: 'service', scopes: ['admin'] };

/** New work is refused from here on; what was accepted is on disk and answered when this resolves. */
async function windDown(
	engine: Engine,
	{ stop }: Config,
	{ embedded, log }: ServiceOptions,
): Promise<void> {
	await engine.drain(system);
	// n8n gives us ten seconds; robots carry on without us anyway.
	if (!embedded && stop.jobs !== 'leave') {
		const until = systemClock.monotonic() + stop.graceMs;
		if (stop.jobs === 'cancel') await engine.cancelAll(system, stop.graceMs);
		while (systemClock.monotonic() < until && (await engine.service()).attempts > 0) {
			await sleepAwake(50);
		}
		const { attempts } = await engine.service();
		if (attempts > 0) log.warn('jobs are still with robots; they carry on', { attempts });
	}
	await Promise.race([engine.flush(), sleepAwake(flushMs, undefined, { ref: false })]);
}

/** What was accepted before is committed in far less; a disk that hangs must not hold up the stop. */
const flushMs = 2_000;

const storeIn = (folder: string) => join(folder, 'robot-fleet.db');
const reserveFile = (folder: string) => join(folder, 'reserve');
const reserveIn = (folder: string) => new Reserve(reserveFile(folder), limits.reserveBytes);

/** Local, ours, writable; made for this user alone when it is new. */
export function prepareFolder(folder: string): void {
	const quoted = JSON.stringify(folder);
	const mend = `sudo mkdir -p ${quoted} && sudo chown "$(id -un)" ${quoted} && chmod 700 ${quoted}`;
	try {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === 'ENOTDIR' || code === 'EEXIST') {
			throw new Problem('data-unusable', {
				folder,
				reason: 'it is a file',
				command: `mv ${quoted} ${JSON.stringify(`${folder}.old`)}`,
			});
		}
		const reasons: Record<string, string> = {
			EACCES: 'this user may not write there',
			EPERM: 'this user may not write there',
			EROFS: 'the disk is read-only',
			ENOSPC: 'the disk is full',
		};
		throw new Problem(
			'data-unusable',
			{ folder, reason: reasons[code ?? ''] ?? String(code), command: mend },
			error,
		);
	}
	if (networkDrives.has(statfsSync(folder).type)) {
		throw new Problem('data-unusable', {
			folder,
			reason: 'it lies on a network drive, where file locks cannot be trusted',
			command: 'export ROBOT_FLEET_DATA=/var/lib/robot-fleet (a folder on a local disk)',
		});
	}
}

/** NFS, SMB, CIFS, SMB2, Ceph, AFS. */
const networkDrives = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x00c36400, 0x5346414f]);

/** The owner may be on its way out (a restart of n8n): give it a minute, then say who it is. */
async function openWhenFree(
	{ config, log, threadEntry }: ServiceOptions,
	onStep: (step: OpenStep) => void,
): Promise<Store> {
	const folder = config.dataFolder;
	const file = storeIn(folder);
	const until = systemClock.monotonic() + takenWaitMs;
	for (let first = true; ; first = false) {
		try {
			const store = await openStore({
				file,
				reserve: { file: reserveFile(folder), bytes: limits.reserveBytes },
				onStep,
				maxOutputBytes: config.maxOutputBytes,
				...(threadEntry === undefined ? {} : { threadEntry }),
			});
			chmodSync(file, 0o600);
			return store;
		} catch (error) {
			if (error instanceof StoreFull) throw new Problem('store-full', {}, error);
			if (!(error instanceof StoreTaken)) throw error;
			const owner = ownerOf(folder);
			if (systemClock.monotonic() >= until) {
				throw new Problem('data-taken', { folder, owner, variable: 'ROBOT_FLEET_DATA' }, error);
			}
			if (first)
				log.warn('another service owns the data folder; waiting for it to end', { folder, owner });
			// Unlike the clock's sleep this keeps the process alive: nothing else does at this step.
			await sleepAwake(500);
		}
	}
}

function ownerOf(folder: string): string {
	try {
		const { pid, url } = JSON.parse(readFileSync(join(folder, 'service.json'), 'utf8'));
		return `process ${pid}, ${url}`;
	} catch {
		return 'it has not said which';
	}
}

/** Written by the start itself, before anyone can ask. */
const bootstrap: Caller = { keyId: 'bootstrap', name: 'first-start', scopes: ['admin'] };

/**
 * The first start makes both keys. "First" means that no key was ever used: a crash between making
 * a key and writing its file must not lock the operator out, and a removed admin.key stays removed.
 */
async function ensureKeys(engine: Engine, folder: string, embedded: boolean): Promise<void> {
	const make = async (name: string, scopes: Scope[]) => {
		const { key } = await engine.createKey({ name, scopes }, bootstrap);
		writePrivate(join(folder, `${name}.key`), `${key}\n`);
	};
	const keys = await engine.keys();
	const first = keys.every((key) => key.lastUsedAt === null);
	if (first && !existsSync(join(folder, 'admin.key'))) await make('admin', ['admin']);
	const n8nKey = readOr(join(folder, 'n8n.key'), '');
	if ((first && n8nKey === '') || (embedded && !works(engine, n8nKey))) {
		await make('n8n', ['submit', 'read', 'cancel']);
	}
}

function works(engine: Engine, key: string): boolean {
	try {
		engine.verifyKey(key);
		return true;
	} catch {
		return false;
	}
}

function readOr(file: string, fallback: string): string {
	return existsSync(file) ? readFileSync(file, 'utf8').trim() : fallback;
}

/** Whole or not at all, and never readable by others, not even for a moment. */
function writePrivate(file: string, text: string): void {
	const draft = `${file}.${process.pid}.tmp`;
	rmSync(draft, { force: true });
	writeFileSync(draft, text, { mode: 0o600, flag: 'wx', flush: true });
	renameSync(draft, file);
}

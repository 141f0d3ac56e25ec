/**
 * `robot-fleet`: the service (`serve`) and the command line in one program, bundled to one file that
 * is also the entry of its store thread. Apart from config and cli, the only place that reads argv and
 * environment, writes to the terminal and exits.
 *
 * What needs a recent Node is loaded late, so that an old one gets a sentence, not a stack.
 */
import { setTimeout as sleepAwake } from 'node:timers/promises';
import { isMainThread } from 'node:worker_threads';
import { Problem } from '../protocol';
import type { ServeFlags } from './cli/program';
import type { Upkeep } from './cli/upkeep';
import { nodeIsTooOld } from './node-version';
import { compileSooner, settleYoungGeneration } from './v8';

if (nodeIsTooOld(process.versions.node)) {
	process.stderr.write(
		`${new Problem('node-too-old', { found: process.versions.node }).message}\n`,
	);
	process.exitCode = 2;
} else if (isMainThread) {
	void main();
} else {
	void import('./store/thread').then(({ runStoreThreadIfAsked }) => runStoreThreadIfAsked());
}

/** A service goes on when nobody reads what it prints any more. */
let serving = false;

/** Our reader has seen enough (`| head`): end as other programs do when cut off, without a stack. */
function endWithReader(error: NodeJS.ErrnoException): void {
	if (serving) return;
	if (error.code !== 'EPIPE') throw error;
	process.exit(128 + 13);
}

async function main(): Promise<void> {
	process.stdout.on('error', endWithReader);
	process.stderr.on('error', endWithReader);
	const { runProgram } = await import('./cli/program');
	const { keyboardOf } = await import('./cli/keyboard');
	const { version } = await import('./package.json');
	const { systemChance, systemClock } = await import('./engine/clock');
	const { sqliteIsSafe } = await import('./store/sqlite');
	const upkeep = await upkeepOf();
	process.exitCode = await runProgram(process.argv.slice(2), {
		version,
		env: process.env,
		out: (text) => void process.stdout.write(text),
		err: (text) => void process.stderr.write(text),
		now: () => systemClock.now(),
		isTerminal: process.stderr.isTTY,
		// Opened only when somebody is to type: standard input would keep the process alive.
		get keyboard() {
			return keyboardOf(process.stdin, process.stdout);
		},
		// The service's clock lets the process end while it sleeps; a command that waits must not.
		sleep: (ms) => sleepAwake(ms),
		nodeIsTooOld,
		sqliteIsSafe,
		serve,
		upkeep,
		stage: {
			monotonic: () => systemClock.monotonic(),
			chance: systemChance,
			sleep: (ms, signal) => sleepAwake(ms, undefined, { signal }).catch(() => undefined),
			get interrupted() {
				return interrupted();
			},
		},
	});
}

let interruption: AbortController | undefined;

/** Aborted by the first Ctrl+C or polite kill; a second one means now. Only a command that asks for it survives the first. */
function interrupted(): AbortSignal {
	if (interruption) return interruption.signal;
	const over = (interruption = new AbortController());
	for (const signal of ['SIGINT', 'SIGTERM'] as const) {
		process.on(signal, () => {
			if (over.signal.aborted) process.exit(130);
			over.abort();
		});
	}
	return over.signal;
}

/** Only the bundle can be its own thread; run from sources, such work is done in this one. */
const threadEntry = __filename.endsWith('.ts') ? {} : { threadEntry: __filename };

async function upkeepOf(): Promise<Upkeep> {
	const { version } = await import('./package.json');
	const { systemClock } = await import('./engine/clock');
	const { backupOfStopped } = await import('./backup/take');
	const { preview, restore } = await import('./backup/restore');
	return {
		backup: (dataFolder) =>
			backupOfStopped({ dataFolder, version, now: systemClock.now(), ...threadEntry }),
		preview,
		restore: (options) => restore({ ...options, now: systemClock.now(), ...threadEntry }),
	};
}

/** From the signal, or from the end of the grace time for jobs. */
const stopDeadlineMs = 9_000;

/** Runs until a signal; resolves with the exit code. */
async function serve(flags: ServeFlags): Promise<number> {
	serving = true;
	compileSooner();
	settleYoungGeneration();
	const { readConfig } = await import('./config');
	const { startService } = await import('./startup');
	const { StartFailure } = await import('./steps');
	const { pinoLog } = await import('./log');
	let config;
	try {
		config = readConfig({ flags: { ...flags }, env: process.env, file: flags.config });
	} catch (error) {
		process.stderr.write(`${(error as Error).message}\n`);
		return 2;
	}
	const log = pinoLog(config.logLevel);
	const over = Promise.withResolvers<number>();
	let asked = false;
	const stop = () => {
		// A second signal means now.
		if (asked) process.exit(130);
		asked = true;
		over.resolve(0);
	};
	process.on('SIGTERM', stop);
	process.on('SIGINT', stop);
	// Node would open its debugger.
	process.on('SIGUSR1', () => undefined);
	const starting = startService({
		config,
		log,
		...threadEntry,
		onFatal(error) {
			log.error('the service cannot go on', { error });
			process.stderr.write(`${(error as Error).message}\n`);
			over.resolve(1);
		},
	});
	let service;
	try {
		service = await Promise.race([starting, over.promise]);
	} catch (error) {
		process.stderr.write(`${(error as Error).message}\n`);
		return error instanceof StartFailure ? error.exitCode : 1;
	}
	// Told to stop before anything was promised to anyone, perhaps while waiting for another owner.
	if (typeof service === 'number') process.exit(service);
	process.on('SIGHUP', () => service.reload());
	process.stdout.write(`ready ${service.url}\n`);
	const code = await over.promise;
	// Whatever hangs, stopping ends: everything acknowledged is on disk, and robots carry on.
	const graceMs = config.stop.jobs === 'leave' ? 0 : config.stop.graceMs;
	const late = sleepAwake(graceMs + stopDeadlineMs, true, { ref: false });
	if (await Promise.race([service.close(), late])) {
		log.error('the service did not stop in time, so it exits now', {
			afterMs: graceMs + stopDeadlineMs,
		});
		process.exit(1);
	}
	// A handle that some library left open must not keep a stopped service running.
	setImmediate(() => process.exit(code)).unref();
	return code;
}

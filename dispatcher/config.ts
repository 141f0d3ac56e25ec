/**
 * All settings of the service: flag > environment > --config file > default. Read once, checked as a
 * whole (all mistakes are reported at once, each under the name the person used), then frozen. A room
 * gets only its slice.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import {
	type Constellation,
	constellationDefaults,
	constellationFields,
	constellationVariables,
	limits,
	Problem,
	readConstellation,
	strategies,
	type Strategy,
	tellMistake,
} from '../protocol';

/**
 * - `leave`  robots carry on, the queue stays
 * - `wait`   until robots finish what they are running, then leave
 * - `cancel` everything that has not ended
 */
export type OnStop = (typeof stopWays)[number];
const stopWays = ['leave', 'wait', 'cancel'] as const;

export interface Config {
	readonly dataFolder: string;
	readonly server: {
		readonly host: string;
		readonly port: number;
		readonly robotsListen: string | undefined;
		/** The operator's certificate and its key; absent = the service makes its own when it needs one. */
		readonly certificate: { readonly cert: string; readonly key: string } | undefined;
		readonly insecure: boolean;
		readonly publicUrl: string | undefined;
		readonly heartbeatMs: number;
		/** `/metrics` needs no key. */
		readonly metricsOpen: boolean;
		/** How often a caller may ask. */
		readonly rates: {
			readonly perKey: number;
			readonly perAddress: number;
			readonly spareLoopback: boolean;
		};
	};
	readonly engine: {
		readonly defaultJobTimeoutMs: number;
		/** Which of the free robots gets a job that does not say. */
		readonly strategy: Strategy;
		/** Jobs in a row that may fail through their robot's own fault before it gets no more; 0 = no limit. */
		readonly quarantineAfter: number;
		readonly sweepMs: number;
		/** With less free disk space than this, no new jobs. */
		readonly minFreeBytes: number;
		/** How long finished things are kept. */
		readonly retention: {
			readonly jobsMs: number;
			readonly maxJobs: number;
			readonly occurrencesMs: number;
			readonly eventsMs: number;
		};
		readonly keepOutputMs: number;
		readonly keepOutputBytes: number;
		/** Origin of the n8n that may be called back. */
		readonly n8nUrl: string | undefined;
	};
	readonly stop: {
		/** What becomes of jobs when the service is told to stop. */
		readonly jobs: OnStop;
		/** How long it may wait for them. */
		readonly graceMs: number;
	};
	/** The devices of a constellation file; absent = the settings name none. */
	readonly constellation: Constellation | undefined;
	/** Before the first retry of a robot that is dialled. */
	readonly reconnectDelayMs: number;
	/** Right, but perhaps not what was meant. */
	readonly warnings: readonly string[];
	/** Output kept of one job. */
	readonly maxOutputBytes: number;
	readonly files: {
		/** Of one file, and of all together. */
		readonly maxFileBytes: number;
		readonly maxFilesBytes: number;
	};
	readonly logLevel: string;
	/** For `GET /config` and people. */
	readonly shown: Record<string, string | number | boolean | null>;
}

export interface Sources {
	flags?: Record<string, unknown>;
	env?: Record<string, string | undefined>;
	/** Path of the --config file. */
	file?: string;
}

interface Setting<T> {
	/** The first is the name we print. */
	env: readonly string[];
	flag: string;
	default: T;
	/** Returns the value, or throws the end of a sentence: `must be …`. */
	read(value: string): T;
}

const setting = <T>(
	flag: string,
	env: readonly string[],
	fallback: T,
	read: (value: string) => T,
): Setting<T> => ({
	flag,
	env,
	default: fallback,
	read,
});

const settings = {
	host: setting('--host', ['ROBOT_FLEET_HOST', 'ORCHESTRATOR_HOST'], '127.0.0.1', hostOf),
	port: setting('--port', ['ROBOT_FLEET_PORT', 'ORCHESTRATOR_PORT'], 8765, portOf),
	robotsListen: setting<string | undefined>(
		'--robots-listen',
		['ROBOT_FLEET_ROBOTS_LISTEN'],
		undefined,
		listenOf,
	),
	tlsCert: setting<string | undefined>('--tls-cert', ['ROBOT_FLEET_TLS_CERT'], undefined, (value) =>
		resolve(value),
	),
	tlsKey: setting<string | undefined>('--tls-key', ['ROBOT_FLEET_TLS_KEY'], undefined, (value) =>
		resolve(value),
	),
	insecure: setting('--insecure', ['ROBOT_FLEET_INSECURE'], false, flagOf),
	publicUrl: setting<string | undefined>(
		'--public-url',
		['ROBOT_FLEET_PUBLIC_URL'],
		undefined,
		urlOf,
	),
	rateLimit: setting<number | undefined>(
		'--rate-limit',
		['ROBOT_FLEET_RATE_LIMIT'],
		undefined,
		countOf,
	),
	metricsOpen: setting('--metrics-open', ['ROBOT_FLEET_METRICS_OPEN'], false, flagOf),
	data: setting('--data', ['ROBOT_FLEET_DATA'], '', (value) => resolve(value)),
	n8nUrl: setting<string | undefined>('--n8n-url', ['ROBOT_FLEET_N8N_URL'], undefined, urlOf),
	defaultJobTimeout: setting(
		'--default-job-timeout',
		['DEFAULT_JOB_TIMEOUT'],
		limits.defaultJobTimeoutMs / 1000,
		secondsOf,
	),
	strategy: setting<Strategy>('--strategy', ['ROBOT_FLEET_STRATEGY'], 'least_loaded', strategyOf),
	quarantineAfter: setting(
		'--quarantine-after',
		['ROBOT_FLEET_QUARANTINE_AFTER'],
		limits.quarantineAfter,
		countOf,
	),
	dispatchInterval: setting('--dispatch-interval', ['DISPATCH_INTERVAL'], 5, secondsOf),
	heartbeatInterval: setting(
		'--heartbeat-interval',
		['HEARTBEAT_INTERVAL'],
		limits.heartbeatMs / 1000,
		secondsOf,
	),
	onStop: setting<OnStop>('--on-stop', ['ROBOT_FLEET_ON_STOP'], 'leave', stopWayOf),
	stopGrace: setting('--stop-grace', ['ROBOT_FLEET_STOP_GRACE'], 30, secondsOf),
	keepJobs: setting('--keep-jobs', ['ROBOT_FLEET_KEEP_JOBS'], limits.keepJobsMs, ageOf),
	maxJobs: setting('--max-jobs', ['ROBOT_FLEET_MAX_JOBS'], limits.keepMaxJobs, countOf),
	keepOccurrences: setting(
		'--keep-occurrences',
		['ROBOT_FLEET_KEEP_OCCURRENCES'],
		limits.keepOccurrencesMs,
		ageOf,
	),
	keepEvents: setting('--keep-events', ['ROBOT_FLEET_KEEP_EVENTS'], limits.keepEventsMs, ageOf),
	minFree: setting('--min-free', ['ROBOT_FLEET_MIN_FREE'], limits.minFreeBytes, bytesOf),
	maxOutput: setting(
		'--max-output',
		['ROBOT_FLEET_MAX_OUTPUT'],
		limits.maxOutputBytes / 2 ** 20,
		amountOf('MiB', 1024),
	),
	keepOutputDays: setting(
		'--keep-output-days',
		['ROBOT_FLEET_KEEP_OUTPUT_DAYS'],
		7,
		amountOf('days', 36_500),
	),
	keepOutput: setting(
		'--keep-output',
		['ROBOT_FLEET_KEEP_OUTPUT'],
		10,
		amountOf('GiB', 1024 * 1024),
	),
	maxFile: setting('--max-file', ['ROBOT_FLEET_MAX_FILE'], limits.maxFileBytes, bytesOf),
	maxFiles: setting('--max-files', ['ROBOT_FLEET_MAX_FILES'], limits.maxFilesBytes, bytesOf),
	logLevel: setting('--log-level', ['LOG_LEVEL'], 'info', levelOf),
};

type Values = { [K in keyof typeof settings]: (typeof settings)[K]['default'] };

/** Throws `bad-config` with all mistakes. */
export function readConfig(sources: Sources): Config {
	const checked = checkConfig(sources);
	if ('config' in checked) return checked.config;
	throw new Problem('bad-config', { mistakes: checked.mistakes.join('; ') });
}

/** The settings, or everything that is wrong with them, one sentence each. */
export function checkConfig({
	flags = {},
	env = {},
	file,
}: Sources): { config: Config } | { mistakes: string[] } {
	const mistakes: string[] = [];
	const whole = file === undefined ? {} : readFile(file, mistakes);
	const { fromFile, constellation, warnings } = takeConstellation(whole, env, mistakes);
	for (const name of Object.keys(fromFile)) {
		if (!Object.hasOwn(settings, name)) {
			mistakes.push(
				`${name} in ${file} is not a setting (known: ${Object.keys(settings).join(', ')})`,
			);
		}
	}

	const valueOf = <T>(
		name: string,
		{ flag, env: names, default: fallback, read }: Setting<T>,
	): T => {
		const inEnv = names.find((variable) => (env[variable] ?? '') !== '');
		const [source, value] =
			flags[name] !== undefined
				? [flag, flags[name]]
				: inEnv !== undefined
					? [inEnv, env[inEnv]]
					: Object.hasOwn(fromFile, name)
						? [`${name} in ${file}`, fromFile[name]]
						: [undefined, undefined];
		if (source === undefined) return fallback;
		try {
			return read(String(value));
		} catch (error) {
			mistakes.push(
				`${source} is "${String(value).slice(0, 200)}", it ${(error as Error).message}`,
			);
			return fallback;
		}
	};
	const values = Object.fromEntries(
		Object.entries(settings).map(([name, one]) => [name, valueOf(name, one as Setting<unknown>)]),
	) as Values;
	const { tlsCert: cert, tlsKey: key } = values;
	if ((cert === undefined) !== (key === undefined)) {
		mistakes.push('--tls-cert and --tls-key belong together: give both, or neither');
	}
	if (mistakes.length > 0) return { mistakes };

	const dataFolder = values.data || join(homedir(), '.robot-fleet');
	const config: Config = {
		dataFolder,
		server: {
			host: values.host,
			port: values.port,
			robotsListen: values.robotsListen,
			certificate: cert === undefined || key === undefined ? undefined : { cert, key },
			insecure: values.insecure,
			publicUrl: values.publicUrl,
			heartbeatMs: values.heartbeatInterval * 1000,
			metricsOpen: values.metricsOpen,
			// n8n and the command line run on this machine: they are counted only if somebody sets the limit.
			rates: {
				perKey: values.rateLimit ?? limits.ratePerKey,
				perAddress: values.rateLimit === 0 ? 0 : limits.ratePerAddress,
				spareLoopback: values.rateLimit === undefined,
			},
		},
		engine: {
			defaultJobTimeoutMs: values.defaultJobTimeout * 1000,
			strategy: values.strategy,
			quarantineAfter: values.quarantineAfter,
			sweepMs: values.dispatchInterval * 1000,
			minFreeBytes: values.minFree,
			retention: {
				jobsMs: values.keepJobs,
				maxJobs: values.maxJobs,
				occurrencesMs: values.keepOccurrences,
				eventsMs: values.keepEvents,
			},
			keepOutputMs: values.keepOutputDays * 86_400_000,
			keepOutputBytes: values.keepOutput * 2 ** 30,
			n8nUrl: values.n8nUrl,
		},
		stop: { jobs: values.onStop, graceMs: values.stopGrace * 1000 },
		constellation,
		reconnectDelayMs:
			(constellation?.reconnectDelay ?? constellationDefaults.reconnectDelay) * 1000,
		warnings,
		maxOutputBytes: Math.round(values.maxOutput * 2 ** 20),
		files: { maxFileBytes: values.maxFile, maxFilesBytes: values.maxFiles },
		logLevel: values.logLevel,
		shown: { ...nullsFor(values), ...constellationShown(constellation), data: dataFolder },
	};
	return { config: freeze(config) };
}

/**
 * A file that names devices is a constellation file. It may also hold settings of the service, and each of
 * its fields may be given by a variable instead. Its heartbeat is that of the service.
 */
function takeConstellation(
	whole: Record<string, unknown>,
	env: NonNullable<Sources['env']>,
	mistakes: string[],
): { fromFile: Record<string, unknown>; constellation?: Constellation; warnings: string[] } {
	const fromFile = { ...whole };
	const theirs: Record<string, unknown> = {};
	const names: Record<string, string> = {};
	for (const field of constellationFields) {
		const variable = constellationVariables[field];
		const said = env[variable] ?? '';
		if (Object.hasOwn(whole, field)) theirs[field] = whole[field];
		delete fromFile[field];
		if (said === '') continue;
		names[field] = variable;
		theirs[field] = field === 'devices' ? listIn(said, variable, mistakes) : said;
	}
	if (Object.keys(theirs).length === 0) return { fromFile, warnings: [] };
	const { constellation, mistakes: wrong, warnings } = readConstellation(theirs, names);
	mistakes.push(...wrong.map(tellMistake));
	if (!constellation) return { fromFile, warnings };
	const { heartbeatInterval } = constellation;
	if (heartbeatInterval !== null && !Object.hasOwn(fromFile, 'heartbeatInterval')) {
		fromFile['heartbeatInterval'] = heartbeatInterval;
	}
	return { fromFile, constellation, warnings };
}

function listIn(text: string, variable: string, mistakes: string[]): unknown {
	try {
		return JSON.parse(text);
	} catch {
		mistakes.push(`${variable} is not valid JSON, it must be a list of devices`);
		return undefined;
	}
}

function constellationShown(constellation: Constellation | undefined): Config['shown'] {
	return {
		constellation: constellation?.constellationId ?? null,
		maxConcurrentTasks: constellation?.maxConcurrentTasks ?? null,
		devices: constellation?.devices.length ?? null,
	};
}

/** Whatever is absent is shown as null: an operator should see that the setting exists. */
function nullsFor(values: Values): Config['shown'] {
	return Object.fromEntries(
		Object.entries(values).map(([name, value]) => [name, withoutPassword(value ?? null)]),
	);
}

function withoutPassword<T>(value: T): T | string {
	if (typeof value !== 'string' || !URL.canParse(value)) return value;
	const url = new URL(value);
	if (url.password === '' && url.username === '') return value;
	url.username = url.password = '***';
	return url.href;
}

function readFile(file: string, mistakes: string[]): Record<string, unknown> {
	try {
		const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
		if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
			return value as Record<string, unknown>;
		}
		mistakes.push(`${file} must hold one JSON object`);
	} catch (error) {
		const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
		mistakes.push(
			missing ? `--config ${file} does not exist` : `--config ${file} is not valid JSON`,
		);
	}
	return {};
}

function freeze<T extends object>(value: T): T {
	for (const part of Object.values(value))
		if (typeof part === 'object' && part !== null) freeze(part as object);
	return Object.freeze(value);
}

function hostOf(value: string): string {
	const host = value.replace(/^\[|\]$/g, '');
	if (!/^[A-Za-z0-9.:_-]+$/.test(host)) throw new Error('must be a host name or address');
	return host;
}

function portOf(value: string): number {
	const port = Number(value);
	if (!/^\d+$/.test(value) || port > 65_535) throw new Error('must be a port, 0 to 65535');
	return port;
}

function listenOf(value: string): string {
	const port = /^.+:(\d{1,5})$/.exec(value)?.[1];
	if (port === undefined || Number(port) > 65_535) throw new Error('must be HOST:PORT');
	return value;
}

function urlOf(value: string): string {
	const url = URL.canParse(value) ? new URL(value) : undefined;
	if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
		throw new Error('must be an http:// or https:// address');
	}
	return value.replace(/\/+$/, '');
}

function secondsOf(value: string): number {
	const seconds = Number(value);
	if (value.trim() === '' || !(seconds > 0) || seconds > 31_622_400) {
		throw new Error('must be a number of seconds above 0');
	}
	return seconds;
}

const ageUnits: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

function ageOf(value: string): number {
	const match = /^(\d{1,6})([mhd])$/.exec(value.trim());
	if (!match || Number(match[1]) === 0) throw new Error('must be a time such as 30d, 12h or 90m');
	return Number(match[1]) * ageUnits[match[2]!]!;
}

function countOf(value: string): number {
	if (!/^\d{1,12}$/.test(value)) throw new Error('must be a whole number');
	return Number(value);
}

function strategyOf(value: string): Strategy {
	const known = strategies.find((name) => name === value);
	if (known) return known;
	throw new Error(`must be one of ${strategies.join(', ')}`);
}

function stopWayOf(value: string): OnStop {
	const way = stopWays.find((known) => known === value.toLowerCase());
	if (!way) throw new Error(`must be one of ${stopWays.join(', ')}`);
	return way;
}

const byteUnits: Record<string, number> = {
	B: 1,
	KB: 1e3,
	MB: 1e6,
	GB: 1e9,
	KIB: 2 ** 10,
	MIB: 2 ** 20,
	GIB: 2 ** 30,
};

function bytesOf(value: string): number {
	const match = /^(\d+(?:\.\d+)?) ?([KMG]?i?B)$/i.exec(value.trim());
	const unit = match && byteUnits[match[2]!.toUpperCase()];
	if (!unit) throw new Error('must be a size such as 1GiB, 500MB or 0B');
	return Math.round(Number(match[1]) * unit);
}

function amountOf(unit: string, most: number): (value: string) => number {
	return (value) => {
		const amount = Number(value);
		if (value.trim() === '' || !(amount > 0) || amount > most) {
			throw new Error(`must be a number of ${unit} above 0, at most ${most}`);
		}
		return amount;
	};
}

function flagOf(value: string): boolean {
	if (/^(true|1|yes)$/i.test(value)) return true;
	if (/^(false|0|no)$/i.test(value)) return false;
	throw new Error('must be true or false');
}

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** The seeds' programs write WARNING and CRITICAL. */
function levelOf(value: string): string {
	const level = { warning: 'warn', critical: 'fatal' }[value.toLowerCase()] ?? value.toLowerCase();
	if (!levels.includes(level)) throw new Error(`must be one of ${levels.join(', ')}`);
	return level;
}

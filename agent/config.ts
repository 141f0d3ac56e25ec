/**
 * What the owner of the machine told the agent: flag > environment > --config file > default.
 * All mistakes are reported at once, each with its name and what is allowed. Reads no socket and
 * no data folder; whether a token is needed is decided later, when the identity is known.
 */
import { X509Certificate } from 'node:crypto';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { limits } from '../protocol';
import { type ClientProfile, readClients } from './clients';
import { settingsOf } from './constellation-file';
import { proxyFor } from './proxy';
import { fingerprintIn } from './trust';

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

export const wantedTransports = ['auto', 'websocket', 'poll'] as const;
/** What the owner of the machine wants; `auto` = WebSocket, and polling where there is none. */
export type WantedTransport = (typeof wantedTransports)[number];

export interface AgentConfig {
	/** http or https, without a trailing slash; empty when it listens. */
	readonly server: string;
	/** Where it waits to be dialled; absent = it dials. */
	readonly listen: Listen | undefined;
	/** Fingerprint of the service that may dial it; absent = the one that did before. */
	readonly hub: string | undefined;
	/** Enrollment token; needed once. */
	readonly token: string | undefined;
	readonly name: string | undefined;
	readonly labels: Readonly<Record<string, string>>;
	readonly capabilities: readonly string[];
	/** Profiles, sessions, emulators; each does one job at a time. */
	readonly clients: readonly ClientProfile[];
	readonly slots: number;
	readonly data: string;
	readonly insecure: boolean;
	/** Of the service's certificate; `none` = check it in the usual way. Absent = as the token says. */
	readonly fingerprint: string | undefined;
	/** PEM of the authority that vouches for the service. */
	readonly ca: string | undefined;
	/** The proxy to reach the service through: as configured, else as HTTPS_PROXY and NO_PROXY say. */
	readonly proxy: string | undefined;
	readonly transport: WantedTransport;
	/** Longest time between two heartbeats; the service may ask for more of them. */
	readonly heartbeatMs: number | undefined;
	readonly stopGraceMs: number;
	/** SIGTERM ends the agent at once; jobs go on under their keeper. */
	readonly leaveJobs: boolean;
	/** Output kept of one job until the service has it. */
	readonly maxOutputBytes: number;
	/** Free disk that output leaves alone. */
	readonly reserveBytes: number;
	/** How often the machine is looked at again; 0 = only at the start and when asked. */
	readonly factsEveryMs: number;
	readonly logLevel: LogLevel;
}

export interface Listen {
	readonly host: string;
	readonly port: number;
	/** Off on loopback, and where the owner says so. */
	readonly tls: boolean;
}

/** What the command line may say, as commander hands it over. */
export interface Flags {
	server?: string;
	listen?: string;
	hub?: string;
	token?: string;
	name?: string;
	label?: string[];
	capability?: string[];
	client?: string[];
	slots?: string;
	data?: string;
	config?: string;
	insecure?: boolean;
	fingerprint?: string;
	ca?: string;
	proxy?: string;
	transport?: string;
	stopGrace?: string;
	leaveJobs?: boolean;
	maxOutput?: string;
	reserve?: string;
	factsInterval?: string;
	logLevel?: string;
}

export type Configured =
	| {
			ok: true;
			config: AgentConfig;
			/** Every setting that somebody gave, as a --config file would hold it. */
			said: Readonly<Record<string, unknown>>;
	  }
	| { ok: false; mistakes: readonly string[] };

type Read = (path: string) => string;

interface Setting {
	/** Name in the config file, and of the flag in camelCase. */
	file: string;
	/** What the seeds call it there. */
	seed?: string;
	flag?: string;
	env: string;
}

const settings = {
	server: { file: 'server', flag: '--server', env: 'SERVER_URL' },
	listen: { file: 'listen', flag: '--listen', env: 'ROBOT_FLEET_LISTEN' },
	hub: { file: 'hub', flag: '--hub', env: 'ROBOT_FLEET_HUB' },
	token: { file: 'token', flag: '--token', env: 'API_KEY' },
	name: { file: 'name', flag: '--name', env: 'ROBOT_FLEET_AGENT_NAME' },
	labels: { file: 'labels', flag: '--label', env: 'ROBOT_FLEET_AGENT_LABELS' },
	capabilities: {
		file: 'capabilities',
		flag: '--capability',
		env: 'ROBOT_FLEET_AGENT_CAPABILITIES',
	},
	clients: {
		file: 'clients',
		seed: 'local_client_ids',
		flag: '--client',
		env: 'ROBOT_FLEET_CLIENTS',
	},
	slots: { file: 'slots', flag: '--slots', env: 'ROBOT_FLEET_AGENT_SLOTS' },
	data: { file: 'data', flag: '--data', env: 'ROBOT_FLEET_AGENT_DATA' },
	insecure: { file: 'insecure', flag: '--insecure', env: 'ROBOT_FLEET_AGENT_INSECURE' },
	fingerprint: {
		file: 'fingerprint',
		flag: '--fingerprint',
		env: 'ROBOT_FLEET_AGENT_FINGERPRINT',
	},
	ca: { file: 'ca', flag: '--ca', env: 'ROBOT_FLEET_AGENT_CA' },
	proxy: { file: 'proxy', flag: '--proxy', env: 'ROBOT_FLEET_AGENT_PROXY' },
	transport: { file: 'transport', flag: '--transport', env: 'ROBOT_FLEET_TRANSPORT' },
	heartbeat: { file: 'heartbeatInterval', env: 'HEARTBEAT_INTERVAL' },
	stopGrace: { file: 'stopGrace', flag: '--stop-grace', env: 'ROBOT_FLEET_AGENT_STOP_GRACE' },
	leaveJobs: { file: 'leaveJobs', flag: '--leave-jobs', env: 'ROBOT_FLEET_AGENT_LEAVE_JOBS' },
	maxOutput: { file: 'maxOutput', flag: '--max-output', env: 'ROBOT_FLEET_AGENT_MAX_OUTPUT' },
	reserve: { file: 'reserve', flag: '--reserve', env: 'ROBOT_FLEET_AGENT_RESERVE' },
	factsInterval: {
		file: 'factsInterval',
		flag: '--facts-interval',
		env: 'ROBOT_FLEET_AGENT_FACTS_INTERVAL',
	},
	logLevel: { file: 'logLevel', flag: '--log-level', env: 'LOG_LEVEL' },
} as const satisfies Record<string, Setting>;
type SettingName = keyof typeof settings;

/** Never handed down to a job: it is how this robot gets its identity. */
export const secretEnvNames: readonly string[] = [settings.token.env];

const nameOfLabel = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
/** Those that the agent finds itself look like `browser:chromium`. */
const nameOfCapability = /^[A-Za-z0-9][A-Za-z0-9._:/@=-]{0,62}$/;
const maxNameLength = 100;

export function readConfig(
	flags: Flags,
	env: Readonly<Record<string, string | undefined>>,
	readFile: Read,
): Configured {
	const mistakes: string[] = [];
	const path = flags.config ?? env.ROBOT_FLEET_AGENT_CONFIG;
	const called = flags.name ?? (env[settings.name.env] || undefined);
	const dials = (flags.server ?? env[settings.server.env] ?? '') !== '';
	const file = readConfigFile(path, { name: called, dials }, readFile, mistakes);

	/** What was given, by its name in a config file; `pick` takes the strongest source, as its author calls it. */
	const said: Record<string, unknown> = {};
	const pick = (name: SettingName, flag: unknown): { value: unknown; source: string } => {
		const setting: Setting = settings[name];
		const fromEnv = env[setting.env];
		const [value, source] =
			flag !== undefined
				? [flag, setting.flag ?? setting.env]
				: fromEnv !== undefined && fromEnv !== ''
					? [fromEnv, setting.env]
					: inFile(setting, file);
		if (value !== undefined) said[setting.file] = value;
		return { value, source };
	};
	const text = (name: SettingName, flag: unknown, maxLength: number): string | undefined => {
		const { value, source } = pick(name, flag);
		if (value === undefined) return undefined;
		if (typeof value === 'string' && value !== '' && value.length <= maxLength) return value;
		mistakes.push(`${source} must be a text of 1 to ${maxLength} characters.`);
		return undefined;
	};
	const number = (
		name: SettingName,
		flag: unknown,
		range: { min: number; max: number; whole: boolean; unit: string },
	): number | undefined => {
		const { value, source } = pick(name, flag);
		if (value === undefined) return undefined;
		const parsed = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
		if (
			typeof parsed === 'number' &&
			parsed >= range.min &&
			parsed <= range.max &&
			(!range.whole || Number.isInteger(parsed))
		) {
			return parsed;
		}
		const what = range.whole ? 'a whole number' : 'a number';
		mistakes.push(`${source} must be ${what} from ${range.min} to ${range.max}${range.unit}.`);
		return undefined;
	};

	const insecure = readSwitch(pick('insecure', flags.insecure), mistakes);
	const leaveJobs = readSwitch(pick('leaveJobs', flags.leaveJobs), mistakes);
	const listen = readListen(pick('listen', flags.listen), insecure, mistakes);
	const hub = readHub(pick('hub', flags.hub), mistakes);
	const server = readServer(pick('server', flags.server), listen, insecure, mistakes);
	const fingerprint = readFingerprint(pick('fingerprint', flags.fingerprint), mistakes);
	const proxy = readProxy(pick('proxy', flags.proxy), server, env, mistakes);
	// Installed as a service, the agent does not have that environment.
	if (proxy !== undefined) said[settings.proxy.file] = proxy;
	const ca = readCa(pick('ca', flags.ca), readFile, mistakes);
	const transport = readTransport(pick('transport', flags.transport), mistakes);
	const token = text('token', flags.token, 1_000);
	const name = text('name', flags.name, maxNameLength);
	const labels = readLabels(pick('labels', flags.label), mistakes);
	const capabilities = readCapabilities(pick('capabilities', flags.capability), mistakes);
	const askedClients = pick('clients', flags.client);
	const clients = readClients(askedClients.value, askedClients.source, mistakes);
	const slots = number('slots', flags.slots, { min: 1, max: 256, whole: true, unit: '' });
	const data = text('data', flags.data, 4_096);
	const heartbeatS = number('heartbeat', undefined, {
		min: 1,
		max: 3_600,
		whole: false,
		unit: ' seconds',
	});
	const stopGraceS = number('stopGrace', flags.stopGrace, {
		min: 0,
		max: 86_400,
		whole: false,
		unit: ' seconds',
	});
	const maxOutputMiB = number('maxOutput', flags.maxOutput, {
		min: 0.001,
		max: 1_024,
		whole: false,
		unit: ' MiB',
	});
	const reserveMiB = number('reserve', flags.reserve, {
		min: 0,
		max: 1_048_576,
		whole: false,
		unit: ' MiB',
	});
	const factsMinutes = number('factsInterval', flags.factsInterval, {
		min: 0,
		max: 44_640,
		whole: false,
		unit: ' minutes',
	});
	const logLevel = readLogLevel(pick('logLevel', flags.logLevel), mistakes);

	if (mistakes.length > 0) return { ok: false, mistakes };
	return {
		ok: true,
		said,
		config: Object.freeze({
			server: server!,
			listen: listen || undefined,
			hub,
			token,
			name,
			labels,
			capabilities,
			clients,
			slots: slots ?? Math.max(1, clients.length),
			data: resolve(data ?? defaultData()),
			insecure,
			fingerprint,
			ca,
			proxy,
			transport,
			heartbeatMs: heartbeatS === undefined ? undefined : heartbeatS * 1_000,
			stopGraceMs: (stopGraceS ?? 10) * 1_000,
			leaveJobs,
			maxOutputBytes: bytesOf(maxOutputMiB) ?? limits.maxOutputBytes,
			reserveBytes: bytesOf(reserveMiB) ?? reserveBytes,
			factsEveryMs: (factsMinutes ?? 60) * 60_000,
			logLevel,
		}),
	};
}

export const defaultData = (): string => resolve(homedir(), '.robot-fleet-agent');

/** Left to the rest of the machine: a robot whose disk is full helps nobody. */
const reserveBytes = 16 * 1024 * 1024;

function bytesOf(mebibytes: number | undefined): number | undefined {
	return mebibytes === undefined ? undefined : Math.round(mebibytes * 1024 * 1024);
}

function readConfigFile(
	path: string | undefined,
	machine: Parameters<typeof settingsOf>[1],
	readFile: Read,
	mistakes: string[],
): Record<string, unknown> {
	if (path === undefined || path === '') return {};
	let parsed: unknown;
	try {
		parsed = JSON.parse(readFile(path));
	} catch (error) {
		mistakes.push(`--config ${path} cannot be read as JSON: ${(error as Error).message}.`);
		return {};
	}
	if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
		mistakes.push(`--config ${path} must hold one JSON object.`);
		return {};
	}
	const known = Object.values(settings).flatMap(({ file, seed }: Setting) => [file, seed ?? file]);
	const found = settingsOf(parsed as Record<string, unknown>, machine, mistakes);
	for (const key of Object.keys(found)) {
		if (known.includes(key)) continue;
		mistakes.push(
			`"${key}" in the config file is not a setting; known ones are ${[...new Set(known)].join(', ')}.`,
		);
	}
	return found;
}

interface Picked {
	value: unknown;
	source: string;
}

function inFile({ file: name, seed = name }: Setting, file: Record<string, unknown>) {
	const said = file[name] === undefined && file[seed] !== undefined ? seed : name;
	return [file[said], `"${said}" in the config file`] as const;
}

/** False = it was given, but wrong. */
function readListen(
	{ value, source }: Picked,
	insecure: boolean,
	mistakes: string[],
): Listen | false | undefined {
	if (value === undefined) return undefined;
	const [, host, digits] =
		/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(String(value)) ?? [];
	const port = Number(digits);
	if (host === undefined || port > 65_535) {
		mistakes.push(`${source} must be HOST:PORT, such as 0.0.0.0:9765.`);
		return false;
	}
	const tls = !isLoopback(host) && !insecure;
	return { host: host.replace(/^\[|\]$/g, ''), port, tls };
}

function readHub({ value, source }: Picked, mistakes: string[]): string | undefined {
	if (value === undefined) return undefined;
	const hub = typeof value === 'string' ? fingerprintIn(value) : undefined;
	if (hub === undefined) {
		mistakes.push(
			`${source} must be the fingerprint of the service that may dial this robot (64 hex digits, as robot-fleet doctor says it).`,
		);
	}
	return hub;
}

function readServer(
	{ value, source }: Picked,
	listen: Listen | false | undefined,
	insecure: boolean,
	mistakes: string[],
): string | undefined {
	if (listen !== undefined) {
		if (value === undefined) return '';
		mistakes.push(
			`${source} and --listen (ROBOT_FLEET_LISTEN) are two ways; leave one of them out.`,
		);
		return undefined;
	}
	if (value === undefined) {
		mistakes.push('--server (or SERVER_URL) is missing; example: --server http://127.0.0.1:8765.');
		return undefined;
	}
	const url = typeof value === 'string' ? URL.parse(value) : null;
	if (url !== null && /^wss?:$/.test(url.protocol))
		url.protocol = url.protocol.replace('ws', 'http');
	if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
		mistakes.push(`${source} must be an http:// or https:// address.`);
		return undefined;
	}
	if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
		mistakes.push(`${source} must be a bare address, without user, password, "?" or "#".`);
		return undefined;
	}
	if (url.protocol === 'http:' && !isLoopback(url.hostname) && !insecure) {
		mistakes.push(
			`${source} is plain http to another machine (${url.host}), where anybody on the way could read and change the jobs; use https, or add --insecure if you accept that.`,
		);
		return undefined;
	}
	return url.origin + url.pathname.replace(/\/+$/, '');
}

export function isLoopback(hostname: string): boolean {
	return (
		hostname === 'localhost' ||
		hostname.endsWith('.localhost') ||
		hostname === '[::1]' ||
		/^127\.\d+\.\d+\.\d+$/.test(hostname)
	);
}

function readFingerprint({ value, source }: Picked, mistakes: string[]): string | undefined {
	if (value === undefined || value === 'none') return value;
	const fingerprint = typeof value === 'string' ? fingerprintIn(value) : undefined;
	if (fingerprint === undefined) {
		mistakes.push(
			`${source} must be the SHA-256 fingerprint of a certificate (64 hex digits, as robot-fleet doctor says it), or "none".`,
		);
	}
	return fingerprint;
}

function readProxy(
	{ value, source }: Picked,
	server: string | undefined,
	env: Readonly<Record<string, string | undefined>>,
	mistakes: string[],
): string | undefined {
	if (value === 'none' || server === undefined || server === '') return undefined;
	const proxy = value === undefined ? proxyFor(new URL(server), env) : String(value);
	const protocol = proxy === undefined ? 'http:' : URL.parse(proxy)?.protocol;
	if (protocol !== 'http:' && protocol !== 'https:') {
		mistakes.push(
			value === undefined
				? 'HTTPS_PROXY (or ALL_PROXY) must be an http:// or https:// address, or name this service in NO_PROXY.'
				: `${source} must be an http:// or https:// address, or "none".`,
		);
		return undefined;
	}
	const { protocol: spoken, hostname } = new URL(server);
	if (spoken === 'https:') return proxy;
	// On this machine there is nothing to tunnel; elsewhere whoever names a proxy relies on it.
	if (value !== undefined && !isLoopback(hostname)) {
		mistakes.push(`${source} is a tunnel for https; leave it out, or reach the service by https.`);
	}
	return undefined;
}

function readCa({ value, source }: Picked, read: Read, mistakes: string[]): string | undefined {
	if (value === undefined) return undefined;
	try {
		const pem = read(String(value));
		new X509Certificate(pem);
		return pem;
	} catch (error) {
		mistakes.push(
			`${source} ${String(value)} must be a file with a certificate in PEM form: ${(error as Error).message}.`,
		);
		return undefined;
	}
}

function readSwitch({ value, source }: Picked, mistakes: string[]): boolean {
	if (value === undefined || value === false || value === 'false' || value === '0') return false;
	if (value === true || value === 'true' || value === '1') return true;
	mistakes.push(`${source} must be true or false.`);
	return false;
}

function readLabels({ value, source }: Picked, mistakes: string[]): Record<string, string> {
	if (value === undefined) return {};
	let pairs: [string, unknown][];
	if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
		pairs = Object.entries(value);
	} else {
		const parts: unknown[] = Array.isArray(value) ? value : String(value).split(',');
		pairs = parts.map((part) => {
			const [, key, held] = /^\s*([^=]*)=(.*)$/s.exec(String(part)) ?? [];
			return [key?.trim() ?? String(part), held];
		});
	}
	const labels: Record<string, string> = {};
	for (const [key, held] of pairs) {
		if (nameOfLabel.test(key) && typeof held === 'string' && held.length <= 256) {
			labels[key] = held;
		} else {
			mistakes.push(
				`${source}: "${key}" must be key=value, the key of letters, digits and . _ / - (at most 63), the value of at most 256 characters.`,
			);
		}
	}
	return labels;
}

function readCapabilities({ value, source }: Picked, mistakes: string[]): string[] {
	if (value === undefined) return [];
	const parts: unknown[] = Array.isArray(value) ? value : String(value).split(',');
	const capabilities = new Set<string>();
	for (const part of parts) {
		const capability = typeof part === 'string' ? part.trim() : '';
		if (nameOfCapability.test(capability)) capabilities.add(capability);
		else {
			mistakes.push(
				`${source}: "${String(part)}" must be 1 to 63 letters, digits and . _ : / @ = -, beginning with a letter or digit.`,
			);
		}
	}
	return [...capabilities];
}

function readTransport({ value, source }: Picked, mistakes: string[]): WantedTransport {
	if (value === undefined) return 'auto';
	const transport = wantedTransports.find((known) => known === value);
	if (transport !== undefined) return transport;
	mistakes.push(`${source} must be one of ${wantedTransports.join(', ')}.`);
	return 'auto';
}

function readLogLevel({ value, source }: Picked, mistakes: string[]): LogLevel {
	if (value === undefined) return 'info';
	const level = logLevels.find((known) => known === String(value).toLowerCase());
	if (level !== undefined) return level;
	mistakes.push(`${source} must be one of ${logLevels.join(', ')}.`);
	return 'info';
}

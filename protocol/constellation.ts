/**
 * The constellation file of the seed: which devices there are, where their agents listen, how many tasks
 * they may run at once. Its names are the seed's (snake_case). All mistakes are reported at once, each with
 * path, value and what would be right. No file, no network in here.
 */

/** One device as the file names it, in our words. */
export interface DeviceConfig {
	/** The name of its robot. */
	deviceId: string;
	/** Where its agent listens; null = it dials the service. */
	serverUrl: string | null;
	/** SHA-256 of its robot's public key, 64 hex digits; no device is dialled without it. */
	fingerprint: string | null;
	clientIds: string[];
	capabilities: string[];
	metadata: Record<string, unknown>;
	autoConnect: boolean;
	/** How many more tries after the first one failed. */
	maxRetries: number;
}

export interface Constellation {
	constellationId: string;
	/** Seconds; null = as the service says. */
	heartbeatInterval: number | null;
	/** Seconds before the first new try; doubled for each further one. */
	reconnectDelay: number;
	/** Jobs that all of its devices together may run. */
	maxConcurrentTasks: number;
	devices: DeviceConfig[];
}

export interface ConstellationMistake {
	/** `devices[1].server_url`. */
	path: string;
	/** As it stands there, shortened. */
	value: string;
	/** The end of a sentence: `must be …`. */
	must: string;
}

export interface ReadConstellation {
	/** Absent when anything is wrong. */
	constellation?: Constellation;
	mistakes: ConstellationMistake[];
	/** Right, but perhaps not what was meant. */
	warnings: string[];
}

/** What makes a settings file a constellation file. */
export const constellationFields = [
	'constellation_id',
	'heartbeat_interval',
	'reconnect_delay',
	'max_concurrent_tasks',
	'devices',
] as const;

/** Each may be set by a variable instead, which wins; `CONSTELLATION_DEVICES` is the whole list as JSON. */
export const constellationVariables: Record<(typeof constellationFields)[number], string> = {
	constellation_id: 'CONSTELLATION_ID',
	heartbeat_interval: 'CONSTELLATION_HEARTBEAT_INTERVAL',
	reconnect_delay: 'CONSTELLATION_RECONNECT_DELAY',
	max_concurrent_tasks: 'CONSTELLATION_MAX_CONCURRENT_TASKS',
	devices: 'CONSTELLATION_DEVICES',
};

export const deviceFields = [
	'device_id',
	'server_url',
	'fingerprint',
	'local_client_ids',
	'capabilities',
	'metadata',
	'auto_connect',
	'max_retries',
] as const;

export const constellationDefaults = {
	constellationId: 'default',
	reconnectDelay: 5,
	maxConcurrentTasks: 4,
	maxRetries: 5,
} as const;

const maxDevices = 10_000;
const maxMetadataLength = 16_384;
const isDeviceId = /^[A-Za-z0-9][A-Za-z0-9 ._:@-]{0,127}$/;
const isWord = /^[A-Za-z0-9][A-Za-z0-9._:/@=-]{0,255}$/;

/** Reads what was parsed from JSON. `names` says what the author called a field, if not by its own name. */
export function readConstellation(
	value: unknown,
	names: Readonly<Record<string, string>> = {},
): ReadConstellation {
	const reader = new Reader(names);
	if (!isRecord(value)) {
		reader.wrong('the file', value, 'must hold one JSON object');
		return { mistakes: reader.mistakes, warnings: [] };
	}
	reader.onlyKnown('', value, constellationFields);
	const constellation: Constellation = {
		constellationId:
			reader.text('constellation_id', value['constellation_id'], isDeviceId, idRule) ??
			constellationDefaults.constellationId,
		heartbeatInterval:
			reader.number('heartbeat_interval', value['heartbeat_interval'], 0.1, 31_622_400) ?? null,
		reconnectDelay:
			reader.number('reconnect_delay', value['reconnect_delay'], 0.01, 3_600) ??
			constellationDefaults.reconnectDelay,
		maxConcurrentTasks:
			reader.whole('max_concurrent_tasks', value['max_concurrent_tasks'], 1, 1_000_000) ??
			constellationDefaults.maxConcurrentTasks,
		devices: readDevices(reader, value['devices']),
	};
	if (reader.mistakes.length > 0) return { mistakes: reader.mistakes, warnings: [] };
	return { constellation, mistakes: [], warnings: warningsOf(constellation) };
}

const idRule =
	'must be 1 to 128 letters, digits, spaces and . _ : @ -, beginning with a letter or digit';
const wordRule =
	'must be 1 to 256 letters, digits and . _ : / @ = -, beginning with a letter or digit';

function readDevices(reader: Reader, value: unknown): DeviceConfig[] {
	if (value === undefined) return [];
	if (!Array.isArray(value) || value.length > maxDevices) {
		reader.wrong('devices', value, `must be a list of at most ${maxDevices} devices`);
		return [];
	}
	const seen = new Map<string, string>();
	const once = (path: string, what: string | null, must: (first: string) => string) => {
		if (what === null) return;
		const first = seen.get(what);
		if (first !== undefined) reader.wrong(path, what, must(first));
		else seen.set(what, path);
	};
	return value.map((one: unknown, i) => {
		const at = `devices[${i}]`;
		const device = readDevice(reader, at, one);
		const name = device.deviceId === '' ? null : device.deviceId;
		once(`${at}.device_id`, name, (first) => `must differ from that of ${first}`);
		once(
			`${at}.fingerprint`,
			device.fingerprint,
			(first) => `is the key of ${first} already: each device has its own`,
		);
		return device;
	});
}

function readDevice(reader: Reader, at: string, value: unknown): DeviceConfig {
	const device = isRecord(value) ? value : {};
	if (device !== value) reader.wrong(at, value, 'must be an object with device_id');
	else reader.onlyKnown(at, device, deviceFields);
	const field = (name: (typeof deviceFields)[number]) => [`${at}.${name}`, device[name]] as const;
	if (device === value && device['device_id'] === undefined) {
		reader.wrong(...field('device_id'), idRule);
	}
	const metadata = device['metadata'] ?? {};
	if (!isRecord(metadata) || JSON.stringify(metadata).length > maxMetadataLength) {
		reader.wrong(
			...field('metadata'),
			`must be an object of at most ${maxMetadataLength} characters`,
		);
	}
	const switched = device['auto_connect'] ?? true;
	if (typeof switched !== 'boolean') {
		reader.wrong(...field('auto_connect'), 'must be true or false');
	}
	return {
		deviceId: reader.text(...field('device_id'), isDeviceId, idRule) ?? '',
		serverUrl: readUrl(reader, ...field('server_url')),
		fingerprint: readFingerprint(reader, ...field('fingerprint')),
		clientIds: reader.words(...field('local_client_ids'), isDeviceId, idRule),
		capabilities: reader.words(...field('capabilities'), isWord, wordRule),
		metadata: isRecord(metadata) ? metadata : {},
		autoConnect: switched === true,
		maxRetries:
			reader.whole(...field('max_retries'), 0, 1_000_000) ?? constellationDefaults.maxRetries,
	};
}

function readUrl(reader: Reader, path: string, value: unknown): string | null {
	if (value === undefined || value === null) return null;
	const mistake = typeof value === 'string' ? deviceUrlMistake(value) : deviceUrlRule;
	if (mistake === undefined) return value as string;
	reader.wrong(path, value, mistake);
	return null;
}

const deviceUrlRule = 'must be a ws:// or wss:// address such as ws://192.168.1.100:8765';

/** Why an agent cannot listen at this address; undefined = it can. */
export function deviceUrlMistake(value: string): string | undefined {
	const url = value.length <= 2_048 && URL.canParse(value) ? new URL(value) : undefined;
	if (!url || !/^(wss?|https?):$/.test(url.protocol) || url.hostname === '') return deviceUrlRule;
	if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
		return 'must be a bare address, without user, password, "?" or "#"';
	}
	return undefined;
}

/** As people copy it: with or without colons, in upper or lower case. */
export function hexFingerprint(text: string): string | undefined {
	const digits = text.replaceAll(':', '').toLowerCase();
	return /^[0-9a-f]{64}$/.test(digits) ? digits : undefined;
}

function readFingerprint(reader: Reader, path: string, value: unknown): string | null {
	if (value === undefined || value === null) return null;
	const fingerprint = typeof value === 'string' ? hexFingerprint(value) : undefined;
	if (fingerprint === undefined) {
		reader.wrong(
			path,
			value,
			'must be the 64 hex digits that robot-fleet-agent --listen prints on the device',
		);
	}
	return fingerprint ?? null;
}

function warningsOf({ devices }: Constellation): string[] {
	if (devices.length === 0) return ['there are no devices: "devices" is missing or empty'];
	const unknown = devices
		.filter(({ serverUrl, fingerprint }) => serverUrl !== null && fingerprint === null)
		.map(
			({ deviceId }) =>
				`${deviceId} has no fingerprint and is not dialled: start its agent with --listen, and add the fingerprint that it prints`,
		);
	const elsewhere = devices
		.filter(({ serverUrl }) => serverUrl !== null && !/^\/*$/.test(new URL(serverUrl).pathname))
		.map(
			({ deviceId, serverUrl }) =>
				`${deviceId}: the path in ${serverUrl} is not used: an agent that listens answers at a path of its own`,
		);
	return [...unknown, ...elsewhere];
}

/** One mistake as a sentence. */
export function tellMistake({ path, value, must }: ConstellationMistake): string {
	return `${path} is ${value}, it ${must}`;
}

class Reader {
	readonly mistakes: ConstellationMistake[] = [];
	readonly #names: Readonly<Record<string, string>>;

	constructor(names: Readonly<Record<string, string>>) {
		this.#names = names;
	}

	wrong(path: string, value: unknown, must: string): void {
		const [, head = path, rest = ''] = /^([^.[]*)(.*)$/s.exec(path) ?? [];
		const name = Object.hasOwn(this.#names, head) ? this.#names[head]! : head;
		this.mistakes.push({ path: name + rest, value: shown(value), must });
	}

	onlyKnown(at: string, value: Record<string, unknown>, known: readonly string[]): void {
		for (const name of Object.keys(value)) {
			if (known.includes(name)) continue;
			const path = `${at === '' ? '' : `${at}.`}${name.slice(0, 100)}`;
			this.wrong(path, value[name], `is no field here; known are ${known.join(', ')}`);
		}
	}

	text(path: string, value: unknown, is: RegExp, must: string): string | undefined {
		if (value === undefined || value === null) return undefined;
		if (typeof value === 'string' && is.test(value)) return value;
		this.wrong(path, value, must);
		return undefined;
	}

	/** A variable gives numbers as text. */
	number(path: string, value: unknown, min: number, max: number): number | undefined {
		if (value === undefined || value === null) return undefined;
		const number = numberOf(value);
		if (number >= min && number <= max) return number;
		this.wrong(path, value, `must be a number of seconds from ${min} to ${max}`);
		return undefined;
	}

	whole(path: string, value: unknown, min: number, max: number): number | undefined {
		if (value === undefined || value === null) return undefined;
		const number = numberOf(value);
		if (Number.isInteger(number) && number >= min && number <= max) return number;
		this.wrong(path, value, `must be a whole number from ${min} to ${max}`);
		return undefined;
	}

	words(path: string, value: unknown, is: RegExp, must: string): string[] {
		if (value === undefined || value === null) return [];
		if (!Array.isArray(value) || value.length > 256) {
			this.wrong(path, value, 'must be a list of at most 256 texts');
			return [];
		}
		for (const [i, word] of value.entries()) {
			if (typeof word !== 'string' || !is.test(word)) this.wrong(`${path}[${i}]`, word, must);
		}
		return [...new Set(value as string[])];
	}
}

function numberOf(value: unknown): number {
	if (typeof value === 'number') return value;
	return typeof value === 'string' && value.trim() !== '' ? Number(value) : NaN;
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
	if (value === undefined) return 'missing';
	const text = JSON.stringify(value) ?? String(value);
	return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}

/** What `robot-fleet config sample` prints: one device that is dialled, one that dials. */
export const sampleConstellation = {
	constellation_id: 'my_constellation',
	heartbeat_interval: 30.0,
	reconnect_delay: 5.0,
	max_concurrent_tasks: 8,
	devices: [
		{
			device_id: 'windows_workstation',
			server_url: 'wss://192.168.1.100:8765',
			fingerprint: '0123456789abcdef'.repeat(4),
			local_client_ids: ['client_1', 'client_2'],
			capabilities: ['screenshot', 'text_input', 'app_control'],
			metadata: { os: 'Windows', location: 'Office' },
			auto_connect: true,
			max_retries: 5,
		},
		{
			device_id: 'linux_server',
			local_client_ids: ['server_client'],
			capabilities: ['terminal', 'file_ops', 'automation'],
			metadata: { os: 'Linux', role: 'Server' },
		},
	],
} as const;

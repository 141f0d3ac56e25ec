import { type AgentConfig, type Configured, type Flags, readConfig } from '../../../agent/config';

const server = 'http://127.0.0.1:8765';
const noFile = (): string => {
	throw new Error('no file expected');
};

function read(flags: Flags, env: Record<string, string> = {}, file?: object): Configured {
	return readConfig(flags, env, file ? () => JSON.stringify(file) : noFile);
}

function configOf(flags: Flags, env: Record<string, string> = {}, file?: object): AgentConfig {
	const configured = read(flags, env, file);
	if (!configured.ok) throw new Error(configured.mistakes.join('\n'));
	return configured.config;
}

function mistakesOf(flags: Flags, env: Record<string, string> = {}, file?: object): string[] {
	const configured = read(flags, env, file);
	return configured.ok ? [] : [...configured.mistakes];
}

test('a flag wins over the environment, that over the file, that over the default', () => {
	const file = { slots: 3, name: 'file', data: '/file', labels: { a: '1' } };
	const env = { ROBOT_FLEET_AGENT_SLOTS: '2', ROBOT_FLEET_AGENT_NAME: 'env' };
	expect(configOf({ server, slots: '1', config: 'f' }, env, file)).toMatchObject({
		slots: 1,
		name: 'env',
		data: '/file',
		labels: { a: '1' },
		stopGraceMs: 10_000,
		logLevel: 'info',
	});
});

describe('the proxy', () => {
	const far = { server: 'https://fleet.example:8766' };
	const env = { HTTPS_PROXY: 'http://ada:secret@proxy:3128' };

	test.each<[string, Flags, Record<string, string>, object, string | undefined]>([
		[
			'that is set counts before that of the environment',
			{},
			env,
			{ proxy: 'http://b:1' },
			'http://b:1',
		],
		[
			'of a flag counts before that of the file',
			{ proxy: 'http://c:1' },
			{},
			{ proxy: 'http://b:1' },
			'http://c:1',
		],
		['"none" is none', { proxy: 'none' }, env, {}, undefined],
		['is none where nothing says one', {}, {}, {}, undefined],
	])('%s', (_, flags, given, file, proxy) => {
		expect(configOf({ ...far, config: 'f', ...flags }, given, file).proxy).toBe(proxy);
	});

	test('of the environment is among what was said: a service of the machine has no such environment', () => {
		expect(read(far, env)).toMatchObject({ said: { proxy: env.HTTPS_PROXY } });
		const direct = read(far, { ...env, NO_PROXY: 'fleet.example' });
		expect(direct).toMatchObject({ ok: true, config: { proxy: undefined } });
		expect(direct).not.toHaveProperty('said.proxy');
		expect(read({ server }, env)).not.toHaveProperty('said.proxy');
	});

	test('that is named for plain http is not left out without a word, except on this machine', () => {
		const plain = { server: 'http://fleet.example:8765', insecure: true };
		expect(mistakesOf({ ...plain, proxy: 'http://p:1' })).toEqual([
			'--proxy is a tunnel for https; leave it out, or reach the service by https.',
		]);
		expect(configOf(plain, env).proxy).toBeUndefined();
		expect(
			configOf({ server: 'http://127.0.0.1:8765', proxy: 'http://p:1' }).proxy,
		).toBeUndefined();
	});

	test('that is no address of one is refused by the name of who said it', () => {
		expect(mistakesOf({ ...far, proxy: 'socks5://p:1' })).toEqual([
			'--proxy must be an http:// or https:// address, or "none".',
		]);
		expect(mistakesOf(far, { ALL_PROXY: 'socks5://p:1' })[0]).toMatch(
			/^HTTPS_PROXY \(or ALL_PROXY\)/,
		);
	});
});

test("the seeds' environment names work", () => {
	const env = { SERVER_URL: server, API_KEY: 't', HEARTBEAT_INTERVAL: '5', LOG_LEVEL: 'DEBUG' };
	expect(configOf({}, env)).toMatchObject({
		server,
		token: 't',
		heartbeatMs: 5_000,
		logLevel: 'debug',
	});
});

test('all mistakes are reported at once, each with its name and what is allowed', () => {
	const mistakes = mistakesOf(
		{ slots: '0', label: ['nope'], config: 'f' },
		{ HEARTBEAT_INTERVAL: 'soon', LOG_LEVEL: 'loud' },
		{ nmae: 'x', capabilities: ['a b'] },
	);
	expect(mistakes).toHaveLength(7);
	expect(mistakes.join('\n')).toMatch(/"nmae" in the config file is not a setting; known ones are/);
	expect(mistakes.join('\n')).toMatch(/--server \(or SERVER_URL\) is missing/);
	expect(mistakes.join('\n')).toMatch(/--slots must be a whole number from 1 to 256/);
	expect(mistakes.join('\n')).toMatch(/HEARTBEAT_INTERVAL must be a number from 1 to 3600 seconds/);
	expect(mistakes.join('\n')).toMatch(/LOG_LEVEL must be one of/);
});

test.each(['http://127.0.0.1:1', 'http://localhost:1', 'http://[::1]:1', 'https://far.example'])(
	'%s needs no --insecure',
	(address) => expect(mistakesOf({ server: address })).toEqual([]),
);

test.each(['http://far.example', 'http://127.0.0.1.far.example', 'http://10.0.0.1:8765'])(
	'%s needs --insecure',
	(address) => {
		expect(mistakesOf({ server: address })).toEqual([expect.stringContaining('--insecure')]);
		expect(mistakesOf({ server: address, insecure: true })).toEqual([]);
	},
);

test.each(['far.example', 'ftp://a', 'http://u:p@127.0.0.1', 'http://127.0.0.1/?key=1', ''])(
	'%j is no address of a service',
	(address) => expect(mistakesOf({ server: address })).toHaveLength(1),
);

test('a path before the API is kept, a trailing slash is not', () => {
	expect(configOf({ server: 'https://far.example/fleet/' }).server).toBe(
		'https://far.example/fleet',
	);
});

test('labels hold "=" in their value and come from flags, a list or an object', () => {
	expect(configOf({ server, label: ['a=b=c', 'x='] }).labels).toEqual({ a: 'b=c', x: '' });
	const env = { ROBOT_FLEET_AGENT_LABELS: 'a=1, b=2' };
	expect(configOf({ server }, env).labels).toEqual({ a: '1', b: '2' });
});

test('a config file that is no JSON object is one mistake', () => {
	const configured = readConfig({ server, config: 'f' }, {}, () => '[1]');
	expect(configured).toMatchObject({
		ok: false,
		mistakes: [expect.stringContaining('JSON object')],
	});
});

describe('the constellation file of the service', () => {
	const devices = [
		{
			device_id: 'a',
			server_url: 'ws://192.168.1.9:8765',
			capabilities: ['x'],
			local_client_ids: ['client_1', 'client_2'],
		},
		{ device_id: 'b', capabilities: ['y'] },
		{ device_id: 'c', server_url: 'ws://127.0.0.1:9765' },
	];
	const file = { constellation_id: 'lab', heartbeat_interval: 30.0, devices };

	test('tells the agent of the device by its name what it can do, which clients it has, and where it listens', () => {
		expect(configOf({ config: 'f', name: 'a' }, {}, file)).toMatchObject({
			name: 'a',
			capabilities: ['x'],
			clients: [{ name: 'client_1' }, { name: 'client_2' }],
			slots: 2,
			heartbeatMs: 30_000,
			listen: { host: '0.0.0.0', port: 8765, tls: true },
			server: '',
		});
		expect(configOf({ config: 'f' }, { ROBOT_FLEET_AGENT_NAME: 'c' }, file).listen).toEqual({
			host: '127.0.0.1',
			port: 9765,
			tls: false,
		});
		expect(configOf({ config: 'f', name: 'b', server }, {}, file)).toMatchObject({
			server,
			capabilities: ['y'],
			listen: undefined,
		});
	});

	test('is outdone by what its owner says', () => {
		expect(configOf({ config: 'f', name: 'a', server }, {}, file).listen).toBeUndefined();
		const own = { ...file, name: 'a', listen: '127.0.0.1:1', capabilities: ['z'], slots: 3 };
		expect(configOf({ config: 'f' }, {}, own)).toMatchObject({
			listen: { host: '127.0.0.1', port: 1 },
			capabilities: ['z'],
			slots: 3,
		});
		for (const named of ['clients', 'local_client_ids']) {
			expect(configOf({ config: 'f', name: 'a' }, {}, { ...file, [named]: ['own'] })).toMatchObject(
				{
					clients: [{ name: 'own' }],
				},
			);
		}
	});

	test('that is wrong, or does not know this device, is told', () => {
		expect(mistakesOf({ config: 'f', name: 'd', server }, {}, file)).toEqual([
			'The config file has no device "d" (there are: a, b, c); say which one this is with --name.',
		]);
		expect(mistakesOf({ config: 'f', server }, {}, { devices: [{ device_id: '' }] })[0]).toMatch(
			/^devices\[0\]\.device_id is ""/,
		);
	});
});

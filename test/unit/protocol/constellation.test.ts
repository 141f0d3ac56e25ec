import fc from 'fast-check';
import {
	deviceUrlMistake,
	readConstellation,
	sampleConstellation,
	tellMistake,
} from '../../../protocol';
import { seedConstellation } from '../../support/seed-constellation';

const mistakesOf = (value: unknown) => readConstellation(value).mistakes.map(tellMistake);

test('the example of the seed is read unchanged', () => {
	const { constellation, mistakes, warnings } = readConstellation(JSON.parse(seedConstellation));
	expect(mistakes).toEqual([]);
	expect(constellation).toMatchObject({
		constellationId: 'my_constellation',
		heartbeatInterval: 30,
		reconnectDelay: 5,
		maxConcurrentTasks: 8,
	});
	expect(constellation!.devices).toEqual([
		{
			deviceId: 'windows_workstation',
			serverUrl: 'ws://192.168.1.100:8765',
			fingerprint: null,
			clientIds: ['client_1', 'client_2'],
			capabilities: ['screenshot', 'text_input', 'app_control'],
			metadata: { os: 'Windows', location: 'Office' },
			autoConnect: true,
			maxRetries: 5,
		},
		{
			deviceId: 'linux_server',
			serverUrl: 'ws://192.168.1.101:8765',
			fingerprint: null,
			clientIds: ['server_client'],
			capabilities: ['terminal', 'file_ops', 'automation'],
			metadata: { os: 'Linux', role: 'Server' },
			autoConnect: true,
			maxRetries: 5,
		},
	]);
	// Nobody could know who answers there: that is said, not done.
	expect(warnings).toHaveLength(2);
});

test('what a file leaves out is as the seed says', () => {
	const { constellation, warnings } = readConstellation({ devices: [{ device_id: 'a' }] });
	expect(constellation).toEqual({
		constellationId: 'default',
		heartbeatInterval: null,
		reconnectDelay: 5,
		maxConcurrentTasks: 4,
		devices: [
			{
				deviceId: 'a',
				serverUrl: null,
				fingerprint: null,
				clientIds: [],
				capabilities: [],
				metadata: {},
				autoConnect: true,
				maxRetries: 5,
			},
		],
	});
	expect(warnings).toEqual([]);
	expect(readConstellation({}).warnings).toEqual([
		'there are no devices: "devices" is missing or empty',
	]);
});

test('all mistakes are said at once, each with path, value and what is right', () => {
	const fingerprint = 'ab'.repeat(32);
	expect(
		mistakesOf({
			constellation_id: '',
			heartbeat_interval: -1,
			reconnect_delay: 'soon',
			max_concurrent_tasks: 1.5,
			max_tasks: 3,
			devices: [
				{ device_id: 'a', fingerprint },
				{ device_id: 'a', server_url: 'htp://x', fingerprint, retries: 3 },
				{ server_url: 'ws://me:pw@x:1' },
				'b',
				{
					device_id: '../c',
					fingerprint: 'abc',
					local_client_ids: 'one',
					capabilities: ['ok', 'not ok', 7],
					metadata: [],
					auto_connect: 'yes',
					max_retries: -1,
				},
			],
		}),
	).toEqual([
		'max_tasks is 3, it is no field here; known are constellation_id, heartbeat_interval, reconnect_delay, max_concurrent_tasks, devices',
		'constellation_id is "", it must be 1 to 128 letters, digits, spaces and . _ : @ -, beginning with a letter or digit',
		'heartbeat_interval is -1, it must be a number of seconds from 0.1 to 31622400',
		'reconnect_delay is "soon", it must be a number of seconds from 0.01 to 3600',
		'max_concurrent_tasks is 1.5, it must be a whole number from 1 to 1000000',
		'devices[1].retries is 3, it is no field here; known are device_id, server_url, fingerprint, local_client_ids, capabilities, metadata, auto_connect, max_retries',
		'devices[1].server_url is "htp://x", it must be a ws:// or wss:// address such as ws://192.168.1.100:8765',
		'devices[1].device_id is "a", it must differ from that of devices[0].device_id',
		`devices[1].fingerprint is "${fingerprint}", it is the key of devices[0].fingerprint already: each device has its own`,
		'devices[2].device_id is missing, it must be 1 to 128 letters, digits, spaces and . _ : @ -, beginning with a letter or digit',
		'devices[2].server_url is "ws://me:pw@x:1", it must be a bare address, without user, password, "?" or "#"',
		'devices[3] is "b", it must be an object with device_id',
		'devices[4].metadata is [], it must be an object of at most 16384 characters',
		'devices[4].auto_connect is "yes", it must be true or false',
		'devices[4].device_id is "../c", it must be 1 to 128 letters, digits, spaces and . _ : @ -, beginning with a letter or digit',
		'devices[4].fingerprint is "abc", it must be the 64 hex digits that robot-fleet-agent --listen prints on the device',
		'devices[4].local_client_ids is "one", it must be a list of at most 256 texts',
		'devices[4].capabilities[1] is "not ok", it must be 1 to 256 letters, digits and . _ : / @ = -, beginning with a letter or digit',
		'devices[4].capabilities[2] is 7, it must be 1 to 256 letters, digits and . _ : / @ = -, beginning with a letter or digit',
		'devices[4].max_retries is -1, it must be a whole number from 0 to 1000000',
	]);
});

test.each([
	[[], 'the file is [], it must hold one JSON object'],
	[null, 'the file is null, it must hold one JSON object'],
	[{ devices: {} }, 'devices is {}, it must be a list of at most 10000 devices'],
])('%j is no constellation', (value, mistake) => {
	expect(mistakesOf(value)).toEqual([mistake]);
});

test('a mistake is named by the variable that said it', () => {
	const names = { devices: 'CONSTELLATION_DEVICES' };
	const { mistakes } = readConstellation({ devices: [{ device_id: '' }] }, names);
	expect(mistakes[0]!.path).toBe('CONSTELLATION_DEVICES[0].device_id');
});

test('a fingerprint may be written with colons and in capitals', () => {
	const fingerprint = 'AB'.repeat(32).replace(/(..)(?=.)/g, '$1:');
	const { constellation } = readConstellation({ devices: [{ device_id: 'a', fingerprint }] });
	expect(constellation!.devices[0]!.fingerprint).toBe('ab'.repeat(32));
});

test('the sample is right', () => {
	expect(readConstellation(sampleConstellation)).toMatchObject({ mistakes: [], warnings: [] });
});

const word = fc.stringMatching(/^[a-z][a-z0-9._-]{0,20}$/);
const device = fc.record(
	{
		device_id: word,
		server_url: fc.constantFrom('ws://a:1', 'wss://[::1]:2/x', 'https://b'),
		fingerprint: fc.stringMatching(/^[0-9a-f]{64}$/),
		local_client_ids: fc.array(word, { maxLength: 4 }),
		capabilities: fc.array(word, { maxLength: 4 }),
		metadata: fc.dictionary(word, fc.jsonValue({ maxDepth: 1 }), { maxKeys: 4 }),
		auto_connect: fc.boolean(),
		max_retries: fc.nat(100),
	},
	{ requiredKeys: ['device_id'] },
);

test('whatever is read is either taken or has a mistake, and never throws', () => {
	const anything = fc.jsonValue({ maxDepth: 4 });
	const near = fc.record(
		{ devices: fc.array(fc.oneof(device, anything), { maxLength: 4 }), reconnect_delay: anything },
		{ requiredKeys: [] },
	);
	fc.assert(
		fc.property(fc.oneof(anything, near), (value) => {
			const { constellation, mistakes } = readConstellation(value);
			expect(constellation === undefined).toBe(mistakes.length > 0);
		}),
	);
});

test('a right file is taken whole, with its devices in their order', () => {
	const devices = fc.uniqueArray(device, {
		maxLength: 5,
		comparator: (a, b) =>
			a.device_id === b.device_id ||
			(a.fingerprint !== undefined && a.fingerprint === b.fingerprint),
	});
	fc.assert(
		fc.property(devices, (list) => {
			const { constellation, mistakes } = readConstellation({ devices: list });
			expect(mistakes).toEqual([]);
			expect(constellation!.devices.map(({ deviceId }) => deviceId)).toEqual(
				list.map(({ device_id }) => device_id),
			);
		}),
	);
});

test('an address of a device is a bare one', () => {
	for (const good of ['ws://a', 'wss://a:1/b', 'http://[::1]:5', 'https://a.b']) {
		expect(deviceUrlMistake(good)).toBeUndefined();
	}
	for (const bad of ['', 'a:1', 'ftp://a', 'ws://', 'ws://a?b', 'ws://a#b', 'ws://u@a']) {
		expect(deviceUrlMistake(bad)).toBeDefined();
	}
});

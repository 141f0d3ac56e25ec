import { createConstellationClient, type SendRequest } from '../../../client';
import { Problem, type Robot } from '../../../protocol';
import { seedConstellation } from '../../support/seed-constellation';

/** A service that takes every device but those called `bad…`. */
function service() {
	const asked: SendRequest[] = [];
	const robots = new Map<string, Partial<Robot>>();
	const send = async (request: SendRequest) => {
		asked.push(request);
		const { method, path, body } = request;
		const [, name = '', verb] = /\/robots\/([^/]+)(?:\/(\w+))?$/.exec(path) ?? [];
		if (method === 'POST' && path === '/api/v1/robots') {
			const { name: called, constellationId, serverUrl } = body as Record<string, string>;
			if (called!.startsWith('bad')) {
				const error = new Problem('robot-taken', { name: called! }).toBody();
				return { status: 409, body: { error } };
			}
			const dial = serverUrl && { state: 'waiting' };
			robots.set(called!, {
				name: called!,
				connected: false,
				device: { constellationId, dial },
			} as unknown as Robot);
			return { status: 201, body: robots.get(called!) };
		}
		if (path === '/api/v1/robots') return { status: 200, body: { items: [...robots.values()] } };
		const robot = robots.get(name);
		if (!robot) {
			return { status: 404, body: { error: new Problem('no-such-robot', { id: name }).toBody() } };
		}
		if (verb === 'connect') robot.connected = true;
		if (verb === 'disconnect') robot.connected = false;
		return { status: 200, body: robot };
	};
	return { send, asked, robots };
}

test('the file of the seed is taken unchanged, and its devices are registered', async () => {
	const { send, asked } = service();
	const client = await createConstellationClient({
		send,
		configFile: 'constellation_config.json',
		readFile: () => seedConstellation,
	});
	expect(asked.map(({ body }) => body)).toEqual([
		{
			name: 'windows_workstation',
			constellationId: 'my_constellation',
			serverUrl: 'ws://192.168.1.100:8765',
			clientIds: ['client_1', 'client_2'],
			capabilities: ['screenshot', 'text_input', 'app_control'],
			metadata: { os: 'Windows', location: 'Office' },
			autoConnect: true,
			maxRetries: 5,
		},
		expect.objectContaining({ name: 'linux_server', serverUrl: 'ws://192.168.1.101:8765' }),
	]);
	expect((await client.devices()).map(({ name }) => name)).toEqual([
		'windows_workstation',
		'linux_server',
	]);
	expect(await client.connectDevice('linux_server')).toBe(true);
	expect((await client.connectedDevices()).map(({ name }) => name)).toEqual(['linux_server']);
	await client.shutdown();
	await client.shutdown();
	expect(await client.connectedDevices()).toEqual([]);
});

test('shutdown disconnects all that are left, whichever were removed meanwhile', async () => {
	const { send, robots } = service();
	const client = await createConstellationClient({ send, config: seedConstellation });
	await client.connectDevice('linux_server');
	robots.delete('windows_workstation');
	await client.shutdown();
	expect(robots.get('linux_server')!.connected).toBe(false);
});

test('a device that the service does not take is false, with the reason', async () => {
	const { send } = service();
	const client = await createConstellationClient({ send, config: { devices: [] } });
	expect(await client.registerDevice({ deviceId: 'good' })).toBe(true);
	expect(await client.registerDevice({ deviceId: 'bad' })).toBe(false);
	expect(client.refused.get('bad')?.code).toBe('robot-taken');
});

test('a wrong file is refused with all that is wrong, and nothing is registered', async () => {
	const { send, asked } = service();
	const config = '{"devices": [{"device_id": ""}, {"server_url": "x"}]}';
	await expect(createConstellationClient({ send, config })).rejects.toThrow(
		/devices\[0\]\.device_id is "".*devices\[1\]\.device_id is missing.*devices\[1\]\.server_url/,
	);
	await expect(createConstellationClient({ send, config: '{' })).rejects.toThrow(/not valid JSON/);
	await expect(createConstellationClient({ send })).rejects.toThrow(/give `config`/);
	expect(asked).toEqual([]);
});

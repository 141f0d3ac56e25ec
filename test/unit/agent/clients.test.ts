import { clientFor, readClients } from '../../../agent/clients';
import { readConfig } from '../../../agent/config';

const server = 'http://127.0.0.1:8765';

function read(flags: object, env: Record<string, string> = {}, file?: object) {
	const configured = readConfig({ server, ...flags }, env, () => JSON.stringify(file));
	if (!configured.ok) throw new Error(configured.mistakes.join('\n'));
	return configured;
}

const plain = (...names: string[]) => names.map((name) => ({ name, env: {} }));

test('clients are named by flags, by the environment, or by the file, there by the name of the seed too', () => {
	expect(read({ client: ['a', 'b c'] }).config.clients).toEqual(plain('a', 'b c'));
	expect(read({}, { ROBOT_FLEET_CLIENTS: 'a, b' }).config.clients).toEqual(plain('a', 'b'));
	const config = 'f';
	expect(read({ config }, {}, { local_client_ids: ['a', 'b'] }).config.clients).toEqual(
		plain('a', 'b'),
	);
	const clients = [{ name: 'phone', env: { ANDROID_SERIAL: 'emulator-5554' } }, 'tablet'];
	expect(read({ config }, {}, { clients }).config.clients).toEqual([
		clients[0],
		...plain('tablet'),
	]);
	expect(read({ config, client: ['x'] }, {}, { clients }).config.clients).toEqual(plain('x'));
});

test('a robot has as many slots as clients, unless it is told otherwise', () => {
	expect(read({}).config).toMatchObject({ slots: 1, clients: [] });
	expect(read({ client: ['a', 'b', 'c'] }).config.slots).toBe(3);
	expect(read({ client: ['a', 'b', 'c'], slots: '2' }).config.slots).toBe(2);
});

test('what install writes down says the same again', () => {
	const { said, config } = read({ client: ['a', 'b'] });
	expect(read({ config: 'f' }, {}, said).config.clients).toEqual(config.clients);
});

test('each mistake about clients is one sentence', () => {
	const mistakesOf = (value: unknown) => {
		const mistakes: string[] = [];
		readClients(value, '"clients"', mistakes);
		return mistakes;
	};
	expect(mistakesOf(['a', 'a'])).toEqual(['"clients": "a" is there twice.']);
	expect(mistakesOf([' ', '-x', 7, { env: {} }])).toHaveLength(4);
	expect(mistakesOf(['a\u001b[31m'])).toHaveLength(1);
	expect(mistakesOf([{ name: 'a', enw: {} }])[0]).toMatch(/has "enw"; known are name and env/);
	expect(mistakesOf([{ name: 'a', env: { X: 1 } }])[0]).toMatch(/which "X" is not/);
	expect(mistakesOf([{ name: 'a', env: 'X=1' }])).toHaveLength(1);
	expect(mistakesOf(Array.from({ length: 300 }, (_, i) => `c${i}`))[0]).toMatch(/at most 256/);
	expect(mistakesOf(undefined)).toEqual([]);
});

test('a job gets the client it asks for, or any that is free, or hears why not', () => {
	const clients = plain('a', 'b');
	const taken = (...names: string[]) => new Set(names);
	expect(clientFor('b', clients, taken('a'))).toEqual({ client: 'b' });
	expect(clientFor(undefined, clients, taken('a'))).toEqual({ client: 'b' });
	expect(clientFor(undefined, [], taken())).toEqual({});
	expect(clientFor('b', clients, taken('b'))).toEqual({ none: 'Client b of the robot is taken.' });
	expect(clientFor('c', clients, taken())).toEqual({
		none: 'The robot has no client c any more.',
	});
	expect(clientFor(undefined, clients, taken('a', 'b'))).toEqual({
		none: 'Every client of the robot is taken.',
	});
});

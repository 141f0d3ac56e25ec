/** What jobs share, over real HTTP and with the real command line, on a real engine and store. */
import { FleetClient } from '../../../client';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { httpSend } from '../../../dispatcher/cli/transport';
import { systemClock } from '../../../dispatcher/engine/clock';
import { type Server, startServer } from '../../../dispatcher/server';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let server: Server;
let client: FleetClient;
let world: ProgramWorld;
let said: { out: string; err: string };

beforeEach(async () => {
	h = await house();
	const { key } = await h.engine.createKey({ name: 'ana', scopes: ['admin'] }, admin);
	server = await startServer({
		engine: h.engine,
		clock: systemClock,
		log: { debug() {}, info() {}, warn() {}, error() {} },
		version: '0.0.0',
		host: '127.0.0.1',
		port: 0,
		settings: {},
		tls: { folder: '/nowhere' },
		takeBackup: () => Promise.reject(new Error('nobody asks for one')),
	});
	client = new FleetClient(httpSend({ url: server.url, key }));
	said = { out: '', err: '' };
	world = {
		version: '0.0.0',
		env: { ROBOT_FLEET_URL: server.url, ROBOT_FLEET_KEY: key },
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => h.clock.now(),
		sleep: async () => undefined,
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		serve: async () => 0,
		upkeep: {} as ProgramWorld['upkeep'],
	};
});
afterEach(async () => {
	await server.close();
	await h.close();
});

async function run(...words: string[]): Promise<string> {
	said.out = said.err = '';
	const code = await runProgram(words, world);
	expect([code, said.err]).toEqual([0, '']);
	await settled();
	return said.out;
}
const submit = async (...flags: string[]) => (await run('submit', ...flags, '--', 'true')).trim();

test('a lock is taken, seen, explained, widened and closed from the command line', async () => {
	await h.robot('build-01', { slots: 4 });
	const first = await submit('--lock', 'db-prod');
	const second = await submit('--lock', 'db-prod');
	expect(await run('locks')).toMatch(
		new RegExp(`lock +db-prod +1/1 +${first} +build-01 +2026-01-01 .* +1\\n`),
	);
	expect(await run('jobs', 'why', second)).toContain(`lock db-prod, held by job ${first}`);
	const shown = await run('locks', 'show', 'db-prod');
	expect(shown).toContain(first);
	expect(shown).toContain(second);
	expect(await run('limits', 'put', 'db-prod', '2')).toBe('db-prod has 2\n');
	expect((await client.job(second)).state).toBe('dispatched');
	expect(await run('locks', 'list')).toMatch(new RegExp(`db-prod +2/2 +${first} \\+1`));
	await run('limits', 'put', 'db-prod', '0');
	const third = await submit('--lock', 'db-prod');
	expect(await run('jobs', 'why', third)).toContain('robot-fleet limits put db-prod 1');
	expect(await run('limits', 'remove', 'db-prod')).toContain('removed');
	await expect(client.removeLimit('db-prod')).rejects.toMatchObject({ code: 'no-such-limit' });
	const wide = client.submit({
		kind: 'command',
		spec: { command: 'true' },
		locks: [{ name: 'db-prod', slots: 2 }],
	});
	await expect(wide).rejects.toMatchObject({ code: 'lock-too-small', status: 422 });
});

test('keys, rates and slots go through the command line as they are said', async () => {
	await h.robot('r1', { slots: 4 });
	const id = await submit(
		...['--lock', 'licence', '--concurrency', 'crm=3', '--rate', 'crm=10/1m', '--slots', '2'],
	);
	expect(await client.job(id)).toMatchObject({
		locks: [{ name: 'licence' }],
		concurrency: { key: 'crm', max: 3 },
		rate: { key: 'crm', max: 10, perMs: 60_000 },
		slots: 2,
		state: 'dispatched',
	});
	expect((await client.robots())[0]).toMatchObject({ held: 1, slotsUsed: 2 });
	expect((await client.locks()).map(({ of, name, used, max }) => [of, name, used, max])).toEqual([
		['concurrency', 'crm', 1, 3],
		['lock', 'licence', 1, 1],
		['rate', 'crm', 1, null],
	]);
	for (const [flag, wrong] of [
		['--concurrency', 'crm'],
		['--rate', 'crm=10'],
		['--slots', '0'],
		['--lock', 'licence:0'],
	] as const) {
		said.err = '';
		expect([flag, await runProgram(['submit', flag, wrong, '--', 'true'], world)]).toEqual([
			flag,
			2,
		]);
		expect(said.err).toContain('Write');
	}
});

test('jobs of a schedule need what it says, and an update changes only what it names', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	await run(
		...['schedules', 'add', 'nightly', '--every', '1h', '--lock', 'db', '--rate', 'crm=1/h'],
		...['--', 'true'],
	);
	await run('schedules', 'update', 'nightly', '--slots', '2');
	expect((await client.schedule('nightly')).job).toMatchObject({
		locks: [{ name: 'db' }],
		rate: { key: 'crm', max: 1, perMs: 3_600_000 },
		slots: 2,
	});
	const holder = await submit('--lock', 'db');
	const { jobId } = await client.runSchedule('nightly');
	await settled();
	expect(await client.job(jobId!)).toMatchObject({ state: 'queued', slots: 2 });
	expect((await client.why(jobId!)).text).toContain(`lock db, held by job ${holder}`);
	await robot.end();
	await settled();
	expect((await client.job(jobId!)).state).toBe('dispatched');
});

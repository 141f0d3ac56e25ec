/** What jobs share, over real HTTP and with the real command line, on a real engine and store. */
import type { FleetClient } from '../../../client';
import type { House } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { type ServedHouse, servedHouse } from '../../support/served-house';

let desk: ServedHouse;
let h: House;
let client: FleetClient;

beforeEach(async () => {
	desk = await servedHouse();
	({ h, client } = desk);
});
afterEach(() => desk.close());

async function run(...words: string[]): Promise<string> {
	const printed = await desk.run(...words);
	await settled();
	return printed;
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
		expect([flag, await desk.call('submit', flag, wrong, '--', 'true')]).toEqual([flag, 2]);
		expect(desk.said.err).toContain('Write');
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

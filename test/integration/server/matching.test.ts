/** Targets, strategies, groups and pools over real HTTP and with the real command line, on a real engine and store. */
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

const run = (...words: string[]) => desk.run(...words);

test('groups and pools are made, shown, used and removed from the command line', async () => {
	await h.robot('r1', { labels: { disk: 'ssd' } });
	await h.robot('r2');
	await run('groups', 'put', 'site');
	expect(await run('groups', 'put', 'hall', '--parent', 'site', '--robot', 'r2')).toBe(
		'hall has 1 robot\n',
	);
	expect(await run('groups', 'list')).toMatch(/hall +site +r2 +1\n/);
	expect(await run('groups', 'show', 'site')).toContain('r2');
	expect(await run('pools', 'put', 'fast', '--tag', 'disk', '--max-jobs', '1')).toBe(
		'fast has 1 robot\n',
	);
	expect(await run('pools', 'list')).toMatch(/fast +disk +0\/1 +1\n/);
	const inGroup = (await run('submit', '--group', 'site', '--', 'true')).trim();
	const inPool = (await run('submit', '--pool', 'fast', '--', 'true')).trim();
	await settled();
	const robots = await client.robots();
	const nameOf = async (id: string) => {
		const { robotId } = await client.job(id);
		return robots.find((robot) => robot.robotId === robotId)?.name;
	};
	expect([await nameOf(inGroup), await nameOf(inPool)]).toEqual(['r2', 'r1']);
	expect(await run('pools', 'show', 'fast')).toMatch(/jobs +1\n/);
	await run('pools', 'remove', 'fast');
	await run('groups', 'remove', 'hall');
	await run('groups', 'remove', 'site');
	expect(await client.groups()).toEqual([]);
	expect(await client.pools()).toEqual([]);
	await expect(client.group('site')).rejects.toMatchObject({ code: 'no-such-group' });
});

test('what a job asks of a robot goes through the command line as it is said', async () => {
	await h.robot('r1');
	await h.robot('r2');
	const words = ['--strategy', 'affinity', '--affinity-key', 'nightly', '--prefer-wait', '2s'];
	const where = ['--exclude', 'r1', '--prefer', 'r2:5', '--prefer', 'disk=ssd'];
	const id = (await run('submit', ...words, ...where, '--', 'true')).trim();
	expect(await client.job(id)).toMatchObject({
		strategy: 'affinity',
		affinityKey: 'nightly',
		preferWaitMs: 2_000,
		target: {
			exclude: ['r1'],
			prefer: [{ robot: 'r2', weight: 5 }, { labels: { disk: 'ssd' } }],
		},
	});
	const tagged = (
		await run('submit', '--tag', 'gpu', '--environment', 'prod', '--', 'true')
	).trim();
	expect((await client.job(tagged)).target).toEqual({ tags: ['gpu'], environment: 'prod' });
	expect((await client.why(tagged)).text).toContain('environment=prod');
});

test('why a job waits, and what would become of one, is told at the command line', async () => {
	await h.robot('r1', { labels: { os: 'mac' } });
	const id = (await run('submit', '--label', 'os=linux', '--', 'true')).trim();
	const told = await run('why', id, '--robots');
	expect(told).toContain('1 robot: 0 match, 0 free; 1 label\n');
	expect(told).toMatch(/r1 +label +has the label os=mac, not os=linux\n/);
	expect(await run('jobs', 'why', id, '--matching')).not.toMatch(/^r1 /m);
	expect(await run('submit', '--preview', '--label', 'os=mac', '--', 'true')).toContain(
		'It would start on r1 at once.',
	);
	expect((await client.jobs()).items).toHaveLength(1);
	const strict = ['submit', '--strict', '--label', 'os=linux', '--', 'true'];
	expect(await desk.call(...strict)).toBe(1);
	expect(desk.said.err).toContain('[no-robot-fits]');
	expect(await desk.call('submit', '--preview', ...strict.slice(1))).toBe(1);
	const given = (await run('submit', '--label', 'os=mac', '--', 'true')).trim();
	expect(await run('why', given)).toContain('r1 was chosen by least_loaded');
	expect((await client.attempts(given))[0]!.choice).toMatchObject({ winner: { name: 'r1' } });
});

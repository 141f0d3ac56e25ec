/** Parked executions from the command line and over real HTTP: seen, delivered again, and collected by nobody else. */
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

const submit = async () => (await desk.run('submit', '--', 'true')).trim();
const secret = 's'.repeat(43);

test('waits are listed by state, and one is delivered again', async () => {
	const robot = await h.robot('r1');
	const jobId = await submit();
	const { waitId } = await client.createWait({
		jobIds: [jobId],
		executionId: '231',
		nodeId: 'n',
		resumeUrl: 'http://n8n.example.com/webhook-waiting/231/n',
		collector: secret,
	});
	expect(await desk.run('waits')).toMatch(new RegExp(`${waitId} +open +231 +1 `));
	expect(await desk.run('waits', 'list', '--state', 'dead')).not.toContain(waitId);
	await robot.end();
	await settled();
	expect(await desk.run('waits', 'deliver', waitId)).toBe(`${waitId} is due\n`);
	expect(JSON.parse(await desk.run('waits', 'list', '--state', 'due', '--json'))).toMatchObject([
		{ waitId, jobIds: [jobId], until: 'all', counts: 'ended' },
	]);
	expect(await desk.call('waits', 'list', '--state', 'lost')).toBe(2);
});

test('who knows the secret of a wait needs no key to collect it; who does not learns nothing', async () => {
	const robot = await h.robot('r1');
	const jobId = await submit();
	const resumeUrl = 'http://n8n.example.com/webhook-waiting/231/n';
	const { waitId } = await client.createWait({ jobIds: [jobId], resumeUrl, collector: secret });
	await robot.end();
	await h.clock.advance(1_000);
	const post = async (path: string, body: object) => {
		const answer = await fetch(`${desk.server.url}/api/v1/${path}`, {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify(body),
		});
		const text = await answer.text();
		return { status: answer.status, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
	};
	const stranger = await post('collect', { collector: 'o'.repeat(43), waitMs: 20_000 });
	expect(stranger).toEqual({ status: 200, body: { pokes: [], open: 0 } });
	expect((await post('collect', { collector: 'short' })).status).toBe(422);
	const ours = await post('collect', { collector: secret, waitMs: 20_000 });
	expect(ours.body).toMatchObject({ open: 1, pokes: [{ resumeUrl, poke: { waitId } }] });
	const answers = [{ waitId, status: 200, body: { resumed: true } }];
	expect((await post('collected', { collector: secret, answers })).status).toBe(204);
	expect((await client.wait(waitId)).state).toBe('closed');
});

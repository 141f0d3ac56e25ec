import type { ICredentialsDecrypted } from 'n8n-workflow';
import { getKindFields, getKinds } from '../../../nodes/shared/kind-fields';
import { robotFleetApiTest } from '../../../nodes/shared/credential-test';
import { getCapabilities, getMatchingRobots, searchRobots } from '../../../nodes/shared/robots';
import { asCredentialTest, FakeExecution, type Parameters } from './fake-n8n';
import type { Send } from '../../../client';
import { FakeService, robots } from './fake-service';

const options = (parameters: Parameters = {}) =>
	new FakeExecution(new FakeService()).asLoadOptions(parameters);

describe('lists in the editor', () => {
	test('robots are found by a part of their name, with their state', async () => {
		const { results } = await searchRobots.call(options(), 'BERL');
		expect(results).toMatchObject([
			{ name: 'berlin-1 (online)', value: robots[0]!.robotId },
			{ name: 'berlin-2 (busy)', value: robots[1]!.robotId },
		]);
	});

	test('capabilities say how many robots have them', async () => {
		expect(await getCapabilities.call(options())).toEqual([
			{ name: 'gpu (2 of 3 robots)', value: 'gpu' },
		]);
	});

	test('matching robots are counted first, then each says what excludes it', async () => {
		const list = await getMatchingRobots.call(
			options({ labels: 'site=berlin', capabilities: ['gpu'] }),
		);
		expect(list.map(({ name }) => name)).toEqual([
			'1 of 3 match, 1 free',
			'berlin-1: online',
			'berlin-2: lacks gpu',
			'paris-1: lacks site=berlin',
		]);
	});

	test('robots that only play work match when they are asked for, or take any', async () => {
		const [first] = robots;
		const played = (name: string, more: Record<string, string> = {}) => ({
			...first!,
			name,
			labels: { ...first!.labels, simulated: 'true', ...more },
		});
		const send: Send = () =>
			Promise.resolve({
				status: 200,
				body: { items: [played('sim-1'), played('sim-2', { 'simulated.takes': 'any' })] },
			});
		const names = async (labels: string) =>
			(
				await getMatchingRobots.call(
					new FakeExecution({ send }).asLoadOptions(labels === '' ? { runOn: 'any' } : { labels }),
				)
			).map(({ name }) => name);
		expect(await names('')).toEqual([
			'1 of 2 match, 1 free',
			'sim-1: is simulated',
			'sim-2: online',
		]);
		expect(await names('simulated=true')).toEqual([
			'2 of 2 match, 2 free',
			'sim-1: online',
			'sim-2: online',
		]);
	});
});

describe('kinds of jobs', () => {
	const service = new FakeService();
	service.kinds = [
		{
			name: 'navigation',
			summary: 'Go somewhere.',
			schema: {
				type: 'object',
				required: ['tree'],
				properties: {
					tree: { type: 'string' },
					mode: { enum: ['fast', 'safe'] },
					depth: { type: 'integer' },
					steps: { type: 'array' },
					extra: { anyOf: [] },
				},
			},
		},
	];
	const asked = (kind: string) => new FakeExecution(service).asLoadOptions({ kind });

	test('are listed with what they do', async () => {
		expect(await getKinds.call(asked(''))).toEqual([
			{ name: 'navigation', value: 'navigation', description: 'Go somewhere.' },
		]);
	});

	test('have the fields of their schema', async () => {
		const { fields } = await getKindFields.call(asked('navigation'));
		expect(fields.map(({ id, type, required }) => [id, type, required])).toEqual([
			['tree', 'string', true],
			['mode', 'options', false],
			['depth', 'number', false],
			['steps', 'array', false],
			['extra', 'object', false],
		]);
		expect((await getKindFields.call(asked('gone'))).fields).toEqual([]);
	});
});

describe('the test of the credential', () => {
	const credential = (data: object) =>
		({ id: '1', name: 'Fleet', type: 'robotFleetApi', data }) as ICredentialsDecrypted;
	const server = credential({ connection: 'server', url: 'http://fleet/', apiKey: 'k' });

	test('names the key and what it may do', async () => {
		expect(await robotFleetApiTest.call(asCredentialTest(new FakeService()), server)).toEqual({
			status: 'OK',
			message: 'Connected as "n8n" (submit, read, cancel)',
		});
	});

	test('a key that may not submit is told apart from a good one', async () => {
		const service = new FakeService();
		service.scopes = ['read'];
		expect(await robotFleetApiTest.call(asCredentialTest(service), server)).toMatchObject({
			status: 'Error',
			message: expect.stringContaining('lacks the scope "submit"'),
		});
	});

	test('a server that does not answer and an address that is none are said in words', async () => {
		const service = new FakeService();
		service.away = true;
		const context = asCredentialTest(service);
		expect(await robotFleetApiTest.call(context, server)).toMatchObject({
			status: 'Error',
			message: expect.stringContaining('does not answer'),
		});
		const wrong = credential({ connection: 'server', url: 'fleet:8765', apiKey: 'k' });
		expect(await robotFleetApiTest.call(context, wrong)).toMatchObject({
			status: 'Error',
			message: expect.stringContaining('not a URL'),
		});
	});
});

/**
 * Our nodes as tools of n8n's own AI Agent: the agent, its chat model and the tool twins are n8n's, the
 * model behind them is a server of this test that says which tool it wants.
 */
import type { Job } from '../../protocol';
import {
	type ChatRequest,
	OpenAiStandIn,
	toolAnswers,
	type Turn,
} from '../support/openai-stand-in';
import { Fleet } from './fleet';

const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const asked = (key: string, description: string, type = 'string') =>
	`={{ $fromAI('${key}', '${description}', '${type}') }}`;

describe('our nodes as tools of an AI agent', () => {
	let fleet: Fleet;
	let model: OpenAiStandIn;
	let openAi: { id: string; name: string };

	beforeAll(async () => {
		fleet = await Fleet.start();
		model = await OpenAiStandIn.open(() => 'Nothing to do.');
		openAi = await fleet.n8n.createCredential({
			name: 'Stand-in',
			type: 'openAiApi',
			data: { apiKey: 'none', url: model.url, header: false },
		});
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		await fleet.startAgent('berlin-1');
	}, 600_000);
	afterAll(async () => {
		await fleet?.stop();
		await model?.[Symbol.asyncDispose]();
	}, 60_000);

	const tool = (name: string, type: string, parameters: object) => ({
		...fleet.ours(name, `${type}Tool`, { toolDescription: `Does ${name}`, ...parameters }),
	});

	/** An agent with these tools, and a model that says one turn after the other. */
	async function execute(tools: Array<{ name: string }>, turns: Turn[]) {
		model.next((request) => turns[request.messages.filter(isAnswered).length] ?? 'Done.');
		const nodes = [
			manual,
			{
				name: 'Agent',
				type: '@n8n/n8n-nodes-langchain.agent',
				typeVersion: 3,
				parameters: { promptType: 'define', text: 'Look after the fleet.', options: {} },
			},
			{
				name: 'Model',
				type: '@n8n/n8n-nodes-langchain.lmChatOpenAi',
				typeVersion: 1.2,
				parameters: { model: { __rl: true, mode: 'id', value: 'stand-in' }, options: {} },
				credentials: { openAiApi: openAi },
			},
			...tools,
		];
		const to = (type: string) => ({ [type]: [[{ node: 'Agent', type, index: 0 }]] });
		const { id } = await fleet.n8n.createWorkflow({
			nodes,
			connections: {
				Manual: to('main'),
				Model: to('ai_languageModel'),
				...Object.fromEntries(tools.map(({ name }) => [name, to('ai_tool')])),
			},
			settings: { executionOrder: 'v1' },
		});
		await fleet.n8n.runManually(id, 'Manual');
		// One that waits would be found as well, and would be wrong.
		return await fleet.n8n.waitForExecution(
			(each) => each.workflowId === id && ['success', 'error', 'waiting'].includes(each.status),
			60_000,
		);
	}

	async function run(tools: Array<{ name: string }>, turns: Turn[]) {
		const { status, data } = await execute(tools, turns);
		expect([status, data.resultData.error]).toEqual(['success', undefined]);
		return { said: model.requests, last: model.requests.at(-1)! };
	}
	/** What the model has already asked for. */
	const isAnswered = ({ role, tool_calls }: ChatRequest['messages'][number]) =>
		role === 'assistant' && tool_calls !== undefined;

	test('a node that can only park is none', async () => {
		// n8n does not even start it.
		await expect(execute([tool('Wait', 'waitForExecution', {})], [])).rejects.toThrow(
			'Node cannot be used as a tool',
		);
		expect(model.requests).toEqual([]);
	}, 60_000);

	test('parameters that the model fills in are typed and described, and come through', async () => {
		const { said, last } = await run(
			[
				tool('Run', 'dispatchToRobot', {
					robot: { __rl: true, mode: 'id', value: asked('robot', 'Name of the robot') },
					commandType: 'shell',
					shell: asked('command', 'What the shell of the robot runs'),
					toolWaitSeconds: asked('seconds', 'How long to wait', 'number'),
				}),
				tool('Submit', 'submitJob', {
					program: asked('program', 'The program to start'),
				}),
				tool('Robots', 'robotFleet', { resource: 'robot', operation: 'getAll', returnAll: true }),
			],
			[
				[
					{
						tool: 'Run',
						args: { robot: 'berlin-1', command: 'echo "from the model"', seconds: 30 },
					},
					{ tool: 'Submit', args: { program: 'true' } },
					{ tool: 'Robots', args: {} },
				],
			],
		);
		const [first] = said;
		expect(first!.tools!.map(({ function: { name, description } }) => [name, description])).toEqual(
			expect.arrayContaining([['Run', 'Does Run']]),
		);
		const { parameters } = first!.tools!.find(({ function: { name } }) => name === 'Run')!.function;
		expect(parameters.properties).toMatchObject({
			robot: { type: 'string', description: 'Name of the robot' },
			command: { type: 'string' },
			seconds: { type: 'number' },
		});
		const answers = toolAnswers(last);
		expect(answers).toHaveLength(3);
		const text = JSON.stringify(answers);
		expect(text).toContain('from the model');
		expect(text).toContain('berlin-1');
		const { items } = await fleet.service<{ items: Job[] }>('GET', '/jobs?limit=10');
		expect(
			items.map(({ spec }) => (spec as { command?: string; shell?: string }).command),
		).toContain('true');
	}, 120_000);

	test('a tool never parks: a job that takes longer is answered with its ID and how to ask again', async () => {
		const { last } = await run(
			[
				tool('Run', 'dispatchToRobot', {
					robot: { __rl: true, mode: 'id', value: 'berlin-1' },
					commandType: 'shell',
					shell: asked('command', 'What the shell of the robot runs'),
					toolWaitSeconds: 1,
				}),
				tool('Job', 'robotFleet', {
					resource: 'job',
					operation: 'get',
					job: { __rl: true, mode: 'id', value: asked('job', 'ID of the job') },
				}),
			],
			[[{ tool: 'Run', args: { command: 'sleep 20' } }]],
		);
		const text = JSON.stringify(toolAnswers(last));
		expect(text).toContain('do not submit it again');
		expect(text).toMatch(/timedOut\W+true/);
	}, 120_000);

	test('the same tool called twice in one turn makes two jobs', async () => {
		const { items: before } = await fleet.service<{ items: Job[] }>('GET', '/jobs?limit=100');
		const { last } = await run(
			[tool('Submit', 'submitJob', { program: asked('program', 'The program to start') })],
			[
				[
					{ tool: 'Submit', args: { program: 'uname' } },
					{ tool: 'Submit', args: { program: 'whoami' } },
				],
			],
		);
		expect(toolAnswers(last)).toHaveLength(2);
		const { items } = await fleet.service<{ items: Job[] }>('GET', '/jobs?limit=100');
		expect(items.length).toBe(before.length + 2);
	}, 120_000);

	test('what is refused tells the model how to go on', async () => {
		const { last } = await run(
			[
				tool('Run', 'dispatchToRobot', {
					robot: { __rl: true, mode: 'id', value: asked('robot', 'Name of the robot') },
					program: 'true',
				}),
			],
			[[{ tool: 'Run', args: { robot: '' } }]],
		);
		expect(JSON.stringify(toolAnswers(last))).toContain('No robot is chosen');
	}, 120_000);
});

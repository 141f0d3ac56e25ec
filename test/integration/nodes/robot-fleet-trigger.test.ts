/** Robot Fleet Trigger as a durable consumer of the real service, with a real robot; only n8n is played. */
import type { IDataObject, ITriggerResponse } from 'n8n-workflow';
import type { Send } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { Problem } from '../../../protocol';
import { RobotFleetTrigger } from '../../../nodes/RobotFleetTrigger/RobotFleetTrigger.node';
import { WholeHouse } from '../../support/whole-house';
import { FakeExecution, FakeTrigger, type Parameters } from '../../unit/nodes/fake-n8n';

jest.setTimeout(60_000);

let house: WholeHouse;
let send: Send;
beforeAll(async () => {
	house = await WholeHouse.open();
	await house.robot('anna');
	send = httpSend(house.address);
});
afterAll(() => house[Symbol.asyncDispose]());

const open: ITriggerResponse[] = [];
afterEach(async () => {
	for (const { closeFunction } of open.splice(0)) await closeFunction!();
});

let nodes = 0;

/** One trigger node of one n8n: as often activated as the test wants, with a way to the service that can break. */
class Node {
	readonly trigger: FakeTrigger;
	away = false;
	/** What calls to such a path are refused with. */
	refuses: { path: RegExp; problem: Problem } | undefined;
	/** Calls that were made, as `METHOD path`. */
	readonly calls: string[] = [];

	constructor(parameters: Parameters = {}) {
		const execution = new FakeExecution({
			send: async (request) => {
				this.calls.push(`${request.method} ${request.path}`);
				if (this.away) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
				const { path, problem } = this.refuses ?? {};
				if (problem && path?.test(request.path)) {
					return { status: problem.status, body: { error: problem.toBody() } };
				}
				return await send(request);
			},
		});
		execution.node = { ...execution.node, id: `node-${(nodes += 1)}` };
		this.trigger = new FakeTrigger(execution, { events: ['job.ended'], ...parameters });
	}

	async activate(mode = 'activate', parameters: Parameters = {}): Promise<ITriggerResponse> {
		Object.assign(this.trigger.parameters, parameters);
		this.trigger.activation = mode;
		const response = await new RobotFleetTrigger().trigger.call(this.trigger.asTrigger());
		open.push(response);
		return response;
	}

	get jobs(): string[] {
		return this.trigger.emitted.map(({ json }) => (json.job as IDataObject).id as string);
	}

	/** As n8n counts: an event that comes twice is one execution. */
	get runs(): number {
		return new Set(this.trigger.emitted.map(({ key }) => key)).size;
	}
}

async function until(what: string, holds: () => boolean | Promise<boolean>) {
	for (const lateAt = Date.now() + 20_000; !(await holds());) {
		if (Date.now() > lateAt) throw new Error(`waited in vain until ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

const run = async (shell = 'true', more: object = {}) => {
	const spec = { shell, ...more };
	const { jobId } = await house.client.submit({ kind: 'command', spec });
	await house.client.job(jobId, 30_000);
	return jobId;
};

test('an event starts the workflow once, with the job as Wait for Execution shows it', async () => {
	const node = new Node();
	await node.activate();
	const jobId = await run('echo out; exit 3');
	await until('it has started', () => node.trigger.emitted.length === 1);
	const { json, key } = node.trigger.emitted[0]!;
	expect(key).toMatch(/^n8n-events-[0-9a-f]{32}:\d+:\d+$/);
	expect(json).toEqual({
		event: 'job.ended',
		at: expect.stringMatching(/^20\d\d-.*Z$/),
		job: {
			id: jobId,
			kind: 'command',
			state: 'failed',
			cause: 'exit_code',
			robot: 'anna',
			robotId: expect.any(String),
			attempt: 1,
			exitCode: 3,
			signal: null,
			outputs: {},
			files: [],
			durationMs: expect.any(Number),
			error: expect.any(Object),
			timedOut: false,
			parentId: null,
			parts: null,
			scheduleId: null,
			shareKey: null,
			deadLetter: true,
			createdBy: expect.any(String),
			createdAt: expect.any(String),
			startedAt: expect.any(String),
			endedAt: expect.any(String),
		},
	});
});

test('the output is added when that is wanted; a job that is gone is told from what was noted', async () => {
	const node = new Node({ options: { output: true } });
	await node.activate();
	await run('echo out; echo err >&2');
	await until('it has started', () => node.trigger.emitted.length === 1);
	expect(node.trigger.emitted[0]!.json.job).toMatchObject({ stdout: 'out\n', stderr: 'err\n' });
});

test('what n8n did not take, and what happened while the service or n8n was away, comes again; each runs once', async () => {
	const node = new Node();
	const { closeFunction } = await node.activate();
	node.trigger.run = async () => {
		throw new Error('the database is away');
	};
	const first = await run();
	await until('it was tried', () => node.trigger.emitted.length > 0);
	node.away = true;
	node.trigger.run = async () => ({});
	const second = await run();
	node.away = false;
	await until('both have started', () => node.jobs.includes(second));
	await closeFunction!();
	const third = await run();
	await node.activate('init');
	await until('the third has started', () => node.jobs.includes(third));
	expect(new Set(node.jobs)).toEqual(new Set([first, second, third]));
	expect(node.runs).toBe(3);
	expect(node.trigger.errors).toEqual([]);
});

test('what n8n has taken does not come again because the next one could not be looked at', async () => {
	const node = new Node();
	const { closeFunction } = await node.activate();
	await closeFunction!();
	const [first, second] = [await run(), await run()];
	const problem = new Problem('not-ready', { state: 'starting' });
	node.refuses = { path: new RegExp(`/jobs/${second}$`), problem };
	await node.activate('init');
	await until('the second was asked for', () =>
		node.calls.some((call) => call.endsWith(`/jobs/${second}`)),
	);
	node.refuses = undefined;
	await until('the second has started', () => node.jobs.includes(second));
	expect(node.jobs).toEqual([first, second]);
});

test.each([
	['activate', {}, []],
	['update', {}, ['old']],
	['init', {}, ['old']],
	['leadershipChange', {}, ['old']],
	['init', { missed: 'skip' }, []],
	['init', { missed: 'recent', recentHours: 1 }, ['old']],
	['init', { missed: 'recent', recentHours: 0 }, []],
	['update', { missed: 'skip' }, ['old']],
])('of what happened before "%s" with %j comes %j', async (mode, parameters, expected) => {
	const node = new Node(parameters);
	const { closeFunction } = await node.activate();
	await closeFunction!();
	const old = await run();
	await node.activate(mode);
	const fresh = await run();
	await until('the fresh one has started', () => node.jobs.includes(fresh));
	expect(node.jobs).toEqual([...expected.map(() => old), fresh]);
});

test('two nodes each get all; the same node activated many times over is one consumer', async () => {
	const [one, other] = [new Node(), new Node()];
	await one.activate();
	await other.activate();
	for (const mode of ['update', 'leadershipChange', 'update']) await one.activate(mode);
	const jobs = [await run(), await run()];
	await until('both have all', () => one.runs === 2 && other.runs === 2);
	expect(one.jobs).toEqual(jobs);
	expect(other.jobs).toEqual(jobs);
});

test('with another filter after a restart only what that wants starts it', async () => {
	const node = new Node();
	const { closeFunction } = await node.activate();
	await closeFunction!();
	await run();
	const bad = await run('exit 1');
	await node.activate('init', { states: ['failed'] });
	await until('it has started', () => node.trigger.emitted.length === 1);
	expect(node.jobs).toEqual([bad]);
});

test('a slow n8n gets so many at once, and all of them in the end', async () => {
	const node = new Node({ options: { runsAtOnce: 2 } });
	const ends: (() => void)[] = [];
	node.trigger.run = async () => await new Promise<void>((resolve) => ends.push(resolve));
	await node.activate();
	const jobs = await Promise.all(Array.from({ length: 5 }, () => run()));
	await until('two run', () => ends.length === 2);
	// What n8n has by now is acknowledged although it still runs.
	await until('they are acknowledged', () => node.calls.some((call) => call.endsWith('/ack')));
	expect(node.trigger.emitted).toHaveLength(2);
	for (let ended = 0; ended < jobs.length; ended += 1) {
		await until('another one runs', () => ends.length > ended);
		expect(ends.length).toBeLessThanOrEqual(ended + 2);
		ends[ended]!();
	}
	expect(new Set(node.jobs)).toEqual(new Set(jobs));
	expect(node.runs).toBe(5);
});

test('a prompt tells what is asked, and of which robot', async () => {
	const node = new Node({ events: ['job.prompt'] });
	await node.activate();
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { shell: 'printf "Go on? [y/n] "; read answer; echo "$answer"', interactive: true },
	});
	await until('it has started', () => node.trigger.emitted.length === 1);
	expect(node.trigger.emitted[0]!.json).toMatchObject({
		event: 'job.prompt',
		job: { id: jobId, robot: 'anna', state: 'running', attempt: 1 },
		prompt: { kind: 'confirmation', text: expect.stringContaining('Go on?'), hidden: false },
	});
	await house.client.input(jobId, { text: 'y\n' });
	await house.client.job(jobId, 30_000);
});

test('a robot that is closed, and a schedule that skips, are told with their names', async () => {
	const node = new Node({ events: ['robot.closed', 'robot.opened'], robots: ['anna'] });
	await node.activate();
	await house.client.maintainRobot('anna', { reason: 'disk swap' });
	await house.client.resumeRobot('anna');
	await until('both have started', () => node.trigger.emitted.length === 2);
	expect(node.trigger.emitted.map(({ json }) => json)).toMatchObject([
		{ event: 'robot.closed', robot: { name: 'anna', as: 'maintenance', reason: 'disk swap' } },
		{ event: 'robot.opened', robot: { name: 'anna', was: 'maintenance' } },
	]);
});

test('events and robots may come in one line, as an expression gives them', async () => {
	const node = new Node({ events: 'robot.closed, robot.opened', robots: 'berta, anna' });
	await node.activate();
	await house.client.pauseRobot('anna');
	await house.client.resumeRobot('anna');
	await until('both have started', () => node.trigger.emitted.length === 2);
});

describe('mistakes and trouble', () => {
	test('with a key that was renewed it goes on where it was, though n8n speaks of an activation', async () => {
		const node = new Node();
		const { closeFunction } = await node.activate();
		node.refuses = { path: /./, problem: new Problem('bad-key') };
		const first = await run();
		await until('it gave up', () => node.trigger.errors.length === 1);
		await closeFunction!();
		await expect(node.activate()).rejects.toThrow();
		const second = await run();
		node.refuses = undefined;
		const again = await node.activate();
		await until('both have started', () => node.jobs.includes(second));
		expect(new Set(node.jobs)).toEqual(new Set([first, second]));
		expect(node.runs).toBe(2);
		// From then on a person who switches it on means it.
		await again.closeFunction!();
		await run();
		await node.activate();
		const fresh = await run();
		await until('the fresh one has started', () => node.jobs.includes(fresh));
		expect(node.runs).toBe(3);
	});

	test('a key that may not read jobs still has their ends told', async () => {
		const node = new Node();
		node.refuses = { path: /\/jobs\//, problem: new Problem('no-scope', { scope: 'read' }) };
		await node.activate();
		const jobId = await run();
		await until('it has started', () => node.jobs.includes(jobId));
		expect(node.trigger.emitted[0]!.json.job).toMatchObject({ state: 'completed', robot: 'anna' });
		expect(node.trigger.errors).toEqual([]);
	});

	test('a service that is away is said at activation, and waited for at a start of n8n', async () => {
		const node = new Node();
		node.away = true;
		await expect(node.activate('activate')).rejects.toMatchObject({
			message: expect.stringContaining('does not answer'),
		});
		await node.activate('init');
		expect(node.trigger.errors).toEqual([]);
		node.away = false;
		await until('it follows', () => node.calls.some((call) => call.includes('/events?')));
		const jobId = await run();
		await until('it has started', () => node.jobs.includes(jobId));
	});

	test('labels that are none, and no event at all, are refused in words', async () => {
		await expect(new Node({ filters: { labels: 'berlin' } }).activate()).rejects.toMatchObject({
			message: '"berlin" is not a label',
		});
		await expect(new Node({ events: [] }).activate()).rejects.toMatchObject({
			message: 'No event is chosen',
		});
	});

	test.each<[string, object]>([
		['Causes', { causes: ['signal'] }],
		['Dead Letters Only', { dead: true }],
		['Job Kinds', { kinds: 'probe' }],
		['Parts of Jobs', { parts: true }],
		['Share Key', { shareKey: 'team-a' }],
	])('%s without the event that it narrows is refused, and not ignored', async (name, filters) => {
		const lost = { events: ['robot.lost', 'job.prompt'], filters };
		await expect(new Node(lost).activate()).rejects.toMatchObject({
			message: `"${name}" only filters the event Job Ended, which is not chosen`,
			description: `Choose it in "Events", or remove "${name}" from "Filters"`,
		});
		await new Node({ events: ['robot.lost', 'job.ended'], filters }).activate();
	});

	test('filters that were added and left empty, or are for all events, narrow what they can', async () => {
		const filters = { causes: [], dead: false, kinds: '', parts: false, shareKey: ' ' };
		await new Node({ events: ['robot.lost'], filters }).activate();
		await new Node({ events: ['robot.lost'], filters: { labels: 'site=berlin' } }).activate();
	});
});

test('a test run waits for the next event, and leaves nothing behind; it may be stopped', async () => {
	const node = new Node();
	await node.activate();
	node.trigger.mode = 'manual';
	const before = node.calls.length;
	const { manualTriggerFunction, closeFunction } = await node.activate('manual');
	const listening = manualTriggerFunction!();
	await until('it listens', () => node.calls.slice(before).some((call) => call.includes('-test/')));
	const jobId = await run();
	await listening;
	await closeFunction!();
	expect(node.calls.some((call) => /^DELETE .*-test$/.test(call))).toBe(true);
	// The published one got it, too.
	await until('both have it', () => node.jobs.filter((id) => id === jobId).length === 2);
	expect(node.runs).toBe(2);

	const stopped = await node.activate('manual');
	const waiting = stopped.manualTriggerFunction!();
	await stopped.closeFunction!();
	await waiting;
	expect(node.trigger.errors).toEqual([]);
});

test('a second test run of the workflow takes over from the first, and gets its event', async () => {
	const node = new Node();
	node.trigger.mode = 'manual';
	const polls = () => node.calls.filter((call) => /GET .*-test\/events/.test(call)).length;
	const [first, second] = [await node.activate('manual'), await node.activate('manual')];
	const taken = first.manualTriggerFunction!();
	await until('the first listens', () => polls() === 1);
	const listening = second.manualTriggerFunction!();
	await expect(taken).rejects.toThrow();
	await until('the second listens', () => polls() > 1);
	const jobId = await run();
	await listening;
	expect(node.jobs).toEqual([jobId]);
});

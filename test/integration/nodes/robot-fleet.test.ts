/** Every operation of the node Robot Fleet against the real service with a real robot. */
import { randomBytes } from 'node:crypto';
import type { IDataObject, INodeExecutionData } from 'n8n-workflow';
import { FleetClient, type Send } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { RobotFleet } from '../../../nodes/RobotFleet/RobotFleet.node';
import { Problem, type Scope } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';
import { FakeExecution, type Parameters } from '../../unit/nodes/fake-n8n';

jest.setTimeout(60_000);

let house: WholeHouse;
let send: Send;
beforeAll(async () => {
	house = await WholeHouse.open();
	await house.robot('anna');
	send = httpSend(house.address);
});
afterAll(() => house[Symbol.asyncDispose]());

const node = new RobotFleet();

/** One execution of the node; what it calls can be heard, or meddled with. */
function n8n(items: INodeExecutionData[] = [{ json: {} }], through: Send = (asked) => send(asked)) {
	const execution = new FakeExecution({ send: through });
	execution.items = items;
	const run = async (resource: string, operation: string, parameters: Parameters = {}) =>
		(await node.execute.call(execution.asExecute({ resource, operation, ...parameters })))[0]!;
	return { execution, run };
}

const run = async (resource: string, operation: string, parameters: Parameters = {}) =>
	(await n8n().run(resource, operation, parameters)).map(({ json }) => json);
const one = async (resource: string, operation: string, parameters: Parameters = {}) => {
	const items = await run(resource, operation, parameters);
	expect(items).toHaveLength(1);
	return items[0]!;
};

const submit = async (shell: string, more: object = {}) =>
	(await house.client.submit({ kind: 'command', spec: { shell, ...more } })).jobId;
const ended = async (jobId: string) => await house.client.job(jobId, 30_000);
const soon = () => Date.now() + 86_400_000;

async function until<T>(what: string, look: () => Promise<T | false | null | undefined>) {
	const lateAt = Date.now() + 20_000;
	for (;;) {
		const found = await look();
		if (found) return found;
		if (Date.now() > lateAt) throw new Error(`there never was ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

describe('robots', () => {
	test('are found by their name, labels and status, simplified or whole', async () => {
		const simple = await one('robot', 'get', { robot: 'anna' });
		expect(Object.keys(simple)).toHaveLength(12);
		expect(simple).toMatchObject({ name: 'anna', connected: true, held: 0 });
		const whole = await one('robot', 'get', { robot: 'anna', simplify: false });
		expect(whole).toMatchObject({ name: 'anna', record: { lost: 0 } });
		const found = (filters: object) => run('robot', 'getAll', { returnAll: true, filters });
		expect(await found({})).toEqual([expect.objectContaining({ name: 'anna' })]);
		expect(await found({ name: 'ANN', status: ['online', 'busy'] })).toHaveLength(1);
		expect(await found({ status: ['offline'] })).toEqual([]);
		expect(await found({ labels: 'site=berlin' })).toEqual([]);
		expect(await found({ capabilities: ['teleport'] })).toEqual([]);
		expect(await found({ capabilities: 'teleport' })).toEqual([]);
		expect(await found({ capabilities: null, status: 'busy, online' })).toHaveLength(1);
		expect(await run('robot', 'getAll', { limit: 1 })).toHaveLength(1);
	});

	test('of a group are those in it', async () => {
		await house.client.putGroup('hall', { robots: ['anna'] });
		await house.client.putGroup('yard', {});
		const found = (group: string) => run('robot', 'getAll', { filters: { group } });
		expect(await found('hall')).toHaveLength(1);
		expect(await found('yard')).toEqual([]);
	});

	test('are paused, drained and resumed, and answer a ping', async () => {
		expect(await one('robot', 'pause', { robot: 'anna' })).toMatchObject({ status: 'paused' });
		expect(await one('robot', 'resume', { robot: 'anna' })).toMatchObject({ status: 'online' });
		expect(await one('robot', 'ping', { robot: 'anna' })).toMatchObject({
			name: 'anna',
			ms: expect.any(Number),
		});
		const jobId = await submit('sleep 1');
		await until('a running job', async () => (await house.client.job(jobId)).state === 'running');
		const drained = await one('robot', 'drain', { robot: 'anna', drainSeconds: 30 });
		expect(drained).toMatchObject({ status: 'paused', held: 0 });
		expect((await house.client.job(jobId)).state).toBe('completed');
		await one('robot', 'resume', { robot: 'anna' });
	});

	test('are in maintenance for a while, and found and resumed as that', async () => {
		const said = { robot: 'anna', maintenanceReason: 'disk swap', maintenanceMinutes: 90 };
		expect(await one('robot', 'maintain', said)).toMatchObject({
			status: 'maintenance',
			closed: { as: 'maintenance', reason: 'disk swap', until: expect.any(Number) },
		});
		expect(await run('robot', 'getAll', { filters: { status: ['maintenance'] } })).toHaveLength(1);
		expect(await one('robot', 'resume', { robot: 'anna' })).toMatchObject({ closed: null });
		expect(await one('robot', 'maintain', { robot: 'anna' })).toMatchObject({
			closed: { reason: null, until: null },
		});
		await one('robot', 'resume', { robot: 'anna' });
		const odd = { robot: 'anna', maintenanceMinutes: 'an hour' };
		await expect(run('robot', 'maintain', odd)).rejects.toThrow('not a number of minutes');
	});

	test('are not drained once more when somebody resumed them meanwhile', async () => {
		const jobId = await submit('sleep 60');
		await until('a running job', async () => (await house.client.job(jobId)).state === 'running');
		let drains = 0;
		const { run: drained } = n8n(undefined, async (request) => {
			if (!request.path.includes('/drain')) return await send(request);
			drains += 1;
			await send({ ...request, path: request.path.replace(/waitMs=\d+/, 'waitMs=0') });
			return { status: 200, body: await house.client.resumeRobot('anna') };
		});
		const [item] = await drained('robot', 'drain', { robot: 'anna', drainSeconds: 30 });
		expect([drains, item!.json]).toMatchObject([1, { held: 1, closed: null }]);
		await house.client.cancel(jobId);
		await ended(jobId);
	});

	test('that are deleted are gone', async () => {
		const { robotId } = await house.client.registerRobot({ name: 'scrap' });
		expect(await one('robot', 'delete', { robot: 'scrap' })).toEqual({ deleted: true, robotId });
		await expect(run('robot', 'get', { robot: 'scrap' })).rejects.toThrow(
			'No robot has the id or name scrap',
		);
	});
});

describe('jobs', () => {
	test('come page by page, as many as are wanted, and only those that are wanted', async () => {
		const notBefore = soon();
		await house.client.submitMany(
			Array.from({ length: 230 }, () => ({
				kind: 'command',
				spec: { command: 'true' },
				shareKey: 'pages',
				notBefore,
			})),
		);
		const asked: string[] = [];
		const { run: heard } = n8n(undefined, (request) => {
			asked.push(request.path);
			return send(request);
		});
		const filters = { shareKey: 'pages', state: 'pending', robot: '', createdAfter: '2020-01-01' };
		const all = await heard('job', 'getAll', { returnAll: true, filters });
		expect(new Set(all.map(({ json }) => json.jobId)).size).toBe(230);
		expect(asked.filter((path) => path.includes('/jobs?'))).toHaveLength(3);
		expect(await heard('job', 'getAll', { limit: 105, filters })).toHaveLength(105);
		const before = { ...filters, createdBefore: '2020-01-01' };
		expect(await heard('job', 'getAll', { returnAll: true, filters: before })).toEqual([]);
	});

	test('tell their result, and what else is asked', async () => {
		const jobId = await submit('echo hello; echo oh >&2; touch kept; exit 3', {
			collect: ['kept'],
		});
		await ended(jobId);
		const simple = await one('job', 'get', { job: jobId });
		expect(simple).toMatchObject({
			jobId,
			state: 'failed',
			robot: 'anna',
			exitCode: 3,
			stdout: 'hello\n',
			stderr: 'oh\n',
			files: [{ path: 'kept', fileId: expect.any(String) }],
		});
		expect(Object.keys(simple)).toHaveLength(13);
		const more = await one('job', 'get', {
			job: jobId,
			include: ['attempts', 'timeline', 'why'],
			simplify: false,
		});
		expect(more).toMatchObject({
			jobId,
			spec: { shell: expect.stringContaining('exit 3') },
			attempts: [{ number: 1 }],
			timeline: expect.arrayContaining([expect.objectContaining({ to: 'failed' })]),
			why: expect.any(String),
		});
	});

	test('are held with a reason, moved up, released, cancelled and submitted again', async () => {
		const { jobId } = await house.client.submit({
			kind: 'command',
			spec: { command: 'true' },
			notBefore: soon(),
		});
		const update = (updateFields: object) => one('job', 'update', { job: jobId, updateFields });
		const held = await update({ holdReason: 'audit', priority: 'high' });
		expect(held).toMatchObject({ jobId, state: 'pending' });
		expect(await house.client.job(jobId)).toMatchObject({
			hold: expect.stringContaining('audit'),
			priority: 'high',
		});
		await update({ hold: false, robot: 'anna' });
		expect(await house.client.job(jobId)).toMatchObject({ hold: null, target: { robot: 'anna' } });
		await expect(update({})).rejects.toThrow('There is nothing to change');
		expect(await one('job', 'cancel', { job: jobId })).toMatchObject({ state: 'cancelled' });
		expect(await one('job', 'retry', { job: jobId })).toMatchObject({
			jobId: expect.any(String),
			retryOf: jobId,
		});
	});

	test.each(['stopWorkflow', 'continueRegularOutput'] as const)(
		'behind the one at which somebody stops the execution are left alone (%s)',
		async (onError) => {
			const jobIds = [await submit('sleep 60'), await submit('sleep 60')];
			const stop = new AbortController();
			const items = jobIds.map((jobId) => ({ json: { jobId } }));
			const { execution, run: cancel } = n8n(items, async (request) => {
				const said = await send(request);
				if (request.path.endsWith('/cancel')) stop.abort();
				return said;
			});
			execution.cancel = stop;
			execution.node = { ...execution.node, onError };
			const job = ({ json }: INodeExecutionData) => json.jobId;
			await expect(cancel('job', 'cancel', { job })).rejects.toThrow();
			expect(await house.client.job(jobIds[1]!)).toMatchObject({ cancelRequestedAt: null });
			for (const jobId of jobIds) await one('job', 'cancel', { job: jobId });
		},
	);

	test('that go out in batches are paused, go on, and are repeated where they failed', async () => {
		await using other = await WholeHouse.open();
		for (const name of ['rollo', 'rolli']) await other.robot(name);
		const { client } = other;
		const there = n8n([{ json: {} }], httpSend(other.address));
		const told = async (operation: string, parameters: Parameters) =>
			(await there.run('job', operation, parameters)).map(({ json }) => json);
		const { jobId } = await client.submit({
			kind: 'command',
			spec: { shell: 'exit 1' },
			target: { mode: 'all' },
			rollout: { batch: 1 },
		});
		const rollout = async () => (await client.cells(jobId)).rolledOut!;
		await until('a stop', async () => (await rollout()).state === 'stopped');
		expect(await told('pause', { job: jobId })).toMatchObject([{ jobId, state: 'running' }]);
		// Not the next one: nothing goes on.
		await told('resume', { job: jobId, beforeBatch: 1 });
		expect((await rollout()).batch).toBe(1);
		await told('resume', { job: jobId, beforeBatch: 2 });
		expect(await client.job(jobId, 30_000)).toMatchObject({ state: 'failed' });
		expect(await told('getCells', { job: jobId, returnAll: true })).toMatchObject([
			{ state: 'failed' },
			{ state: 'failed' },
		]);
		const [again] = await told('retry', { job: jobId, onlyFailed: true });
		expect(again).toMatchObject({ retryOf: jobId });
		const robots = (await client.cells(String(again!.jobId))).items.length;
		expect(robots).toBe(2);
		await expect(told('resume', { job: jobId, beforeBatch: -1 })).rejects.toThrow(
			'The batch is not a batch number',
		);
	});

	test('that ask because their robot stays away are answered, and others say that they ask nothing', async () => {
		const jobId = await submit('true');
		await ended(jobId);
		await expect(run('job', 'answer', { job: jobId, answer: 'other' })).rejects.toThrow(
			'The job is not asking anything',
		);
		const said: unknown[] = [];
		const { run: heard } = n8n(undefined, async (request) => {
			if (!request.path.endsWith(`/${jobId}/answer`)) return await send(request);
			said.push(request.body);
			return { status: 200, body: await house.client.job(jobId) };
		});
		const answer = async (parameters: Parameters) =>
			await heard('job', 'answer', { job: jobId, ...parameters });
		expect((await answer({ answer: 'wait', askAgainSeconds: 90 }))[0]!.json).toMatchObject({
			jobId,
		});
		await answer({ answer: 'wait' });
		// What was set for another answer does not count.
		await answer({ answer: 'expire', askAgainSeconds: 90 });
		expect(said).toEqual([
			{ answer: 'wait', forMs: 90_000 },
			{ answer: 'wait' },
			{ answer: 'expire' },
		]);
		await expect(answer({ answer: 'wait', askAgainSeconds: 'soon' })).rejects.toThrow(
			'"Ask Again After" is not a number of seconds',
		);
	});

	test('give the end of what they printed as text, and all of it as a file', async () => {
		const jobId = await submit('printf "€%.0s" $(seq 1000); echo; echo oh >&2');
		await ended(jobId);
		await until('all output', async () => (await house.client.job(jobId)).output.complete);
		const text = await one('job', 'getOutput', { job: jobId, maxKib: 1 });
		expect(text).toMatchObject({
			jobId,
			from: 3001 - 1024,
			have: 3001,
			complete: true,
			truncated: true,
			text: `${'€'.repeat(341)}\n`,
		});
		expect(await one('job', 'getOutput', { job: jobId, stream: 'stderr' })).toMatchObject({
			text: 'oh\n',
			truncated: false,
		});
		const { run: stored, execution } = n8n();
		const [item] = await stored('job', 'getOutput', { job: jobId, outputAs: 'file' });
		expect(item).toMatchObject({
			json: { jobId, have: 3001 },
			binary: { data: { fileName: `${jobId}.stdout.txt`, mimeType: 'text/plain' } },
			pairedItem: { item: 0 },
		});
		expect(execution.binaries.get(item!.binary!.data!.id!)!.toString()).toBe(
			`${'€'.repeat(1000)}\n`,
		);
	});

	test('take an answer while they ask, and what is typed is typed once', async () => {
		const jobId = await submit('printf "Sure? "; read a; echo "[$a]"; sleep 30', {
			interactive: true,
		});
		await until('a prompt', async () => (await house.client.job(jobId)).waitingFor);
		const answer = { job: jobId, text: 'yes' };
		expect(await one('job', 'sendInput', answer)).toMatchObject({ jobId, have: 4, open: true });
		await until('its echo', async () =>
			String((await one('job', 'getOutput', { job: jobId })).text).includes('[yes]'),
		);
		await expect(run('job', 'sendInput', answer)).rejects.toThrow(
			'The program of this job is not asking for anything now',
		);
		const free = { ...answer, onlyAnswer: false, pressEnter: false, closeInput: true };
		expect(await one('job', 'sendInput', free)).toMatchObject({ have: 7, open: false });
		await one('job', 'cancel', { job: jobId });
	});

	test('take an answer once, and it answers no later question, when n8n repeats the step', async () => {
		const jobId = await submit('printf "Sure? "; read a; printf "\\nReally? "; read b; sleep 30', {
			interactive: true,
		});
		const asks = async (text: string) => {
			const { waitingFor } = await house.client.job(jobId);
			return waitingFor?.text.includes(text) && waitingFor;
		};
		await until('the first question', () => asks('Sure?'));
		let typed = 0;
		const { run: step } = n8n([{ json: {} }], async (request) => {
			const said = await send(request);
			if (request.path.endsWith('/input') && (typed += 1) === 1) {
				throw new Problem('service-away', { url: house.address.url, reason: 'cut' });
			}
			return said;
		});
		const answer = { job: jobId, text: 'yes' };
		await expect(step('job', 'sendInput', answer)).rejects.toThrow('cut');
		await until('the second question', () => asks('Really?'));
		const [item] = await step('job', 'sendInput', answer);
		expect([typed, item!.json]).toMatchObject([2, { jobId, have: 4, open: true }]);
		expect(await asks('Really?')).toMatchObject({ offset: 4 });
		await one('job', 'cancel', { job: jobId });
	});

	test('that an execution waits for are delivered once more', async () => {
		const jobId = await submit('true');
		await ended(jobId);
		const { waitId } = await house.client.createWait({ jobIds: [jobId] });
		expect(await one('job', 'retryDelivery', { waitId })).toMatchObject({
			waitId,
			jobIds: [jobId],
			state: expect.stringMatching(/due|closed/),
		});
		await expect(run('job', 'retryDelivery', { waitId: '' })).rejects.toThrow('No wait is given');
	});
});

describe('files', () => {
	test('go up in pieces and on after a cut, to a job, home and down again', async () => {
		const content = randomBytes(20 * 1024 * 1024);
		let cuts = 0;
		const sent: string[] = [];
		const { execution, run: cut } = n8n([{ json: {} }], async (request) => {
			if (request.bytes && request.path.includes('from=8388608') && (cuts += 1) === 1) {
				// Half of it arrives, and then the line is cut.
				await send({ ...request, bytes: request.bytes.subarray(0, request.bytes.length / 2) });
				throw new Problem('service-away', { url: house.address.url, reason: 'cut' });
			}
			if (request.bytes) sent.push(request.path.split('?')[1]!);
			return await send(request);
		});
		execution.items = [{ json: {}, binary: { data: execution.store(content, 'core.bin') } }];
		const [uploaded] = await cut('job', 'uploadFile');
		expect(uploaded!.json).toMatchObject({
			name: 'core.bin',
			bytes: content.length,
			state: 'ready',
		});
		expect(sent).toEqual(['from=0', 'from=12582912', 'from=16777216']);

		const files = [{ file: uploaded!.json.fileId, path: 'in/core.bin' }];
		const jobId = await submit('mkdir out; cp in/core.bin out/; printf hi > out/note', {
			files,
			collect: ['out/*', 'nothing'],
		});
		expect(await ended(jobId)).toMatchObject({ state: 'completed' });
		const { run: down, execution: there } = n8n();
		// Unless something else is chosen: what the job has collected.
		const found = await down('job', 'downloadFile', { job: jobId });
		expect(found.map(({ json }) => json.path)).toEqual(
			expect.arrayContaining(['out/core.bin', 'out/note', 'nothing']),
		);
		const bytesOf = (path: string) => {
			const { id, fileName } = found.find(({ json }) => json.path === path)!.binary!.data!;
			return { fileName, bytes: there.binaries.get(id!)! };
		};
		expect(bytesOf('out/core.bin').bytes.equals(content)).toBe(true);
		expect(bytesOf('out/note')).toEqual({ fileName: 'note', bytes: Buffer.from('hi') });
		const lost = found.find(({ json }) => json.path === 'nothing')!;
		expect(lost.json.missing).toEqual(expect.any(String));
		expect(lost.binary).toBeUndefined();
	});

	test('that fit one piece are found again by the same bytes, and empty ones are files too', async () => {
		const { execution, run: up } = n8n();
		const id = async (content: string) => {
			execution.items = [
				{ json: {}, binary: { data: execution.store(Buffer.from(content), 'a.txt') } },
			];
			const [item] = await up('job', 'uploadFile', { fileName: 'b.txt' });
			expect(item!.json).toMatchObject({ name: 'b.txt', state: 'ready' });
			return item!.json.fileId as string;
		};
		expect(await id('same')).toBe(await id('same'));
		const empty = await id('');
		const [item] = await up('job', 'downloadFile', { download: 'file', fileId: empty });
		expect(item).toMatchObject({ json: { bytes: 0 }, binary: { data: { bytes: 0 } } });
	});

	test('in the memory of n8n are sent as well', async () => {
		const { execution, run: up } = n8n();
		const data = Buffer.from('in memory').toString('base64');
		execution.items = [{ json: {}, binary: { page: { data, mimeType: 'text/plain' } } }];
		const [item] = await up('job', 'uploadFile', { binaryField: 'page' });
		expect(item!.json).toMatchObject({ name: 'page', bytes: 9, state: 'ready' });
	});

	test('that are not there are said in a sentence, also where bytes were expected', async () => {
		const file = (fileId: string) => run('job', 'downloadFile', { download: 'file', fileId });
		await expect(file('nope')).rejects.toThrow(/nope/);
		await expect(file('')).rejects.toThrow('no file ID');
		const jobId = await submit('sleep 30');
		await expect(run('job', 'downloadFile', { download: 'job', job: jobId })).rejects.toThrow(
			'has no files yet',
		);
		await one('job', 'cancel', { job: jobId });
	});
});

describe('schedules', () => {
	const daily: Parameters = {
		name: 'Nightly',
		frequency: 'daily',
		times: '02:30, 14:00',
		commandType: 'program',
		program: 'true',
		runOn: 'any',
		scheduleOptions: { overlap: 'queue-one', missed: 'none', jitterSeconds: 5 },
	};

	test('that an agent has made for one of its items are not replaced by those for the next', async () => {
		const { execution, run: tool } = n8n();
		execution.node = { ...execution.node, type: 'n8n-nodes-robot-fleet.robotFleetTool' };
		const make = async (name: string) => {
			const [made] = await tool('schedule', 'create', { ...daily, name });
			return String(made!.json.scheduleId);
		};
		const [backup, report] = [await make('Backup'), await make('Report')];
		expect(report).not.toBe(backup);
		expect(await make('Backup')).toBe(backup);
		for (const schedule of [backup, report]) await one('schedule', 'delete', { schedule });
	});

	test('that an agent makes again because the answer got lost are made once', async () => {
		let lose = true;
		const { execution, run: tool } = n8n(undefined, async (asked) => {
			const answer = await send(asked);
			if (asked.method === 'PUT' && lose) throw new TypeError('cut off');
			return answer;
		});
		execution.node = { ...execution.node, type: 'n8n-nodes-robot-fleet.robotFleetTool' };
		const make = async () => {
			execution.runIndex += 1;
			return await tool('schedule', 'create', { ...daily, name: 'Made once' });
		};
		await expect(make()).rejects.toThrow('does not answer');
		lose = false;
		const [made] = await make();
		const found = await run('schedule', 'getAll', { filters: { name: 'Made once' } });
		expect(found.map(({ scheduleId }) => scheduleId)).toEqual([made!.json.scheduleId]);
		await one('schedule', 'delete', { schedule: made!.json.scheduleId });
	});

	test('are created once, however often the step is repeated, and live their whole life', async () => {
		const { run: step } = n8n();
		const [created] = await step('schedule', 'create', daily);
		const [again] = await step('schedule', 'create', daily);
		const schedule = created!.json.scheduleId as string;
		expect(again!.json.scheduleId).toBe(schedule);
		expect(created!.json).toMatchObject({ name: 'Nightly', timezone: 'America/New_York' });
		expect(await one('schedule', 'get', { schedule, simplify: false })).toMatchObject({
			when: { frequency: 'daily', times: ['02:30', '14:00'] },
			job: { kind: 'command', spec: { command: 'true' } },
			overlap: 'queue-one',
			missed: 'none',
			jitterMs: 5_000,
		});
		const found = await run('schedule', 'getAll', { filters: { name: 'night', state: 'active' } });
		expect(found.map(({ scheduleId }) => scheduleId)).toEqual([schedule]);

		expect(await one('schedule', 'pause', { schedule })).toMatchObject({ state: 'paused' });
		expect(await one('schedule', 'resume', { schedule })).toMatchObject({ state: 'active' });
		const ran = await one('schedule', 'run', { schedule, runOverlap: 'allow' });
		expect(ran).toMatchObject({ origin: 'manual', jobId: expect.any(String) });
		await ended(ran.jobId as string);
		const runs = await run('schedule', 'getRuns', { schedule, returnAll: true });
		expect(runs).toMatchObject([{ jobId: ran.jobId }]);

		const updateFields = { name: 'Hourly', timezone: 'UTC' };
		const changed = { schedule, updateFields, changeWhen: true, frequency: 'hourly', minute: 7 };
		expect(await one('schedule', 'update', { ...changed, every: 2 })).toMatchObject({
			name: 'Hourly',
			timezone: 'UTC',
			when: { frequency: 'hourly', minute: 7, every: 2 },
		});
		await one('schedule', 'update', { schedule, ...daily, changeJob: true, program: 'uptime' });
		expect(await one('schedule', 'get', { schedule, simplify: false })).toMatchObject({
			when: { frequency: 'hourly' },
			overlap: 'queue-one',
			job: { spec: { command: 'uptime' } },
		});
		await expect(run('schedule', 'update', { schedule })).rejects.toThrow(
			'There is nothing to change',
		);
		const rollout = { batch: '25%', canary: 1 };
		await one('schedule', 'update', {
			...{ schedule, ...daily, changeJob: true },
			...{ runOn: 'any', howMany: 'all', rollout },
		});
		expect(await one('schedule', 'get', { schedule, simplify: false })).toMatchObject({
			job: { target: { mode: 'all' }, rollout },
		});
		expect(await one('schedule', 'delete', { schedule })).toEqual({
			deleted: true,
			scheduleId: schedule,
		});
	});

	test.each<[string, Parameters, object]>([
		['cron', { cron: '0 6 * * 1-5' }, { cron: '0 6 * * 1-5' }],
		['once', { onceAt: '2100-01-02T03:04:00' }, { at: Date.UTC(2100, 0, 2, 8, 4) }],
		['interval', { intervalAmount: 15, intervalUnit: 'minutes' }, { everyMs: 900_000 }],
		['hourly', { minute: 5 }, { minute: 5 }],
		['weekly', { weekdays: ['mon', 'thu'], times: '08:00' }, { weekdays: ['mon', 'thu'] }],
		['monthly', { monthDays: '1, 15, last', times: '08:00' }, { days: [1, 15, -1] }],
		[
			'monthly',
			{ monthlyOn: 'nth', nthWeek: -1, nthWeekday: 'fri', times: '08:00' },
			{ nth: { week: -1, weekday: 'fri' } },
		],
	])('can run %s', async (frequency, parameters, when) => {
		const scheduleId = `when-${frequency}`;
		const scheduleOptions = { paused: true };
		const made = { ...daily, frequency, ...parameters, scheduleId, scheduleOptions };
		expect(await one('schedule', 'create', made)).toMatchObject({
			scheduleId,
			state: 'paused',
			when: { frequency, ...when },
		});
		await one('schedule', 'delete', { schedule: scheduleId });
	});

	test('that make no sense are refused in words', async () => {
		const created = (more: Parameters) => run('schedule', 'create', { ...daily, ...more });
		await expect(created({ name: ' ' })).rejects.toThrow('The schedule has no name');
		await expect(created({ frequency: 'once', onceAt: '' })).rejects.toThrow('No time is given');
		await expect(created({ frequency: 'once', onceAt: 'soon' })).rejects.toThrow('is not a date');
		await expect(created({ frequency: 'interval', intervalAmount: 0 })).rejects.toThrow(
			'The interval is not a time',
		);
		await expect(created({ frequency: 'monthly', monthDays: 'first' })).rejects.toThrow(
			'"first" is not a day of a month',
		);
		await expect(created({ frequency: 'cron', cron: 'every day' })).rejects.toThrow(/cron/i);
	});
});

describe('tokens and metrics', () => {
	test('a token is made with its command, listed while it is usable, and deleted', async () => {
		const made = await one('token', 'create', {
			uses: 2,
			validFor: 1,
			validUnit: 'hours',
			labels: 'site=berlin',
		});
		const { tokenId, token, dial, command } = made;
		expect(made).toMatchObject({ uses: 2, labels: { site: 'berlin' } });
		expect(command).toBe(`robot-fleet-agent --server ${dial} --token ${token}`);
		const ids = async (onlyUsable: boolean) =>
			(await run('token', 'getAll', { returnAll: true, onlyUsable })).map((each) => each.tokenId);
		expect(await ids(true)).toEqual([tokenId]);
		expect(JSON.stringify(await run('token', 'getAll'))).not.toContain(token);
		expect(await one('token', 'delete', { token: tokenId })).toEqual({ deleted: true, tokenId });
		expect(await ids(true)).toEqual([]);
		expect(await ids(false)).toContain(tokenId);
		await expect(run('token', 'create', { validFor: 0 })).rejects.toThrow('valid for no time');
	});

	test('the metrics of today, by robot and over time', async () => {
		expect(await one('metric', 'get', { timezone: 'UTC' })).toMatchObject({
			timezone: 'UTC',
			totalRobots: 1,
			onlineRobots: 1,
		});
		expect(await run('metric', 'getBreakdown', { by: 'kind' })).toMatchObject([{ of: 'command' }]);
		const series = await run('metric', 'getSeries', {
			metric: 'completed',
			time: { from: '2020-01-01', to: '2020-01-02' },
		});
		expect(series).toEqual([]);
	});
});

describe('what goes wrong', () => {
	const good = { json: { robot: 'anna', n: 1 } };
	const bad = { json: { robot: 'ghost', n: 2 } };
	const robot = (item: INodeExecutionData) => item.json.robot;

	test('stops the node with the sentence of the service, and names the item', async () => {
		const { run: both } = n8n([good, bad]);
		await expect(both('robot', 'get', { robot })).rejects.toMatchObject({
			name: 'NodeApiError',
			message: 'No robot has the id or name ghost',
			httpCode: '404',
			context: { itemIndex: 1 },
		});
	});

	test('is an item of its own when the workflow goes on, and others are not touched', async () => {
		const { run: both, execution } = n8n([bad, good]);
		execution.node = { ...execution.node, onError: 'continueRegularOutput' };
		const [failed, done] = await both('robot', 'get', { robot });
		expect(failed).toMatchObject({
			json: {
				n: 2,
				error: 'No robot has the id or name ghost',
				details: { code: 'no-such-robot' },
			},
			pairedItem: { item: 0 },
		});
		expect(done).toMatchObject({ json: { name: 'anna' }, pairedItem: { item: 1 } });
	});

	test('has only the keys by which n8n knows it for the error output', async () => {
		const { run: both, execution } = n8n([bad, good]);
		execution.node = { ...execution.node, onError: 'continueErrorOutput' };
		const [failed] = await both('robot', 'get', { robot });
		expect(Object.keys(failed!.json).sort()).toEqual(['details', 'error']);
	});

	test('is told for each item, even when no service answers', async () => {
		const { run: both, execution } = n8n([good, bad]);
		execution.credential = { connection: 'server', url: 'nowhere', apiKey: 'k' };
		execution.node = { ...execution.node, onError: 'continueRegularOutput' };
		const items = await both('robot', 'get', { robot });
		expect(items.map(({ json }) => json.n)).toEqual([1, 2]);
		expect(items.every(({ json }) => String(json.error).includes('not a URL'))).toBe(true);
	});

	test('a key that may not says how to make one that may', async () => {
		const scopes: Scope[] = ['submit', 'read', 'cancel'];
		const { key } = await house.client.createKey({ name: 'narrow', scopes });
		const narrow = httpSend({ ...house.address, key });
		const { run: refused } = n8n([{ json: {} }], narrow);
		await expect(refused('robot', 'pause', { robot: 'anna' })).rejects.toMatchObject({
			message: 'This API key lacks the scope "operate"',
			description: expect.stringContaining('robot-fleet key create'),
			httpCode: '403',
		});
	});

	test.each<[string, string, Parameters, string]>([
		['robot', 'get', { robot: '' }, 'No robot is given'],
		['job', 'cancel', { job: ' ' }, 'No job is given'],
		['job', 'getAll', { limit: 0 }, 'The limit is not a number above 0'],
		['robot', 'fly', {}, '"robot: fly" is not an operation of this node'],
	])('%s %s with %j is said before anything is asked', async (resource, operation, more, text) => {
		const { run: refused } = n8n([{ json: {} }], () => {
			throw new Error('something was asked');
		});
		await expect(refused(resource, operation, more)).rejects.toMatchObject({
			message: text,
			context: { itemIndex: 0 },
		});
	});
});

describe('the lists of the locators', () => {
	const { searchJobs, searchSchedules, searchTokens } = node.methods.listSearch;
	const looking = () => n8n().execution.asLoadOptions({});

	test('jobs come with what they do, page by page, and are found by it', async () => {
		const jobId = await submit('echo needle in the hay');
		await ended(jobId);
		const first = await searchJobs.call(looking(), '');
		expect(first.results[0]).toMatchObject({
			name: expect.stringMatching(/^echo needle in the hay \(completed, .* UTC\)$/),
			value: jobId,
		});
		expect(first.results).toHaveLength(50);
		const second = await searchJobs.call(looking(), '', first.paginationToken as string);
		const known = new Set(first.results.map(({ value }) => value));
		expect(second.results.some(({ value }) => known.has(value))).toBe(false);
		const found = await searchJobs.call(looking(), 'NEEDLE');
		expect(found.results.map(({ value }) => value)).toEqual([jobId]);
	});

	test('robots that match are counted as the service counts them, each other one with its reason', async () => {
		const { getMatchingRobots, getGroups, getPools } = node.methods.loadOptions;
		await house.client.putGroup('here', { robots: ['anna'] });
		await house.client.putGroup('there', {});
		await house.client.putPool('gpus', { tags: ['gpu'] });
		const asked = async (parameters: Parameters) =>
			(await getMatchingRobots.call(n8n().execution.asLoadOptions(parameters))).map(
				({ name }) => name,
			);
		const any = (matching: object) => asked({ runOn: 'any', labels: 'not=read', matching });
		expect(await any({ group: 'here' })).toEqual(['1 of 1 match, 1 free', 'anna: online']);
		expect(await any({ group: 'there' })).toContain('anna: is not in the group there');
		expect(await any({ pool: 'gpus' })).toContain('anna: is not in the pool gpus');
		expect(await any({ exclude: ['anna'] })).toContain('anna: is excluded');
		expect(await any({ tags: 'gpu' })).toContain('anna: lacks gpu');
		expect(await any({ environment: 'test' })).toContain('anna: lacks environment=test');
		expect(await asked({ runOn: 'matching', labels: 'os=none' })).toContain('anna: lacks os=none');
		const named = (list: { name: string }[]) => list.map(({ name }) => name);
		expect(named(await getGroups.call(looking()))).toContain('here (1 robot)');
		expect(named(await getPools.call(looking()))).toEqual(['gpus (0 robots)']);
	});

	test('schedules and tokens can be chosen as well', async () => {
		await new FleetClient(send).putSchedule('listed', { name: 'Backup', cron: '0 0 1 1 *' });
		const { results } = await searchSchedules.call(looking(), 'back');
		expect(results).toEqual([
			{ name: expect.stringMatching(/^Backup \(active, next /), value: 'listed' },
		]);
		const { tokenId } = (await one('token', 'create')) as IDataObject;
		const tokens = await searchTokens.call(looking(), String(tokenId));
		expect(tokens.results).toMatchObject([{ value: tokenId }]);
	});
});

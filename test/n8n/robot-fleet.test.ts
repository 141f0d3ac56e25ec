/** The node Robot Fleet in a real n8n: with the service inside it, and through n8n's own request helper. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/n8n/until.mjs';
import { type FileRecord, isFinal, type Job, type Robot, type Schedule } from '../../protocol';
import { Fleet, nodeType } from './fleet';

const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const byId = (value: string) => ({ __rl: true, mode: 'id', value });
const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('the node Robot Fleet in a real n8n', () => {
	let fleet: Fleet;
	/** A credential for the same service as for one that runs elsewhere, with all rights. */
	let server: { id: string; name: string };

	beforeAll(async () => {
		fleet = await Fleet.start();
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		await fleet.startAgent('berlin-1');
		server = await n8n.createCredential({
			name: 'Server',
			type: 'robotFleetApi',
			data: {
				connection: 'server',
				url: `http://127.0.0.1:${fleet.servicePort}`,
				apiKey: readFileSync(join(fleet.dataFolder, 'admin.key'), 'utf8').trim(),
			},
		});
	}, 600_000);
	afterAll(async () => await fleet?.stop(), 60_000);

	const ours = (
		name: string,
		resource: string,
		operation: string,
		parameters: object = {},
		more: object = {},
	) => fleet.ours(name, 'robotFleet', { resource, operation, ...parameters }, more);
	const finished = async (workflowId: string) =>
		await fleet.n8n.waitForExecution(
			(each) => each.workflowId === workflowId && ['success', 'error'].includes(each.status),
			60_000,
		);
	const ran = async (
		nodes: Parameters<Fleet['workflow']>[0],
		errors?: { from: string; to: string },
	) => {
		const { id } = await fleet.workflow(nodes, errors);
		await fleet.n8n.runManually(id, 'Manual');
		return await finished(id);
	};

	test('robots, a file to a job and home again, its output, and a schedule from first to last', async () => {
		const execution = await ran([
			manual,
			ours('Robots', 'robot', 'getAll', { returnAll: true }),
			{
				name: 'Text',
				type: 'n8n-nodes-base.set',
				typeVersion: 3.4,
				parameters: {
					mode: 'raw',
					jsonOutput: '={{ { "text": "written in n8n for " + $json.name } }}',
					options: {},
				},
			},
			{
				name: 'As File',
				type: 'n8n-nodes-base.convertToFile',
				typeVersion: 1.1,
				parameters: {
					operation: 'toText',
					sourceProperty: 'text',
					options: { fileName: 'note.txt' },
				},
			},
			ours('Upload', 'job', 'uploadFile'),
			fleet.ours('Submit', 'submitJob', {
				commandType: 'shell',
				shell: 'mkdir out && tr a-z A-Z < in/note.txt > out/note.txt && echo done',
				options: {
					files: { file: [{ file: '={{ $json.fileId }}', path: 'in/note.txt' }] },
					collect: ['out/*'],
				},
			}),
			fleet.ours('Wait', 'waitForExecution', {}),
			ours('Output', 'job', 'getOutput', { job: byId('={{ $json.job.id }}') }),
			ours('Download', 'job', 'downloadFile', {
				download: 'job',
				job: byId("={{ $('Wait').item.json.job.id }}"),
			}),
			// What came down goes up once more: its digest tells what n8n holds.
			ours('Again', 'job', 'uploadFile'),
			ours('Create', 'schedule', 'create', {
				name: "={{ 'Nightly of ' + $('Robots').item.json.name }}",
				frequency: 'daily',
				times: '02:30',
				commandType: 'program',
				program: 'true',
			}),
			ours('Delete', 'schedule', 'delete', { schedule: byId('={{ $json.scheduleId }}') }),
		]);
		expect(execution.data.resultData.error).toBeUndefined();
		expect(execution.status).toBe('success');
		const json = (name: string) => Fleet.output(execution, name).map((item) => item.json);
		expect(json('Robots')).toMatchObject([{ name: 'berlin-1', status: 'online' }]);
		expect(json('Upload')).toMatchObject([{ name: 'note.txt', state: 'ready' }]);
		expect(json('Output')).toMatchObject([{ text: 'done\n', complete: true, truncated: false }]);
		expect(json('Download')).toMatchObject([{ path: 'out/note.txt', state: 'ready' }]);
		expect(json('Again')).toMatchObject([{ sha256: sha256('WRITTEN IN N8N FOR BERLIN-1') }]);
		expect(json('Create')).toMatchObject([{ name: 'Nightly of berlin-1', state: 'active' }]);
		expect(json('Delete')).toMatchObject([{ deleted: true }]);
		expect(Fleet.output(execution, 'Delete')[0]!.pairedItem).toEqual({ item: 0 });
		const { items } = await fleet.service<{ items: Schedule[] }>('GET', '/schedules');
		expect(items).toEqual([]);
	}, 120_000);

	test('the example with a file runs by a click', async () => {
		const workflow = fleet.example('file-to-a-robot-and-back.json');
		const { id } = await fleet.n8n.createWorkflow(workflow);
		await fleet.n8n.runManually(id, workflow.nodes[0]!.name);
		const execution = await finished(id);
		expect(execution.status).toBe('success');
		const [file] = Fleet.output(execution, 'Download its files');
		expect(file).toMatchObject({
			json: { path: 'out/note.txt', sha256: sha256('WRITTEN IN N8N') },
			binary: { data: { fileName: 'note.txt', mimeType: 'text/plain', bytes: 14 } },
		});
	}, 60_000);

	test('through n8n’s own helper large output and files come and go byte by byte equal', async () => {
		const { jobId } = await fleet.service<{ jobId: string }>('POST', '/jobs', {
			kind: 'command',
			spec: { shell: 'seq 1 2000000 | head -c 12000000' },
		});
		// Its output may come behind its end.
		const job = await until(
			async () => {
				const now = await fleet.service<Job>('GET', `/jobs/${jobId}?waitMs=30000`);
				return isFinal(now.state) && now.output.complete ? now : undefined;
			},
			{ deadlineMs: 60_000, what: () => 'the job and all of its output' },
		);
		const credentials = { robotFleetApi: server };
		const execution = await ran([
			manual,
			{
				...ours('Output', 'job', 'getOutput', { job: byId(jobId), outputAs: 'file' }),
				credentials,
			},
			{ ...ours('Upload', 'job', 'uploadFile'), credentials },
			{ ...ours('Download', 'job', 'downloadFile', { download: 'file' }), credentials },
		]);
		expect(execution.data.resultData.error).toBeUndefined();
		const [uploaded] = Fleet.output(execution, 'Upload') as unknown as { json: FileRecord }[];
		expect(uploaded!.json).toMatchObject({
			bytes: 12_000_000,
			sha256: job.result!.sha256!.stdout,
			state: 'ready',
		});
		const [item] = Fleet.output(execution, 'Download') as unknown as {
			binary: { data: { bytes: number; mimeType: string; fileName: string } };
		}[];
		expect(item!.binary.data).toMatchObject({
			bytes: 12_000_000,
			mimeType: 'text/plain',
			fileName: `${jobId}.stdout.txt`,
		});
	}, 120_000);

	test('what is refused goes to the error output, and says the way out', async () => {
		const execution = await ran(
			[
				manual,
				ours(
					'Pause',
					'robot',
					'pause',
					{ robot: byId('berlin-1') },
					{
						onError: 'continueErrorOutput',
					},
				),
				noOp('Good'),
				noOp('Bad'),
			],
			{ from: 'Pause', to: 'Bad' },
		);
		expect(execution.status).toBe('success');
		expect(Fleet.output(execution, 'Good')).toEqual([]);
		expect(Fleet.output(execution, 'Bad')[0]!.json).toMatchObject({
			error: 'This API key lacks the scope "operate"',
			message: expect.stringContaining('robot-fleet key create'),
			details: { code: 'no-scope' },
		});
	}, 60_000);

	test('with a key that may, a robot is paused and resumed, and an unknown one stops the workflow', async () => {
		const credentials = { robotFleetApi: server };
		const robot = byId('berlin-1');
		const execution = await ran([
			manual,
			{ ...ours('Pause', 'robot', 'pause', { robot }), credentials },
			{ ...ours('Resume', 'robot', 'resume', { robot }), credentials },
			{ ...ours('Ghost', 'robot', 'get', { robot: byId('ghost') }), credentials },
		]);
		expect(Fleet.output(execution, 'Pause')[0]!.json).toMatchObject({ status: 'paused' });
		expect(Fleet.output(execution, 'Resume')[0]!.json).toMatchObject({ status: 'online' });
		expect(execution.status).toBe('error');
		expect(execution.data.resultData.error).toMatchObject({
			name: 'NodeApiError',
			message: 'No robot has the id or name ghost',
		});
	}, 60_000);

	test('the editor lists jobs, robots, schedules and what matches', async () => {
		const { items } = await fleet.service<{ items: Robot[] }>('GET', '/robots');
		const asked = async (kind: string, methodName: string, parameters: object, type: string) =>
			await fleet.n8n.rest('POST', `/dynamic-node-parameters/${kind}`, {
				path: 'parameters.job',
				methodName,
				nodeTypeAndVersion: { name: nodeType(type), version: 1 },
				currentNodeParameters: parameters,
				credentials: { robotFleetApi: fleet.credential },
			});
		const list = async (method: string) =>
			await asked('resource-locator-results', method, {}, 'robotFleet');
		expect((await list('searchJobs')).results.length).toBeGreaterThan(0);
		expect((await list('searchRobots')).results).toMatchObject([{ value: items[0]!.robotId }]);
		expect((await list('searchSchedules')).results).toEqual([]);
		const matching = { runOn: 'any', matching: { exclude: ['berlin-1'] } };
		expect(await asked('options', 'getMatchingRobots', matching, 'submitJob')).toMatchObject([
			{ name: '0 of 1 match, 0 free' },
			{ name: 'berlin-1: is excluded' },
		]);
	}, 60_000);
});

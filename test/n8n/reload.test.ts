/**
 * Two versions of our package in one process of n8n, one after the other: n8n clears the module cache
 * and loads the new files while the old objects live on. Loader and engine are n8n's own, the service is
 * the embedded one.
 *
 * @jest-environment ./test/support/n8n-environment.cjs
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IDataObject } from 'n8n-workflow';
import { freePorts } from '../../scripts/n8n/loopback.mjs';
import type { Owner } from '../../nodes/shared/embedded';
import { EngineHost, installBuilt, n8nRuntime, type TestNode } from '../support/n8n-engine';

jest.setTimeout(60_000);

let folder: string;
let n8n: EngineHost;
const owner = () => n8nRuntime.global[Symbol.for('robot-fleet.host.v1')] as Owner | undefined;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-reload-'));
	const [port] = await freePorts(1);
	n8nRuntime.setEnv({
		ROBOT_FLEET_PORT: String(port),
		ROBOT_FLEET_DATA: join(folder, 'data'),
		ROBOT_FLEET_HOST: undefined,
		EXECUTIONS_MODE: undefined,
	});
	n8n = await EngineHost.open(installBuilt(join(folder, 'package'), '0.1.0'));
	n8nRuntime.setEnv({ ROBOT_FLEET_N8N_URL: n8n.url });
	n8n.credential = { connection: 'embedded' };
});
afterAll(async () => {
	await owner()?.close();
	await n8n?.[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

const start: TestNode = { name: 'Start', type: 'n8n-nodes-base.manualTrigger' };
const fleet = (name: string, type: string, parameters: object = {}): TestNode => ({
	name,
	type: `n8n-nodes-robot-fleet.${type}`,
	parameters: parameters as TestNode['parameters'],
});
const byId = (value: string) => ({ __rl: true, mode: 'id', value });

/** One node after the start: what it put out. */
async function one(node: TestNode): Promise<IDataObject> {
	const id = n8n.start({ nodes: [start, node], connections: { Start: [[node.name]] } });
	const ended = await n8n.ended(id);
	expect(ended.error).toBeUndefined();
	return ended.items(node.name)[0]!.json;
}
const job = (operation: string, jobId: string) =>
	one(fleet('Job', 'robotFleet', { resource: 'job', operation, job: byId(jobId) }));

test('loading the package starts nothing and owns nothing', () => {
	expect(owner()).toBeUndefined();
});

test('a refresh of the node types leaves the service that runs alone', async () => {
	// Nobody runs it: there is no robot.
	await one(fleet('Submit', 'submitJob', { program: 'true' }));
	const before = owner()!;
	const host = await before.ready;
	await n8n.refreshTypes();
	await one(fleet('Submit', 'submitJob', { program: 'true' }));
	expect(owner()).toBe(before);
	expect(await owner()!.ready).toBe(host);
});

test('a newer version takes over port, data and parked executions, and the older one lets go', async () => {
	const id = n8n.start({
		nodes: [
			start,
			fleet('Submit', 'submitJob', { program: 'true' }),
			fleet('Wait', 'waitForExecution'),
			{ name: 'After', type: 'n8n-nodes-base.noOp' },
		],
		connections: { Start: [['Submit']], Submit: [['Wait']], Wait: [['After']] },
	});
	const { data } = await n8n.parked(id);
	const jobId = data.resultData.runData.Submit!.at(-1)!.data!.main![0]![0]!.json.jobId as string;
	const older = owner()!;
	const { url } = (await older.ready)!;
	expect(older.version).toBe('0.1.0');

	installBuilt(join(folder, 'package'), '0.1.1');
	await n8n.updatePackage();
	expect(await job('get', jobId)).toMatchObject({ state: 'queued' });
	const newer = owner()!;
	expect(newer.version).toBe('0.1.1');
	expect((await newer.ready)!.url).toBe(url);
	expect(older.ready).toBeUndefined();
	await expect(older.start()).rejects.toMatchObject({ code: 'not-ready' });

	await job('cancel', jobId);
	const ended = await n8n.ended(id);
	expect(ended).toMatchObject({
		status: 'error',
		lastNode: 'Wait',
		error: { name: 'NodeOperationError' },
	});
});

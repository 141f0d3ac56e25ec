/**
 * What executions that were parked by an earlier version of this package come back with, and what
 * workflows are stored with (docs/decisions/0011-later-versions-of-a-node.md). A line here is only ever added.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ICredentialType, INodeType } from 'n8n-workflow';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';
import { FakeExecution } from './fake-n8n';
import { FakeService } from './fake-service';

const root = join(__dirname, '../../..');
const { name: packageName, n8n } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
	name: string;
	n8n: { nodes: string[]; credentials: string[] };
};

function load<T>(file: string): T {
	const source = file.replace(/^dist\//, '').replace(/\.js$/, '');
	const classes = jest.requireActual<Record<string, new () => T>>(join(root, source));
	return new classes[source.split('/').at(-1)!.split('.')[0]!]!();
}
const types = n8n.nodes.map((file) => load<INodeType>(file));

const comesBack = {
	name: 'default',
	httpMethod: 'POST',
	responseMode: 'onReceived',
	responseData: '',
	path: '={{ $nodeId }}',
	restartWebhook: true,
	isFullPath: true,
};

/** Of each version that was ever published, the webhooks an execution may have been parked with. */
const published: Record<string, Record<number, object[]>> = {
	submitJob: { 1: [] },
	dispatchToRobot: { 1: [comesBack] },
	waitForExecution: { 1: [comesBack] },
	scheduleTrigger: { 1: [], 1.1: [] },
	robotFleet: { 1: [] },
	robotFleetTrigger: { 1: [] },
};

test.each(Object.entries(published))('%s has all versions it ever had', (name, versions) => {
	const type = types.find(({ description }) => description.name === name)!;
	const { version, webhooks = [] } = type.description;
	expect([version].flat()).toEqual(expect.arrayContaining(Object.keys(versions).map(Number)));
	for (const parked of Object.values(versions).flat()) expect(webhooks).toContainEqual(parked);
});

test('every node that an execution may be parked in stands in this table', () => {
	const parking = types.filter(({ description }) =>
		description.webhooks?.some(({ restartWebhook }) => restartWebhook),
	);
	const names = parking.map(({ description }) => description.name);
	expect(names.filter((name) => !(name in published))).toEqual([]);
});

test('workflows find package and credential by the names they are stored with', () => {
	expect(packageName).toBe('n8n-nodes-robot-fleet');
	const [credential] = n8n.credentials.map((file) => load<ICredentialType>(file));
	expect(credential!.name).toBe('robotFleetApi');
	expect(credential!.properties.map(({ name }) => name)).toEqual(
		expect.arrayContaining(['connection', 'url', 'apiKey', 'callbackUrl']),
	);
});

/** What was ever stored of a wait, under `robotFleetWait` of the node's context. */
const stored = [
	{
		shape: 'version 0.1',
		parked: (waitId: string, jobIds: string[]) => ({
			waitId,
			entries: [
				{ value: jobIds[0] },
				{ refusal: { message: 'The item has no job ID', description: 'Set "Job ID"' } },
			],
			afterLimit: 'continue',
		}),
	},
];

test.each(stored)('an execution parked with the shape of $shape comes back', async ({ parked }) => {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	execution.node = { ...execution.node, onError: 'continueRegularOutput' };
	const jobId = service.addJob();
	execution.items = [{ json: { n: 0, jobId } }, { json: { n: 1 } }];
	const node = new WaitForExecution();
	await node.execute.call(
		execution.asExecute({
			jobId: (item: { json: { jobId?: string } }) => item.json.jobId ?? '',
			limitWaitTime: false,
		}),
	);
	const waitId = [...service.waits.keys()].at(-1)!;
	// As if it had been written by the package of that time.
	execution.context = { robotFleetWait: JSON.stringify(parked(waitId, [jobId])) };
	service.end(jobId, 'completed', null, { stdout: 'late' });
	const answer = await node.webhook.call(execution.asWebhook({ waitId, nonce: '1' }));
	expect(answer.webhookResponse).toEqual({ resumed: true });
	expect(answer.workflowData![0]!.map(({ json }) => json)).toMatchObject([
		{ n: 0, job: { state: 'completed', stdout: 'late' } },
		{ n: 1, error: 'The item has no job ID' },
	]);
});

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { INodeProperties, INodeType } from 'n8n-workflow';
import { DispatchToRobot } from '../../../nodes/DispatchToRobot/DispatchToRobot.node';
import { RobotFleet } from '../../../nodes/RobotFleet/RobotFleet.node';
import { RobotFleetTrigger } from '../../../nodes/RobotFleetTrigger/RobotFleetTrigger.node';
import { ScheduleTrigger } from '../../../nodes/ScheduleTrigger/ScheduleTrigger.node';
import { SubmitJob } from '../../../nodes/SubmitJob/SubmitJob.node';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';

interface Workflow {
	id: string;
	nodes: Array<{
		id: string;
		name: string;
		type: string;
		parameters: object;
		credentials?: object;
	}>;
	connections: Record<string, { main: Array<Array<{ node: string }>> }>;
}

const folder = join(__dirname, '../../../examples');
const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
const types = new Map(
	[
		new SubmitJob(),
		new DispatchToRobot(),
		new WaitForExecution(),
		new ScheduleTrigger(),
		new RobotFleet(),
		new RobotFleetTrigger(),
	].map((type: INodeType) => [`n8n-nodes-robot-fleet.${type.description.name}`, type]),
);

/** A parameter that no field has would be dropped by n8n without a word. */
function strangers(parameters: object, fields: INodeProperties[]): string[] {
	return Object.keys(parameters).filter((name) => !fields.some((field) => field.name === name));
}

test('there are examples', () => expect(files.length).toBeGreaterThanOrEqual(4));

describe.each(files)('%s', (file) => {
	const workflow = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Workflow;
	const names = workflow.nodes.map(({ name }) => name);

	test('has ids and names that are unique, and connections between nodes that are there', () => {
		expect(new Set(names).size).toBe(names.length);
		expect(new Set(workflow.nodes.map(({ id }) => id)).size).toBe(names.length);
		const ends = Object.entries(workflow.connections).flatMap(([from, { main }]) => [
			from,
			...main.flat().map(({ node }) => node),
		]);
		expect(ends.filter((end) => !names.includes(end))).toEqual([]);
	});

	test('uses only fields that our nodes have', () => {
		const ours = workflow.nodes.filter(({ type }) => type.startsWith('n8n-nodes-robot-fleet.'));
		expect(ours.length).toBeGreaterThan(0);
		for (const node of ours) {
			const fields = types.get(node.type)!.description.properties;
			expect([node.name, strangers(node.parameters, fields)]).toEqual([node.name, []]);
			expect(node.credentials).toHaveProperty('robotFleetApi.id', 'robotFleetThisN8n');
		}
	});
});

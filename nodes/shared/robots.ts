/** Live lists for the editor: robots to choose from, capabilities, and who fits the labels so far. */
import type {
	ILoadOptionsFunctions,
	INodeListSearchResult,
	INodePropertyOptions,
} from 'n8n-workflow';
import type { Robot, Target } from '../../protocol';
import { connect } from './connection';
import { parseLabels } from './target-fields';
import { nodeError } from './refusals';

export async function searchRobots(
	this: ILoadOptionsFunctions,
	filter = '',
): Promise<INodeListSearchResult> {
	const wanted = filter.trim().toLowerCase();
	const results = (await allRobots(this))
		.filter((robot) => `${robot.name} ${robot.robotId}`.toLowerCase().includes(wanted))
		.map((robot) => ({
			name: `${robot.name} (${robot.status})`,
			value: robot.robotId,
			description: describe(robot),
		}));
	return { results };
}

export async function getCapabilities(
	this: ILoadOptionsFunctions,
): Promise<INodePropertyOptions[]> {
	const robots = await allRobots(this);
	const counts = new Map<string, number>();
	for (const capability of robots.flatMap((robot) => robot.capabilities)) {
		counts.set(capability, (counts.get(capability) ?? 0) + 1);
	}
	return [...counts]
		.sort(([a], [b]) => a.localeCompare(b))
		.map(([name, count]) => ({
			name: `${name} (${count} of ${robots.length} robots)`,
			value: name,
		}));
}

/** First how many fit, then each robot with its state or with what excludes it. */
export async function getMatchingRobots(
	this: ILoadOptionsFunctions,
): Promise<INodePropertyOptions[]> {
	const target: Target = {
		labels: parseLabels(String(this.getCurrentNodeParameter('labels') ?? '')),
		capabilities: (this.getCurrentNodeParameter('capabilities') as string[] | undefined) ?? [],
	};
	const robots = (await allRobots(this)).map((robot) => ({ robot, lacks: lacks(robot, target) }));
	const fitting = robots.filter(({ lacks }) => lacks === undefined);
	const free = fitting.filter(({ robot }) => robot.status === 'online').length;
	return [
		{ name: `${fitting.length} of ${robots.length} match, ${free} free`, value: '' },
		...robots.map(({ robot, lacks }) => ({
			name: `${robot.name}: ${lacks === undefined ? robot.status : `lacks ${lacks}`}`,
			value: robot.robotId,
		})),
	];
}

async function allRobots(context: ILoadOptionsFunctions): Promise<Robot[]> {
	try {
		const { client } = await connect(context);
		return (await client.robots()).sort((a, b) => a.name.localeCompare(b.name));
	} catch (error) {
		throw nodeError(context.getNode(), error);
	}
}

function describe({ labels, capabilities }: Robot): string {
	return [
		...Object.entries(labels).map(([name, value]) => `${name}=${value}`),
		...capabilities,
	].join(', ');
}

function lacks(robot: Robot, { labels = {}, capabilities = [] }: Target): string | undefined {
	const label = Object.entries(labels).find(([name, value]) => robot.labels[name] !== value);
	if (label) return label.join('=');
	return capabilities.find((capability) => !robot.capabilities.includes(capability));
}

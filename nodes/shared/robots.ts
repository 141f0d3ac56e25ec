/** Live lists for the editor: robots to choose from, capabilities, and who fits the labels so far. */
import type {
	ILoadOptionsFunctions,
	INodeListSearchResult,
	INodePropertyOptions,
} from 'n8n-workflow';
import type { FleetClient } from '../../client';
import { type Robot, simulatedLabel, simulatedTakesLabel, type Target } from '../../protocol';
import { connect } from './connection';
import type { Matching } from './matching-fields';
import { asProblem, nodeError } from './refusals';
import { targetOf } from './target-fields';

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
	return await asking(this, async (client) => {
		const must = this.getCurrentNodeParameter('runOn') !== 'any';
		const target = targetOf({
			...(must
				? {
						labels: this.getCurrentNodeParameter('labels'),
						capabilities: this.getCurrentNodeParameter('capabilities'),
					}
				: {}),
			matching: this.getCurrentNodeParameter('matching') as Matching | undefined,
		});
		const places = await placesOf(client, target);
		const robots = (await robotsOf(client)).map((robot) => ({
			robot,
			not: excludedBy(robot, target, places),
		}));
		const fitting = robots.filter(({ not }) => not === undefined);
		const free = fitting.filter(({ robot }) => robot.status === 'online').length;
		return [
			{ name: `${fitting.length} of ${robots.length} match, ${free} free`, value: '' },
			...robots.map(({ robot, not }) => ({
				name: `${robot.name}: ${not ?? robot.status}`,
				value: robot.robotId,
			})),
		];
	});
}

/** Robots, groups and pools by their names, for fields that take several of them or none. */
export async function getRobots(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	return (await allRobots(this)).map(({ name, status, robotId }) => ({
		name: `${name} (${status})`,
		value: robotId,
	}));
}

export async function getGroups(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	return await asking(this, async (client) =>
		named(await client.groups(), ({ allRobots: { length } }) => robotCount(length)),
	);
}

export async function getPools(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	return await asking(this, async (client) =>
		named(await client.pools(), ({ robots: { length } }) => robotCount(length)),
	);
}

const robotCount = (count: number) => `${count} ${count === 1 ? 'robot' : 'robots'}`;

function named<T extends { name: string }>(all: T[], what: (one: T) => string) {
	return all
		.map((one) => ({ name: `${one.name} (${what(one)})`, value: one.name }))
		.sort((a, b) => a.name.localeCompare(b.name));
}

/** A name is for people; without it the id has to do. */
export async function nameOf(client: FleetClient, robotId: string): Promise<string> {
	const robot = await client.robot(robotId).catch((error: unknown) => {
		// It was removed, or this key may not read.
		if (asProblem(error)?.retry === false) return undefined;
		throw error;
	});
	return robot?.name ?? robotId;
}

async function allRobots(context: ILoadOptionsFunctions): Promise<Robot[]> {
	return await asking(context, robotsOf);
}

async function robotsOf(client: FleetClient): Promise<Robot[]> {
	return (await client.robots()).sort((a, b) => a.name.localeCompare(b.name));
}

/** Tells the editor in words what goes wrong. */
export async function asking<T>(
	context: ILoadOptionsFunctions,
	ask: (client: FleetClient) => Promise<T>,
): Promise<T> {
	try {
		return await ask((await connect(context)).client);
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

/** Names of the robots that are in the group and in the pool of a target. */
interface Places {
	group?: string[];
	pool?: string[];
}

async function placesOf(client: FleetClient, { group, pool }: Target): Promise<Places> {
	return {
		...(group === undefined ? {} : { group: (await client.group(group)).allRobots }),
		...(pool === undefined ? {} : { pool: (await client.pool(pool)).robots }),
	};
}

/** The first condition that keeps this robot from a job, in words. */
function excludedBy(robot: Robot, target: Target, { group, pool }: Places): string | undefined {
	const { labels = {}, tags = [], capabilities = [], exclude = [], environment } = target;
	const all = environment === undefined ? labels : { ...labels, environment };
	const label = Object.entries(all).find(([name, value]) => robot.labels[name] !== value);
	if (label) return `lacks ${label.join('=')}`;
	const missing =
		tags.find((tag) => robot.labels[tag] === undefined) ??
		capabilities.find((capability) => !robot.capabilities.includes(capability));
	if (missing !== undefined) return `lacks ${missing}`;
	if (onlyPlays(robot) && all[simulatedLabel] !== 'true' && !tags.includes(simulatedLabel)) {
		return 'is simulated';
	}
	if (exclude.some((one) => one === robot.name || one === robot.robotId)) return 'is excluded';
	if (group && !group.includes(robot.name)) return `is not in the group ${target.group}`;
	if (pool && !pool.includes(robot.name)) return `is not in the pool ${target.pool}`;
	return undefined;
}

/** A simulated robot, which gets only jobs that ask for one. */
function onlyPlays({ labels }: Robot): boolean {
	return labels[simulatedLabel] === 'true' && labels[simulatedTakesLabel] !== 'any';
}

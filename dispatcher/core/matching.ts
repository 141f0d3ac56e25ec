/**
 * Which robot may run a job. A lane is one canonical must-rule: all jobs that ask for the same
 * things share it, whatever order they wrote them in. How they want to be placed among the robots that
 * may (strategy, preferences) is part of it, so that it is known of every job in memory. Pure: plain facts
 * in, a reason out.
 */
import type { Reason, Strategy, Target } from '../../protocol';
import { type Caps, capabilitiesFor } from '../../protocol';
import { wantsReal } from './simulated';

export interface Rule {
	/** Robot id; such a lane is that robot's own queue. */
	robot?: string;
	labels: Record<string, string>;
	capabilities: string[];
	/** Which client of the robot; whether it is free is not part of the rule, but checked when the job is given away. */
	client?: string;
	group?: string;
	pool?: string;
	/** Names of labels, whatever their value. */
	tags?: string[];
	/** Robot ids. */
	exclude?: string[];
	prefer?: Preference[];
	/** Absent = the service's own. */
	strategy?: Strategy;
	preferWaitMs?: number;
	/** How many of its slots it takes at once; absent = one. */
	slots?: number;
}

/** What a rule has besides its oldest parts, in the order in which its text has them. */
type More = Pick<Rule, (typeof more)[number]>;
const more = [
	'group',
	'pool',
	'tags',
	'exclude',
	'prefer',
	'strategy',
	'preferWaitMs',
	'slots',
] as const;

/** The robot by its id; without one, every robot with the labels. */
export interface Preference {
	robot?: string;
	labels?: Record<string, string>;
	weight: number;
}

/** What a rule is held against. */
export interface Terms {
	robotId: string;
	labels: Record<string, string>;
	capabilities: readonly string[];
	clients: readonly string[];
	/** Absent = none, as with `pools`. */
	groups?: readonly string[];
	pools?: readonly string[];
	/** Absent = as many as anybody wants. */
	slots?: number;
}

/** How a job says that it wants to be placed. */
export interface Placement {
	strategy?: Strategy;
	preferWaitMs?: number;
	caps?: Caps;
	slots?: number;
}

/** `idOf` finds the robots that are named besides the one that the job is for. */
export function ruleOf(
	target: Target,
	robotId: string | undefined,
	idOf: (robot: string) => string = (robot) => robot,
): Rule {
	const { environment, tags = [], exclude = [], prefer = [] } = target;
	return {
		...(robotId === undefined ? {} : { robot: robotId }),
		labels: inOrder({
			...target.labels,
			...(environment === undefined ? {} : { [environmentLabel]: environment }),
		}),
		capabilities: unique(target.capabilities ?? []),
		...(target.client === undefined ? {} : { client: target.client }),
		...(target.group === undefined ? {} : { group: target.group }),
		...(target.pool === undefined ? {} : { pool: target.pool }),
		...(tags.length === 0 ? {} : { tags: unique(tags) }),
		...(exclude.length === 0 ? {} : { exclude: unique(exclude.map(idOf)) }),
		// A job for one robot has nothing to prefer.
		...(prefer.length === 0 || robotId !== undefined
			? {}
			: { prefer: prefer.map((one) => preferenceFor(one, idOf)).sort(byText) }),
	};
}

/** The label that says which environment a robot belongs to. */
export const environmentLabel = 'environment';

function preferenceFor(
	{ robot, labels, weight = 1 }: NonNullable<Target['prefer']>[number],
	idOf: (robot: string) => string,
): Preference {
	return {
		...(robot === undefined ? {} : { robot: idOf(robot) }),
		...(labels === undefined ? {} : { labels: inOrder(labels) }),
		weight,
	};
}

/** The lane of those that also want to be placed like this. */
export function laneWith(
	lane: string,
	{ caps, strategy, preferWaitMs, slots = 1 }: Placement,
): string {
	const needed = capabilitiesFor(caps);
	if (needed.length === 0 && strategy === undefined && preferWaitMs === undefined && slots === 1) {
		return lane;
	}
	const { strategy: _, preferWaitMs: __, slots: ___, ...rule } = laneRule(lane);
	return laneKey({
		...rule,
		capabilities: unique([...rule.capabilities, ...needed]),
		...(strategy === undefined || rule.robot !== undefined ? {} : { strategy }),
		...(!preferWaitMs || rule.robot !== undefined ? {} : { preferWaitMs }),
		...(slots === 1 ? {} : { slots }),
	});
}

/** Equal rules give equal keys, and a key gives its rule back. */
export function laneKey(rule: Rule): string {
	const { robot = '', labels, capabilities, client } = rule;
	const rest = more.filter((name) => rule[name] !== undefined);
	return JSON.stringify([
		robot,
		labels,
		capabilities,
		...(rest.length === 0
			? client === undefined
				? []
				: [client]
			: [client ?? null, Object.fromEntries(rest.map((name) => [name, rule[name]]))]),
	]);
}

export function laneRule(key: string): Rule {
	const [robot, labels, capabilities, client, rest] = JSON.parse(key) as [
		string,
		Record<string, string>,
		string[],
		(string | null)?,
		More?,
	];
	return {
		...(robot ? { robot } : {}),
		labels,
		capabilities,
		...(client === undefined || client === null ? {} : { client }),
		...rest,
	};
}

/** Which term of the rule keeps this robot from running the job; `undefined` when it may. */
export function misfit(rule: Rule, robot: Terms): Reason | undefined {
	if (rule.robot !== undefined && rule.robot !== robot.robotId) {
		return { obstacle: 'robot', text: 'is another robot' };
	}
	if (rule.exclude?.includes(robot.robotId)) {
		return { obstacle: 'excluded', text: 'is excluded by the job' };
	}
	if (rule.group !== undefined && !robot.groups?.includes(rule.group)) {
		return { obstacle: 'group', text: `is not in the group ${rule.group}` };
	}
	if (rule.pool !== undefined && !robot.pools?.includes(rule.pool)) {
		return { obstacle: 'pool', text: `is not in the pool ${rule.pool}` };
	}
	for (const [name, value] of Object.entries(rule.labels)) {
		if (!Object.hasOwn(robot.labels, name)) {
			return { obstacle: 'label', text: `has no label ${name}=${value}` };
		}
		const has = robot.labels[name];
		if (has === value) continue;
		return { obstacle: 'label', text: `has the label ${name}=${has}, not ${name}=${value}` };
	}
	const untagged = rule.tags?.find((tag) => !Object.hasOwn(robot.labels, tag));
	if (untagged !== undefined) return { obstacle: 'tag', text: `has no label ${untagged}` };
	const missing = rule.capabilities.find((wanted) => !robot.capabilities.includes(wanted));
	if (missing !== undefined) {
		return { obstacle: 'capability', text: `lacks the capability ${missing}` };
	}
	if (wantsReal(rule, robot.labels)) {
		return {
			obstacle: 'simulated',
			text: 'is simulated, and the job does not ask for simulated=true',
		};
	}
	if (rule.client !== undefined && !robot.clients.includes(rule.client)) {
		return { obstacle: 'client', text: `has no client ${rule.client}` };
	}
	const { slots = 1 } = rule;
	if (slots <= (robot.slots ?? Infinity)) return undefined;
	const has = robot.slots === 1 ? 'one slot' : `${robot.slots} slots`;
	return { obstacle: 'slots', text: `has ${has}, and the job takes ${slots}` };
}

/** What the robot is worth to jobs that prefer some; 0 = as good as any. */
export function preferenceOf({ prefer }: Rule, robot: Terms): number {
	let worth = 0;
	for (const one of prefer ?? []) {
		const meant =
			(one.robot === undefined || one.robot === robot.robotId) &&
			Object.entries(one.labels ?? {}).every(([name, value]) => robot.labels[name] === value);
		if (meant) worth += one.weight;
	}
	return worth;
}

/** The rule in words, for people. */
export function describeRule(rule: Rule, nameOf: (robotId: string) => string = (id) => id): string {
	const parts = [
		...(rule.robot === undefined ? [] : [`robot ${nameOf(rule.robot)}`]),
		...(rule.group === undefined ? [] : [`group ${rule.group}`]),
		...(rule.pool === undefined ? [] : [`pool ${rule.pool}`]),
		...Object.entries(rule.labels).map(([name, value]) => `label ${name}=${value}`),
		...(rule.tags ?? []).map((name) => `label ${name}`),
		...rule.capabilities.map((name) => `capability ${name}`),
		...(rule.client === undefined ? [] : [`client ${rule.client}`]),
		...(rule.slots === undefined ? [] : [`${rule.slots} slots`]),
	];
	const but = rule.exclude ? ` but ${rule.exclude.map(nameOf).join(', ')}` : '';
	return `${parts.length === 0 ? 'any robot' : parts.join(', ')}${but}`;
}

function inOrder(labels: Record<string, string>): Record<string, string> {
	return Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const unique = (names: readonly string[]) => [...new Set(names)].sort();

function byText(a: Preference, b: Preference): number {
	return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

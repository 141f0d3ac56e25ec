/**
 * Which robot may run a job. A lane is one canonical must-rule: all jobs that ask for the same
 * things share it, whatever order they wrote them in. Pure: plain facts in, a reason out.
 */
import type { Target } from '../../protocol';

export interface Rule {
	/** Robot id; such a lane is that robot's own queue. */
	robot?: string;
	labels: Record<string, string>;
	capabilities: string[];
	/** Which client of the robot; whether it is free is no rule, but looked at when the job is given away. */
	client?: string;
}

/** What a rule is held against. */
export interface Terms {
	robotId: string;
	labels: Record<string, string>;
	capabilities: readonly string[];
	clients: readonly string[];
}

export function ruleOf(target: Target, robotId: string | undefined): Rule {
	return {
		...(robotId === undefined ? {} : { robot: robotId }),
		labels: Object.fromEntries(
			Object.entries(target.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)),
		),
		capabilities: [...new Set(target.capabilities ?? [])].sort(),
		...(target.client === undefined ? {} : { client: target.client }),
	};
}

/** The lane of those that ask for these besides. */
export function laneWith(lane: string, capabilities: readonly string[]): string {
	if (capabilities.length === 0) return lane;
	const rule = laneRule(lane);
	const all = new Set([...rule.capabilities, ...capabilities]);
	return laneKey({ ...rule, capabilities: [...all].sort() });
}

/** Equal rules give equal keys, and a key gives its rule back. */
export function laneKey(rule: Rule): string {
	const { robot = '', labels, capabilities, client } = rule;
	return JSON.stringify([robot, labels, capabilities, ...(client === undefined ? [] : [client])]);
}

export function laneRule(key: string): Rule {
	const [robot, labels, capabilities, client] = JSON.parse(key) as [
		string,
		Record<string, string>,
		string[],
		string?,
	];
	return {
		...(robot ? { robot } : {}),
		labels,
		capabilities,
		...(client === undefined ? {} : { client }),
	};
}

/** Why this robot may not run it; `undefined` when it may. */
export function misfit(rule: Rule, robot: Terms): string | undefined {
	if (rule.robot !== undefined && rule.robot !== robot.robotId) return 'is another robot';
	for (const [name, value] of Object.entries(rule.labels)) {
		const has = robot.labels[name];
		if (has !== value) {
			return has === undefined
				? `has no label ${name}=${value}`
				: `has the label ${name}=${has}, not ${name}=${value}`;
		}
	}
	const missing = rule.capabilities.find((wanted) => !robot.capabilities.includes(wanted));
	if (missing !== undefined) return `lacks the capability ${missing}`;
	return rule.client === undefined || robot.clients.includes(rule.client)
		? undefined
		: `has no client ${rule.client}`;
}

/** The rule in words, for people. */
export function describeRule(rule: Rule): string {
	const parts = [
		...(rule.robot === undefined ? [] : [`robot ${rule.robot}`]),
		...Object.entries(rule.labels).map(([name, value]) => `label ${name}=${value}`),
		...rule.capabilities.map((name) => `capability ${name}`),
		...(rule.client === undefined ? [] : [`client ${rule.client}`]),
	];
	return parts.length === 0 ? 'any robot' : parts.join(', ');
}

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
}

/** What a rule is held against. */
export interface Terms {
	robotId: string;
	labels: Record<string, string>;
	capabilities: readonly string[];
}

export function ruleOf(target: Target, robotId: string | undefined): Rule {
	return {
		...(robotId === undefined ? {} : { robot: robotId }),
		labels: Object.fromEntries(
			Object.entries(target.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)),
		),
		capabilities: [...new Set(target.capabilities ?? [])].sort(),
	};
}

/** Equal rules give equal keys, and a key gives its rule back. */
export function laneKey(rule: Rule): string {
	return JSON.stringify([rule.robot ?? '', rule.labels, rule.capabilities]);
}

export function laneRule(key: string): Rule {
	const [robot, labels, capabilities] = JSON.parse(key) as [
		string,
		Record<string, string>,
		string[],
	];
	return { ...(robot ? { robot } : {}), labels, capabilities };
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
	return missing === undefined ? undefined : `lacks the capability ${missing}`;
}

/** The rule in words, for people. */
export function describeRule(rule: Rule): string {
	const parts = [
		...(rule.robot === undefined ? [] : [`robot ${rule.robot}`]),
		...Object.entries(rule.labels).map(([name, value]) => `label ${name}=${value}`),
		...rule.capabilities.map((name) => `capability ${name}`),
	];
	return parts.length === 0 ? 'any robot' : parts.join(', ');
}

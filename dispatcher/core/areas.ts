/**
 * Robots put together: in groups, which lie in one another and whose members an admin names, and in pools, whose members
 * are all robots with the terms. Who is in a group is in every group around it. Pure.
 */

export interface GroupOfRobots {
	readonly name: string;
	/** The group around it. */
	readonly parent: string | null;
	/** Ids of its own members; those of the groups inside it are not among them. */
	readonly robots: ReadonlySet<string>;
}

export interface PoolTerms {
	readonly name: string;
	readonly labels: Readonly<Record<string, string>>;
	/** Names of labels, whatever their value. */
	readonly tags: readonly string[];
	readonly group: string | null;
	/** So many jobs run on all its robots together at most; null = no limit. */
	readonly maxJobs: number | null;
}

type Groups = ReadonlyMap<string, GroupOfRobots>;

/** The group and all around it. Ends where a parent is missing, and should they ever lie in a ring. */
export function around(name: string, groups: Groups): string[] {
	const found = new Set<string>();
	for (let group = groups.get(name); group && !found.has(group.name);) {
		found.add(group.name);
		group = group.parent === null ? undefined : groups.get(group.parent);
	}
	return [...found];
}

/** By robot: names of the groups it is in, in order. Who is in none is missing. */
export function groupsByRobot(groups: Groups): Map<string, readonly string[]> {
	const found = new Map<string, Set<string>>();
	for (const { name, robots } of groups.values()) {
		const all = around(name, groups);
		for (const robotId of robots) {
			const own = found.get(robotId) ?? new Set();
			for (const one of all) own.add(one);
			found.set(robotId, own);
		}
	}
	return new Map([...found].map(([robotId, names]) => [robotId, [...names].sort()]));
}

export function isInPool(
	{ labels, tags, group }: PoolTerms,
	robot: { labels: Record<string, string>; groups: readonly string[] },
): boolean {
	return (
		(group === null || robot.groups.includes(group)) &&
		Object.entries(labels).every(([name, value]) => robot.labels[name] === value) &&
		tags.every((tag) => Object.hasOwn(robot.labels, tag))
	);
}

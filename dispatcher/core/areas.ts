/**
 * Robots put together: in groups, which nest and whose members an admin names, and in pools, whose members are all
 * robots that meet their terms. A robot in a group is also in every group around it. Pure.
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
	/** At most this many jobs run on all its robots together; null = no limit. */
	readonly maxJobs: number | null;
}

type Groups = ReadonlyMap<string, GroupOfRobots>;

/** The group and all those around it. Stops at a missing parent and at a ring, should there ever be one. */
export function around(name: string, groups: Groups): string[] {
	const found = new Set<string>();
	for (let group = groups.get(name); group && !found.has(group.name);) {
		found.add(group.name);
		group = group.parent === null ? undefined : groups.get(group.parent);
	}
	return [...found];
}

/** By robot: the sorted names of the groups it is in. A robot in none is missing. */
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

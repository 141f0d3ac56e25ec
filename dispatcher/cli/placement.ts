/** The commands about groups and pools of robots. */
import type { GroupRequest, PoolRequest } from '../../protocol';
import type { CommandKit } from './job-changes';
import { card, json, listOf, pairOf, pairs, plural, table, wholeOf } from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
}

export function addPlacement({ terminal, client, group, sub }: CommandKit): void {
	const tell = <T>(flags: Flags, value: T, text: (value: T) => string) =>
		terminal.out(flags.json ? json(value) : text(value));
	const groups = group(
		'groups',
		'put robots together by name; groups can be nested',
		'robot-fleet groups put hall-2 --parent site-a --robot build-01 --robot build-02',
	);
	sub(groups, 'list', 'list groups', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).groups(), (all) =>
			table(
				['NAME', 'IN', 'OWN ROBOTS', 'ALL ROBOTS'],
				all.map(({ name, parent, robots, allRobots }) => [
					name,
					parent ?? '',
					robots.join(','),
					allRobots.length,
				]),
			),
		),
	);
	sub(groups, 'show <name>', 'show one group with all its robots', 'show site-a').action(
		async (name: string, flags: Flags) =>
			tell(flags, await client(flags).group(name), ({ updatedAt: _, ...shown }) => card(shown)),
	);
	sub(groups, 'put <name>', 'make a group, or replace it', 'put site-a --robot build-01')
		.option('--parent <name>', 'the group around it')
		.option('--robot <name>', 'a robot in this group itself (repeatable)', listOf)
		.action(async (name: string, flags: Flags & { parent?: string; robot?: string[] }) => {
			const request: GroupRequest = {
				...(flags.parent !== undefined && { parent: flags.parent }),
				...(flags.robot && { robots: flags.robot }),
			};
			tell(
				flags,
				await client(flags).putGroup(name, request),
				({ allRobots }) => `${name} has ${plural(allRobots.length, 'robot')}\n`,
			);
		});
	sub(groups, 'remove <name>', 'remove a group that nothing lies in', 'remove site-a').action(
		async (name: string, flags: Flags) => {
			await client(flags).removeGroup(name);
			tell(flags, { removed: name }, () => `${name} is removed\n`);
		},
	);

	const pools = group(
		'pools',
		'limit how many jobs robots of a sort run together',
		'robot-fleet pools put prod --label environment=prod --max-jobs 2',
	);
	sub(pools, 'list', 'list pools', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).pools(), (all) =>
			table(
				['NAME', 'TERMS', 'JOBS', 'ROBOTS'],
				all.map(({ name, labels, tags, group: inGroup, maxJobs, jobs, robots }) => [
					name,
					[pairs(labels), ...tags, inGroup === null ? '' : `group ${inGroup}`]
						.filter((term) => term !== '')
						.join(' '),
					maxJobs === null ? jobs : `${jobs}/${maxJobs}`,
					robots.length,
				]),
			),
		),
	);
	sub(pools, 'show <name>', 'show one pool with its robots', 'show prod').action(
		async (name: string, flags: Flags) =>
			tell(flags, await client(flags).pool(name), ({ updatedAt: _, labels, ...shown }) =>
				card({ ...shown, labels: pairs(labels) }),
			),
	);
	sub(pools, 'put <name>', 'make a pool, or replace it', 'put gpus --tag gpu --max-jobs 4')
		.option('--label <name=value>', 'a label its robots carry (repeatable)', pairOf)
		.option('--tag <name>', 'a label its robots carry, whatever its value (repeatable)', listOf)
		.option('--group <name>', 'the group its robots are in')
		.option('--max-jobs <number>', 'at most this many jobs on all of them together', wholeOf)
		.action(async (name: string, flags: Flags & PoolFlags) => {
			const request: PoolRequest = {
				...(flags.label && { labels: flags.label }),
				...(flags.tag && { tags: flags.tag }),
				...(flags.group !== undefined && { group: flags.group }),
				...(flags.maxJobs !== undefined && { maxJobs: flags.maxJobs }),
			};
			tell(
				flags,
				await client(flags).putPool(name, request),
				({ robots }) => `${name} has ${plural(robots.length, 'robot')}\n`,
			);
		});
	sub(pools, 'remove <name>', 'remove a pool', 'remove prod').action(
		async (name: string, flags: Flags) => {
			await client(flags).removePool(name);
			tell(flags, { removed: name }, () => `${name} is removed\n`);
		},
	);
}

interface PoolFlags {
	label?: Record<string, string>;
	tag?: string[];
	group?: string;
	maxJobs?: number;
}

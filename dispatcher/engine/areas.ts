/** Groups and pools: who makes them, and what they are at the moment. The fleet knows which robots are in them. */
import {
	type Group,
	type GroupRequest,
	type Pool,
	limits,
	type PoolRequest,
	Problem,
} from '../../protocol';
import { around, type GroupOfRobots, type PoolTerms } from '../core/areas';
import type { StoredGroup, StoredPool } from '../store/store';
import type { Access } from './access';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Caller } from './index';

export class Areas {
	readonly #context: Context;
	readonly #access: Access;
	readonly #groups = new Map<string, { stored: StoredGroup } & GroupOfRobots>();
	readonly #pools = new Map<string, { stored: StoredPool } & PoolTerms>();
	/** One after the other: of two that put groups into each other, the second sees what the first did. */
	#last: Promise<unknown> = Promise.resolve();

	constructor(context: Context, access: Access) {
		this.#context = context;
		this.#access = access;
	}

	/** After the robots, which are put into them. */
	async load(): Promise<void> {
		const { store } = this.#context;
		for (const stored of await store.read('groups', null)) this.#rememberGroup(stored);
		for (const stored of await store.read('pools', null)) this.#rememberPool(stored);
		if (this.#groups.size + this.#pools.size > 0) this.#arrange();
	}

	groups(): Group[] {
		const robots = this.#inside('groups');
		return [...this.#groups.keys()].sort().map((name) => this.#groupView(name, robots));
	}

	group(name: string): Group {
		return this.#groupView(name, this.#inside('groups', name));
	}

	/** By group or pool (or for one only): the robots in it. */
	#inside(sort: 'groups' | 'pools', only?: string): Map<string, RobotEntry[]> {
		const found = new Map<string, RobotEntry[]>();
		for (const entry of this.#context.fleet.all()) {
			for (const name of entry[sort]) {
				if (only !== undefined && name !== only) continue;
				const others = found.get(name);
				if (others) others.push(entry);
				else found.set(name, [entry]);
			}
		}
		return found;
	}

	#groupView(name: string, allRobots: Map<string, RobotEntry[]>): Group {
		const { fleet } = this.#context;
		const { parent, robots, stored } = this.#findGroup(name);
		const inside = allRobots.get(name) ?? [];
		return {
			name,
			parent,
			groups: [...this.#groups.values()]
				.filter((other) => other.parent === name)
				.map((other) => other.name)
				.sort(),
			robots: [...robots].flatMap((id) => fleet.get(id)?.stored.name ?? []).sort(),
			allRobots: inside.map((entry) => entry.stored.name).sort(),
			updatedAt: stored.updatedAt,
		};
	}

	putGroup(name: string, { robots = [], ...request }: GroupRequest, by: Caller): Promise<Group> {
		const parent = request.parent ?? null;
		return this.#inTurn(async () => {
			roomFor(name, 'groups', this.#groups, limits.maxGroups);
			if (parent !== null) {
				this.#findGroup(parent);
				if (parent === name || around(parent, this.#groups).includes(name)) {
					throw new Problem('group-ring', { name, parent });
				}
			}
			const ids = robots.map((robot) => this.#access.find(robot).robotId);
			const stored = {
				name,
				parent,
				robots: JSON.stringify([...new Set(ids)].sort()),
				createdBy: `key:${by.name}`,
				updatedAt: this.#context.clock.now(),
			};
			await this.#context.turns.deed('putGroup', stored);
			this.#rememberGroup(stored);
			this.#arrange();
			this.#context.log.info('group put', { name, robots: ids.length, by: by.name });
			return this.group(name);
		});
	}

	removeGroup(name: string, by: Caller): Promise<void> {
		return this.#inTurn(async () => {
			this.#findGroup(name);
			const user =
				[...this.#groups.values()].find(({ parent }) => parent === name) ??
				[...this.#pools.values()].find(({ group }) => group === name);
			if (user) throw new Problem('group-used', { name, by: user.name });
			await this.#context.turns.deed('removeGroup', { name });
			this.#groups.delete(name);
			this.#arrange();
			this.#context.log.info('group removed', { name, by: by.name });
		});
	}

	pools(): Pool[] {
		const robots = this.#inside('pools');
		return [...this.#pools.keys()].sort().map((name) => this.#poolView(name, robots));
	}

	pool(name: string): Pool {
		return this.#poolView(name, this.#inside('pools', name));
	}

	#poolView(name: string, robots: Map<string, RobotEntry[]>): Pool {
		const { labels, tags, group, maxJobs, stored } = this.#findPool(name);
		const inside = robots.get(name) ?? [];
		return {
			name,
			labels: { ...labels },
			tags: [...tags],
			group,
			maxJobs,
			jobs: inside.reduce((sum, { held }) => sum + held.size, 0),
			robots: inside.map((entry) => entry.stored.name).sort(),
			updatedAt: stored.updatedAt,
		};
	}

	putPool(name: string, request: PoolRequest, by: Caller): Promise<Pool> {
		return this.#inTurn(async () => {
			roomFor(name, 'pools', this.#pools, limits.maxPools);
			const { labels = {}, tags = [] } = request;
			const group = request.group ?? null;
			const maxJobs = request.maxJobs ?? null;
			if (group !== null) this.#findGroup(group);
			const stored = {
				name,
				definition: JSON.stringify({ group, labels, tags: [...new Set(tags)].sort(), maxJobs }),
				createdBy: `key:${by.name}`,
				updatedAt: this.#context.clock.now(),
			};
			await this.#context.turns.deed('putPool', stored);
			this.#rememberPool(stored);
			this.#arrange();
			this.#context.log.info('pool put', { name, maxJobs, by: by.name });
			return this.pool(name);
		});
	}

	removePool(name: string, by: Caller): Promise<void> {
		return this.#inTurn(async () => {
			this.#findPool(name);
			await this.#context.turns.deed('removePool', { name });
			this.#pools.delete(name);
			this.#arrange();
			this.#context.log.info('pool removed', { name, by: by.name });
		});
	}

	/** The fleet, the lanes and whoever waits see it as it is now. */
	#arrange(): void {
		const { fleet, lanes, turns } = this.#context;
		lanes.putAreas(fleet.arrange(this.#groups, this.#pools));
		turns.nudge();
	}

	#rememberGroup(stored: StoredGroup): void {
		const robots = new Set(JSON.parse(stored.robots) as string[]);
		this.#groups.set(stored.name, { stored, name: stored.name, parent: stored.parent, robots });
	}

	#rememberPool(stored: StoredPool): void {
		const terms = JSON.parse(stored.definition) as Omit<PoolTerms, 'name'>;
		this.#pools.set(stored.name, { stored, name: stored.name, ...terms });
	}

	#findGroup(name: string) {
		const found = this.#groups.get(name);
		if (!found) throw new Problem('no-such-group', { name });
		return found;
	}

	#findPool(name: string) {
		const found = this.#pools.get(name);
		if (!found) throw new Problem('no-such-pool', { name });
		return found;
	}

	#inTurn<T>(deed: () => Promise<T>): Promise<T> {
		const done = this.#last.then(deed);
		this.#last = done.catch(() => undefined);
		return done;
	}
}

function roomFor(
	name: string,
	what: string,
	known: ReadonlyMap<string, unknown>,
	most: number,
): void {
	if (!known.has(name) && known.size >= most) throw new Problem('too-many-areas', { most, what });
}

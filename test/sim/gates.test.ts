/**
 * Locks, limits of keys, rates and slots against a slow and obvious second opinion: the real engine on the real store,
 * robots that keep the protocol, histories with kills, lost links, restarts and full disks. After each step what is
 * used is what live attempts hold, nobody has more than there is, whoever can start has, and nobody passed who must not.
 */
import fc from 'fast-check';
import { isFinal, limits, type Submit } from '../../protocol';
import { barred } from '../../dispatcher/core/bars';
import { laneRule } from '../../dispatcher/core/matching';
import { before, inLineSince } from '../../dispatcher/core/rank';
import type { StoredAttempt, StoredJob } from '../../dispatcher/store/store';
import { admin, house, type House } from '../support/engine';
import { settled } from '../support/fake-clock';
import { type Ending, type Entry, HonestRobot } from '../support/honest-robot';
import { busy, one, type Step, step as randomStep } from '../support/random-life';

const runs = 1_000;
const maxJobs = 12;
const slotsOf = [1, 2, 4];
const lockNames = ['a', 'b', 'l'];
const keys = ['k', 'm'];
const perMs = 5_000;

type Held = { job: StoredJob; attempt: StoredAttempt };
type Wish = Partial<Submit>;

/** One thing that jobs share, as the second opinion sees it. */
interface Share {
	of: 'lock' | 'concurrency' | 'rate';
	name: string;
	take: number;
	max: number;
}

const sharesOf = ({ locks = [], concurrency, rate }: Wish): Share[] => [
	...locks.map(({ name, slots = 1 }): Share => ({ of: 'lock', name, take: slots, max: 0 })),
	...[concurrency].flatMap((one): Share[] =>
		one ? [{ of: 'concurrency', name: one.key, take: 1, max: one.max }] : [],
	),
	...[rate].flatMap((one): Share[] =>
		one ? [{ of: 'rate', name: one.key, take: 1, max: one.max }] : [],
	),
];

class World {
	readonly house: House;
	readonly robots: HonestRobot[];
	readonly wishes = new Map<string, Wish>();
	readonly limits = new Map<string, number>();
	/** By gate, what was used at the last look: a limit that is lowered takes nothing away. */
	#used = new Map<string, number>();
	#held = new Set<number>();
	/** By robot; one that came back was away. */
	#connections: number[] = [];
	#queued: StoredJob[] = [];
	/** By key. */
	#starts = new Map<string, number[]>();

	private constructor(house: House, robots: HonestRobot[]) {
		this.house = house;
		this.robots = robots;
	}

	static async open(): Promise<World> {
		const h = await house({ settings: { recoveryGraceMs: 0 } });
		const robots = [];
		for (const [i, slots] of slotsOf.entries()) {
			robots.push(new HonestRobot(() => h.engine, await h.enrol(`r${i}`), slots));
		}
		const world = new World(h, robots);
		for (const robot of robots) await robot.connect();
		await world.limit('l', 2);
		return world;
	}

	async submit(wish: Wish): Promise<void> {
		try {
			this.wishes.set(await this.house.submit(wish), wish);
		} catch (error) {
			const { code } = error as { code: string };
			expect(['too-few-slots', 'lock-too-small', 'store-full']).toContain(code);
		}
		await settled();
	}

	async limit(name: string, max: number): Promise<void> {
		await this.house.engine.putLimit(name, { max }, admin);
		this.limits.set(name, max);
	}

	pick(at: number, ...phases: Entry['phase'][]): [HonestRobot, Entry] | undefined {
		const found = this.robots.flatMap((robot) =>
			robot.of(...phases).map((entry): [HonestRobot, Entry] => [robot, entry]),
		);
		return found[at % Math.max(1, found.length)];
	}

	async restart(): Promise<void> {
		for (const robot of this.robots) robot.abandoned();
		await this.house.restart();
	}

	capacity({ of, name, max }: Share): number {
		const limit = this.limits.get(name);
		if (of === 'lock') return limit ?? 1;
		return of === 'concurrency' ? Math.min(max, limit ?? max) : max;
	}

	/** Counted one by one, each time anew. */
	#usedOf({ of, name }: Pick<Share, 'of' | 'name'>, held: Held[]): number {
		const takes = (wish: Wish) =>
			sharesOf(wish)
				.filter((share) => share.of === of && share.name === name)
				.reduce((sum, { take }) => sum + take, 0);
		if (of !== 'rate') {
			return held.reduce((sum, { job }) => sum + takes(this.wishes.get(job.id)!), 0);
		}
		const now = this.house.clock.now();
		return this.#starts.get(name)!.filter((at) => at > now - perMs).length;
	}

	/** Attempts of this rate that may have started. */
	async #readStarts(): Promise<void> {
		this.#starts = new Map(keys.map((name) => [name, []]));
		for (const [id, { rate }] of this.wishes) {
			if (!rate) continue;
			for (const { outcome, assignedAt } of await this.house.engine.attempts(id)) {
				if (outcome === 'refused' || outcome === 'not-started') continue;
				this.#starts.get(rate.key)!.push(assignedAt);
			}
		}
	}

	async laws(): Promise<void> {
		const { store } = this.house;
		const held = (await store.read('held', null)) as Held[];
		const queued: StoredJob[] = [];
		for (const id of this.wishes.keys()) {
			const job = (await store.read('job', { id }))!;
			if (job.state === 'queued') queued.push(job);
		}
		await this.#readStarts();
		await this.#slotsAreHolds(held);
		await this.#gatesAreHolds(held, queued);
		this.#ratesHold();
		if (this.house.engine.readiness !== 'ready') return;
		this.#whoCanStartHas(held, queued);
		await this.#nobodyPassed(held);
		this.#held = new Set(held.map(({ attempt }) => attempt.epoch));
		this.#queued = queued;
		this.#connections = this.robots.map(({ connections }) => connections);
	}

	async #slotsAreHolds(held: Held[]): Promise<void> {
		for (const robot of this.robots) {
			const own = held.filter(({ attempt }) => attempt.robotId === robot.robotId);
			const slots = own.reduce((sum, { job }) => sum + (this.wishes.get(job.id)!.slots ?? 1), 0);
			const view = await this.house.engine.robot(robot.robotId);
			expect(view.held).toBe(own.length);
			expect(view.slotsUsed ?? view.held).toBe(slots);
			if (robot.connected) expect(slots).toBeLessThanOrEqual(robot.slots);
		}
	}

	/** What the service says of every gate is what the store's attempts hold; and it is not more than there is. */
	async #gatesAreHolds(held: Held[], queued: StoredJob[]): Promise<void> {
		const told = await this.house.engine.locks();
		const used = new Map<string, number>();
		for (const share of [
			...lockNames.map((name) => ({ of: 'lock', name, take: 1, max: 0 }) as Share),
			...keys.map((name) => ({ of: 'concurrency', name, take: 1, max: 9 }) as Share),
			...keys.map((name) => ({ of: 'rate', name, take: 1, max: 9 }) as Share),
		]) {
			const { of, name } = share;
			const record = told.find((one) => one.of === of && one.name === name);
			const count = this.#usedOf(share, held);
			const wants = (id: string) =>
				sharesOf(this.wishes.get(id)!).some((one) => one.of === of && one.name === name);
			expect([of, name, record?.used ?? 0]).toEqual([of, name, count]);
			const holders = held.map(({ job }) => job.id).filter(wants);
			if (of !== 'rate') {
				expect((record?.holders ?? []).map(({ jobId }) => jobId).sort()).toEqual(holders.sort());
			}
			expect(record?.waiting ?? 0).toBe(queued.filter(({ id }) => wants(id)).length);
			used.set(`${of}:${name}`, count);
			if (of !== 'lock') continue;
			const allowed = Math.max(this.capacity(share), this.#used.get(`${of}:${name}`) ?? 0);
			expect(count).toBeLessThanOrEqual(allowed);
		}
		// Of a key each job has its own number: those that were there when it came, and itself.
		for (const { job, attempt } of held) {
			const { concurrency } = this.wishes.get(job.id)!;
			if (!concurrency || this.#held.has(attempt.epoch)) continue;
			const earlier = held.filter(
				(other) =>
					this.wishes.get(other.job.id)!.concurrency?.key === concurrency.key &&
					other.attempt.epoch <= attempt.epoch,
			);
			expect(earlier.length).toBeLessThanOrEqual(concurrency.max);
		}
		this.#used = used;
	}

	#ratesHold(): void {
		for (const name of keys) {
			const starts = this.#starts.get(name)!;
			const widest = Math.max(
				...[...this.wishes.values()].map(({ rate }) => (rate?.key === name ? rate.max : 0)),
			);
			for (const at of starts) {
				const within = starts.filter((other) => other > at - perMs && other <= at);
				expect(within.length).toBeLessThanOrEqual(widest);
			}
		}
	}

	/** Those that could have had it at that moment, and ever since the last look. */
	#robotsThen(job: StoredJob, at: number): HonestRobot[] {
		return this.#robotsFor(job, at).filter(
			(robot) => robot.connections === this.#connections[this.robots.indexOf(robot)],
		);
	}

	#robotsFor(job: StoredJob, ...moments: number[]): HonestRobot[] {
		const { robot: pinned, slots = 1 } = laneRule(job.lane);
		const fitting = this.robots.filter(
			({ robotId, slots: has }) => (pinned ?? robotId) === robotId && has >= slots,
		);
		const ids = fitting.map(({ robotId }) => robotId);
		const now = this.house.clock.now();
		// That a bar is over is found by the safety sweep.
		return fitting.filter(
			({ robotId, connected }) =>
				connected &&
				![now, now - 1_100, ...moments].some((at) => barred(job.bars, robotId, at, ids)),
		);
	}

	#isOwed({ rank, priority }: StoredJob, at: number, patienceMs: number = limits.patienceMs) {
		return at - inLineSince(rank, priority) >= patienceMs;
	}

	/** Nobody waits who could start; only who stands behind an owed job may be kept from it. */
	#whoCanStartHas(held: Held[], queued: StoredJob[]): void {
		const now = this.house.clock.now();
		for (const job of queued) {
			const wish = this.wishes.get(job.id)!;
			if (queued.some((other) => this.#isOwed(other, now) && before(other, job))) continue;
			const shut = [];
			for (const share of sharesOf(wish)) {
				const left = this.capacity(share) - this.#usedOf(share, held);
				if (left < share.take) shut.push(share.name);
			}
			if (shut.length > 0) continue;
			const free = this.#robotsFor(job).filter((robot) => {
				const slots = held
					.filter(({ attempt }) => attempt.robotId === robot.robotId)
					.reduce((sum, { job: other }) => sum + (this.wishes.get(other.id)!.slots ?? 1), 0);
				return robot.slots - slots >= (wish.slots ?? 1);
			});
			const why = `${JSON.stringify(wish)} waits beside ${free.length} free robots`;
			expect([why, free.length]).toEqual([why, 0]);
		}
	}

	/** Of those that wait for a gate and are owed it in any case, the first one is passed by nobody behind it that takes from it. */
	async #nobodyPassed(held: Held[]): Promise<void> {
		for (const { job, attempt } of held) {
			if (this.#held.has(attempt.epoch)) continue;
			for (const share of sharesOf(this.wishes.get(job.id)!)) {
				const same = (wish: Wish) =>
					sharesOf(wish).find(({ of, name }) => of === share.of && name === share.name);
				const owed = this.#queued
					.filter((other) => this.#isOwed(other, attempt.assignedAt, limits.longPatienceMs))
					.filter((other) => same(this.wishes.get(other.id)!) !== undefined)
					.filter((other) => this.#isFirst(other))
					.filter((other) => this.#robotsThen(other, attempt.assignedAt).length > 0)
					.filter((other) =>
						sharesOf(this.wishes.get(other.id)!).every((one) => this.capacity(one) >= one.take),
					)
					.sort((a, b) => (before(a, b) ? -1 : 1))[0];
				if (!owed || owed.id === job.id || !before(owed, job)) continue;
				const now = await this.house.store.read('job', { id: owed.id });
				// Who had its turn meanwhile, and came back, was not passed.
				if (now?.state !== 'queued' || now.attempt !== owed.attempt) continue;
				const later = held.filter((other) => other.attempt.epoch > attempt.epoch);
				const wanted = same(this.wishes.get(owed.id)!)!;
				const left =
					this.capacity(wanted) -
					this.#usedOf(share, held) +
					later.reduce((sum, other) => sum + (same(this.wishes.get(other.job.id)!)?.take ?? 0), 0);
				expect(left).toBeGreaterThanOrEqual(wanted.take);
			}
		}
	}

	/** In its queue. */
	#isFirst(job: StoredJob): boolean {
		return !this.#queued.some(
			(other) => other.lane === job.lane && other.needs === job.needs && before(other, job),
		);
	}

	/** Everybody comes back, everything is finished, all time passes. */
	async quiet(): Promise<void> {
		for (const name of [...lockNames, ...keys]) await this.limit(name, 9);
		for (let round = 0; round < 24; round += 1) {
			for (const robot of this.robots) {
				if (!robot.connected) await robot.connect();
				await robot.repeat();
				for (const entry of robot.of('starting')) await robot.begin(entry);
				for (const entry of robot.of('running')) await robot.finish(entry, 'completed');
			}
			const jobs = await Promise.all(
				[...this.wishes.keys()].map((id) => this.house.engine.job(id)),
			);
			if (jobs.every(({ state }) => isFinal(state))) return;
			await this.house.clock.advance(16_000);
		}
		const open = [];
		for (const [id, wish] of this.wishes) {
			if (!isFinal(await this.house.state(id))) {
				open.push(`${JSON.stringify(wish)}: ${(await this.house.engine.why(id)).text}`);
			}
		}
		throw new Error(`these jobs never end: ${open.join('; ')}`);
	}
}

const step = (...said: Parameters<typeof randomStep<World>>) => randomStep<World>(...said);

const any = fc.nat(20);

const wishes = fc
	.record(
		{
			locks: fc.uniqueArray(
				fc.record({
					name: fc.constantFrom(...lockNames),
					slots: fc.constantFrom(1, 1, 2),
				}),
				{ maxLength: 2, selector: ({ name }) => name },
			),
			concurrency: fc.record({ key: fc.constantFrom(...keys), max: fc.constantFrom(1, 2) }),
			rate: fc.record({
				key: fc.constantFrom(...keys),
				max: fc.constantFrom(1, 2),
				perMs: fc.constant(perMs),
			}),
			slots: fc.constantFrom(1, 2, 4),
			priority: fc.constantFrom('critical', 'normal', 'low'),
			onLoss: fc.constantFrom(
				{ waitMs: 2_000, then: 'retry' } as const,
				{ waitMs: 2_000, then: 'fail' } as const,
			),
			target: fc.constantFrom(...slotsOf.map((_, i) => ({ robot: `r${i}` }))),
		},
		{ requiredKeys: [] },
	)
	// Of a lock that is for one nobody takes two, and nobody is for a robot that is too small.
	.map((wish): Wish => ({
		...wish,
		...(wish.slots && {
			slots: Math.min(wish.slots, slotsOf[Number(wish.target?.robot.slice(1) ?? 2)]!),
		}),
		...(wish.locks && {
			locks: wish.locks.map(({ name, slots }) => ({ name, slots: name === 'l' ? slots : 1 })),
		}),
	}));

const steps: fc.Arbitrary<Step<World>>[] = [
	...[1, 2, 3, 4].map(() =>
		wishes.map((wish) =>
			step(
				`submit ${JSON.stringify(wish)}`,
				(world) => world.submit(wish),
				({ submitted }) => submitted < maxJobs,
				(model) => (model.submitted += 1),
			),
		),
	),
	any.map((at) => step(`connect ${at}`, (world) => one(world.robots, at).connect())),
	any.map((at) => step(`cut ${at}`, (world) => one(world.robots, at).cut())),
	...[1, 2].map(() =>
		any.map((at) =>
			step(
				`accept ${at}`,
				async (world) => {
					const [robot, entry] = world.pick(at, 'starting') ?? [];
					if (robot) await robot.begin(entry!);
				},
				busy,
			),
		),
	),
	any.map((at) =>
		step(
			`refuse ${at}`,
			async (world) => {
				const [robot, entry] = world.pick(at, 'starting') ?? [];
				if (robot) await robot.refuse(entry!);
			},
			busy,
		),
	),
	...[1, 2].map(() =>
		fc.tuple(any, fc.constantFrom<Ending[]>('completed', 'exit 75', 'unknown')).map(([at, how]) =>
			step(
				`result ${at} ${how}`,
				async (world) => {
					const [robot, entry] = world.pick(at, 'running', 'starting') ?? [];
					if (!robot) return;
					if (entry!.phase === 'starting') await robot.begin(entry!);
					await robot.finish(entry!, how);
				},
				busy,
			),
		),
	),
	any.map((at) => step(`say again ${at}`, (world) => one(world.robots, at).repeat(), busy)),
	any.map((at) =>
		step(
			`cancel ${at}`,
			async (world) => {
				const ids = [...world.wishes.keys()];
				if (ids.length > 0) await world.house.engine.cancel(one(ids, at), admin);
			},
			busy,
		),
	),
	fc
		.tuple(fc.constantFrom(...lockNames, ...keys), fc.constantFrom(0, 1, 2, 3))
		.map(([name, max]) => step(`limit ${name} ${max}`, (world) => world.limit(name, max))),
	any.map((at) => step(`agent ${at} dies`, (world) => one(world.robots, at).crash())),
	any.map((at) => step(`robot ${at} loses its disk`, (world) => one(world.robots, at).forget())),
	fc.constant(step('the service dies', (world) => world.restart())),
	fc
		.tuple(fc.constantFrom('settle', 'assign'), fc.constantFrom('before', 'after'))
		.map(([deed, moment]) =>
			step(
				`the service dies ${moment} its next ${deed}`,
				async (world) => {
					const [robot, entry] = world.pick(0, 'running') ?? [];
					if (!robot || !robot.connected) return;
					void world.house.store.dieAt(deed as 'settle', moment as 'before');
					await robot.finish(entry!, 'completed');
					await world.restart();
				},
				busy,
			),
		),
	any.map((at) =>
		step(
			`the disk is full as a result comes ${at}`,
			async (world) => {
				const [robot, entry] = world.pick(at, 'running') ?? [];
				if (!robot || !robot.connected) return;
				world.house.store.fullAt('settle', 0);
				await robot.finish(entry!, 'completed');
				// Nobody tells of room on a disk: a look does.
				await world.house.clock.advance(2_100);
			},
			busy,
		),
	),
	fc
		.constantFrom(100, 1_500, 3_500, 32_000, 61_000, 601_000)
		.map((ms) => step(`${ms} ms pass`, (world) => world.house.clock.advance(ms))),
];

test('in a thousand random lives what is used is what is held, nobody has too much, and nobody waits who could start', async () => {
	await fc.assert(
		fc.asyncProperty(fc.commands(steps, { maxCommands: 30, size: 'max' }), async (commands) => {
			const world = await World.open();
			try {
				await fc.asyncModelRun(() => ({ model: { submitted: 0 }, real: world }), commands);
				await world.quiet();
				await world.laws();
			} finally {
				await world.house.close();
			}
		}),
		{
			numRuns: Number(process.env['GATES_RUNS'] ?? runs),
			seed:
				process.env['GATES_SEED'] === undefined ? 20_261_130 : Number(process.env['GATES_SEED']),
		},
	);
}, 300_000);

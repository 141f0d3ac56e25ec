/**
 * Random fleets and random jobs in a real engine: a job starts exactly when a slow and obvious look finds a robot for it,
 * and what `why` names of a robot is what keeps it away: taken away, the job starts or the next reason is named.
 */
import fc from 'fast-check';
import { type Obstacle, obstacles, type RobotWhy, type Target } from '../../../protocol';
import { admin, heldAs, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

const runs = Number(process.env['WHY_RUNS'] ?? 1_000);
const seed = process.env['WHY_SEED'] === undefined ? 20_261_129 : Number(process.env['WHY_SEED']);
/** Worlds of one engine: it is left empty behind each of them. */
const perHouse = 50;
const preferWaitMs = 5_000;

const word = fc.constantFrom('x', 'y');
const words = fc.subarray(['x', 'y']);
const values: fc.Arbitrary<Record<string, string>> = fc.dictionary(
	word,
	fc.constantFrom('1', '2'),
	{ maxKeys: 2 },
);

const machine = fc.record({
	labels: values,
	capabilities: words,
	clients: fc.oneof(
		{ weight: 3, arbitrary: fc.constant<string[]>([]) },
		{ weight: 1, arbitrary: words },
	),
	slots: fc.integer({ min: 1, max: 2 }),
	/** Jobs it has already. */
	busy: fc.integer({ min: 0, max: 2 }),
	inGroup: fc.boolean(),
	state: fc.constantFrom(
		...(['here', 'here', 'here', 'away'] as const),
		...(['paused', 'maintenance', 'quarantined', 'stopping'] as const),
	),
});

/** One of three times. */
const seldom = <T>(arbitrary: fc.Arbitrary<T>) =>
	fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
const wish = fc.record({
	/** Robots by number. */
	robot: seldom(seldom(fc.nat(2))),
	labels: seldom(values),
	tags: seldom(words),
	capabilities: seldom(words),
	client: seldom(seldom(word)),
	group: seldom(fc.constant('g')),
	pool: seldom(fc.constant('p')),
	exclude: seldom(fc.subarray([0, 1, 2])),
	prefer: fc.oneof(fc.constant(undefined), fc.nat(2)),
});

const worlds = fc.record({
	machines: fc.array(machine, { minLength: 1, maxLength: 3 }),
	wish,
	pool: fc.record({ tags: words, maxJobs: fc.option(fc.integer({ min: 0, max: 2 })) }),
	/** The first robot that gets it does not want it now. */
	refused: fc.boolean(),
	drained: fc.oneof(
		{ weight: 3, arbitrary: fc.constant(false) },
		{ weight: 1, arbitrary: fc.constant(true) },
	),
	/** Which of the robots is freed of its obstacles, one after the other. */
	freed: fc.nat(2),
});
type World = typeof worlds extends fc.Arbitrary<infer T> ? T : never;
type Machine = World['machines'][number];

class Life {
	readonly house: House;
	readonly world: World;
	readonly robots: PlayedRobot[] = [];
	readonly machines: Machine[];
	readonly names: string[];
	job = '';
	target: Target = {};

	constructor(h: House, world: World, run: number) {
		this.house = h;
		this.world = world;
		this.names = world.machines.map((_machine, i) => `${'abc'[i]}${run}`);
		this.machines = world.machines.map((one) => ({ ...one }));
	}

	get engine() {
		return this.house.engine;
	}

	async begin(): Promise<void> {
		const { world, engine, names } = this;
		for (const [i, { labels, capabilities, clients, slots, busy }] of this.machines.entries()) {
			const robot = await this.house.robot(names[i]!, { labels, capabilities, clients, slots });
			this.robots.push(robot);
			const room = clients.length === 0 ? slots : Math.min(slots, clients.length);
			for (let job = 0; job < Math.min(busy, room); job += 1) {
				await this.house.submit({ target: { robot: names[i]! } });
			}
			await settled();
			expect(robot.assigned).toHaveLength(Math.min(busy, room));
		}
		const members = names.filter((_name, i) => this.machines[i]?.inGroup);
		await engine.putGroup('g', { robots: members }, admin);
		await this.putPool(world.pool.maxJobs);
		for (const [i, { state }] of this.machines.entries()) {
			const robot = this.robots[i]!;
			if (state === 'away') await robot.vanish();
			if (state === 'paused') await engine.pauseRobot(names[i]!, admin);
			if (state === 'maintenance') await engine.maintainRobot(names[i]!, admin, {});
			if (state === 'quarantined') {
				await engine.quarantineRobot(names[i]!, { reason: 'smells' }, admin);
			}
			if (state === 'stopping') robot.session.takesNoMore();
		}
		if (world.drained) await engine.drain(admin);
		await settled();
	}

	putPool(maxJobs: number | null, { tags }: { tags: string[] } = this.world.pool) {
		return this.engine.putPool('p', { tags, ...(maxJobs === null ? {} : { maxJobs }) }, admin);
	}

	/** Submits the job; a drained service takes none, so it is drained behind it. */
	async submit(): Promise<void> {
		const { robot = 9, prefer = 9, exclude = [], ...rest } = this.world.wish;
		const { names } = this;
		this.target = {
			...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)),
			...(names[robot] === undefined ? {} : { robot: names[robot] }),
			...(names[prefer] === undefined ? {} : { prefer: [{ robot: names[prefer] }] }),
			exclude: exclude.flatMap((i) => names[i] ?? []),
		};
		if (this.world.drained) await this.engine.takeWork(admin);
		const shut = ['paused', 'maintenance', 'quarantined'];
		const open = names.filter((_name, i) => !shut.includes(this.machines[i]!.state));
		const paused = this.world.drained ? open : [];
		for (const name of paused) await this.engine.pauseRobot(name, admin);
		this.job = await this.house.submit({ target: this.target, preferWaitMs });
		await settled();
		if (this.world.drained) await this.engine.drain(admin);
		for (const name of paused) await this.engine.resumeRobot(name, admin);
		await settled();
	}

	state() {
		return this.house.state(this.job);
	}

	async why() {
		const why = await this.engine.why(this.job, { limit: 100 });
		return { text: why.text, ...why.robots! };
	}

	/** Whether the robot has all that the job names, by looking at every term on its own. */
	matches(i: number): boolean {
		const { labels, capabilities, clients, inGroup } = this.machines[i]!;
		const { names, target } = this;
		if (target.robot !== undefined && target.robot !== names[i]) return false;
		if (target.exclude?.includes(names[i]!)) return false;
		if (target.group !== undefined && !inGroup) return false;
		if (target.pool !== undefined) {
			for (const tag of this.world.pool.tags) if (labels[tag] === undefined) return false;
		}
		for (const name of Object.keys(target.labels ?? {})) {
			if (labels[name] !== target.labels![name]) return false;
		}
		for (const tag of target.tags ?? []) if (labels[tag] === undefined) return false;
		for (const one of target.capabilities ?? []) if (!capabilities.includes(one)) return false;
		return target.client === undefined || clients.includes(target.client);
	}

	/** Takes away what keeps the robot from the job. */
	async remove(i: number, { obstacle, text }: RobotWhy): Promise<void> {
		const robot = this.robots[i]!;
		const machine = this.machines[i]!;
		const { names } = this;
		const name = names[i]!;
		const { robot: _, exclude = [], ...rest } = this.target;
		const removals: Record<Obstacle, () => Promise<unknown>> = {
			robot: () => this.retarget({ ...rest, exclude }),
			excluded: () =>
				this.retarget({
					...this.target,
					exclude: exclude.filter((one) => one !== name),
				}),
			group: () => {
				machine.inGroup = true;
				const robots = names.filter((_name, at) => this.machines[at]?.inGroup);
				return this.engine.putGroup('g', { robots }, admin);
			},
			pool: () => {
				this.world.pool.tags = [];
				return this.putPool(this.world.pool.maxJobs);
			},
			label: () => this.says(i, { labels: { ...machine.labels, ...this.target.labels } }),
			tag: () =>
				this.says(i, {
					labels: {
						...Object.fromEntries((this.target.tags ?? []).map((tag) => [tag, '1'])),
						...machine.labels,
					},
				}),
			capability: () => this.says(i, { capabilities: ['x', 'y'] }),
			client: () => this.says(i, { clients: [...machine.clients, this.target.client!] }),
			offline: () => {
				machine.state = 'here';
				return this.connect(i);
			},
			paused: () => this.open(i),
			maintenance: () => this.open(i),
			quarantined: () => this.open(i),
			stopping: async () => {
				machine.state = 'here';
				await robot.vanish();
				await this.connect(i);
			},
			barred: () => this.house.clock.advance(31_000),
			simulated: () => Promise.reject(new Error('nobody only plays')),
			slots: () => Promise.reject(new Error('nobody asked for several slots')),
			kept: () => Promise.reject(new Error('nobody asked for several slots')),
			tried: () => Promise.reject(new Error('nobody asked for another robot')),
			client_busy: () =>
				robot.end(
					{},
					this.held(i).find(({ client }) => client === this.target.client),
				),
			busy: () => robot.end({}, this.held(i)[0]),
			limit: () => {
				expect(text).toContain('its pool p');
				this.world.pool.maxJobs = null;
				return this.putPool(null);
			},
			left: () => this.house.clock.advance(preferWaitMs + 1_000),
			closed: () => this.engine.takeWork(admin),
		};
		await removals[obstacle!]();
		await settled();
	}

	open(i: number) {
		this.machines[i]!.state = 'here';
		return this.engine.resumeRobot(this.names[i]!, admin);
	}

	async retarget(target: Target): Promise<void> {
		this.target = target;
		await this.engine.change(this.job, { target }, admin);
	}

	held(i: number) {
		const { assigned } = this.robots[i]!;
		return assigned.filter(({ job_id, epoch }) => this.live.get(job_id) === epoch);
	}

	/** By job: the epoch of its live attempt. */
	readonly live = new Map<string, number>();

	async look(): Promise<void> {
		this.live.clear();
		for (const { job, attempt } of await this.house.store.read('held', null)) {
			this.live.set(job.id, attempt.epoch);
		}
	}

	async connect(i: number): Promise<void> {
		const { labels, capabilities, clients, slots } = this.machines[i]!;
		await this.look();
		const attempts = this.held(i).map((job) => heldAs('running', job));
		await this.robots[i]!.connect({ labels, capabilities, clients, slots, attempts });
	}

	/** The robot says other things of itself, and is then as it was. */
	async says(i: number, changed: Partial<Machine>): Promise<void> {
		const machine = this.machines[i]!;
		Object.assign(machine, changed);
		const robot = this.robots[i]!;
		if (machine.state !== 'away') await robot.vanish();
		await this.connect(i);
		if (machine.state === 'away') await robot.vanish();
		if (machine.state === 'stopping') robot.session.takesNoMore();
	}

	async end(): Promise<void> {
		const { engine } = this;
		if (this.world.drained) await engine.takeWork(admin);
		for (const { robotId } of this.robots) await engine.removeRobot(robotId, admin);
		await engine.removePool('p', admin);
		await engine.removeGroup('g', admin);
		if (this.job !== '') await engine.cancel(this.job, admin);
		expect((await engine.robots()).length).toBe(0);
	}
}

const order = Object.keys(obstacles) as Obstacle[];

async function live(life: Life): Promise<void> {
	await life.begin();
	await life.submit();
	const { machines, names, robots, world } = life;
	if (world.refused && (await life.state()) === 'dispatched') {
		const got = robots.find(({ assigned }) => assigned.at(-1)?.job_id === life.job)!;
		await got.reject('paused');
	}
	const taker = () => robots.findIndex(({ assigned }) => assigned.at(-1)?.job_id === life.job);
	if ((await life.state()) !== 'queued') {
		expect(life.matches(taker())).toBe(true);
		return;
	}
	const i = world.freed % machines.length;
	let last: RobotWhy | undefined;
	for (let step = 0; step < 30; step += 1) {
		await life.look();
		const why = await life.why();
		// Who is free and may have it has it.
		expect(why.free).toBe(0);
		expect(why.robots).toBe(machines.length);
		const matching = machines.filter((_machine, at) => life.matches(at)).length;
		expect(why.matching).toBe(matching);
		for (const { name, obstacle } of why.items) {
			const never = order.indexOf(obstacle!) <= order.indexOf('slots');
			expect(never).toBe(!life.matches(names.indexOf(name)));
		}
		expect(why.obstacles.reduce((sum, one) => sum + one.robots, 0)).toBe(machines.length);
		if (life.target.robot === undefined && matching > 0 && !why.text.includes('client')) {
			expect(why.text).toContain(`${matching} of ${machines.length} robots match: `);
		}
		const own = why.items.find(({ name }) => name === names[i])!;
		if (last) {
			// Another one, further on; or another label, say, of the same sort.
			const further = order.indexOf(own.obstacle!) - order.indexOf(last.obstacle!);
			expect(further > 0 || (further === 0 && own.text !== last.text)).toBe(true);
		}
		last = own;
		await life.remove(i, own);
		if ((await life.state()) === 'dispatched') {
			expect(life.matches(taker())).toBe(true);
			return;
		}
	}
	throw new Error('it never started');
}

test('in a thousand fleets what why names of a robot keeps it from a job, and a job waits only when nobody is free', async () => {
	let h: House | undefined;
	let lived = 0;
	await fc.assert(
		fc.asyncProperty(worlds, async (world) => {
			if (lived % perHouse === 0) {
				await h?.close();
				h = undefined;
			}
			h ??= await house();
			lived += 1;
			const life = new Life(h, { ...world, pool: { ...world.pool } }, lived);
			try {
				await live(life);
				await life.end();
			} catch (error) {
				// The next one begins in an empty house.
				await h.close();
				h = undefined;
				throw error;
			}
		}),
		{ numRuns: runs, seed },
	);
	await h?.close();
}, 300_000);

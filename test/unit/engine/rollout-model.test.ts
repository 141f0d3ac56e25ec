/**
 * Random rollouts against a slow, obvious model: robots that come and go, work that ends well or not, people who pause,
 * resume and cancel, and a service that dies beside any commit. After each step every child is where the model has it,
 * and the laws hold: none is let go before its batch, no batch goes past the threshold, the parent ends once.
 */
import fc from 'fast-check';
import { isFinal, type Job, type Rollout } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { type Entry, HonestRobot } from '../../support/honest-robot';

type Place = 'shut' | 'open' | 'over';

/** What ought to be, said as plainly as can be. */
class Model {
	readonly rollout: Rollout;
	readonly children: { id: string; batch: number; place: Place; failed: boolean }[];
	state: 'running' | 'paused' | 'stopped' = 'running';
	batch = 0;
	forgiven = 0;
	cancelled = false;

	constructor(rollout: Rollout, ids: string[]) {
		this.rollout = rollout;
		const canary = Math.min(ids.length, rollout.canary ?? 0);
		const size = rollout.batch as number;
		this.children = ids.map((id, i) => {
			const batch = i < canary ? 1 : Math.floor((i - canary) / size) + (canary > 0 ? 2 : 1);
			return { id, batch, place: 'shut', failed: false };
		});
	}

	in(place: Place) {
		return this.children.filter((child) => child.place === place);
	}

	get failures() {
		return this.children.filter(({ failed }) => failed).length;
	}

	get allowed() {
		return (this.rollout.canary ?? 0) > 0 && this.batch === 1
			? 0
			: (this.rollout.maxFailures as number);
	}

	get next() {
		const shut = this.in('shut');
		return shut.length === 0 ? undefined : Math.min(...shut.map(({ batch }) => batch));
	}

	end(id: string, failed: boolean, started: (id: string) => boolean): void {
		Object.assign(
			this.children.find((child) => child.id === id)!,
			{ place: 'over', failed },
		);
		this.tick(started);
	}

	tick(started: (id: string) => boolean): void {
		if (this.cancelled || this.state === 'stopped') return;
		if (this.failures - this.forgiven > this.allowed) {
			const kept = this.keepBack(started);
			if (kept || this.next !== undefined) this.state = 'stopped';
			return;
		}
		if (this.state === 'paused' || this.in('open').length > 0 || this.next === undefined) return;
		if (this.batch > 0 && this.next > this.batch && this.rollout.pauseBetween)
			this.state = 'paused';
		else this.letGo(this.next);
	}

	letGo(batch: number): void {
		for (const child of this.in('shut')) if (child.batch === batch) child.place = 'open';
		this.batch = Math.max(this.batch, batch);
	}

	keepBack(started: (id: string) => boolean): boolean {
		const idle = this.in('open').filter(({ id }) => !started(id));
		for (const child of idle) child.place = 'shut';
		return idle.length > 0;
	}

	/** Its robot would not have it. */
	refused(started: (id: string) => boolean): void {
		this.tick(started);
		if (!this.cancelled && this.state !== 'running') this.keepBack(started);
	}

	pause(started: (id: string) => boolean): void {
		if (this.cancelled || this.state !== 'running') return;
		this.keepBack(started);
		if (this.next !== undefined) this.state = 'paused';
	}

	resume(): void {
		if (this.cancelled || this.state === 'running') return;
		this.state = 'running';
		this.forgiven = this.failures;
		const { next } = this;
		if (next === undefined || (this.in('open').length > 0 && next > this.batch)) return;
		this.letGo(next);
	}

	cancel(): void {
		this.cancelled = true;
	}
}

class World {
	readonly house: House;
	readonly robots: HonestRobot[];
	readonly parentId: string;
	readonly model: Model;
	/** The highest batch of which a robot has heard. */
	#heardOf = 0;

	private constructor(h: House, all: HonestRobot[], parentId: string, model: Model) {
		this.house = h;
		this.robots = all;
		this.parentId = parentId;
		this.model = model;
	}

	static async open(count: number, rollout: Rollout): Promise<World> {
		const h = await house({ settings: { recoveryGraceMs: 0 } });
		const all: HonestRobot[] = [];
		for (let i = 0; i < count; i += 1) {
			const robot = new HonestRobot(() => h.engine, await h.enrol(`r${i}`));
			await robot.connect();
			all.push(robot);
		}
		const parentId = await h.submit({
			target: { mode: 'all' },
			rollout,
			timeouts: { startMs: 100_000_000 },
			onLoss: { waitMs: 100_000_000 },
		});
		const { items } = await h.engine.cells(parentId, { limit: 100 });
		const model = new Model(
			rollout,
			items.map(({ jobId }) => jobId),
		);
		const world = new World(h, all, parentId, model);
		model.tick(world.started);
		await world.sync();
		return world;
	}

	/** A robot has been told of it. */
	readonly started = (jobId: string) =>
		this.robots.some((robot) =>
			[...robot.entries.values()].some(
				({ assignment, phase }) => assignment.job_id === jobId && phase !== 'never',
			),
		);

	pick(at: number, ...phases: Entry['phase'][]): [HonestRobot, Entry] | undefined {
		const found = this.robots.flatMap((robot) =>
			robot.of(...phases).map((entry): [HonestRobot, Entry] => [robot, entry]),
		);
		return found[at % Math.max(1, found.length)];
	}

	get parent(): Promise<Job> {
		return this.house.engine.job(this.parentId);
	}

	/** What ended since is told to the model; then both are held against each other. */
	async sync(): Promise<void> {
		await settled();
		const { engine } = this.house;
		const { items } = await engine.cells(this.parentId, { limit: 100 });
		for (const { jobId, state } of items) {
			const known = this.model.children.find(({ id }) => id === jobId)!;
			if (!isFinal(state) || known.place === 'over') continue;
			this.model.end(jobId, state === 'failed' || state === 'timeout', this.started);
		}
		const places = items.map(({ state }) =>
			isFinal(state) ? 'over' : state === 'pending' ? 'shut' : 'open',
		);
		expect(places).toEqual(this.model.children.map(({ place }) => place));
		const job = await this.parent;
		const done = places.every((place) => place === 'over');
		expect(isFinal(job.state)).toBe(done);
		expect(job.rolledOut!.batch).toBe(this.model.batch);
		if (!done && !this.model.cancelled) expect(job.rolledOut!.state).toBe(this.model.state);
		this.#laws(items.map(({ jobId, batch, state }) => ({ jobId, batch: batch!, state })));
		const ends = (await engine.timeline(this.parentId)).filter(({ to }) => isFinal(to));
		expect(ends).toHaveLength(done ? 1 : 0);
	}

	#laws(cells: { jobId: string; batch: number; state: Job['state'] }[]): void {
		const heard = cells.filter(({ jobId }) => this.started(jobId));
		for (const { batch } of heard) {
			for (const other of cells) {
				if (other.batch < batch) expect(isFinal(other.state)).toBe(true);
			}
		}
		const working = heard.filter(({ state }) => !isFinal(state));
		const size = Math.max(this.model.rollout.batch as number, this.model.rollout.canary ?? 0);
		expect(working.length).toBeLessThanOrEqual(size);
		this.#heardOf = Math.max(this.#heardOf, ...heard.map(({ batch }) => batch));
		expect(this.#heardOf).toBeLessThanOrEqual(this.model.batch);
	}

	async restart(): Promise<void> {
		const here = this.robots.filter(({ connected }) => connected);
		for (const robot of this.robots) robot.abandoned();
		await this.house.restart();
		for (const robot of here) {
			await robot.connect();
			await this.sync();
		}
	}

	/** Everybody comes back, everything is finished, everything is let go. */
	async quiet(): Promise<void> {
		for (let round = 0; round < 40; round += 1) {
			for (const robot of this.robots) {
				if (!robot.connected) await robot.connect();
				await this.sync();
				await robot.repeat();
				await this.sync();
				for (const entry of robot.of('starting')) await robot.begin(entry);
				for (const entry of robot.of('running')) await robot.finish(entry, 'completed');
				await this.sync();
			}
			if (isFinal((await this.parent).state)) return;
			await this.resume();
			await this.house.clock.advance(32_000);
			await this.sync();
		}
		throw new Error(`it never ends: ${JSON.stringify((await this.parent).rolledOut)}`);
	}

	async resume(): Promise<void> {
		await this.house.engine.resumeRollout(this.parentId, {}, admin);
		this.model.resume();
		await this.sync();
	}
}

type Step = [name: string, run: (world: World, at: number) => Promise<unknown>];

const steps: Step[] = [
	[
		'connect',
		async ({ robots }, at) => {
			const robot = robots[at % robots.length]!;
			if (!robot.connected) await robot.connect();
		},
	],
	['cut', async ({ robots }, at) => robots[at % robots.length]!.cut()],
	[
		'work goes well',
		async (world, at) => {
			const [robot, entry] = world.pick(at, 'running', 'starting') ?? [];
			if (entry?.phase === 'starting') await robot!.begin(entry);
			if (entry) await robot!.finish(entry, 'completed');
		},
	],
	[
		'work fails',
		async (world, at) => {
			const [robot, entry] = world.pick(at, 'running', 'starting') ?? [];
			if (entry?.phase === 'starting') await robot!.begin(entry);
			if (entry) await robot!.finish(entry, 'exit 3');
		},
	],
	[
		'a robot refuses',
		async (world, at) => {
			const [robot, entry] = world.pick(at, 'starting') ?? [];
			if (!robot?.connected) return;
			await robot.refuse(entry!);
			world.model.refused(world.started);
		},
	],
	['say again', async ({ robots }, at) => robots[at % robots.length]!.repeat()],
	['resume', (world) => world.resume()],
	[
		'pause',
		async (world) => {
			await world.house.engine.pauseRollout(world.parentId, admin);
			world.model.pause(world.started);
		},
	],
	[
		'cancel',
		async (world, at) => {
			// Seldom: nothing much happens after it.
			if (at % 5 !== 0 || isFinal((await world.parent).state)) return;
			world.model.cancel();
			await world.house.engine.cancel(world.parentId, admin);
		},
	],
	['the service dies', (world) => world.restart()],
	[
		'the service dies beside the end of a child',
		async (world, at) => {
			const [robot, entry] = world.pick(at, 'running', 'starting') ?? [];
			if (!robot?.connected) return;
			if (entry!.phase === 'starting') await robot.begin(entry!);
			void world.house.store.dieAt('settle', at % 2 === 0 ? 'before' : 'after');
			await robot.finish(entry!, at % 3 === 0 ? 'exit 3' : 'completed');
			await settled();
			await world.restart();
		},
	],
	[
		'the service dies beside a resume',
		async (world, at) => {
			const moment = at % 2 === 0 ? 'before' : 'after';
			const died = world.house.store.dieAt('resumeRollout', moment);
			void world.house.engine.resumeRollout(world.parentId, {}, admin).catch(() => undefined);
			await died;
			if (moment === 'after') world.model.resume();
			await world.restart();
		},
	],
	['time passes', (world, at) => world.house.clock.advance(100 * (at + 1))],
];

const runs = 150;

test('in random lives each child is let go with its batch and no sooner, and the parent ends once', async () => {
	const rollouts: fc.Arbitrary<Rollout> = fc.record({
		batch: fc.integer({ min: 1, max: 3 }),
		canary: fc.nat(2),
		maxFailures: fc.nat(2),
		pauseBetween: fc.boolean(),
	});
	const script = fc.array(fc.tuple(fc.nat(steps.length - 1), fc.nat(20)), {
		maxLength: 30,
		size: 'max',
	});
	await fc.assert(
		fc.asyncProperty(
			fc.integer({ min: 1, max: 6 }),
			rollouts,
			script,
			async (count, rollout, all) => {
				const world = await World.open(count, rollout);
				try {
					for (const [which, at] of all) {
						await steps[which]![1](world, at);
						await world.sync();
					}
					await world.quiet();
				} finally {
					await world.house.close();
				}
			},
		),
		{
			numRuns: Number(process.env['MODEL_RUNS'] ?? runs),
			seed:
				process.env['MODEL_SEED'] === undefined ? 20_261_129 : Number(process.env['MODEL_SEED']),
		},
	);
}, 120_000);

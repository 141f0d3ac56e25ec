/**
 * Whatever happens in whatever order: the real engine on the real store in memory, robots that keep the
 * protocol, a service and agents that may die at any step. After each step the laws hold.
 */
import fc from 'fast-check';
import { canMove, isFinal, type Job, type Submit } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { type Ending, type Entry, HonestRobot } from '../../support/honest-robot';
import { busy, one, type Step, step as randomStep } from '../../support/random-life';

const runs = 1_000;
const robotNames = ['a', 'b'];
/** Of the second robot. */
const clientNames = ['x', 'y'];

class World {
	readonly house: House;
	readonly robots: HonestRobot[];
	readonly jobIds: string[] = [];
	/** Each as it was when it was first seen at its end. */
	readonly #ended = new Map<string, string>();
	/** How many attempts there were when the cancel was on record. */
	readonly #cancelled = new Map<string, number>();
	readonly #requests = new Map<string, Partial<Submit>>();

	private constructor(house: House, robots: HonestRobot[]) {
		this.house = house;
		this.robots = robots;
	}

	static async open(): Promise<World> {
		const h = await house({ settings: { recoveryGraceMs: 0 } });
		const robots = [];
		for (const [i, name] of robotNames.entries()) {
			const clients = i === 1 ? clientNames : [];
			robots.push(new HonestRobot(() => h.engine, await h.enrol(name), i + 1, clients));
		}
		return new World(h, robots);
	}

	async submit(job: Partial<Submit>): Promise<void> {
		const id = await this.house.submit(job);
		this.jobIds.push(id);
		this.#requests.set(id, job);
		await settled();
	}

	/** One of those robots' attempts, if there is any. */
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

	async laws(): Promise<void> {
		const { engine, store } = this.house;
		const holds = await store.read('held', null);
		for (const robot of this.robots) {
			const view = await engine.robot(robot.robotId);
			const held = holds.filter(({ attempt }) => attempt.robotId === robot.robotId);
			expect(view.held).toBe(held.length);
			expect(view.held).toBeLessThanOrEqual(robot.slots);
			// Each client has one attempt at most, and whoever has clients works with one.
			const clients = held.map(({ attempt }) => attempt.client);
			expect(new Set(clients).size).toBe(
				robot.clients.length === 0 ? Math.min(1, held.length) : held.length,
			);
			for (const client of clients) expect([...robot.clients, null]).toContain(client);
			if (robot.clients.length > 0) expect(clients).not.toContain(null);
			for (const { name, jobId } of view.clients) {
				const holder = held.find(({ attempt }) => attempt.client === name);
				expect(jobId).toBe(holder?.job.id ?? null);
			}
		}
		for (const id of this.jobIds) await this.#lawsOf(await engine.job(id));
	}

	async #lawsOf(job: Job): Promise<void> {
		const { engine } = this.house;
		const { jobId } = job;
		const seen = JSON.stringify([job.state, job.cause, job.attempt, job.endedAt, job.result]);
		const before = this.#ended.get(jobId);
		if (before !== undefined) {
			// What has ended was judged when it did; it only must not change.
			expect(seen).toBe(before);
			return;
		}
		const moves = await engine.timeline(jobId);
		for (const [i, { from, to }] of moves.entries()) {
			expect(from).toBe(i === 0 ? null : moves[i - 1]!.to);
			if (from !== null) expect(canMove(from, to)).toBe(true);
		}
		expect(moves.at(-1)!.to).toBe(job.state);
		expect(moves.filter(({ to }) => isFinal(to))).toHaveLength(isFinal(job.state) ? 1 : 0);
		const attempts = await engine.attempts(jobId);
		const live = attempts.filter(({ outcome }) => outcome === null);
		const holds = job.state === 'dispatched' || job.state === 'running';
		expect(live.map(({ number }) => number)).toEqual(holds ? [attempts.length] : []);
		if (job.cancelRequestedAt !== null) {
			const known = this.#cancelled.get(jobId) ?? attempts.length;
			this.#cancelled.set(jobId, known);
			expect(attempts.length).toBe(known);
		}
		let starts = 0;
		for (const [i, attempt] of attempts.entries()) {
			expect(attempt.number).toBe(i + 1);
			expect(attempt.epoch).toBeGreaterThan(attempts[i - 1]?.epoch ?? 0);
			const started = this.#startsOf(jobId, attempt.epoch);
			expect(started).toBeLessThanOrEqual(1);
			if (attempt.outcome === 'not-started' || attempt.outcome === 'refused') {
				expect(started).toBe(0);
			}
			starts += started;
		}
		// A job that nobody allowed to run twice did not.
		if (this.#requests.get(jobId)!.onLoss === undefined && attempts.every(harmless)) {
			expect(starts).toBeLessThanOrEqual(1);
		}
		if (isFinal(job.state)) this.#ended.set(jobId, seen);
	}

	/** On all robots together, as far back as their disks ever knew. */
	#startsOf(jobId: string, epoch: number): number {
		return this.robots
			.flatMap((robot) => [...robot.entries.values(), ...robot.forgotten])
			.filter(({ assignment }) => assignment.job_id === jobId && assignment.epoch === epoch)
			.reduce((sum, { starts }) => sum + starts, 0);
	}

	/** Everybody comes back, everything is finished, all time passes. */
	async quiet(): Promise<void> {
		for (let round = 0; round < 8; round += 1) {
			for (const robot of this.robots) {
				if (!robot.connected) await robot.connect();
				await robot.repeat();
				for (const entry of robot.of('starting')) await robot.begin(entry);
				for (const entry of robot.of('running')) await robot.finish(entry, 'completed');
			}
			const jobs = await Promise.all(this.jobIds.map((id) => this.house.engine.job(id)));
			if (jobs.every(({ state }) => isFinal(state))) return;
			await this.house.clock.advance(32_000);
		}
		const open = await Promise.all(
			this.jobIds.map(
				async (id) => `${await this.house.path(id)} (${await this.house.outcomes(id)})`,
			),
		);
		throw new Error(`these jobs never end: ${open.join('; ')}`);
	}
}

/** Not an ending after which a job is tried again. */
const harmless = ({ outcome, result }: { outcome: string | null; result: unknown }) =>
	outcome !== 'failed' || (result as { exitCode: number | null } | null)?.exitCode !== 75;

const step = (...said: Parameters<typeof randomStep<World>>) => randomStep<World>(...said);

const any = fc.nat(20);

const jobOf = fc.record(
	{
		priority: fc.constantFrom('critical', 'normal', 'low'),
		onLoss: fc.constantFrom(
			{ waitMs: 2_000, then: 'retry' } as const,
			{ waitMs: 2_000, then: 'fail' } as const,
		),
		target: fc.constantFrom(
			...robotNames.map((robot) => ({ robot })),
			...clientNames.map((client) => ({ client })),
			{ robot: 'b', client: 'x' },
		),
		idempotent: fc.constant(false),
	},
	{ requiredKeys: [] },
);

const steps: fc.Arbitrary<Step<World>>[] = [
	jobOf.map((job) =>
		step(
			`submit ${JSON.stringify(job)}`,
			(world) => world.submit(job),
			({ submitted }) => submitted < 6,
			(model) => (model.submitted += 1),
		),
	),
	any.map((at) => step(`connect ${at}`, (world) => one(world.robots, at).connect())),
	any.map((at) => step(`cut ${at}`, (world) => one(world.robots, at).cut())),
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
	fc.tuple(any, fc.boolean()).map(([at, permanent]) =>
		step(
			`refuse ${at}${permanent ? ' for good' : ''}`,
			async (world) => {
				const [robot, entry] = world.pick(at, 'starting') ?? [];
				if (robot) await robot.refuse(entry!, permanent);
			},
			busy,
		),
	),
	fc
		.tuple(any, fc.constantFrom<Ending[]>('completed', 'exit 3', 'exit 75', 'unknown'))
		.map(([at, how]) =>
			step(
				`result ${at} ${how}`,
				async (world) => {
					const [robot, entry] = world.pick(at, 'running') ?? [];
					if (robot) await robot.finish(entry!, how);
				},
				busy,
			),
		),
	any.map((at) => step(`say again ${at}`, (world) => one(world.robots, at).repeat(), busy)),
	any.map((at) =>
		step(`cancel ${at}`, (world) => world.house.engine.cancel(one(world.jobIds, at), admin), busy),
	),
	// The wish and a word of a robot in the same turn.
	any.map((at) =>
		step(
			`cancel ${at} as a result comes`,
			async (world) => {
				const [robot, entry] = world.pick(at, 'running', 'starting') ?? [];
				if (!robot) return;
				const wish = world.house.engine.cancel(entry!.assignment.job_id, admin);
				if (entry!.phase === 'starting') await robot.begin(entry!);
				else await robot.finish(entry!, 'exit 75');
				await wish;
			},
			busy,
		),
	),
	any.map((at) => step(`agent ${at} dies`, (world) => one(world.robots, at).crash())),
	any.map((at) => step(`robot ${at} loses its disk`, (world) => one(world.robots, at).forget())),
	fc.constant(step('the service dies', (world) => world.restart())),
	fc.constantFrom('before', 'after').map((moment) =>
		step(
			`the service dies ${moment} its next end of an attempt`,
			async (world) => {
				const [robot, entry] = world.pick(0, 'running') ?? [];
				if (!robot || !robot.connected) return;
				void world.house.store.dieAt('settle', moment);
				await robot.finish(entry!, 'completed');
				await world.restart();
			},
			busy,
		),
	),
	fc
		.constantFrom(100, 1_500, 3_500, 32_000)
		.map((ms) => step(`${ms} ms pass`, (world) => world.house.clock.advance(ms))),
	fc
		.constantFrom(-86_400_000, 86_400_000)
		.map((ms) => step(`the clock is set by ${ms} ms`, async (world) => world.house.clock.jump(ms))),
];

/** A quarter of the lives each, so that a machine that is busy has time for them. */
test.each([1, 2, 3, 4])(
	'in a thousand random lives slots are holds, moves are legal, and each job ends once (%i of 4)',
	async (part) => {
		await fc.assert(
			fc.asyncProperty(fc.commands(steps, { maxCommands: 24, size: 'max' }), async (commands) => {
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
				numRuns: Number(process.env['MODEL_RUNS'] ?? runs) / 4,
				seed: Number(process.env['MODEL_SEED'] ?? 20_261_121) + part,
			},
		);
	},
	120_000,
);

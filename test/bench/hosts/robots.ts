/**
 * A fleet of simulated robots in a process of its own. The harness says how many there are and what
 * they do with a job: finish it at once (`work`), keep it (`hold`), or finish only so many (`take`).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { HubMessages } from '../../../protocol';
import { inParallel } from '../contenders/contender';
import type { Given } from '../workloads/selectors';
import { ended, serveHarness, started } from './harness';
import { type Crew, refOf, SimulatedRobot } from './simulated-robot';

type Job = HubMessages['job_assignment'];

/** Handshakes at once while a fleet is built up in peace. */
const politeCallers = 64;

const robots: SimulatedRobot[] = [];
let work: (robot: SimulatedRobot, job: Job) => void = finishAtOnce;
let persistent = false;
/** In the order of time, by the clock that all processes share. */
const notes: Given[] = [];
/** Told of the next registration of each robot. */
const arrivals = new Map<SimulatedRobot, () => void>();
let changed: (() => void) | undefined;

const crew: Crew = {
	assigned: (robot, job) => work(robot, job),
	acknowledged: () => {
		ended();
		changed?.();
	},
	registered(robot) {
		const arrived = arrivals.get(robot);
		arrivals.delete(robot);
		arrived?.();
	},
	comesBack: () => persistent,
};

function finishAtOnce(robot: SimulatedRobot, job: Job): void {
	started((job.variables as { sentAt?: string }).sentAt);
	robot.together(() => {
		robot.accept(job);
		robot.finish(job);
	});
}

function keep(robot: SimulatedRobot, job: Job): void {
	robot.held.set(job.job_id, refOf(job));
	robot.accept(job);
	changed?.();
}

/** Resolves when `done` says so; asked again after each change. */
async function until(done: () => boolean): Promise<void> {
	while (!done()) await new Promise<void>((resolve) => (changed = resolve));
	changed = undefined;
}

const holding = () => robots.reduce((sum, robot) => sum + robot.held.size, 0);

/** Adds robots to the fleet, a few at a time. */
async function enrol(
	url: string,
	token: string,
	count: number,
	then: (robot: SimulatedRobot) => Promise<unknown> = async () => undefined,
	labels: Record<string, string>[] = [],
): Promise<void> {
	await inParallel(
		count,
		async () => {
			const robot = new SimulatedRobot(robots.length, crew, labels[robots.length]);
			robots.push(robot);
			await robot.enrol(url, token);
			await then(robot);
		},
		politeCallers,
	);
}

/** Dials all of them at once; resolves with the milliseconds each took, in the order they were back. */
async function connected(those: readonly SimulatedRobot[], cut = false): Promise<number[]> {
	const all = back(those);
	for (const robot of those) {
		if (cut) robot.cut();
		robot.dial();
	}
	return all;
}

/** Milliseconds until each of them was registered next, in the order they were. */
async function back(those: readonly SimulatedRobot[]): Promise<number[]> {
	const from = performance.now();
	return Promise.all(
		those.map(
			(robot) =>
				new Promise<number>((resolve) =>
					arrivals.set(robot, () => resolve(performance.now() - from)),
				),
		),
	);
}

serveHarness({
	enrol: (url: string, token: string, count: number) => enrol(url, token, count),

	/** Enrolled and connected. */
	grow: (url: string, token: string, count: number) =>
		enrol(url, token, count, (robot) => connected([robot])),

	/** The same; each with labels of its own. */
	growLabelled: (url: string, token: string, labels: Record<string, string>[]) =>
		enrol(url, token, labels.length, (robot) => connected([robot]), labels),

	/** They finish what they are given at once, and it is written down who got what when. */
	note() {
		const numbers = new Map(robots.map((robot, number) => [robot, number]));
		work = (robot, job) => {
			const at = Number(process.hrtime.bigint()) / 1e6;
			notes.push({ robot: numbers.get(robot)!, jobId: job.job_id, at });
			finishAtOnce(robot, job);
		};
	},

	noted: () => notes.splice(0),

	/** They finish what they are given, at once. */
	work() {
		work = finishAtOnce;
	},

	/** They keep what they are given; resolves when the fleet holds so many jobs. */
	async hold(count: number) {
		work = keep;
		await until(() => holding() >= count);
	},

	/** They finish what they hold; resolves when all of it is acknowledged. */
	async release() {
		work = finishAtOnce;
		for (const robot of robots) for (const ref of robot.held.values()) robot.finish(ref);
		await until(() => holding() === 0);
	},

	/** They come back by themselves from now on, as agents do; resolves when all have. */
	comeBack(): Promise<number[]> {
		persistent = true;
		return back(robots);
	},

	/** All connections are cut and dialled again at the same moment; who is refused pauses as an agent does. */
	storm(): Promise<number[]> {
		persistent = true;
		return connected(robots, true);
	},

	/** A heartbeat from each robot in so many milliseconds, spread evenly over them, until the process ends. */
	beat(everyMs: number) {
		void (async () => {
			for (;;) {
				const from = performance.now();
				for (const [i, robot] of robots.entries()) {
					const due = from + (everyMs * i) / robots.length;
					if (due > performance.now() + 20) await sleep(due - performance.now());
					robot.heartbeat();
				}
				await sleep(Math.max(50, from + everyMs - performance.now()));
			}
		})();
	},

	/**
	 * The robots finish so many jobs and then take no more. Answers the jobs done, the time from the first, and
	 * for each job after a robot's first the milliseconds from its result to its next assignment.
	 */
	async take(count: number): Promise<{ done: number; ms: number; claimsMs: number[] }> {
		const claimsMs: number[] = [];
		let from = 0;
		let left = count;
		let resting = 0;
		await new Promise<void>((resolve) => {
			work = (robot, job) => {
				from ||= performance.now();
				if (robot.freeSince > 0) claimsMs.push(performance.now() - robot.freeSince);
				left -= 1;
				const last = left < robots.length;
				robot.held.set(job.job_id, refOf(job));
				robot.together(() => {
					robot.accept(job);
					robot.finish(job, last);
				});
				if (last && (resting += 1) === robots.length) resolve();
			};
			for (const robot of robots) robot.dial();
		});
		await until(() => holding() === 0);
		const ms = performance.now() - from;
		return { done: count - left, ms, claimsMs };
	},
});

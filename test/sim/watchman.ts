/**
 * Looks at the whole world from outside, once a virtual second and when all should be quiet: at what
 * is true of service and robots together, and of none of them alone.
 */
import type { Policy } from '../../dispatcher/core/retry';
import { isFinal, limits } from '../../protocol';
import type { Histories, Violation } from '../support/history';
import { handedOut } from './children';
import type { Process } from './kernel';
import type { Robot } from './robot';
import type { World } from './world';

const lookMs = 1_000;
/** The service counts absence in steps of a look, which is a second or a slow disk long. */
const countedMs = 2_500;
/** How much later than it may a loss may be noticed: a look, and the disk. */
const overdueMs = 8_000;
/** What a job hands out is left out of its result only when it is longer. */
const mayShed = 1_000_000;
/** A service that stood still for longer begins to count anew. */
const longMs = 7_000;

export class Watchman {
	readonly #world: World;
	/** Told once, not every second. */
	readonly #told = new Set<string>();
	/** The life of the service that the two instants below belong to. */
	#watched: Process | undefined;
	/** When the service last stood still, and when for so long that it begins to count anew. */
	#stoodStillAt = -Infinity;
	#stoodStillLongAt = -Infinity;

	constructor(world: World) {
		this.#world = world;
	}

	start(owner: Process): void {
		const { kernel } = this.#world;
		const look = () => {
			this.#look();
			kernel.after(lookMs, owner, look);
		};
		kernel.after(lookMs, owner, look);
	}

	/** A loss was committed: had the robot really been away for so long while the service counted? */
	checkLoss(robotId: string, policy: Policy, jobId: string): void {
		const awayMs = Math.max(
			this.#countedAway(robotId, this.#stoodStillLongAt, jobId),
			this.#countedBefore(robotId),
		);
		const { waitMs } = policy.onLoss;
		if (awayMs >= waitMs - this.#countedMs) return;
		this.#world.breaks({
			law: 'loss',
			jobId,
			text: `given up after ${Math.round(awayMs)} ms of absence that count, it may take ${waitMs}`,
		});
	}

	/** What service and robots believe differently of attempts. */
	disagreements(): Violation[] {
		const { kernel, ledger, liar, plan, stayed: robots, struck } = this.#world;
		const found: Violation[] = [];
		const underWayMs = 2 * plan.latencyMs + 2 * plan.commitMs;
		for (const robot of robots) {
			const theirs = new Map(robot.held.map((held) => [held.job_id, held]));
			for (const hold of ledger.holds.values()) {
				if (hold.robotId !== robot.robotId) continue;
				// The assignment, or the answer to it, is on its way.
				if (kernel.now < hold.assignedAt + underWayMs) continue;
				const held = theirs.get(hold.jobId);
				const named = `attempt ${hold.number} of ${robot.name}`;
				if (held?.epoch !== hold.epoch) {
					// A refusal that one of the disks did not take: it will be asked again.
					if (!hold.running && (struck['agent-disk-full'] || struck['disk-full'])) continue;
					found.push({ law: 'I15', jobId: hold.jobId, text: `${named} is held, it knows nothing` });
				} else if (held.state !== 'accepted' && !hold.running) {
					// A start that the full disk refused is told again when it is asked for.
					if (struck['disk-full']) continue;
					found.push({
						law: 'I15',
						jobId: hold.jobId,
						text: `${named} is ${held.state} there, and dispatched here`,
					});
				}
			}
			// What a liar said to have ended may run on.
			for (const held of robot === liar ? [] : robot.held) {
				if (held.state === 'ended' || ledger.holds.get(held.job_id)?.epoch === held.epoch) continue;
				const child = [...robot.children.alive].find(({ jobId }) => jobId === held.job_id);
				// Its end could not be written down yet, and is tried again.
				if (child === undefined && struck['agent-disk-full']) continue;
				// Nobody has said yet whether it was started: whoever comes to it then ends it.
				if (robot.children.isStarting({ jobId: held.job_id, epoch: held.epoch })) continue;
				// Asked to end, or given up as lost: then its late result is welcome.
				if (child?.askedAt !== undefined || this.#outcome(held) === 'lost') continue;
				found.push({
					law: 'I15',
					jobId: held.job_id,
					text: `epoch ${held.epoch} is ${held.state} on ${robot.name}, and not live here`,
				});
			}
		}
		return found;
	}

	whoIsMissing(): string {
		const { stayed: robots, service } = this.#world;
		const missing = robots.filter(({ liveSince }) => liveSince === undefined);
		return service.engine
			? `not back: ${missing.map(({ name }) => name).join(', ')}`
			: 'no service';
	}

	/** Everything has ended, everybody has heard of it and, unless `but` for that, written it down. */
	isQuiet(butJournals = false): boolean {
		const { ledger, stayed: robots, submitter, disk, service } = this.#world;
		if (submitter.busy || disk.pending > 0 || ledger.holds.size > 0 || !service.engine)
			return false;
		for (const { state } of ledger.jobs.values()) if (!isFinal(state)) return false;
		return robots.every(
			(robot) =>
				robot.children.alive.size === 0 &&
				(this.#keepsIts(robot) ||
					(robot.held.length === 0 && (butJournals || robot.journal.isClosed))),
		);
	}

	/** Output that it said there is never comes: it keeps the result for ever, and harms nobody but itself. */
	#keepsIts(robot: Robot): boolean {
		return robot === this.#world.liar && robot.held.every(({ state }) => state === 'ended');
	}

	/** Why it is not quiet although it should be. */
	unrest(): Violation[] {
		if (this.isQuiet()) return [];
		const { ledger, stayed: robots, submitter } = this.#world;
		const found: Violation[] = [];
		for (const job of ledger.jobs.values()) {
			if (!isFinal(job.state)) {
				found.push({ law: 'I3', jobId: job.id, text: `it is ${job.state} for ever` });
			}
		}
		for (const robot of robots) {
			const { name, held, children } = robot;
			for (const { job_id: jobId, state } of this.#keepsIts(robot) ? [] : held) {
				found.push({ law: 'I15', jobId, text: `${name} holds it for ever (${state})` });
			}
			for (const { jobId } of children.alive) {
				found.push({ law: 'I9', jobId, text: `a process of it lives on ${name}` });
			}
		}
		if (submitter.busy) found.push({ law: 'I1', jobId: '-', text: 'somebody got no answer' });
		return found;
	}

	/** I6: what a job hands out is there, or its result says that it was too long. */
	missing({ store }: Histories): Violation[] {
		const own = store.filter(({ job }) => job.children === null);
		return own.flatMap(({ job: { jobId, state, result, variables } }) => {
			const { recipe } = this.#world.plan.jobs.find(({ key }) => key === variables['key'])!;
			const there = JSON.stringify(result?.outputs) === JSON.stringify(handedOut(recipe));
			const said = result?.logs?.some((line) => line.includes('left out'));
			if (state !== 'completed' || there || (said && recipe.outputsBytes! > mayShed)) return [];
			return [{ law: 'I6', jobId, text: 'what it hands out is not there' }];
		});
	}

	/** When all is quiet nobody waits, sleeps or holds anything. */
	leftOvers(): Violation[] {
		const { service, stayed: robots } = this.#world;
		const found: Violation[] = [];
		const wrong = (text: string) => found.push({ law: 'I16', jobId: '-', text });
		// The duties, what forgets old records, and what samples each minute.
		if (service.process.sleepers > 3) wrong(`${service.process.sleepers} sleep in the service`);
		for (const { name, agent } of robots) {
			// The heartbeat, the watch over the silence, and for 20 s after dialling the limit of the greeting.
			if (agent && agent.sleepers > 3) wrong(`${agent.sleepers} sleep in the agent of ${name}`);
		}
		return found;
	}

	#look(): void {
		const { kernel, disk, service } = this.#world;
		const { pausedUntil } = service.process;
		if (service.process !== this.#watched) {
			this.#watched = service.process;
			this.#stoodStillAt = this.#stoodStillLongAt = -Infinity;
		}
		if (pausedUntil > kernel.now) this.#stoodStillAt = pausedUntil;
		if (pausedUntil > kernel.now + longMs && service.suspendedUntil <= kernel.now) {
			this.#stoodStillLongAt = pausedUntil;
		}
		this.#slots();
		this.#processes();
		if (!disk.full) this.#overdue();
	}

	/** Slots that are used are attempts that hold them: on disk, in memory, and never more than there are. */
	#slots(): void {
		const { ledger, stayed: robots, service, disk } = this.#world;
		for (const robot of robots) {
			const { robotId, name, options } = robot;
			const held = ledger.heldBy(robotId);
			// As many as it says.
			if (held > options.slots && robot !== this.#world.liar) {
				this.#once('slots', '-', `${held} attempts hold the ${options.slots} slots of ${name}`);
			}
		}
		const { engine, process } = service;
		if (
			!engine ||
			service.broken ||
			disk.pending > 0 ||
			process.pausedUntil > this.#world.kernel.now
		)
			return;
		const held = robots.map(({ robotId }) => ledger.heldBy(robotId));
		void engine.robots().then((views) => {
			for (const [place, { robotId, name }] of robots.entries()) {
				const view = views.find((one) => one.robotId === robotId);
				if (view?.held === held[place]) continue;
				this.#once('slots', '-', `${name}: ${view?.held} holds in memory, ${held[place]} on disk`);
			}
		});
	}

	/** I9: what was asked to end is gone after the grace and two seconds. */
	#processes(): void {
		const { kernel, ledger, robots, plan, network } = this.#world;
		for (const robot of robots) {
			if (robot.liveSince === undefined || robot.agent!.pausedUntil > kernel.now) continue;
			// What it was asked to end it may have said to have ended.
			if (robot === this.#world.liar) continue;
			// Its link is dead, and one side or both have not noticed: nobody can ask it for anything.
			if (!network.isSound(robot.name)) continue;
			const { stalledUntil } = robot.children;
			const stoodStill = Math.max(robot.agent!.pausedUntil, this.#stoodStillAt, stalledUntil);
			for (const child of robot.children.alive) {
				const job = ledger.jobs.get(child.jobId);
				const attempt = job?.attempts[child.attempt - 1];
				if (!job || !attempt) continue;
				const over = attempt.endedIn !== undefined;
				const since = job.cancelledAt ?? (over ? attempt.endedAt : undefined);
				if (since === undefined) continue;
				// Nobody wants it to end: what it finds out is kept as a late result.
				if (attempt.outcome === 'lost' && job.cancelledAt === undefined && isFinal(job.state)) {
					continue;
				}
				const from = Math.max(since, robot.liveSince, stoodStill, child.bornAt);
				const slack = 4 * plan.latencyMs + 4 * plan.commitMs + 1_000;
				if (kernel.now <= from + limits.graceMs + 2_000 + slack) continue;
				this.#once('I9', child.jobId, `attempt ${child.attempt} still lives on ${robot.name}`);
			}
		}
	}

	/** A robot that stays away is given up in time. */
	#overdue(): void {
		const { ledger, service } = this.#world;
		for (const hold of ledger.holds.values()) {
			const { waitMs } = ledger.jobs.get(hold.jobId)!.policy.onLoss;
			// It counts anew behind a step of its wall clock, too.
			const anewAt = Math.max(this.#stoodStillAt, service.clockSetAt);
			const awayMs = this.#countedAway(hold.robotId, anewAt);
			if (awayMs <= waitMs + overdueMs + this.#countedMs) continue;
			this.#once('loss', hold.jobId, `its robot is away for ${Math.round(awayMs)} ms of ${waitMs}`);
		}
	}

	/** How long the robot is away, as far as it counts: the service is ready, and has been for its grace. */
	#countedAway(robotId: string, stoodStillAt: number, revokedJob?: string): number {
		const { service } = this.#world;
		const { awaySince, revokedSince, readySince, options, monotonic } = service;
		// Who does not answer a revoke is as good as away.
		const since = Math.min(
			awaySince.get(robotId) ?? Infinity,
			(revokedJob === undefined ? undefined : revokedSince.get(revokedJob)) ?? Infinity,
		);
		if (since === Infinity || readySince === undefined) return 0;
		// A robot is given up only while the service counts, and it counts anew after a long stop.
		const countsSince = Math.max(readySince, service.monotonicAt(stoodStillAt));
		return monotonic - Math.max(since, countsSince + options.recoveryGraceMs);
	}

	/** It came back while its loss was on the way to the disk: what was decided before counts. */
	#countedBefore(robotId: string): number {
		const { service, plan } = this.#world;
		const { wasAway, readySince, options, monotonic } = service;
		const before = wasAway.get(robotId);
		if (!before || readySince === undefined) return 0;
		if (monotonic - before.until > 4 * plan.commitMs + 1_000) return 0;
		return before.until - Math.max(before.since, readySince + options.recoveryGraceMs);
	}

	get #countedMs(): number {
		const { commitMs } = this.#world.plan;
		return countedMs + 6 * commitMs;
	}

	#outcome({ job_id, epoch }: { job_id: string; epoch: number }): string | undefined {
		const attempts = this.#world.ledger.jobs.get(job_id)?.attempts;
		return attempts?.find((attempt) => attempt.epoch === epoch)?.outcome;
	}

	#once(law: string, jobId: string, text: string): void {
		const key = `${law} ${jobId} ${text.replace(/\d+/g, '#')}`;
		if (this.#told.has(key)) return;
		this.#told.add(key);
		this.#world.breaks({ law, jobId, text });
	}
}

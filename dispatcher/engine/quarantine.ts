/**
 * Robots on which job after job fails for reasons of their own get no more, until a probe succeeds there or a person
 * lifts it. What counts is in core/quarantine; here it is held against each attempt that ends, in the commit that ends
 * it, so that not one more job goes to a robot that has just failed for the last time.
 *
 * A probe is a job like any other, given to its robot past the closed door, and ends as one: a service that dies in
 * between learns of it from the robot.
 */
import { limits, Problem, type Quarantine as Kept, type Robot } from '../../protocol';
import { probeKind } from '../../kinds/probe';
import { quarantineOf } from '../core/control';
import { laneKey } from '../core/matching';
import {
	type Blame,
	countOf,
	excused,
	mayPutAway,
	oneLine,
	probeAfterMs,
	reasonOf,
	type Strike,
	strikesOf,
	withStrike,
} from '../core/quarantine';
import { rank } from '../core/rank';
import { nothing } from '../core/needs';
import { lossDefaults, retryDefaults } from '../core/retry';
import type { NewJob } from '../store/store';
import type { Access } from './access';
import type { Assigning } from './assigning';
import type { Context } from './context';
import type { Live, RobotEntry } from './fleet';
import type { Caller } from './index';
import { type Placing, startOf } from './placing';
import { onRobot, robotEvent, stand } from './standing';
import type { Turn } from './turns';

const service = 'dispatcher';
/** A probe does nothing; what takes longer has failed. */
const probeRunMs = 60_000;
const probeLossMs = 60_000;
/** Between two looks. */
const lookMs = 900;
/** One that its robot refused does not wait for another try. */
const probeQueueMs = 1_000;

export class Quarantine {
	readonly #context: Context;
	readonly #access: Access;
	readonly #assigning: Assigning;
	readonly #placing: Placing;
	readonly #after: number;
	/** Monotonic: all robots are looked at, which need not be often. */
	#lookedAt = -Infinity;
	/** Robots whose probe is being stored. */
	readonly #sending = new Set<RobotEntry>();

	constructor(context: Context, access: Access, assigning: Assigning, placing: Placing) {
		this.#context = context;
		this.#access = access;
		this.#assigning = assigning;
		this.#placing = placing;
		this.#after = context.settings.quarantineAfter ?? 0;
	}

	/** An attempt ends in this turn, and the timeline says `reason` of it. */
	judge(
		turn: Turn,
		entry: RobotEntry,
		live: Live,
		{ outcome, reason }: { outcome: string; reason: string },
		blame: Blame,
	): void {
		const { stored, session } = entry;
		const quarantine = quarantineOf(stored.quarantine);
		const ours = live.kind === probeKind && live.owner === service;
		// One that a person set by hand is not lifted by a probe that was under way, nor by a probe of somebody else.
		if (quarantine && ours && quarantine.nextProbeAt !== null) {
			if (outcome === 'completed') this.#lift(turn, entry, 'a probe succeeded');
			else this.#failed(turn, entry, quarantine, typeof blame === 'object' ? blame.text : reason);
		} else if (blame === 'works') {
			if (stored.strikes !== null) stand(this.#context, turn, entry, { strikes: null }, undefined);
		} else if (blame !== undefined && this.#after > 0 && !quarantine && !session?.stopping) {
			this.#strike(turn, entry, live, blame);
		}
	}

	#strike(
		turn: Turn,
		entry: RobotEntry,
		live: Live,
		{ cause, text }: Exclude<Blame, 'works' | undefined>,
	): void {
		const { robotId, stored } = entry;
		// All that it held when it went away is lost by that one absence; one that is here but mute loses each anew.
		const mute = entry.session !== undefined && live.revokedAt !== null;
		const lost = cause === 'robot_lost' && !mute;
		const work = lost ? `away ${stored.lastSeenAt}` : (live.parentId ?? live.jobId);
		const strike: Strike = { work, at: turn.now, cause, text: oneLine(text) };
		if (!lost && this.#excuse(turn, entry, work)) strike.elsewhere = true;
		const strikes = withStrike(strikesOf(stored.strikes), strike, this.#after);
		const change = { strikes: JSON.stringify(strikes) };
		if (countOf(strikes) < this.#after || !this.#mayPutAway(entry)) {
			stand(this.#context, turn, entry, change, undefined);
			return;
		}
		const reason = reasonOf(strikes);
		const quarantine: Kept = {
			reason,
			by: service,
			since: turn.now,
			probes: 0,
			nextProbeAt: turn.now + probeAfterMs(0),
			lastProbe: null,
		};
		const data = {
			robotId,
			name: stored.name,
			as: 'quarantine',
			reason,
			by: service,
			until: null,
		};
		const event = robotEvent('robot.closed', turn.now, data);
		const away = { ...change, quarantine: JSON.stringify(quarantine) };
		stand(this.#context, turn, entry, away, event, () =>
			this.#context.log.warn('robot put into quarantine', data),
		);
	}

	/** Whether the same work struck on another robot too; then it is not that one's fault either. */
	#excuse(turn: Turn, entry: RobotEntry, work: string): boolean {
		let found = false;
		for (const other of this.#context.fleet.all()) {
			if (other === entry || other.stored.strikes === null) continue;
			const strikes = strikesOf(other.stored.strikes);
			if (!strikes.some((strike) => strike.work === work)) continue;
			found = true;
			const left = excused(strikes, work);
			if (left) {
				stand(this.#context, turn, other, { strikes: JSON.stringify(left) }, undefined);
			}
		}
		return found;
	}

	#mayPutAway(entry: RobotEntry): boolean {
		let [robots, away] = [0, 0];
		for (const { stored } of this.#context.fleet.all()) {
			robots += 1;
			if (quarantineOf(stored.quarantine)?.by === service) away += 1;
		}
		if (mayPutAway(robots, away)) return true;
		const { robotId, stored } = entry;
		this.#context.log.warn(
			'job after job fails on a robot, but half of the robots are in quarantine already',
			{ robotId, name: stored.name },
		);
		return false;
	}

	#failed(turn: Turn, entry: RobotEntry, quarantine: Kept, text: string): void {
		const probes = quarantine.probes + 1;
		const nextProbeAt = quarantine.by === service ? turn.now + probeAfterMs(probes) : null;
		const kept: Kept = { ...quarantine, probes, nextProbeAt, lastProbe: oneLine(text) };
		stand(this.#context, turn, entry, { quarantine: JSON.stringify(kept) }, undefined);
	}

	#lift(turn: Turn, entry: RobotEntry, reason: string, done: () => void = () => undefined): void {
		const { robotId, stored } = entry;
		const data = { robotId, name: stored.name, was: 'quarantine', reason, by: service };
		const event = robotEvent('robot.opened', turn.now, data);
		stand(this.#context, turn, entry, { quarantine: null, strikes: null }, event, () => {
			this.#context.log.info('robot opened', data);
			this.#context.turns.nudge();
			done();
		});
	}

	/** By a person: now, or as soon as the robot is there and free. */
	async probe(robot: string, by: Caller): Promise<Robot> {
		const entry = this.#access.find(robot);
		await onRobot(this.#context, entry, (turn, done) => {
			const quarantine = quarantineOf(entry.stored.quarantine);
			if (!quarantine) return done();
			const kept: Kept = { ...quarantine, nextProbeAt: turn.now };
			stand(this.#context, turn, entry, { quarantine: JSON.stringify(kept) }, undefined, done);
		});
		const { name, quarantine } = entry.stored;
		if (quarantine === null) throw new Problem('not-quarantined', { robot: name });
		this.#context.log.info('robot is probed', { robotId: entry.robotId, by: by.name });
		this.#send(entry);
		return this.#access.view(entry);
	}

	/** Sends the probes that are due. */
	look(now: number): number | null {
		const mono = this.#context.clock.monotonic();
		if (mono - this.#lookedAt < lookMs) return null;
		this.#lookedAt = mono;
		let nextAt: number | null = null;
		for (const entry of this.#context.fleet.all()) {
			const quarantine = quarantineOf(entry.stored.quarantine);
			if (!quarantine) continue;
			if (this.#after === 0 && quarantine.by === service) {
				void this.#switchedOff(entry).catch(() => undefined);
				continue;
			}
			const { nextProbeAt } = quarantine;
			if (nextProbeAt === null) continue;
			// Further away than any probe can be: the clock was set back.
			const due = nextProbeAt <= now || nextProbeAt - now > limits.probeMaxMs;
			if (due) this.#send(entry);
			else nextAt = Math.min(nextAt ?? Infinity, nextProbeAt);
		}
		return nextAt;
	}

	#send(entry: RobotEntry): void {
		if (this.#sending.has(entry) || !this.#canTakeProbe(entry)) return;
		this.#sending.add(entry);
		const sent = () => void this.#sending.delete(entry);
		this.#context.turns.push({
			plan: (turn) => {
				if (entry.stored.quarantine === null || !this.#canTakeProbe(entry)) return sent();
				const job = this.#job(entry, turn.now);
				const lane = this.#context.lanes.get(job.lane);
				const attempt = this.#assigning.reserve(turn, entry, 1, lane, job.needs);
				const place = { robot: entry, attempt };
				turn.touch(job.id);
				turn.add('insertJob', { job, attempt }, () => {
					sent();
					this.#placing.placed(job, place);
				});
			},
			fail: sent,
		});
	}

	#canTakeProbe(entry: RobotEntry): boolean {
		const { fleet } = this.#context;
		const { session, stored, held } = entry;
		if (fleet.get(entry.robotId) !== entry || !session || session.stopping) return false;
		// People who work on the machine are not disturbed.
		if (stored.closed !== null || fleet.spare(entry) <= 0) return false;
		for (const { kind } of held.values()) if (kind === probeKind) return false;
		return true;
	}

	#job({ robotId }: RobotEntry, now: number): NewJob {
		const policy = {
			timeouts: { startMs: limits.acceptMs, runMs: probeRunMs, queueMs: probeQueueMs },
			retry: { ...retryDefaults, maxAttempts: 1 },
			onLoss: { ...lossDefaults, waitMs: probeLossMs, then: 'fail' as const },
			onDisconnect: 'continue' as const,
			onHang: 'report' as const,
			idempotent: false,
		};
		return {
			...startOf(policy, now, now),
			id: this.#context.ids.next(),
			kind: probeKind,
			lane: laneKey({ robot: robotId, labels: {}, capabilities: [] }),
			rank: rank(now, 'normal'),
			priority: 'normal',
			createdAt: now,
			createdBy: service,
			retryOf: null,
			parentId: null,
			cell: null,
			children: null,
			needs: nothing,
			shareKey: '',
			spec: '{}',
			variables: '{}',
			target: JSON.stringify({ robot: robotId }),
			affinity: null,
		};
	}

	/** Lifts what it set before it was switched off. */
	#switchedOff(entry: RobotEntry): Promise<void> {
		return onRobot(this.#context, entry, (turn, done) => {
			if (quarantineOf(entry.stored.quarantine)?.by !== service) return done();
			this.#lift(turn, entry, 'quarantine is switched off', done);
		});
	}
}

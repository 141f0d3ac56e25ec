/**
 * The end of an attempt, whatever was decided of it, in one turn: what it held may be given away again in that
 * very turn, and what it leaves behind (its job back in line, its robot's record) follows when it is on disk.
 */
import { rateOf } from '../core/needs';
import type { Blame } from '../core/quarantine';
import { cameTo, withTry } from '../core/record';
import type { Deeds } from '../store/store';
import type { Context } from './context';
import { childEnds } from './family';
import { lessOne, type Live, type RobotEntry } from './fleet';
import type { Quarantine } from './quarantine';
import type { Turn } from './turns';

export type SettleNext = Deeds['settle']['in']['next'];
/** What is decided of an attempt that ends; the rest is known of it. */
export type Settlement = Omit<Deeds['settle']['in'], 'jobId' | 'number' | 'epoch' | 'from' | 'at'>;
/** Called when the turn is planned; nothing is decided when the reason has gone. */
export type Decide = (turn: Turn) => Settlement | undefined;
/** What its end says of its robot. */
export type Judge = () => Blame;
const nothingSaid: Judge = () => undefined;

export class Settling {
	readonly #context: Context;
	readonly #quarantine: Quarantine;

	constructor(context: Context, quarantine: Quarantine) {
		this.#context = context;
		this.#quarantine = quarantine;
	}

	/** Whether it was still live; rejects when the store could not take it. */
	settled(live: Live, decide: Decide, judge: Judge): Promise<boolean> {
		return new Promise((resolve, reject) => this.settle(live, decide, resolve, reject, judge));
	}

	/** `done`: whether it was still live. `failed`: the store could not take it. */
	settle(
		live: Live,
		decide: Decide,
		done: (settled: boolean) => void = () => undefined,
		failed: (error: Error) => void = () => undefined,
		judge: Judge = nothingSaid,
	): void {
		const { fleet, turns } = this.#context;
		turns.push({
			plan: (turn) => {
				if (fleet.live(live.jobId) !== live) return done(false);
				if (!turn.touch(live.jobId)) return 'later';
				const settle = decide(turn);
				if (!settle) return done(false);
				const entry = fleet.get(live.robotId);
				this.#free(turn, entry, live);
				const wish = {
					jobId: live.jobId,
					number: live.number,
					epoch: live.epoch,
					from: live.state,
					at: turn.now,
					...settle,
					...(live.affinity !== null && settle.outcome === 'completed'
						? { affinity: live.affinity }
						: {}),
					...(isUnstarted(settle.outcome) && rateOf(live.needs) ? { unstarted: true } : {}),
				};
				turn.add('settle', wish, (settled) => {
					if (entry) returned(entry, live);
					fleet.release(live);
					if (settled) this.#moved(live, settle);
					done(settled);
				});
				// Back in line, it may have to be kept back.
				if (settle.next.to !== 'pending') childEnds(this.#context, turn, live.parentId);
				if (entry) this.#quarantine.judge(turn, entry, live, settle, judge());
			},
			fail: failed,
		});
	}

	/** Slots, client and what it shares with others may be given away again in this very turn. */
	#free(turn: Turn, entry: RobotEntry | undefined, live: Live): void {
		const { fleet, gates } = this.#context;
		gates.returns(live);
		turn.undo.push(() => gates.staysHeld(live));
		if (!entry) return;
		const { client, slots } = live;
		entry.freeing += 1;
		entry.extraPlanned -= slots - 1;
		if (client !== null) entry.returning = [...entry.returning, client];
		fleet.review(entry);
		turn.undo.push(() => {
			returned(entry, live);
			fleet.review(entry);
		});
	}

	#moved(live: Live, { next, bars, outcome, cause }: Settlement): void {
		const { backlog, fleet, gates, lanes, turns, watchers } = this.#context;
		if (isUnstarted(outcome) && rateOf(live.needs)) {
			gates.neverStarted(live);
			// Only now is there room for another one: the turn that ended this attempt could not fill it.
			turns.nudge();
		}
		const robot = fleet.get(live.robotId);
		if (robot) robot.recent = withTry(robot.recent, cameTo(outcome, cause));
		if (live.affinity !== null && outcome === 'completed') {
			this.#context.affinity.succeeded(live.affinity, live.robotId, this.#context.clock.now());
		}
		watchers.attemptOver(live.jobId);
		// It holds one less, whatever becomes of the job.
		watchers.hint('robot', live.robotId);
		if ('cause' in next) {
			watchers.ended(live.jobId);
			return;
		}
		this.#context.dueAt(next.dueAt);
		const { priority, owner, bytes, lane, number: attempt } = live;
		const waiting = { id: live.jobId, rank: next.rank, priority, owner, bytes };
		backlog.enter({ ...waiting, state: next.to, lane });
		if (next.to !== 'queued') return;
		const { affinity } = live;
		lanes.push(live, { ...waiting, bars: bars ?? live.bars, affinity, attempt });
		turns.nudge();
	}
}

/** It was proved that nothing of it began. */
const isUnstarted = (outcome: string) => outcome === 'not-started' || outcome === 'refused';

/** What an attempt gave back no longer belongs to the turn. */
function returned(entry: RobotEntry, { client, slots }: Live): void {
	entry.freeing -= 1;
	entry.extraPlanned += slots - 1;
	entry.returning = lessOne(entry.returning, client);
}

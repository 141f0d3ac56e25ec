/**
 * Who may pass whom. As a rule whoever can start does, however many wait before it: a job that needs two locks, or four
 * slots at once, holds up nobody. But once a job has been in line for a minute (`limits.patienceMs`) it is *owed* what it
 * waits for. Then
 *
 * - at its gates nobody behind it takes what it needs, if a robot is free for it (after ten minutes even if none is:
 *   else gate and robot could take turns being free), and
 * - one robot is kept for a job of several slots: nobody behind it gets a slot there until there are enough.
 *
 * What it is owed comes back as attempts end, and goes to it: it waits for those that run, and for no newcomer. Of
 * several, the first in order is owed; the order is total, so nobody waits in a ring. A job that could not start
 * anyway, because none of its robots takes work, or a gate has less in all than it needs, is owed nothing.
 */
import { limits } from '../../protocol';
import { barred } from '../core/bars';
import { isOwed, type Need, needsOf, nothing, passes } from '../core/needs';
import { before, type Ranked } from '../core/rank';
import type { Head } from '../store/store';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Lane, Window } from './lanes';

export class Passing {
	readonly #context: Context;
	/** By gate; holds as long as nothing is taken. */
	readonly #owed = new Map<string, Owed | null>();
	/** The robot that is kept for the first job of a queue. */
	readonly #keptFor = new WeakMap<Window, { jobId: string; robotId: string }>();

	constructor(context: Context) {
		this.#context = context;
	}

	/** What waits may have changed: look anew. */
	look(): void {
		if (this.#owed.size > 0) this.#owed.clear();
	}

	/** The owed job for which a gate is kept from this one; undefined = it may have all it needs that is there. */
	keptFrom(job: Ranked, needs: string, now: number): Owed | undefined {
		if (needs === nothing) return undefined;
		const { gates } = this.#context;
		for (const { key, take } of needsOf(needs)) {
			const owed = this.#owedAt(key, now);
			if (!owed) continue;
			const room = gates.room(owed.need);
			if (!passes({ ...job, take }, { ...owed.head, take: owed.need.take, room })) return owed;
		}
		return undefined;
	}

	/** The first owed job of this lane for which the robot is kept until it has slots enough; undefined = none. */
	keeps(lane: Lane, entry: RobotEntry, now: number): Head | undefined {
		let first: Head | undefined;
		for (const window of lane.open) {
			const head = window.heads[0];
			if (!head || (first && !before(head, first)) || !isOwed(head, now)) continue;
			if (this.#robotOf(window, head, now) !== entry.robotId) continue;
			if (this.#waitsForOthers(window, head, now)) continue;
			first = head;
		}
		return first;
	}

	/** The job for which a robot is kept, so that this one does not get it. */
	keptRobot(entry: RobotEntry, job: Ranked, now: number): Head | undefined {
		const { lanes, fleet } = this.#context;
		if (!lanes.hasSpecial) return undefined;
		const free = fleet.freeSlots(entry);
		for (const lane of lanes.waitingFor(entry.robotId)) {
			if ((lane.rule.slots ?? 1) <= free) continue;
			const head = this.keeps(lane, entry, now);
			if (head && head.id !== job.id && before(head, job)) return head;
		}
		return undefined;
	}

	/** Whether it waits for a gate: keeping a robot idle meanwhile helps nobody. */
	#waitsForOthers({ needs }: Window, head: Head, now: number): boolean {
		if (needs === nothing) return false;
		return (
			this.#context.gates.lacking(needsOf(needs)) !== undefined ||
			this.keptFrom(head, needs, now) !== undefined
		);
	}

	/** Chosen once: the one with the most free slots. Another one when that no longer takes work. */
	#robotOf(window: Window, head: Head, now: number): string | undefined {
		const kept = this.#keptFor.get(window);
		if (kept?.jobId === head.id && this.#canHave(window, head, kept.robotId, now)) {
			return kept.robotId;
		}
		const { fleet } = this.#context;
		let best: RobotEntry | undefined;
		for (const robotId of window.lane.robots) {
			if (!this.#canHave(window, head, robotId, now)) continue;
			const entry = fleet.get(robotId)!;
			if (!best || fleet.freeSlots(entry) > fleet.freeSlots(best)) best = entry;
		}
		if (!best) return undefined;
		this.#keptFor.set(window, { jobId: head.id, robotId: best.robotId });
		return best.robotId;
	}

	/** Whether a robot that takes work may get it, as soon as it is free enough. */
	#canHave({ lane }: Window, head: Head, robotId: string, now: number): boolean {
		const { fleet } = this.#context;
		const entry = lane.robots.has(robotId) ? fleet.get(robotId) : undefined;
		return (
			entry !== undefined &&
			fleet.assigning &&
			fleet.isOpen(entry) &&
			entry.gates.every(({ limit }) => limit > 0) &&
			!barred(head.bars, robotId, now, lane.robots)
		);
	}

	/** The first of those that wait for this gate and are owed it. */
	#owedAt(key: string, now: number): Owed | undefined {
		const known = this.#owed.get(key);
		if (known !== undefined) return known ?? undefined;
		const { gates } = this.#context;
		let first: Owed | undefined;
		for (const waiter of gates.get(key)?.waiters ?? []) {
			const head = waiter.heads[0];
			if (!head || (first && !before(head, first.head)) || !isOwed(head, now)) continue;
			if (!this.#couldStart(waiter as Window, head, now)) continue;
			first = { head, need: needsOf(waiter.needs).find((need) => need.key === key)! };
		}
		this.#owed.set(key, first ?? null);
		return first;
	}

	#couldStart(window: Window, head: Head, now: number): boolean {
		const { gates } = this.#context;
		if (!needsOf(window.needs).every((need) => gates.capacity(need) >= need.take)) return false;
		// A lock that lies idle costs others more than a robot that does.
		const anyway = isOwed(head, now, limits.longPatienceMs);
		for (const robotId of window.lane.robots) {
			if (!this.#canHave(window, head, robotId, now)) continue;
			if (anyway || this.#isFree(window, robotId)) return true;
		}
		return false;
	}

	#isFree({ lane }: Window, robotId: string): boolean {
		const { fleet } = this.#context;
		const entry = fleet.get(robotId)!;
		return fleet.fits(entry, lane.rule.slots) && fleet.hasClient(entry, lane.rule.client);
	}
}

/** A job, and what it is owed at a gate. */
interface Owed {
	head: Head;
	need: Need;
}

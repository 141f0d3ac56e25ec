/**
 * The schedules as the store has them, each with its rule ready to be asked. All that is done to one
 * schedule is done in its line, one thing after the other: whether a run overlaps another is decided
 * while nobody else decides.
 */
import { limits, Problem } from '../../protocol';
import { jitterOf } from '../core/catch-up';
import { Recurrence } from '../core/recurrence';
import { type Definition, definitionOf, timingOf } from '../core/schedule';
import { unknownZoneText } from '../core/zone';
import type { StoredSchedule } from '../store/store';
import type { Context } from './context';

export interface Entry {
	readonly stored: StoredSchedule;
	readonly definition: Definition;
	readonly recurrence: Recurrence;
	/** When the next planned time runs, its jitter included; null when none will. */
	readonly dueAt: number | null;
}

export class ScheduleBook {
	readonly #context: Context;
	readonly #entries = new Map<string, Entry>();
	readonly #lines = new Map<string, Promise<unknown>>();

	constructor(context: Context) {
		this.#context = context;
	}

	async load(): Promise<void> {
		const { store, log } = this.#context;
		for (const stored of await store.read('schedules', null)) {
			const { definition, recurrence } = this.remember(stored);
			if (recurrence.knowsZone) continue;
			const reason = unknownZoneText(definition.timezone);
			log.warn('a schedule does not run', { scheduleId: stored.id, reason });
		}
	}

	all(): Entry[] {
		return [...this.#entries.values()];
	}

	peek(id: string): Entry | undefined {
		return this.#entries.get(id);
	}

	/** Throws `no-such-schedule`. */
	find(id: string): Entry {
		const entry = this.#entries.get(id);
		if (!entry) throw new Problem('no-such-schedule', { id });
		return entry;
	}

	/** All are in memory from every start on, with the jobs they submit: no one key may fill it. Throws `key-full`. */
	async put(stored: StoredSchedule): Promise<Entry> {
		this.#demandRoom(stored);
		await this.#context.turns.deed('putSchedule', stored);
		return this.remember(stored);
	}

	#demandRoom({ id, definition, createdBy }: StoredSchedule): void {
		const known = this.#entries.get(id)?.stored.definition;
		if (known !== undefined && definition.length <= known.length) return;
		let count = 1;
		let bytes = definition.length;
		for (const { stored } of this.#entries.values()) {
			if (stored.createdBy !== createdBy || stored.id === id) continue;
			count += 1;
			bytes += stored.definition.length;
		}
		const { maxSchedules, maxScheduleBytes } = limits;
		const what =
			known === undefined && count > maxSchedules
				? `${maxSchedules} schedules`
				: bytes > maxScheduleBytes
					? `schedules of ${Math.round(maxScheduleBytes / 1024 / 1024)} MiB`
					: undefined;
		if (what !== undefined) {
			throw new Problem('key-full', { key: createdBy.replace(/^key:/, ''), what });
		}
	}

	/** A commit has carried it. */
	remember(stored: StoredSchedule): Entry {
		const known = this.#entries.get(stored.id);
		const same =
			known?.stored.definition === stored.definition && known.stored.anchorAt === stored.anchorAt;
		const definition = same ? known.definition : definitionOf(stored.definition);
		const recurrence = same
			? known.recurrence
			: new Recurrence(timingOf(definition, stored.anchorAt));
		const { id, state, nextRunAt } = stored;
		const entry = {
			stored,
			definition,
			recurrence,
			dueAt:
				state !== 'active' || nextRunAt === null || !recurrence.knowsZone
					? null
					: nextRunAt + jitterAt(id, nextRunAt, definition, recurrence),
		};
		this.#entries.set(id, entry);
		this.#context.dueAt(entry.dueAt);
		return entry;
	}

	forget(id: string): void {
		this.#entries.delete(id);
	}

	/** Does this once everything asked for earlier, for this schedule, is done. */
	inLine<T>(id: string, work: () => Promise<T>): Promise<T> {
		const before = this.#lines.get(id) ?? Promise.resolve();
		const done = before.then(work, work);
		const settled = done
			.catch(() => undefined)
			.then(() => {
				if (this.#lines.get(id) === settled) this.#lines.delete(id);
			});
		this.#lines.set(id, settled);
		return done;
	}
}

/** How much later than planned this one runs. */
export function jitterAt(
	scheduleId: string,
	plannedAt: number,
	{ jitterMs }: Definition,
	recurrence: Recurrence,
): number {
	return jitterMs === 0
		? 0
		: jitterOf(scheduleId, plannedAt, jitterMs, recurrence.after(plannedAt)?.at);
}

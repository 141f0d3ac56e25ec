/**
 * What the clocks on the wall of an IANA zone show, and when they are set. Intl knows the zones; here a
 * zone becomes a row of stretches with one offset each, so that arithmetic is plain addition:
 *
 *   wall = instant + offset      a wall time is written as if the zone were UTC, in epoch milliseconds
 *
 * At the end of a stretch the clock is set forward (a gap: wall times that are not there) or back (a
 * fold: wall times that come twice).
 */

/** A stretch of instants with one offset: `from` ≤ instant < `to`. The end of a year ends one too, with no change. */
export interface Stretch {
	from: number;
	to: number;
	offset: number;
}

const dayMs = 86_400_000;
/** No zone sets its clock twice within this time. */
const stepMs = 2 * dayMs;

/** Callers spell names as they like, in upper or lower case: spellings may be forgotten, zones are few. */
const maxSpellings = 2_000;
const spellings = new Map<string, Zone>();
const zones = new Map<string, Zone>();

export function isZone(name: string): boolean {
	try {
		zoneOf(name);
		return true;
	} catch {
		return false;
	}
}

/** Why nothing comes of a zone that was known to the Node which stored it. */
export const unknownZoneText = (name: string) => `this Node does not know the time zone "${name}"`;

/** Throws a RangeError when there is no such zone. */
export function zoneOf(name: string): Zone {
	const known = spellings.get(name);
	if (known) return known;
	const made = new Zone(name);
	const zone = zones.get(made.name) ?? made;
	zones.set(made.name, zone);
	if (spellings.size >= maxSpellings) spellings.clear();
	spellings.set(name, zone);
	return zone;
}

export class Zone {
	/** As the zone data calls it. */
	readonly name: string;
	readonly #format: Intl.DateTimeFormat;
	readonly #years = new Map<number, Stretch[]>();

	constructor(name: string) {
		this.#format = new Intl.DateTimeFormat('en-US', {
			timeZone: name,
			hourCycle: 'h23',
			year: 'numeric',
			month: 'numeric',
			day: 'numeric',
			hour: 'numeric',
			minute: 'numeric',
			second: 'numeric',
		});
		this.name = this.#format.resolvedOptions().timeZone;
	}

	stretchAt(at: number): Stretch {
		const stretches = this.#year(new Date(at).getUTCFullYear());
		return stretches.find(({ to }) => at < to) ?? stretches.at(-1)!;
	}

	offsetAt(at: number): number {
		return this.stretchAt(at).offset;
	}

	/** `2026-03-29T03:00:00+02:00`. */
	text(at: number): string {
		const offset = this.offsetAt(at);
		const minutes = Math.round(Math.abs(offset) / 60_000);
		const two = (value: number) => String(value).padStart(2, '0');
		const sign = offset < 0 ? '-' : '+';
		return `${new Date(at + offset).toISOString().slice(0, 19)}${sign}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
	}

	/** Changes of the clock with `after` < at ≤ `upTo`. */
	*changes(after: number, upTo: number): Generator<{ at: number; before: number; offset: number }> {
		for (let stretch = this.stretchAt(after); stretch.to <= upTo;) {
			const next = this.stretchAt(stretch.to);
			if (next.offset !== stretch.offset && stretch.to > after) {
				yield { at: stretch.to, before: stretch.offset, offset: next.offset };
			}
			stretch = next;
		}
	}

	#year(year: number): Stretch[] {
		let stretches = this.#years.get(year);
		if (!stretches) this.#years.set(year, (stretches = this.#look(year)));
		return stretches;
	}

	#look(year: number): Stretch[] {
		const from = Date.UTC(year, 0);
		const to = Date.UTC(year + 1, 0);
		const stretches: Stretch[] = [];
		let start = from;
		let offset = this.#ask(from);
		for (let at = from; at < to;) {
			const next = Math.min(at + stepMs, to);
			// The last look of a year is the first of the next: a change at midnight belongs there.
			const found = next === to ? this.#ask(to - 1000) : this.#ask(next);
			if (found !== offset) {
				const change = this.#change(at, next === to ? to - 1000 : next, offset);
				stretches.push({ from: start, to: change, offset });
				start = change;
				offset = this.#ask(change);
			}
			at = next;
		}
		stretches.push({ from: start, to, offset });
		return stretches;
	}

	/** The first instant, to the second, that has another offset than `offset`. */
	#change(has: number, hasNot: number, offset: number): number {
		let low = has;
		let high = hasNot;
		while (high - low > 1000) {
			const middle = low + Math.floor((high - low) / 2000) * 1000;
			if (this.#ask(middle) === offset) low = middle;
			else high = middle;
		}
		return high;
	}

	/** To the second; sub-second parts of an instant do not matter. */
	#ask(at: number): number {
		const second = Math.floor(at / 1000) * 1000;
		const [month, day, year, hour, minute, second_] = this.#format
			.format(second)
			.match(/\d+/g)!
			.map(Number) as [number, number, number, number, number, number];
		return Date.UTC(year, month - 1, day, hour, minute, second_) - second;
	}
}

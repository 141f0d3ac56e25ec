/**
 * A slow second opinion on schedules: it asks Intl what the clock shows at every single minute, and applies
 * the rule of docs/schedules.md to what it sees. It shares no code with dispatcher/core.
 */

export interface OracleRule {
	/** Whether the rule wants this wall time, written as if its zone were UTC. */
	wants(wall: Date): boolean;
	/** It runs in every hour of the day. */
	everyHour: boolean;
}

export interface OracleChoice {
	gap: 'shift' | 'skip';
	fold: 'first' | 'both';
}

export const minuteMs = 60_000;
const formats = new Map<string, Intl.DateTimeFormat>();

/** What the clock shows, as if its zone were UTC. */
function wallOf(zone: string, at: number): number {
	let format = formats.get(zone);
	if (!format) {
		format = new Intl.DateTimeFormat('en-GB', {
			timeZone: zone,
			hourCycle: 'h23',
			dateStyle: 'short',
			timeStyle: 'medium',
		});
		formats.set(zone, format);
	}
	// 29/03/2026, 03:00:00
	const [day, month, year, hour, minute, second] = format.format(at).match(/\d+/g)!.map(Number) as [
		number,
		number,
		number,
		number,
		number,
		number,
	];
	return Date.UTC(year, month - 1, day, hour, minute, second);
}

/** What the clock shows in each minute of a stretch of time. */
export interface Walls {
	from: number;
	walls: number[];
}

export function wallsOf(zone: string, from: number, to: number): Walls {
	const walls: number[] = [];
	for (let at = from; at < to; at += minuteMs) walls.push(wallOf(zone, at));
	return { from, walls };
}

/** All runs from `since` on. What lies before it says what the clock has shown already. */
export function runsOf(
	rule: OracleRule,
	{ from, walls }: Walls,
	{ gap, fold }: OracleChoice,
	since: number,
): number[] {
	const found: number[] = [];
	let highest = walls[0]!;
	let last = walls[0]!;
	for (const [i, wall] of walls.entries()) {
		if (i === 0) continue;
		let runs = rule.wants(new Date(wall));
		if (wall <= highest && !rule.everyHour && fold === 'first') runs = false;
		if (gap === 'shift' && !rule.everyHour) {
			for (let missing = last + minuteMs; missing < wall && !runs; missing += minuteMs) {
				runs = rule.wants(new Date(missing));
			}
		}
		highest = Math.max(highest, wall);
		last = wall;
		if (runs && from + i * minuteMs >= since) found.push(from + i * minuteMs);
	}
	return found;
}

/** Instants at which the zone's clock is set, to the minute. */
export function transitionsOf(zone: string, fromYear: number, toYear: number): number[] {
	const offsetAt = (at: number) => wallOf(zone, at) - at;
	const step = 2 * 1440 * minuteMs;
	const found: number[] = [];
	const end = Date.UTC(toYear, 0);
	let at = Date.UTC(fromYear, 0);
	for (let offset = offsetAt(at); at < end; at += step) {
		const next = offsetAt(at + step);
		if (next === offset) continue;
		let low = at;
		let high = at + step;
		while (high - low > minuteMs) {
			const middle = low + Math.floor((high - low) / (2 * minuteMs)) * minuteMs;
			if (offsetAt(middle) === offset) low = middle;
			else high = middle;
		}
		found.push(high);
		offset = next;
	}
	return found;
}

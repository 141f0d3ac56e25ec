/**
 * Robots that a job keeps away from: those that refused it, for now or for good, or lost it, and, when the job asks for
 * another robot each time, those on which a try failed. The last kind of bar holds only as long as there is another
 * robot to ask.
 */
import { limits } from '../../protocol';

/** By robot: refused until then, refused for good (null), or tried. */
export type Bars = Record<string, number | null | 'tried'>;

export function barsOf(text: string | null): Bars {
	return text === null ? {} : (JSON.parse(text) as Bars);
}

/** Whether the robot must not be asked (yet). `fitting` are the enrolled robots that fit the job. */
export function barred(
	text: string | null,
	robotId: string,
	now: number,
	fitting: Iterable<string>,
): boolean {
	if (text === null) return false;
	const bars = barsOf(text);
	const bar = bars[robotId];
	if (bar === undefined) return false;
	if (bar === 'tried') return anyOther(bars, robotId, fitting);
	// An instant further away than any bar lasts was set before somebody turned the clock back.
	return bar === null || (bar > now && bar - now <= limits.refusalMs);
}

/** After a try on this robot failed. Once all that fit were tried, only this last one stays barred. */
export function afterTry(text: string | null, robotId: string, fitting: Iterable<string>): string {
	const bars = barsOf(text);
	const robots = [...fitting];
	if (!anyOther(bars, robotId, robots)) {
		for (const [id, bar] of Object.entries(bars)) if (bar === 'tried') delete bars[id];
	}
	// A refusal says more than a try.
	if (bars[robotId] !== null) bars[robotId] = 'tried';
	return JSON.stringify(bars);
}

/** Whether every robot that fits has refused for good. */
export function noneLeft(text: string, fitting: Iterable<string>): boolean {
	const bars = barsOf(text);
	return [...fitting].every((id) => bars[id] === null);
}

/** Whether another robot fits that was neither tried nor has refused for good. */
function anyOther(bars: Bars, robotId: string, fitting: Iterable<string>): boolean {
	for (const id of fitting) {
		if (id !== robotId && bars[id] !== null && bars[id] !== 'tried') return true;
	}
	return false;
}

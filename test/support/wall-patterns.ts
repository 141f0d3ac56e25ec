/** Forty patterns, and where our calendar and the oracle differ around one change of a clock. */
import { Recurrence } from '../../dispatcher/core/recurrence';
import { type Definition, defined, timingOf } from '../../dispatcher/core/schedule';
import { minuteMs, type OracleRule, runsOf, wallsOf } from './wall-oracle';

export interface Pattern extends OracleRule {
	cron: string;
}

const texts = [
	'* * * * *',
	'*/5 * * * *',
	'*/15 * * * *',
	'*/20 * * * *',
	'0 * * * *',
	'15 * * * *',
	'30 * * * *',
	'59 * * * *',
	'0 0 * * *',
	'30 0 * * *',
	'45 0 * * *',
	'0 1 * * *',
	'30 1 * * *',
	'59 1 * * *',
	'0 2 * * *',
	'1 2 * * *',
	'15 2 * * *',
	'30 2 * * *',
	'45 2 * * *',
	'59 2 * * *',
	'0 3 * * *',
	'30 3 * * *',
	'0 4 * * *',
	'30 22 * * *',
	'30 23 * * *',
	'59 23 * * *',
	'0,30 2 * * *',
	'*/10 2 * * *',
	'*/15 1-3 * * *',
	'0 */2 * * *',
	'30 */3 * * *',
	'15 0-6 * * *',
	'0 0,12 * * *',
	'20 23,0,1 * * *',
	'30 2 * * 0',
	'0 0 * * 6',
	'30 1 * * 0,6',
	'0 2 1-7 * *',
	'30 0 * 3,4,9,10,11 *',
	'*/30 2,3 25-31 3,10 *',
];

export const patterns: Pattern[] = texts.map((cron) => ({ cron, ...ruleOf(cron) }));

function ruleOf(cron: string): OracleRule {
	const fields = cron.split(' ');
	const [minute, hour, day, month, weekday] = fields.map((field, i) =>
		setOf(field, [0, 0, 1, 1, 0][i]!, [59, 23, 31, 12, 6][i]!),
	) as [Set<number>, Set<number>, Set<number>, Set<number>, Set<number>];
	const free = { day: fields[2] === '*', weekday: fields[4] === '*' };
	return {
		everyHour: hour.size === 24,
		wants: (wall) => {
			if (!minute.has(wall.getUTCMinutes()) || !hour.has(wall.getUTCHours())) return false;
			if (!month.has(wall.getUTCMonth() + 1)) return false;
			const onDay = day.has(wall.getUTCDate());
			const onWeekday = weekday.has(wall.getUTCDay());
			// Both named: either will do, as cron has it.
			return free.day || free.weekday ? onDay && onWeekday : onDay || onWeekday;
		},
	};
}

function setOf(field: string, low: number, high: number): Set<number> {
	const found = new Set<number>();
	for (const part of field.split(',')) {
		const [range = '', step = '1'] = part.split('/');
		const [from, to] = range === '*' ? [low, high] : range.split('-').map(Number);
		for (let value = from!; value <= (to ?? from!); value += Number(step)) found.add(value);
	}
	return found;
}

export function zones(): string[] {
	return Intl.supportedValuesOf('timeZone');
}

const aroundMs = 5 * 60 * minuteMs;
const choices = [
	{ gap: 'shift', fold: 'first' },
	{ gap: 'skip', fold: 'both' },
	{ gap: 'shift', fold: 'both' },
	{ gap: 'skip', fold: 'first' },
] as const;

const definitions = new Map<string, Definition>();

/** To check one takes longer than to ask it. */
function definitionOf(cron: string): Definition {
	let definition = definitions.get(cron);
	if (!definition) definitions.set(cron, (definition = defined({ cron })));
	return definition;
}

/** Empty = both have the same runs, whatever is chosen. */
export function disagreements(tried: readonly Pattern[], zone: string, transition: number) {
	const found: object[] = [];
	const from = transition - aroundMs;
	const to = transition + aroundMs;
	const walls = wallsOf(zone, from - aroundMs, to);
	for (const { cron, ...rule } of tried) {
		for (const choice of rule.everyHour ? choices.slice(0, 1) : choices) {
			const timing = timingOf({ ...definitionOf(cron), timezone: zone, ...choice }, 0);
			const ours = new Recurrence(timing).list(from - 1, Infinity, to - 1).map(({ at }) => at);
			const theirs = runsOf(rule, walls, choice, from);
			if (JSON.stringify(ours) === JSON.stringify(theirs)) continue;
			const text = (list: number[]) => list.map((at) => new Date(at).toISOString());
			found.push({ cron, zone, choice, ours: text(ours), theirs: text(theirs) });
		}
	}
	return found;
}

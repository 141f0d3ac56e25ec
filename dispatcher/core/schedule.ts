/**
 * What a schedule may say, and what it means when it says nothing: a request becomes a `Definition`, or one
 * clear sentence per mistake. Weekdays of cron are cron's (0 and 7 = Sunday).
 */
import { CronExpressionParser } from 'cron-parser';
import { Problem, type ScheduleRequest, type When } from '../../protocol';
import { parsedCron, Recurrence, timeOf, type Timing } from './recurrence';
import { isZone } from './zone';

/** A whole schedule, as it lies in the store. */
export interface Definition extends Required<
	Pick<
		ScheduleRequest,
		| 'when'
		| 'timezone'
		| 'jitterMs'
		| 'gap'
		| 'fold'
		| 'missed'
		| 'catchUpMs'
		| 'catchUpMax'
		| 'overlap'
		| 'blackouts'
	>
> {
	job?: ScheduleRequest['job'];
	startAt?: number;
	endAt?: number;
	maxRuns?: number;
	pauseAfterFailures?: number;
}

export const scheduleDefaults = {
	timezone: 'UTC',
	jitterMs: 0,
	gap: 'shift',
	fold: 'first',
	missed: 'last',
	catchUpMs: 3_600_000,
	catchUpMax: 100,
	overlap: 'skip',
	blackouts: [],
} as const satisfies Partial<Definition>;

/** A definition that was stored by this version or one before it. */
export function definitionOf(text: string): Definition {
	return {
		...scheduleDefaults,
		blackouts: [],
		...(JSON.parse(text) as Partial<Definition>),
	} as Definition;
}

/** Throws `bad-field`, `bad-cron` or `bad-timezone`. */
export function defined(request: ScheduleRequest): Definition {
	const { cron, when, name: _name, enabled: _enabled, ...rest } = request;
	if ((cron === undefined) === (when === undefined)) {
		wrong('when', 'say when it is due, with either cron or when');
	}
	const definition: Definition = {
		...scheduleDefaults,
		blackouts: [],
		...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)),
		when: when ?? { frequency: 'cron', cron: cron! },
	};
	const { timezone, startAt, endAt, job } = definition;
	if (!isZone(timezone)) throw new Problem('bad-timezone', { timezone });
	checkWhen(definition.when);
	if (startAt !== undefined && endAt !== undefined && endAt < startAt) {
		wrong('endAt', 'must not be before startAt');
	}
	// Each run is a job of its own, at its own time: these would make all runs one job, or make one late.
	for (const name of ['idempotencyKey', 'notBefore'] as const) {
		if (job?.[name] !== undefined)
			wrong(`job.${name}`, 'has no meaning in a schedule; leave it out');
	}
	if (job?.timeouts?.deadlineAt !== undefined) {
		wrong('job.timeouts.deadlineAt', 'is one instant for all runs; use queueMs and runMs');
	}
	if (job?.offline?.until !== undefined) {
		wrong('job.offline.until', 'is one instant for all runs; use forMs');
	}
	if (!new Recurrence(timingOf(definition, startAt ?? 0)).after((startAt ?? 0) - 1)) {
		if (definition.when.frequency === 'cron') {
			throw new Problem('bad-cron', { reason: 'it never comes due' });
		}
		wrong('when', 'it never comes due');
	}
	return definition;
}

export function timingOf(definition: Definition, anchorAt: number): Timing {
	const { when, timezone, gap, fold, startAt, endAt } = definition;
	return {
		when,
		timezone,
		gap,
		fold,
		anchorAt,
		...(startAt === undefined ? {} : { startAt }),
		...(endAt === undefined ? {} : { endAt }),
	};
}

/** Which fields go with which frequency. */
const fieldsOf: Record<When['frequency'], readonly (keyof When)[]> = {
	once: ['at'],
	interval: ['everyMs'],
	hourly: ['minute', 'every'],
	daily: ['times', 'every'],
	weekly: ['weekdays', 'times', 'every'],
	monthly: ['days', 'nth', 'times', 'every'],
	cron: ['cron'],
};

/** A year of days or weeks, five years of months: anything rarer has a date, and is `once`. */
const mostEvery: Partial<Record<When['frequency'], number>> = {
	daily: 366,
	weekly: 53,
	monthly: 60,
};

function checkWhen(when: When): void {
	const { frequency } = when;
	const fields = fieldsOf[frequency];
	const stranger = Object.keys(when).find(
		(name) => name !== 'frequency' && !fields.includes(name as keyof When),
	);
	if (stranger !== undefined) {
		wrong(`when.${stranger}`, `does not go with ${frequency}, which takes ${fields.join(', ')}`);
	}
	const needed = ({ once: 'at', interval: 'everyMs', weekly: 'weekdays', cron: 'cron' } as const)[
		frequency as 'once'
	];
	if (needed !== undefined && when[needed] === undefined) {
		wrong(`when.${needed}`, `is needed by ${frequency}`);
	}
	if (frequency === 'monthly' && (when.days === undefined) === (when.nth === undefined)) {
		wrong('when.days', 'is needed by monthly, or nth, but not both');
	}
	if (when.days?.includes(0)) wrong('when.days', 'must be 1 to 31, or -1 for the last day');
	if (when.nth?.week === 0) wrong('when.nth.week', 'must be 1 to 5, or -1 for the last');
	const bad = when.times?.find((text) => timeOf(text) === undefined);
	if (bad !== undefined) wrong('when.times', `"${bad}" is no time of day; write 02:30 or 02:30:15`);
	if (frequency === 'hourly' && 24 % (when.every ?? 1) !== 0) {
		wrong('when.every', 'must divide 24 for hourly; use interval for anything else');
	}
	const most = mostEvery[frequency];
	if (most !== undefined && (when.every ?? 1) > most) {
		wrong('when.every', `must be at most ${most} for ${frequency}`);
	}
	if (when.cron !== undefined) checkCron(when.cron);
}

function wrong(path: string, reason: string): never {
	throw new Problem('bad-field', { path, reason });
}

const fieldNames = ['second', 'minute', 'hour', 'day of month', 'month', 'day of week'];

/** Throws `bad-cron`, with the field that is wrong. */
export function checkCron(cron: string): void {
	const fields = cron.trim().split(/\s+/);
	if (cron.trim() === '' || fields.length < 5 || fields.length > 6) {
		throw new Problem('bad-cron', {
			reason: `it has ${cron.trim() === '' ? 0 : fields.length} fields; give 5 (minute hour day month weekday) or 6 (seconds first)`,
		});
	}
	// Tried one by one, so that the sentence can name the field.
	const names = fields.length === 5 ? fieldNames.slice(1) : fieldNames;
	for (const [i, field] of fields.entries()) {
		const probe = fields.map((_, j) => (j === i ? field : '*')).join(' ');
		try {
			CronExpressionParser.parse(probe, { tz: 'UTC' });
		} catch (error) {
			throw new Problem('bad-cron', {
				reason: `${names[i]} "${field}" is not valid (${(error as Error).message})`,
			});
		}
	}
	try {
		parsedCron(cron);
	} catch (error) {
		throw new Problem('bad-cron', { reason: `it never comes due (${(error as Error).message})` });
	}
}

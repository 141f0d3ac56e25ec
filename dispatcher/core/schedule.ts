/**
 * When a cron expression is due, in its own time zone. Weekdays are cron's (0 and 7 = Sunday).
 * The calendar itself is cron-parser's business; what we add is one clear sentence per mistake.
 */
import { CronExpressionParser } from 'cron-parser';
import { Problem } from '../../protocol';

const fieldNames = ['second', 'minute', 'hour', 'day of month', 'month', 'day of week'];

/** Throws `bad-cron` or `bad-timezone`. */
export function checkCron(cron: string, timezone: string): void {
	try {
		new Intl.DateTimeFormat('en', { timeZone: timezone });
	} catch {
		throw new Problem('bad-timezone', { timezone });
	}
	const fields = cron.trim().split(/\s+/);
	if (cron.trim() === '' || fields.length < 5 || fields.length > 6) {
		throw new Problem('bad-cron', {
			reason: `it has ${cron.trim() === '' ? 0 : fields.length} fields; give 5 (minute hour day month weekday) or 6 (seconds first)`,
		});
	}
	// Held up one by one, so that the sentence can name the field.
	const names = fields.length === 5 ? fieldNames.slice(1) : fieldNames;
	for (const [i, field] of fields.entries()) {
		const probe = fields.map((_, j) => (j === i ? field : '*')).join(' ');
		try {
			CronExpressionParser.parse(probe, { tz: timezone });
		} catch (error) {
			throw new Problem('bad-cron', {
				reason: `${names[i]} "${field}" is not valid (${(error as Error).message})`,
			});
		}
	}
	try {
		nextRuns(cron, timezone, 0, 1);
	} catch (error) {
		throw new Problem('bad-cron', { reason: `it never comes due (${(error as Error).message})` });
	}
}

/** The next `count` instants strictly after `afterAt`, in epoch milliseconds. */
export function nextRuns(cron: string, timezone: string, afterAt: number, count: number): number[] {
	const expression = CronExpressionParser.parse(cron, {
		tz: timezone,
		currentDate: new Date(afterAt),
	});
	return Array.from({ length: count }, () => expression.next().getTime());
}

/** The last instant that is at or before `atOrBefore`; `undefined` if there was none after `afterAt`. */
export function lastRun(
	cron: string,
	timezone: string,
	afterAt: number,
	atOrBefore: number,
): number | undefined {
	const expression = CronExpressionParser.parse(cron, {
		tz: timezone,
		currentDate: new Date(atOrBefore + 1),
	});
	const last = expression.prev().getTime();
	return last > afterAt ? last : undefined;
}

/** Schedules as people read them. */
import type {
	ClockChange,
	Forecast,
	Occurrence,
	PlannedRun,
	Preview,
	Schedule,
	When,
} from '../../protocol';
import { card, table, when } from './terminal';

export function scheduleTable(schedules: Schedule[]): string {
	return table(
		['ID', 'NAME', 'WHEN', 'ZONE', 'STATE', 'NEXT', 'LAST', 'OK', 'FAILED'],
		schedules.map((one) => [
			one.scheduleId,
			one.name,
			whenText(one.when),
			one.timezone,
			one.state,
			when(one.nextRunAt),
			when(one.lastRunAt),
			one.counts.succeeded,
			one.counts.failed,
		]),
	);
}

function whenText({ frequency, at, everyMs, cron, ...rest }: When): string {
	switch (frequency) {
		case 'cron':
			return cron!;
		case 'once':
			return `once ${when(at)}`;
		case 'interval':
			return `every ${everyMs! / 1000} s`;
		default:
			return [
				frequency,
				...Object.entries(rest).map(
					([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
				),
			].join(' ');
	}
}

export function scheduleCard({ when: due, counts, ...rest }: Schedule): string {
	const { upcoming, nextRunAt, lastRunAt, createdAt, startAt, endAt, cron: _, ...plain } = rest;
	return card({
		...plain,
		when: whenText(due),
		startAt: when(startAt),
		endAt: when(endAt),
		lastRunAt: when(lastRunAt),
		nextRunAt: when(nextRunAt),
		upcoming: upcoming.map(when).join(', '),
		...Object.fromEntries(Object.entries(counts).map(([name, n]) => [`occurrences ${name}`, n])),
		createdAt: when(createdAt),
	});
}

export function occurrenceTable(occurrences: Occurrence[]): string {
	return table(
		['PLANNED', 'ORIGIN', 'WHAT', 'SLIP', 'JOB', 'ENDED', 'WHY'],
		occurrences.map((one) => [
			when(one.plannedAt),
			one.origin,
			one.state.replace('_', ' '),
			`${Math.round((one.at - one.plannedAt) / 1000)} s`,
			one.jobId,
			one.outcome ?? (one.jobId === null ? null : 'not yet'),
			one.reason,
		]),
	);
}

const markTexts = {
	shifted: 'its time of day does not exist that day',
	repeated: 'the second time the clock shows it',
};

export function noteOf({ mark, blackout }: PlannedRun): string {
	return [
		...(mark === null ? [] : [markTexts[mark]]),
		...(blackout === null ? [] : [`does not run: ${blackout}`]),
	].join('; ');
}

const runTable = (runs: PlannedRun[]) =>
	table(
		['WHEN', 'UTC', 'NOTE'],
		runs.map((run) => [run.local, when(run.at), noteOf(run)]),
	);

export function previewText({ runs, changes }: Preview): string {
	return runTable(runs) + changes.map(changeText).join('');
}

function changeText({ kind, at, from, to, runs }: ClockChange): string {
	const way = kind === 'gap' ? 'forward' : 'back';
	const head = `\n${when(at)} UTC: the clock is set ${way} from ${from} to ${to}. Runs around it:\n`;
	return head + (runs.length === 0 ? 'none\n' : runTable(runs));
}

export function forecastText({ schedules, clashes }: Forecast): string {
	const planned = table(
		['SCHEDULE', 'NAME', 'RUNS', 'EACH', 'FOR'],
		schedules.map((one) => [
			one.scheduleId,
			one.name,
			one.more ? `more than ${one.runs}` : one.runs,
			`${Math.round(one.runMs / 1000)} s`,
			one.target,
		]),
	);
	if (clashes.length === 0) return `${planned}\neverything fits\n`;
	return `${planned}\n${table(
		['FROM', 'TO', 'FOR', 'NEEDS', 'HAS', 'SCHEDULES'],
		clashes.map((one) => [
			when(one.from),
			when(one.to),
			one.target,
			one.needs,
			one.has,
			one.scheduleIds.join(','),
		]),
	)}`;
}

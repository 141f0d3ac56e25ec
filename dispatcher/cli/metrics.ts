/** `robot-fleet metrics`: what came of today's work, one metric over time, jobs by what they have in common. */
import { Argument } from 'commander';
import {
	type Breakdown,
	type BreakdownRow,
	breakdowns,
	type MetricsRecord,
	type SeriesAnswer,
	type SeriesName,
	seriesNames,
} from '../../protocol';
import type { CommandKit } from './job-changes';
import { card, instantOf, json, table, when } from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
	from?: string;
	to?: string;
	timezone?: string;
}

export function addMetrics({ terminal, client, group, sub }: CommandKit): void {
	const metrics = group('metrics', 'what came of the work', 'robot-fleet metrics today');
	const tell = <T>(flags: Flags, value: T, text: (value: T) => string) =>
		terminal.out(flags.json ? json(value) : text(value));
	const at = (text: string | undefined) =>
		text === undefined ? undefined : instantOf(text, terminal.now());

	sub(metrics, 'today', 'robots, jobs of today, success rates', 'today --timezone Europe/Berlin')
		.option('--timezone <zone>', 'where today begins (default UTC)')
		.action(async (flags: Flags) =>
			tell(flags, await client(flags).metrics(flags.timezone), recordText),
		);
	sub(metrics, 'series', 'one metric over time', 'series completed --from 2h')
		.addArgument(new Argument('<metric>', 'which').choices(seriesNames))
		.option('--from <time>', 'since when: 2h (ago), or a date (default one day ago)')
		.option('--to <time>', 'until when (default now)')
		.action(async (metric: SeriesName, flags: Flags) =>
			tell(
				flags,
				await client(flags).metricSeries(metric, at(flags.from), at(flags.to)),
				seriesText,
			),
		);
	sub(metrics, 'jobs', 'jobs by what they have in common', 'jobs robot --from 8h')
		.addArgument(new Argument('<by>', 'by what').choices([...breakdowns]))
		.option('--from <time>', 'submitted since: 2h (ago), or a date (default today)')
		.option('--to <time>', 'submitted until (default now)')
		.action(async (by: Breakdown, flags: Flags) =>
			tell(
				flags,
				await client(flags).metricBreakdown(by, at(flags.from), at(flags.to)),
				(rows: BreakdownRow[]) => breakdownText(by, rows),
			),
		);
}

const percent = (share: number | null) => (share === null ? '-' : `${(share * 100).toFixed(1)} %`);
const seconds = (ms: number | null) => (ms === null ? '-' : `${(ms / 1000).toFixed(1)} s`);

function recordText(record: MetricsRecord): string {
	const { planned } = record;
	return card({
		robots: `${record.onlineRobots} of ${record.totalRobots} online`,
		slots: `${record.slotsUsed} of ${record.slots} in use`,
		now: `${record.pendingJobs} jobs wait, ${record.runningJobs} are with robots`,
		'oldest queued': seconds(record.oldestQueuedMs),
		'today since': `${when(record.since)} UTC`,
		submitted: record.totalJobsToday,
		completed: record.completedJobsToday,
		failed: record.failedJobsToday,
		cancelled: record.cancelledJobsToday,
		'average run': seconds(record.averageExecutionMs),
		'success rate': percent(record.successRate),
		planned: `${percent(record.plannedSuccessRate)} of ${planned.due} (${planned.failed} failed, ${planned.notRun} did not run, ${planned.open} open)`,
	});
}

function seriesText({ metric, stepMs, points }: SeriesAnswer): string {
	const rows = points.map(([at, value]) => [when(at), Math.round(value * 1000) / 1000]);
	return table([`FROM (${stepMs / 60_000} min)`, metric.toUpperCase()], rows);
}

function breakdownText(by: Breakdown, rows: BreakdownRow[]): string {
	return table(
		[by.toUpperCase(), 'JOBS', 'COMPLETED', 'FAILED', 'CANCELLED', 'AVERAGE', 'SUCCESS'],
		rows.map((row) => [
			by === 'hour' ? when(Number(row.of)) : (row.name ?? row.of),
			row.jobs,
			row.completed,
			row.failed,
			row.cancelled,
			seconds(row.averageExecutionMs),
			percent(row.successRate),
		]),
	);
}

/** One run as JSON, and the page that is made from it: nothing in it is typed by hand. */
import type { Calibration } from '../machine/calibration';
import type { Table } from '../workloads/workload';
import type { Ratio } from './statistics';
import { short, type Verdict } from './verdicts';

export interface Report {
	at: string;
	/** All workloads at full size, on a machine that did nothing else and stayed the same. */
	valid: boolean;
	/** Why it is not. */
	warnings: string[];
	tookMs: number;
	settings: Record<string, unknown>;
	/** Of the settings: two runs with the same one did the same. */
	settingsHash: string;
	machine: Record<string, string | number>;
	calibration: { before: Calibration; after: Calibration };
	verdicts: Verdict[];
	tables: Table[];
	measured: Record<string, unknown>;
}

export function markdownOf(report: Report): string {
	const { calibration, machine, verdicts, tables, warnings } = report;
	const met = verdicts.filter((verdict) => verdict.met).length;
	return [
		'# Benchmark',
		'',
		`Made by \`npm run bench\` from [latest.json](latest.json); do not edit. ${report.at}, ${minutes(report.tookMs)}, settings ${report.settingsHash}.`,
		'',
		'Figures of different runs and machines must not be compared; the ratios of one run may. Every side synced to disk before it',
		'acknowledged. A ratio whose 95 % interval holds 1 is said to be equal.',
		'',
		...(warnings.length > 0
			? ['**This run does not count:**', '', ...warnings.map((text) => `- ${text}`), '']
			: []),
		`## Asked and got: ${met} of ${verdicts.length}`,
		'',
		tableText(
			['', 'Figure', 'Asked', 'Robot Fleet', 'Held against', 'Ratio', 'Met'],
			verdicts.map((verdict) => [
				verdict.workload,
				verdict.figure,
				verdict.asked,
				verdict.ours,
				verdict.theirs,
				ratioText(verdict.ratio),
				verdict.met ? 'yes' : 'no',
			]),
		),
		'',
		...tables.flatMap(({ title, columns, rows }) => [
			`## ${title}`,
			'',
			tableText(columns, rows),
			'',
		]),
		'## Machine and settings',
		'',
		tableText(
			['', ''],
			[
				...Object.entries(machine),
				...Object.entries(report.settings).map(([name, value]) => [name, String(value)]),
			],
		),
		'',
		tableText(
			['W0', 'before', 'after'],
			(
				[
					['append of 4 KiB and fdatasync, p50, ms', 'syncP50Ms'],
					['the same, p99, ms', 'syncP99Ms'],
					['hop between two processes (WebSocket), p50, ms', 'hopP50Ms'],
					['the same, p99, ms', 'hopP99Ms'],
					['1 KB of JSON there and back, µs', 'jsonUs'],
				] as const
			).map(([name, field]) => [
				name,
				short(calibration.before[field]),
				short(calibration.after[field]),
			]),
		),
		'',
	].join('\n');
}

function ratioText({ value, low, high, equal }: Pick<Ratio, 'value'> & Partial<Ratio>): string {
	if (low === undefined || high === undefined) return short(value);
	return `${short(value)} (${short(low)} … ${short(high)})${equal ? ' equal' : ''}`;
}

function tableText(
	columns: readonly string[],
	rows: readonly (readonly (string | number)[])[],
): string {
	const line = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`;
	return [line(columns), `|${columns.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

function minutes(ms: number): string {
	return `${Math.round(ms / 60_000)} min`;
}

/**
 * Metrics in the text format of Prometheus (version 0.0.4): families of samples, in the order they are given.
 * A family is named after its unit, a counter ends with `_total`.
 */
import type { Histogram } from './histogram';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
	labels?: Labels;
	value: number;
}

export type Family = { name: string; help: string } & (
	| { type: 'counter' | 'gauge'; samples: readonly Sample[] }
	| { type: 'histogram'; series: readonly { labels?: Labels; of: Histogram }[] }
);

/** Content type of the answer with the text. */
export const expositionType = 'text/plain; version=0.0.4; charset=utf-8';

export const gauge = (name: string, help: string, value: number): Family => ({
	name,
	help,
	type: 'gauge',
	samples: [{ value }],
});

export const counter = (name: string, help: string, value: number): Family => ({
	name,
	help,
	type: 'counter',
	samples: [{ value }],
});

/** One sample for each name of a closed list. */
export const byName = (label: string, counts: Readonly<Record<string, number>>): Sample[] =>
	Object.entries(counts).map(([name, value]) => ({ labels: { [label]: name }, value }));

export function exposed(families: readonly Family[]): string {
	const lines: string[] = [];
	for (const family of families) {
		const { name, help, type } = family;
		lines.push(`# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}`);
		lines.push(`# TYPE ${name} ${type}`);
		if (family.type !== 'histogram') {
			for (const { labels, value } of family.samples) lines.push(line(name, labels, value));
			continue;
		}
		for (const { labels, of } of family.series) {
			for (const [i, count] of of.cumulated().entries()) {
				lines.push(line(`${name}_bucket`, { ...labels, le: shown(of.bounds[i]!) }, count));
			}
			lines.push(line(`${name}_bucket`, { ...labels, le: '+Inf' }, of.count));
			lines.push(line(`${name}_sum`, labels, of.sum));
			lines.push(line(`${name}_count`, labels, of.count));
		}
	}
	return `${lines.join('\n')}\n`;
}

function line(name: string, labels: Labels | undefined, value: number): string {
	const pairs = Object.entries(labels ?? {}).map(
		([label, text]) =>
			`${label}="${text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`,
	);
	return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${shown(value)}`;
}

function shown(value: number): string {
	if (value === Infinity) return '+Inf';
	if (value === -Infinity) return '-Inf';
	return String(value);
}

/** What was asked of the queue, what we got, and whether that is enough. */
import type { Ratio } from './statistics';

export interface Verdict {
	workload: string;
	figure: string;
	/** The bar, in words: `≥ 10 × graphile-worker`. */
	asked: string;
	ours: string;
	/** What ours is held against, when there is something of the same run. */
	theirs: string;
	ratio: Pick<Ratio, 'value'> & Partial<Ratio>;
	met: boolean;
}

export type Bar = { atLeast: number } | { atMost: number };

export interface Held {
	workload: string;
	figure: string;
	bar: Bar;
	/** Unit of both sides: `jobs/s`, `ms`. */
	unit: string;
	ours: number;
	against: { name: string; value: number; ratio?: Ratio };
}

/** A figure held against another one of the same run: a peer's, a floor's, our own at another size. */
export function compare({ workload, figure, bar, unit, ours, against }: Held): Verdict {
	const ratio = against.ratio ?? { value: ours / against.value };
	return {
		workload,
		figure,
		asked: `${words(bar)} × ${against.name}`,
		ours: `${short(ours)} ${unit}`,
		theirs: `${short(against.value)} ${unit}`,
		ratio,
		met: meets(ratio.value, bar),
	};
}

/** A figure held against a number. */
export function limit(
	workload: string,
	figure: string,
	bar: Bar,
	unit: string,
	ours: number,
): Verdict {
	const asked = 'atLeast' in bar ? bar.atLeast : bar.atMost;
	return {
		workload,
		figure,
		asked: `${words(bar)} ${unit}`.trim(),
		ours: `${short(ours)} ${unit}`.trim(),
		theirs: '',
		ratio: { value: asked === 0 ? NaN : ours / asked },
		met: meets(ours, bar),
	};
}

function meets(value: number, bar: Bar): boolean {
	return 'atLeast' in bar ? value >= bar.atLeast : value <= bar.atMost;
}

function words(bar: Bar): string {
	return 'atLeast' in bar ? `≥ ${bar.atLeast}` : `≤ ${bar.atMost}`;
}

/** Three digits that mean something. */
export function short(value: number): string {
	if (!Number.isFinite(value)) return '–';
	if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
	return String(Number(value.toPrecision(3)));
}

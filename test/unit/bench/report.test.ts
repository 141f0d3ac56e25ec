import type { Calibration } from '../../bench/machine/calibration';
import { optionsOf } from '../../bench/options';
import { markdownOf, type Report } from '../../bench/report/report';
import { compare, limit, short } from '../../bench/report/verdicts';

const calibration: Calibration = {
	syncP50Ms: 0.3,
	syncP99Ms: 1,
	hopP50Ms: 0.02,
	hopP99Ms: 0.1,
	jsonUs: 7,
};

function reportOf(more: Partial<Report> = {}): Report {
	return {
		at: '2026-11-21T00:00:00.000Z',
		valid: true,
		warnings: [],
		tookMs: 120_000,
		settings: { rounds: 5 },
		settingsHash: 'abc',
		machine: { cores: 2 },
		calibration: { before: calibration, after: calibration },
		verdicts: [],
		tables: [],
		measured: {},
		...more,
	};
}

test('a bar from below is met from it upwards, one from above up to it', () => {
	const at = { workload: 'W1', figure: 'f', unit: 'ms', against: { name: 'peer', value: 10 } };
	expect(compare({ ...at, ours: 7.5, bar: { atMost: 0.75 } }).met).toBe(true);
	expect(compare({ ...at, ours: 7.6, bar: { atMost: 0.75 } }).met).toBe(false);
	expect(compare({ ...at, ours: 30, bar: { atLeast: 3 } }).met).toBe(true);
	expect(compare({ ...at, ours: 29, bar: { atLeast: 3 } }).met).toBe(false);
});

test('a figure that was not measured meets nothing', () => {
	expect(limit('W1', 'f', { atMost: 5 }, 's', NaN).met).toBe(false);
	expect(limit('W1', 'f', { atLeast: 5 }, 's', NaN).met).toBe(false);
});

test('of rounds, the median of their ratios decides, not the ratio of medians', () => {
	const verdict = compare({
		workload: 'W3',
		figure: 'jobs/s',
		bar: { atLeast: 1 },
		unit: 'jobs/s',
		ours: 100,
		against: {
			name: 'peer',
			value: 90,
			ratio: { value: 0.9, low: 0.8, high: 1.1, equal: true },
		},
	});
	expect(verdict).toMatchObject({ met: false, asked: '≥ 1 × peer', theirs: '90 jobs/s' });
	expect(markdownOf(reportOf({ verdicts: [verdict] }))).toContain('0.9 (0.8 … 1.1) equal');
});

test('the page says first that a run does not count, and why', () => {
	const page = markdownOf(reportOf({ valid: false, warnings: ['The machine was busy.'] }));
	expect(page).toContain('does not count');
	expect(page.indexOf('The machine was busy.')).toBeLessThan(page.indexOf('## Asked and got'));
});

test('numbers show three digits that mean something', () => {
	expect([0.012345, 1.2345, 123.45, 1_234_567, NaN].map(short)).toEqual([
		'0.0123',
		'1.23',
		'123',
		'1,234,567',
		'–',
	]);
});

test('only the whole bench in full size may become the published figures', () => {
	const whole = (argv: string[], env = {}) => {
		const options = optionsOf(argv, env);
		return options === 'help' ? undefined : options.whole;
	};
	expect(whole([])).toBe(true);
	expect(whole(['--install-peers'])).toBe(true);
	expect(whole(['--quick'])).toBe(false);
	expect(whole(['--only', 'w1,w3'])).toBe(false);
	expect(whole([], { BENCH_ROUNDS: '1' })).toBe(false);
});

test('a workload that does not exist is refused by name', () => {
	expect(() => optionsOf(['--only', 'w1,w7'], {})).toThrow('not "w7"');
	expect(() => optionsOf([], { BENCH_JOBS: 'many' })).toThrow('BENCH_JOBS');
});

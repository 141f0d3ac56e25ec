import { byName, counter, exposed, gauge } from '../../../dispatcher/core/exposition';
import { Histogram } from '../../../dispatcher/core/histogram';

test('what is measured falls into the first bucket that holds it, and buckets are cumulated', () => {
	const seconds = new Histogram([0.1, 1, 5]);
	for (const value of [0.05, 0.1, 0.3, 4, 60, -3]) seconds.observe(value);
	expect(seconds.cumulated()).toEqual([3, 4, 5]);
	expect([seconds.count, seconds.sum]).toEqual([6, 64.45]);
});

test('families become the text that scrapers read, with every label escaped', () => {
	const seconds = new Histogram([0.5]);
	seconds.observe(0.25);
	seconds.observe(2);
	const text = exposed([
		gauge('a', 'one\nline \\', 1.5),
		counter('b_total', 'counts', 3),
		{ name: 'c', help: 'c', type: 'gauge', samples: byName('of', { 'say "hi"\n\\': 2 }) },
		{ name: 'd_seconds', help: 'd', type: 'histogram', series: [{ of: seconds }] },
	]);
	expect(text.split('\n')).toEqual([
		'# HELP a one\\nline \\\\',
		'# TYPE a gauge',
		'a 1.5',
		'# HELP b_total counts',
		'# TYPE b_total counter',
		'b_total 3',
		'# HELP c c',
		'# TYPE c gauge',
		'c{of="say \\"hi\\"\\n\\\\"} 2',
		'# HELP d_seconds d',
		'# TYPE d_seconds histogram',
		'd_seconds_bucket{le="0.5"} 1',
		'd_seconds_bucket{le="+Inf"} 2',
		'd_seconds_sum 2.25',
		'd_seconds_count 2',
		'',
	]);
});

import { healthOf, type Signs } from '../../../dispatcher/core/health';

const calm: Signs['metrics'] = {
	cpuPercent: 10,
	memoryPercent: 40,
	diskPercent: 50,
	roundTripMs: 3,
	agentBusyPercent: 1,
	keeperMissing: false,
};
const blind: Signs['metrics'] = {
	cpuPercent: null,
	memoryPercent: null,
	diskPercent: null,
	roundTripMs: null,
	agentBusyPercent: null,
	keeperMissing: null,
};
const good = { completed: 50, failed: 0, lost: 0, successPercent: 100 };
const signs = (more: Partial<Signs> = {}): Signs => ({
	metrics: calm,
	silentMs: 100,
	jobs: 0,
	hanging: 0,
	record: good,
	...more,
});
const record = (completed: number, failed: number, lost = 0) => ({
	completed,
	failed,
	lost,
	successPercent: Math.round((completed / (completed + failed + lost)) * 1_000) / 10,
});

test('a machine with room for all is normal, and so is one that cannot tell', () => {
	expect(healthOf(signs())).toEqual({ level: 'normal', reasons: [] });
	const none = { completed: 0, failed: 0, lost: 0, successPercent: null };
	expect(healthOf(signs({ metrics: blind, record: none })).level).toBe('normal');
});

test.each([
	[{ memoryPercent: 84.9 }, 'normal'],
	[{ memoryPercent: 85 }, 'warning'],
	[{ memoryPercent: 95 }, 'critical'],
	[{ diskPercent: 85 }, 'warning'],
	[{ diskPercent: 99.9 }, 'critical'],
	[{ cpuPercent: 94.9 }, 'normal'],
	// Work is no emergency.
	[{ cpuPercent: 100 }, 'warning'],
	[{ cpuPercent: 100, diskPercent: 96 }, 'critical'],
	[{ roundTripMs: 999 }, 'normal'],
	[{ roundTripMs: 1_000 }, 'warning'],
	[{ roundTripMs: 7_000 }, 'critical'],
	[{ agentBusyPercent: 92 }, 'warning'],
	[{ keeperMissing: true }, 'warning'],
])('%j is %s', (metrics, level) => {
	expect(healthOf(signs({ metrics: { ...calm, ...metrics } })).level).toBe(level);
});

test.each<[string, Partial<Signs>, string, string[]]>([
	['a line that is quiet for a heartbeat', { silentMs: 20_000 }, 'normal', []],
	[
		'a line that is quiet for longer',
		{ silentMs: 34_000 },
		'critical',
		['Nothing was heard from it for 34 s.'],
	],
	[
		'one job that hangs',
		{ jobs: 1, hanging: 1 },
		'warning',
		['Its job hangs: neither output nor work for a while.'],
	],
	[
		'two of three',
		{ jobs: 3, hanging: 2 },
		'warning',
		['2 of its 3 jobs hang: neither output nor work for a while.'],
	],
	['few tries, all of them failed', { record: record(0, 9) }, 'normal', []],
	['four of five', { record: record(40, 10) }, 'normal', []],
	['less', { record: record(39, 11) }, 'warning', ['Of its last 50 tries, 11 failed.']],
	[
		'hardly any',
		{ record: record(4, 5, 1) },
		'critical',
		['Of its last 10 tries, 5 failed, 1 were lost.'],
	],
])('%s', (_what, more, level, reasons) => {
	expect(healthOf(signs(more))).toEqual({ level, reasons });
});

test('each reason says what is full and how much', () => {
	const metrics = { ...calm, cpuPercent: 97, memoryPercent: 91.5, diskPercent: 20 };
	const { reasons } = healthOf(signs({ metrics }));
	expect(reasons).toEqual(['The processor is 97 % used.', 'The memory is 91.5 % used.']);
});

import { healthOf } from '../../../dispatcher/core/health';

const calm = { cpuPercent: 10, memoryPercent: 40, diskPercent: 50 };

test('a machine with room for all is normal, and so is one that cannot tell', () => {
	expect(healthOf(calm)).toEqual({ level: 'normal', reasons: [] });
	expect(healthOf({ cpuPercent: null, memoryPercent: null, diskPercent: null }).level).toBe(
		'normal',
	);
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
])('%j is %s', (metrics, level) => {
	expect(healthOf({ ...calm, ...metrics }).level).toBe(level);
});

test('each reason says what is full and how much', () => {
	const { reasons } = healthOf({ cpuPercent: 97, memoryPercent: 91.5, diskPercent: 20 });
	expect(reasons).toEqual(['The processor is 97 % used.', 'The memory is 91.5 % used.']);
});

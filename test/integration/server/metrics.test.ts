import { openHouse, type House } from './house';
import { gauge } from '../../../dispatcher/core/exposition';

let house: House;
afterEach(() => house.server.close());
const families = async () => [gauge('robot_fleet_slots', 'Slots.', 7)];

/** The value a scraper reads. */
const valueIn = (text: string, sample: string) =>
	Number(
		text
			.split('\n')
			.find((line) => line.startsWith(`${sample} `))
			?.slice(sample.length) ?? NaN,
	);

test('a scraper with a key reads the engine, the doors and the process in one text', async () => {
	house = await openHouse({ families });
	await house.ask('GET', '/api/v1/kinds');
	await house.ask('GET', '/api/v1/kinds', { key: 'bad' });
	await house.ask('GET', '/nowhere');
	const { status, body, headers } = await house.ask('GET', '/metrics', { key: 'read' });
	expect([status, headers.get('content-type')]).toEqual([
		200,
		'text/plain; version=0.0.4; charset=utf-8',
	]);
	for (const [sample, value] of Object.entries({
		'robot_fleet_info{version="0.0.0"}': 1,
		robot_fleet_ready: 1,
		robot_fleet_slots: 7,
		'robot_fleet_http_requests_total{call="kinds",status="200"}': 1,
		'robot_fleet_http_requests_total{call="kinds",status="401"}': 1,
		'robot_fleet_http_requests_total{call="none",status="404"}': 1,
		robot_fleet_http_request_seconds_count: 3,
	})) {
		expect([sample, valueIn(body, sample)]).toEqual([sample, value]);
	}
	for (const sample of [
		'process_cpu_seconds_total',
		'process_resident_memory_bytes',
		'nodejs_heap_used_bytes',
		'process_start_time_seconds',
	]) {
		expect([sample, valueIn(body, sample) > 0]).toEqual([sample, true]);
	}
	expect(valueIn(body, 'nodejs_eventloop_delay_seconds{quantile="0.99"}')).toBeGreaterThanOrEqual(
		0,
	);
});

test('every line is a comment or one sample, and every sample has its family', async () => {
	house = await openHouse({ families });
	const { body } = await house.ask('GET', '/metrics', { key: 'read' });
	const named = new Set<string>();
	for (const line of (body as string).trimEnd().split('\n')) {
		const comment = /^# (?:HELP|TYPE) (\S+) /.exec(line);
		if (comment) {
			named.add(comment[1]!);
			continue;
		}
		const name = /^([a-z_]+)(?:\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? -?[\d.e+-]+$/.exec(line);
		expect([line, name !== null]).toEqual([line, true]);
		const family = name![1]!.replace(/_(bucket|sum|count)$/, '');
		expect([line, named.has(family) || named.has(name![1]!)]).toEqual([line, true]);
	}
});

test('without a key it is refused, until the operator opens it; that opens nothing else', async () => {
	house = await openHouse({ families });
	expect((await house.ask('GET', '/metrics', { key: '' })).status).toBe(401);
	await house.server.close();
	house = await openHouse({ families }, { metricsOpen: true });
	expect((await house.ask('GET', '/metrics', { key: '' })).status).toBe(200);
	expect((await house.ask('GET', '/api/v1/metrics', { key: '' })).status).toBe(401);
	expect((await house.ask('GET', '/api/v1/jobs', { key: '' })).status).toBe(401);
	const foreign = { key: '', headers: { origin: 'https://elsewhere.example' } };
	expect((await house.ask('GET', '/metrics', foreign)).status).toBe(403);
});

test('?names=seed is the record of the seed: its ten names, seconds and shares', async () => {
	const record = {
		totalRobots: 3,
		onlineRobots: 2,
		offlineRobots: 1,
		totalJobsToday: 9,
		completedJobsToday: 6,
		failedJobsToday: 2,
		pendingJobs: 4,
		runningJobs: 1,
		averageExecutionMs: 1_500,
		successRate: 0.75,
		plannedSuccessRate: 0.5,
	};
	house = await openHouse({ metrics: async () => record as never });
	expect((await house.ask('GET', '/api/v1/metrics?names=seed')).body).toEqual({
		total_robots: 3,
		online_robots: 2,
		offline_robots: 1,
		total_jobs_today: 9,
		completed_jobs_today: 6,
		failed_jobs_today: 2,
		pending_jobs: 4,
		running_jobs: 1,
		average_execution_time: 1.5,
		success_rate: 0.75,
		planned_success_rate: 0.5,
	});
	await house.ask('GET', '/api/v1/metrics?timezone=Europe/Berlin');
	expect(house.asked.at(-1)).toEqual({ call: 'metrics', args: ['Europe/Berlin'] });
});

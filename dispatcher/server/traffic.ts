/** What goes through the doors, and how the process behind them is doing; for scrapers. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { CallName } from '../../protocol';
import { counter, type Family, gauge, type Sample } from '../core/exposition';
import { Histogram } from '../core/histogram';

const times = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30];
/** Ten looks a second cost nothing that could be measured. */
const lookMs = 100;

export class Traffic {
	/** By call, then by status. Calls are a closed list, and so are the statuses we answer. */
	readonly #answered = new Map<CallName | 'none', Map<number, number>>();
	readonly #seconds = new Histogram(times);
	readonly #startedAt: number;
	#delay: ReturnType<typeof monitorEventLoopDelay> | undefined;
	/** Viewers of the live socket, now. */
	viewers = 0;
	/** Viewers that were cut off because they did not keep up. */
	slowViewers = 0;

	constructor(now: number) {
		this.#startedAt = now;
	}

	/** `waited`: it was a long poll or a stream, whose time says nothing about us. */
	answered(call: CallName | 'none', status: number, tookMs: number, waited: boolean): void {
		let statuses = this.#answered.get(call);
		if (!statuses) this.#answered.set(call, (statuses = new Map<number, number>()));
		statuses.set(status, (statuses.get(status) ?? 0) + 1);
		if (!waited) this.#seconds.observe(tookMs / 1000);
	}

	families(): Family[] {
		// From the first scrape on: whoever does not scrape does not pay for it.
		if (!this.#delay) {
			this.#delay = monitorEventLoopDelay({ resolution: lookMs });
			this.#delay.enable();
		}
		const late = (ns: number) => Math.max(0, ns / 1e9 - lookMs / 1000);
		const { user, system } = process.cpuUsage();
		const memory = process.memoryUsage();
		const families: Family[] = [
			{
				name: 'robot_fleet_http_requests_total',
				help: 'Answered requests, by call of the API and status.',
				type: 'counter',
				samples: [...this.#answered].flatMap(([call, statuses]) =>
					[...statuses].map(([status, value]): Sample => ({
						labels: { call, status: String(status) },
						value,
					})),
				),
			},
			{
				name: 'robot_fleet_http_request_seconds',
				help: 'From request to answer, long polls and streams left out.',
				type: 'histogram',
				series: [{ of: this.#seconds }],
			},
			gauge('robot_fleet_live_viewers', 'Open live sockets.', this.viewers),
			counter(
				'robot_fleet_live_viewers_cut_total',
				'Live sockets that were cut off because they did not keep up.',
				this.slowViewers,
			),
			{
				name: 'nodejs_eventloop_delay_seconds',
				help: 'How late timers fired since the last scrape.',
				type: 'gauge',
				samples: [
					{ labels: { quantile: '0.5' }, value: late(this.#delay.percentile(50)) },
					{ labels: { quantile: '0.99' }, value: late(this.#delay.percentile(99)) },
					{ labels: { quantile: '1' }, value: late(this.#delay.max) },
				],
			},
			counter(
				'process_cpu_seconds_total',
				'Processor time of the whole process.',
				(user + system) / 1e6,
			),
			gauge('process_resident_memory_bytes', 'Memory of the whole process.', memory.rss),
			gauge('nodejs_heap_used_bytes', 'Heap in use in this thread.', memory.heapUsed),
			gauge(
				'process_start_time_seconds',
				'When the service started, seconds since 1970.',
				this.#startedAt / 1000,
			),
		];
		this.#delay.reset();
		return families;
	}

	close(): void {
		this.#delay?.disable();
	}
}

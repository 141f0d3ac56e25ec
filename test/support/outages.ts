/**
 * A schedule through random outages of the service, and what its policy for missed times says of each
 * planned time. The expectation is plain arithmetic on minutes; it shares no code with the engine.
 */
import type { ScheduleRequest } from '../../protocol';
import { admin, type House, house } from './engine';
import { settled } from './fake-clock';

export interface Outage {
	/** How long the service was there before, and then away. */
	upMs: number;
	awayMs: number;
}

export interface OutagePlan {
	everyMinutes: number;
	missed: 'none' | 'last' | 'all';
	catchUpMs: number;
	catchUpMax: number;
	outages: Outage[];
}

const minuteMs = 60_000;

/** Planned time → what became of it. */
type Story = Record<string, string>;

export async function livedThrough(plan: OutagePlan): Promise<{ told: Story; expected: Story }> {
	const { everyMinutes, outages, ...policy } = plan;
	const h = await house();
	try {
		const schedule: ScheduleRequest = { cron: `*/${everyMinutes} * * * *`, ...policy };
		await h.engine.putSchedule('s', schedule, admin);
		const began = h.clock.now();
		const expected: Story = {};
		let dealt = began;
		// What is looked at at an instant deals with all that is due by then and was not.
		const look = (now: number) => {
			const due: number[] = [];
			for (let at = dealt + minuteMs; at <= now; at += minuteMs) {
				if (new Date(at).getUTCMinutes() % everyMinutes === 0) due.push(at);
			}
			dealt = Math.floor(now / minuteMs) * minuteMs;
			const oldest = policy.missed === 'none' ? minuteMs : Math.max(minuteMs, policy.catchUpMs);
			const young = due.filter((at) => now - at <= oldest);
			const inTime = due.filter((at) => now - at <= minuteMs).length;
			const most = Math.max(inTime, policy.missed === 'all' ? policy.catchUpMax : 1);
			const run = new Set(young.slice(-most));
			for (const at of due) {
				expected[at] = !run.has(at) ? 'missed' : now - at > minuteMs ? 'made_up' : 'ran';
			}
		};
		for (const { upMs, awayMs } of outages) {
			const until = h.clock.now() + upMs;
			for (let at = dealt + minuteMs; at <= until; at += minuteMs) look(at);
			await h.clock.advance(upMs);
			h.clock.jump(awayMs);
			await h.restart();
			look(h.clock.now());
			await caughtUp(h);
		}
		return { told: await told(h), expected };
	} finally {
		await h.close();
	}
}

/** Time stands still until all that is due was dealt with: the arithmetic knows one instant for it. */
async function caughtUp(h: House): Promise<void> {
	for (let rounds = 0; rounds < 1_000; rounds += 1) {
		await settled();
		if ((await h.engine.schedule('s')).nextRunAt! > h.clock.now()) return;
	}
	throw new Error('the schedule does not catch up');
}

async function told(h: House): Promise<Story> {
	const story: Story = {};
	for (let cursor: string | undefined; ;) {
		const page = await h.engine.occurrences('s', {
			limit: 1_000,
			...(cursor === undefined ? {} : { cursor }),
		});
		for (const { plannedAt, state } of page.items) story[plannedAt] = state;
		cursor = page.cursor;
		if (cursor === undefined) return story;
	}
}

/** The schedule as the service keeps it: one of the trigger's own, or one that is there already. */
import { sleep } from 'n8n-workflow';
import type { FleetClient } from '../../client';
import { leftText, type Schedule, type ScheduleRequest } from '../../protocol';
import { firstDelayMs, givenUp, longestDelayMs } from '../shared/consumer';
import { asProblem, BadParameter } from '../shared/refusals';

export interface Kept {
	followed: Schedule;
	/** It has other times than before. */
	changed: boolean;
}

/**
 * Schedules of nodes that now follow another one. We pause them, so we resume them when their node takes them back: the
 * workflow is then published again, and nobody switches it on. One that a person had paused before is resumed, too:
 * whoever chooses it again wants it. Each start of n8n lays them aside once more.
 */
const laidAside = new Set<string>();

/** The schedule of somebody else is left as it is; one that this node had of its own before no longer runs. */
export async function attach(
	client: FleetClient,
	ownId: string,
	scheduleId: string,
): Promise<Kept> {
	const followed = await client.schedule(scheduleId);
	if (scheduleId !== ownId) {
		await client.pauseSchedule(ownId).catch((error: unknown) => {
			const code = asProblem(error)?.code;
			// One of an earlier key no longer starts anything: the service pauses it when nobody has followed it for long.
			if (code !== 'no-such-schedule' && code !== 'not-your-schedule') throw error;
		});
		laidAside.add(ownId);
	}
	return { followed, changed: false };
}

/**
 * Switching the workflow on resumes it; after a restart of n8n one that a person paused stays paused, and one that
 * waited for us goes on.
 */
export async function store(
	client: FleetClient,
	ownId: string,
	request: ScheduleRequest,
	{ switchedOn, restarted }: { switchedOn: boolean; restarted: boolean },
): Promise<Kept> {
	const before = await client.schedule(ownId).catch((error: unknown) => {
		const code = asProblem(error)?.code;
		if (code === 'no-such-schedule' || code === 'no-scope') return code;
		throw error;
	});
	const known = typeof before === 'string' ? undefined : before;
	const put = async (enabled: boolean) =>
		await client.putSchedule(ownId, { ...request, ...(enabled ? { enabled } : {}) });
	const goesOn = known?.reason === leftText || laidAside.has(ownId);
	let followed = await put(switchedOn || before === 'no-such-schedule' || goesOn);
	laidAside.delete(ownId);
	// A key that may not read: the answer says what it was.
	if (before === 'no-scope' && followed.reason === leftText) followed = await put(true);
	const changed = known !== undefined && timesOf(known) !== timesOf(followed);
	// Reported each time that n8n tries; after a restart one that ended long ago is no mistake.
	if (!restarted && followed.state === 'ended' && neverCame(followed)) {
		if (before === 'no-such-schedule') await client.removeSchedule(ownId);
		throw new BadParameter(
			'The schedule never runs: it has no planned time ahead',
			'Set a time in the future, or a later "End"',
		);
	}
	return { followed, changed };
}

const neverCame = ({ counts: { runs, waiting, skipped, missed } }: Schedule) =>
	runs + waiting + skipped + missed === 0;

const timesOf = ({ when, timezone, startAt, endAt }: Schedule) =>
	JSON.stringify([when, timezone, startAt, endAt]);

export interface Keeping {
	keep(): Promise<Kept>;
	key: string;
	signal: AbortSignal;
	giveUp(error: unknown): void;
	log(text: string, facts: Record<string, unknown>): void;
}

/** Asks until the service is there. Settles when the signal is aborted, or after `giveUp`. */
export async function keptAtLast(
	{ keep, key, signal, giveUp, log }: Keeping,
	then: (kept: Kept) => Promise<void>,
): Promise<void> {
	for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, longestDelayMs)) {
		await sleep(delayMs, signal).catch(() => undefined);
		if (signal.aborted) return;
		let kept: Kept;
		try {
			kept = await keep();
		} catch (error) {
			if (asProblem(error)?.retry !== true) {
				givenUp.add(key);
				giveUp(error);
				return;
			}
			log('the service does not answer, trying again', { key, delayMs, error: String(error) });
			continue;
		}
		// Closed meanwhile: the schedule is stored, and nobody follows it here.
		if (!signal.aborted) await then(kept);
		return;
	}
}

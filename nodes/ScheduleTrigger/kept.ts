/** The schedule as the service keeps it: one of the trigger's own, or one that is there already. */
import type { FleetClient } from '../../client';
import { leftText, type Schedule, type ScheduleRequest } from '../../protocol';
import { asProblem, BadParameter } from '../shared/refusals';

export interface Kept {
	followed: Schedule;
	/** It has other times than before. */
	changed: boolean;
}

/** The schedule of somebody else is left as it is; one that this node had of its own before runs no more. */
export async function attach(
	client: FleetClient,
	ownId: string,
	scheduleId: string,
): Promise<Kept> {
	const followed = await client.schedule(scheduleId);
	if (scheduleId !== ownId) {
		await client.pauseSchedule(ownId).catch((error: unknown) => {
			if (asProblem(error)?.code !== 'no-such-schedule') throw error;
		});
	}
	return { followed, changed: false };
}

/**
 * Whoever switches the workflow on resumes it; after a restart of n8n one that a person paused stays so, and one that waited
 * for us goes on.
 */
export async function store(
	client: FleetClient,
	ownId: string,
	request: ScheduleRequest,
	{ switchedOn, restarted }: { switchedOn: boolean; restarted: boolean },
): Promise<Kept> {
	const before = await client.schedule(ownId).catch((error: unknown) => {
		if (asProblem(error)?.code === 'no-such-schedule') return undefined;
		throw error;
	});
	const followed = await client.putSchedule(ownId, {
		...request,
		...(switchedOn || before === undefined || before.reason === leftText ? { enabled: true } : {}),
	});
	const changed = before !== undefined && timesOf(before) !== timesOf(followed);
	// Said each time that n8n tries; after a restart one that has ended long ago is no mistake.
	if (!restarted && followed.state === 'ended' && neverCame(followed)) {
		if (before === undefined) await client.removeSchedule(ownId);
		throw new BadParameter(
			'The schedule never runs: no planned time is to come',
			'Set a time in the future, or a later "End"',
		);
	}
	return { followed, changed };
}

const neverCame = ({ counts: { runs, waiting, skipped, missed } }: Schedule) =>
	runs + waiting + skipped + missed === 0;

const timesOf = ({ when, timezone, startAt, endAt }: Schedule) =>
	JSON.stringify([when, timezone, startAt, endAt]);

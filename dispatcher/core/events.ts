/** Which events a consumer is handed. */
import type { EventFilter, FleetEvent, JobEnded } from '../../protocol';

/** What events of a filter are found by: their kinds, or the schedule whose occurrences they are. */
export function subjectsOf({ scheduleId, event, events }: EventFilter): string[] {
	if (scheduleId !== undefined) return [scheduleId];
	return event === undefined ? [...new Set(events)] : [event];
}

/** Exactly one of the three ways to say what is wanted. */
export function saysWhat({ scheduleId, event, events }: EventFilter): boolean {
	return [scheduleId, event, events].filter((each) => each !== undefined).length === 1;
}

/** What is known of a robot now, or was of one that was removed; undefined = nobody knows it any more. */
export type KnownRobot = (robotId: string) => { name: string; labels: Labels } | undefined;
type Labels = Readonly<Record<string, string>>;

export function isWanted(
	{ scheduleId, robots, labels, schedules, ended }: EventFilter,
	{ type, data }: Pick<FleetEvent, 'type' | 'data'>,
	known: KnownRobot,
): boolean {
	const isTime = type === 'schedule.due';
	// A schedule may be named like a kind of event: the subject alone does not tell the two apart.
	if (isTime || scheduleId !== undefined) return isTime && scheduleId !== undefined;
	if (ended && type === 'job.ended' && !endedSo(ended, data as JobEnded)) return false;
	if (schedules && 'scheduleId' in data && !schedules.includes(data.scheduleId ?? '')) return false;
	if ((!robots && !labels) || !('robotId' in data)) return true;
	const robot = data.robotId === null ? undefined : known(data.robotId);
	const names = [
		data.robotId,
		robot?.name,
		'name' in data ? data.name : undefined,
		'robot' in data ? data.robot : undefined,
	];
	if (robots && !robots.some((each) => names.includes(each))) return false;
	// A robot that nobody knows any more is judged by the labels written down in the event, if they were.
	const theirs: Labels = robot?.labels ?? ('labels' in data ? data.labels : {});
	return Object.entries(labels ?? {}).every(([name, value]) => theirs[name] === value);
}

function endedSo(
	{ states, causes, kinds, shareKey, dead, whole }: NonNullable<EventFilter['ended']>,
	job: JobEnded,
): boolean {
	if (states && !states.includes(job.state)) return false;
	if (causes && (job.cause === null || !causes.includes(job.cause))) return false;
	if (kinds && !kinds.includes(job.kind)) return false;
	if (shareKey !== undefined && job.shareKey !== shareKey) return false;
	if (dead && !job.dead) return false;
	return !whole || job.parentId === null;
}

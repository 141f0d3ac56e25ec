/**
 * What the workflow gets of an event: `event`, `at`, and what it is about: `job`, `robot`, `schedule`. The shapes
 * are documented in docs/nodes.md with an example each, and must not change.
 */
import type { IDataObject } from 'n8n-workflow';
import type { FleetClient } from '../../client';
import type { FleetEvent, JobEnded } from '../../protocol';
import { viewOf } from '../shared/outcome';
import { asProblem } from '../shared/refusals';
import { nameOf } from '../shared/robots';

export async function itemOf(
	client: FleetClient,
	event: FleetEvent,
	output: boolean,
): Promise<IDataObject> {
	const about = await aboutOf(client, event, output);
	return { event: event.type, at: new Date(event.at).toISOString(), ...about };
}

async function aboutOf(
	client: FleetClient,
	event: FleetEvent,
	output: boolean,
): Promise<IDataObject> {
	switch (event.type) {
		case 'job.ended':
			return { job: await endedJob(client, event.data, output) };
		case 'job.prompt': {
			const { jobId: id, attempt, robotId, ...prompt } = event.data;
			const robot = await nameOf(client, robotId);
			return { job: { id, state: 'running', robot, robotId, attempt }, prompt };
		}
		case 'job.asks': {
			const { jobId: id, robotId, text } = event.data;
			const robot = robotId === null ? null : await nameOf(client, robotId);
			return { job: { id, robot, robotId }, question: text };
		}
		case 'job.late-result': {
			const { jobId: id, attempt, robotId, ...late } = event.data;
			const robot = await nameOf(client, robotId);
			return { job: { id, robot, robotId, attempt }, late: { ...late } };
		}
		case 'robot.connected':
		case 'robot.lost':
		case 'robot.back': {
			const { robotId: id, name, labels, awaySince } = event.data;
			return { robot: { id, name, labels, awaySince: dateOf(awaySince) } };
		}
		case 'robot.closed': {
			const { robotId: id, name, as, reason, by, until } = event.data;
			return { robot: { id, name, as, reason, by, until: dateOf(until) } };
		}
		case 'robot.opened': {
			const { robotId: id, ...rest } = event.data;
			return { robot: { id, ...rest } };
		}
		case 'schedule.missed':
		case 'schedule.skipped': {
			const { scheduleId: id, name, plannedAt, ...rest } = event.data;
			return { schedule: { id, name, plannedAt: dateOf(plannedAt), ...rest } };
		}
		case 'schedule.paused':
		case 'schedule.recovered': {
			const { scheduleId: id, name = id, ...rest } = event.data;
			return { schedule: { id, name, ...rest } };
		}
		case 'schedule.due':
			// Only those who follow a schedule by its id get these.
			return { schedule: { id: event.data.scheduleId, plannedAt: dateOf(event.data.plannedAt) } };
	}
}

/** As Wait for Execution shows a job, and what else was recorded when it ended. */
async function endedJob(
	client: FleetClient,
	ended: JobEnded,
	output: boolean,
): Promise<IDataObject> {
	const { jobId: id, dead, createdAt, startedAt, endedAt, ...noted } = ended;
	const facts: IDataObject = {
		id,
		...noted,
		deadLetter: dead,
		createdAt: dateOf(createdAt),
		startedAt: dateOf(startedAt),
		endedAt: dateOf(endedAt),
	};
	const seen = await viewed(client, ended);
	if (!output) for (const tail of ['stdout', 'stderr', 'truncated']) delete seen[tail];
	return { ...seen, ...facts };
}

/** A job that the service has forgotten meanwhile has no result any more; a key that may not read sees none. */
async function viewed(client: FleetClient, { jobId, robot }: JobEnded): Promise<IDataObject> {
	const job = await client.job(jobId).catch((error: unknown) => {
		const code = asProblem(error)?.code;
		if (code === 'no-such-job' || code === 'no-scope') return undefined;
		throw error;
	});
	return job ? viewOf(job, robot, false) : {};
}

const dateOf = (at: number | null) => (at === null ? null : new Date(at).toISOString());

/** Schedules that the service keeps: each submits a job at its planned times, even while n8n is off. */
import { type INodeProperties, isToolType } from 'n8n-workflow';
import type { Occurrence, Overlap, Schedule, ScheduleState, Submit } from '../../protocol';
import { commandFields, jobFields, readSubmit } from '../shared/job-fields';
import { BadParameter } from '../shared/refusals';
import { rolloutFields, withRollout } from '../shared/rollout-fields';
import {
	optionFields,
	readOptions,
	readWhen,
	type ScheduleOptions,
	whenFields,
} from '../shared/schedule-fields';
import { failedCalls, idempotencyKey } from '../shared/submitting';
import { readTarget, targetFields } from '../shared/target-fields';
import { textOf } from '../shared/text';
import { asFound, asMany, byName, fromPages, locator, manyFields, simplifyField } from './fields';
import { type Ask, deleted, type Found, found, type Resource, shownFor } from './operation';

const schedule = locator('schedule', 'Schedule', 'The schedule to act on', 'searchSchedules', {
	displayName: 'By ID',
	placeholder: 'e.g. nightly-backup',
});
const chosen = (ask: Ask) => ask.chosen('schedule', 'Schedule');

const jobOfSchedule: INodeProperties[] = [
	...commandFields,
	...targetFields,
	...rolloutFields,
	...jobFields,
];

/** A switch, and the fields that it shows. */
function changing(name: string, displayName: string, what: string, fields: INodeProperties[]) {
	const toggle: INodeProperties = {
		displayName,
		name,
		type: 'boolean',
		default: false,
		description: `Whether ${what}`,
	};
	return [toggle, ...fields.map((field) => shownFor(field, { [name]: [true] }))];
}

const overlap: INodeProperties = {
	displayName: 'If One Is Running',
	name: 'runOverlap',
	type: 'options',
	options: [
		{ name: 'As the Schedule Says', value: '' },
		{ name: 'Cancel It', value: 'cancel-old' },
		{ name: 'Run Both', value: 'allow' },
		{ name: 'Skip This One', value: 'skip' },
		{ name: 'Wait for Its End', value: 'queue-all' },
	],
	default: '',
};

export const schedules: Resource = {
	title: 'Schedule',
	value: 'schedule',
	first: 'getAll',
	operations: [
		{
			name: 'Create',
			value: 'create',
			action: 'Create a schedule',
			description:
				'Create a schedule that submits a job at its times; one with the same ID is replaced',
			fields: [
				{
					displayName: 'Name',
					name: 'name',
					type: 'string',
					default: '',
					required: true,
					placeholder: 'e.g. Nightly backup',
					description: 'What people call the schedule',
				},
				...whenFields,
				...jobOfSchedule,
				{
					displayName: 'Schedule Options',
					name: 'scheduleOptions',
					type: 'collection',
					placeholder: 'Add option',
					default: {},
					options: byName([
						...optionFields,
						{
							displayName: 'Paused',
							name: 'paused',
							type: 'boolean',
							default: true,
							description:
								'Whether the schedule is created paused and runs only once it is resumed',
						},
					]),
				},
				{
					displayName: 'Schedule ID',
					name: 'scheduleId',
					type: 'string',
					default: '',
					placeholder: 'e.g. nightly-backup',
					description:
						'Letters, digits and . _ : @ - only. When empty, each step of each execution has its own ID, and repeating that step creates nothing twice.',
				},
				simplifyField,
			],
			run: create,
		},
		{
			name: 'Delete',
			value: 'delete',
			action: 'Delete a schedule',
			description: 'Delete a schedule and its records; jobs that it has submitted keep running',
			fields: [schedule],
			run: async (ask) => {
				const scheduleId = chosen(ask);
				await ask.client.removeSchedule(scheduleId);
				return deleted({ scheduleId });
			},
		},
		{
			name: 'Get',
			value: 'get',
			action: 'Get a schedule',
			description: 'Get a schedule with its next runs',
			fields: [schedule, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.schedule(chosen(ask)), simple),
		},
		{
			name: 'Get Many',
			value: 'getAll',
			action: 'Get many schedules',
			description: 'Get many schedules, by their names',
			fields: [
				...manyFields,
				{
					displayName: 'Filters',
					name: 'filters',
					type: 'collection',
					placeholder: 'Add Filter',
					default: {},
					options: [
						{
							displayName: 'Name Contains',
							name: 'name',
							type: 'string',
							default: '',
						},
						{
							displayName: 'State',
							name: 'state',
							type: 'options',
							options: [
								{ name: 'Active', value: 'active' },
								{ name: 'Ended', value: 'ended', description: 'It will not run again' },
								{ name: 'Paused', value: 'paused' },
							],
							default: 'active',
						},
					],
				},
				simplifyField,
			],
			run: async (ask) => asMany(ask, await filtered(ask), simple),
		},
		{
			name: 'Get Many Runs',
			value: 'getRuns',
			action: 'Get many runs of a schedule',
			description: 'Get what happened at its planned times, newest first',
			fields: [schedule, ...manyFields],
			run: async (ask) => {
				const scheduleId = chosen(ask);
				return await fromPages<Occurrence>(ask, (page) => ask.client.occurrences(scheduleId, page));
			},
		},
		{
			name: 'Pause',
			value: 'pause',
			action: 'Pause a schedule',
			description: 'Keep a schedule from running until it is resumed',
			fields: [schedule, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.pauseSchedule(chosen(ask)), simple),
		},
		{
			name: 'Resume',
			value: 'resume',
			action: 'Resume a schedule',
			description: 'Let a schedule run again, from now on',
			fields: [schedule, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.resumeSchedule(chosen(ask)), simple),
		},
		{
			name: 'Run Now',
			value: 'run',
			action: 'Run a schedule now',
			description:
				'Run the job of a schedule right away, whatever is planned, and again each time the step is repeated',
			fields: [schedule, overlap],
			run: async (ask) => {
				const wanted = ask.value<Overlap | ''>('runOverlap', '');
				const request = wanted === '' ? {} : { overlap: wanted };
				return found(await ask.client.runSchedule(chosen(ask), request));
			},
		},
		{
			name: 'Update',
			value: 'update',
			action: 'Update a schedule',
			description: 'Change the given settings of a schedule and leave the rest',
			fields: [
				schedule,
				...changing('changeWhen', 'Change Times', 'it runs at other times', whenFields),
				...changing(
					'changeJob',
					'Change Job',
					'another job takes the place of its job',
					jobOfSchedule,
				),
				{
					displayName: 'Update Fields',
					name: 'updateFields',
					type: 'collection',
					placeholder: 'Add Field',
					default: {},
					options: byName([
						...optionFields,
						{ displayName: 'Name', name: 'name', type: 'string', default: '' },
					]),
				},
				simplifyField,
			],
			run: update,
		},
	],
};

const jobOf = ({ context, itemIndex }: Ask): Submit =>
	withRollout(context, itemIndex, readSubmit(context, itemIndex, readTarget(context, itemIndex)));

async function create(ask: Ask): Promise<Found[]> {
	const { context, itemIndex, client } = ask;
	const { paused, ...options } = ask.value<ScheduleOptions & { paused?: boolean }>(
		'scheduleOptions',
		{},
	);
	const name = ask.text('name');
	if (name === '') throw new BadParameter('The schedule has no name', 'Write one in "Name"');
	const request = {
		name,
		when: readWhen(ask),
		job: jobOf(ask),
		timezone: context.getTimezone(),
		...readOptions(ask, options),
		...(paused ? { enabled: false } : {}),
	};
	// An agent that works on several items at once calls its tools with the same numbers for each of them.
	const call = isToolType(context.getNode().type) ? JSON.stringify(request) : '';
	const own = ask.text('scheduleId');
	const failed = own === '' && call !== '' ? await failedCalls(context, call) : undefined;
	const scheduleId = own || (failed?.take() ?? (await idempotencyKey(context, itemIndex, call)));
	const made = client.putSchedule(scheduleId, request);
	void made.catch(() => failed?.keep(scheduleId));
	return asFound(ask, await made, simple);
}

async function update(ask: Ask): Promise<Found[]> {
	const { name, ...options } = ask.value<ScheduleOptions & { name?: string }>('updateFields', {});
	const change = {
		...readOptions(ask, options),
		...(textOf(name) ? { name: textOf(name) } : {}),
		...(ask.value('changeWhen', false) ? { when: readWhen(ask) } : {}),
		...(ask.value('changeJob', false) ? { job: jobOf(ask) } : {}),
	};
	if (Object.keys(change).length === 0) {
		throw new BadParameter('There is nothing to change', 'Add a field in "Update Fields"');
	}
	return asFound(ask, await ask.client.changeSchedule(chosen(ask), change), simple);
}

async function filtered(ask: Ask): Promise<Schedule[]> {
	const { name, state } = ask.value<{ name?: string; state?: ScheduleState }>('filters', {});
	const part = textOf(name).toLowerCase();
	return (await ask.client.schedules())
		.filter((each) => each.name.toLowerCase().includes(part) && (!state || each.state === state))
		.sort((a, b) => a.name.localeCompare(b.name));
}

function simple(schedule: Schedule) {
	const { scheduleId, name, state, reason, when, timezone, nextRunAt, lastRunAt, counts, job } =
		schedule;
	return {
		scheduleId,
		name,
		state,
		reason,
		when,
		timezone,
		nextRunAt,
		lastRunAt,
		counts,
		kind: job?.kind ?? null,
	};
}

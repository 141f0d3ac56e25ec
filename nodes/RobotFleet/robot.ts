/** Robots: look at them, hold them back, let them go. */
import type { INodeProperties } from 'n8n-workflow';
import type { Robot } from '../../protocol';
import { now } from '../shared/clock';
import { parseLabels } from '../shared/matching-fields';
import { BadParameter } from '../shared/refusals';
import { namesOf, textOf } from '../shared/text';
import { asFound, asMany, locator, manyFields, simplifyField } from './fields';
import { type Ask, deleted, type Found, found, type Resource } from './operation';

const robot = locator('robot', 'Robot', 'The robot to act on', 'searchRobots', {
	displayName: 'By Name or ID',
	placeholder: 'e.g. warehouse-3',
});
const chosen = (ask: Ask) => ask.chosen('robot', 'Robot');

/** Of one request, so that it never delays the end of n8n for longer. */
const sliceMs = 20_000;

const filters: INodeProperties = {
	displayName: 'Filters',
	name: 'filters',
	type: 'collection',
	placeholder: 'Add Filter',
	default: {},
	options: [
		{
			displayName: 'Capability Names or IDs',
			name: 'capabilities',
			type: 'multiOptions',
			typeOptions: { loadOptionsMethod: 'getCapabilities' },
			default: [],
			description:
				'Only robots that can do all of this. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Group Name or ID',
			name: 'group',
			type: 'options',
			typeOptions: { loadOptionsMethod: 'getGroups' },
			default: '',
			description:
				'Only robots of this group and of those inside it. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Labels',
			name: 'labels',
			type: 'string',
			default: '',
			placeholder: 'e.g. site=berlin, os=linux',
			description: 'Only robots that carry all of these labels, separated by commas',
		},
		{
			displayName: 'Name Contains',
			name: 'name',
			type: 'string',
			default: '',
			placeholder: 'e.g. berlin',
		},
		{
			displayName: 'Status',
			name: 'status',
			type: 'multiOptions',
			options: [
				{ name: 'Busy', value: 'busy', description: 'Connected, every slot in use' },
				{ name: 'Maintenance', value: 'maintenance', description: 'Somebody works on the machine' },
				{ name: 'Offline', value: 'offline' },
				{ name: 'Online', value: 'online', description: 'Connected, with a free slot' },
				{ name: 'Paused', value: 'paused', description: 'Gets no new jobs' },
				{
					name: 'Quarantined',
					value: 'quarantined',
					description: 'Gets no jobs because it failed too often, or was put there',
				},
				{ name: 'Suspect', value: 'suspect', description: 'Silent for longer than it should be' },
			],
			default: [],
		},
	],
};

/** An expression may give one line instead of a list, or nothing. */
interface Filters {
	capabilities?: unknown;
	group?: string;
	labels?: string;
	name?: string;
	status?: unknown;
}

export const robots: Resource = {
	title: 'Robot',
	value: 'robot',
	first: 'getAll',
	operations: [
		{
			name: 'Delete',
			value: 'delete',
			action: 'Delete a robot',
			description:
				'End the identity of a robot: its connection closes, and it comes back only as a new robot with a new enrollment token',
			fields: [robot],
			run: async (ask) => {
				const { robotId } = await ask.client.robot(chosen(ask));
				await ask.client.removeRobot(robotId);
				return deleted({ robotId });
			},
		},
		{
			name: 'Drain',
			value: 'drain',
			action: 'Drain a robot',
			description: 'Give a robot no new jobs and wait until those it has have ended',
			fields: [
				robot,
				{
					displayName: 'Wait at Most (Seconds)',
					name: 'drainSeconds',
					type: 'number',
					typeOptions: { minValue: 0, maxValue: 3600 },
					default: 60,
					description:
						'How long to wait for its jobs; the robot stays drained either way. The field "held" says how many are left.',
				},
				simplifyField,
			],
			run: drain,
		},
		{
			name: 'Get',
			value: 'get',
			action: 'Get a robot',
			description: 'Get a robot with its state, labels, capabilities and jobs',
			fields: [robot, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.robot(chosen(ask)), simple),
		},
		{
			name: 'Get Many',
			value: 'getAll',
			action: 'Get many robots',
			description: 'Get many robots, by their names',
			fields: [...manyFields, filters, simplifyField],
			run: async (ask) => asMany(ask, await filtered(ask), simple),
		},
		{
			name: 'Maintain',
			value: 'maintain',
			action: 'Put a robot into maintenance',
			description: 'Say that somebody works on the machine: it gets no new jobs',
			fields: [
				robot,
				{
					displayName: 'Reason',
					name: 'maintenanceReason',
					type: 'string',
					default: '',
					placeholder: 'e.g. disk swap',
					description: 'Shown to whoever asks why jobs wait',
				},
				{
					displayName: 'Ends After (Minutes)',
					name: 'maintenanceMinutes',
					type: 'number',
					typeOptions: { minValue: 0 },
					default: 0,
					description: 'When it ends by itself; 0 to wait until somebody resumes the robot',
				},
				simplifyField,
			],
			run: maintain,
		},
		{
			name: 'Pause',
			value: 'pause',
			action: 'Pause a robot',
			description: 'Give a robot no new jobs until it is resumed; what it runs goes on',
			fields: [robot, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.pauseRobot(chosen(ask)), simple),
		},
		{
			name: 'Ping',
			value: 'ping',
			action: 'Ping a robot',
			description: 'Measure one round trip on the connection that carries the work',
			fields: [robot],
			run: async (ask) => found(await ask.client.pingRobot(chosen(ask))),
		},
		{
			name: 'Resume',
			value: 'resume',
			action: 'Resume a robot',
			description:
				'Give a robot jobs again, whatever closed it: a pause, a drain, maintenance or a quarantine',
			fields: [robot, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.resumeRobot(chosen(ask)), simple),
		},
	],
};

async function maintain(ask: Ask): Promise<Found[]> {
	const reason = ask.text('maintenanceReason');
	const minutes = Number(ask.value('maintenanceMinutes', 0));
	if (!(minutes >= 0)) {
		throw new BadParameter(
			'The end of the maintenance is not a number of minutes',
			'Set "Ends After" to 0 or more',
		);
	}
	const forMs = Math.round(minutes * 60_000);
	const request = { ...(reason && { reason }), ...(forMs > 0 && { forMs }) };
	return asFound(ask, await ask.client.maintainRobot(chosen(ask), request), simple);
}

async function drain(ask: Ask): Promise<Found[]> {
	const name = chosen(ask);
	const until = now() + Number(ask.value('drainSeconds', 60)) * 1000;
	for (;;) {
		const waitMs = Math.max(0, Math.min(sliceMs, until - now()));
		const drained = await ask.client.drainRobot(name, waitMs, ask.signal);
		// Asking again drains it again: not if it has opened by itself, or was closed otherwise meanwhile.
		const goesOn = drained.held > 0 && drained.closed?.as === 'draining';
		if (!goesOn || waitMs === 0) return asFound(ask, drained, simple);
	}
}

async function filtered(ask: Ask): Promise<Robot[]> {
	const wanted = ask.value<Filters>('filters', {});
	const labels = Object.entries(parseLabels(wanted.labels));
	const part = textOf(wanted.name).toLowerCase();
	const capabilities = namesOf(wanted.capabilities);
	const status = namesOf(wanted.status);
	const group = textOf(wanted.group);
	const members = group ? new Set((await ask.client.group(group)).allRobots) : undefined;
	return (await ask.client.robots())
		.filter(
			(each) =>
				labels.every(([label, value]) => each.labels[label] === value) &&
				capabilities.every((capability) => each.capabilities.includes(capability)) &&
				(status.length === 0 || status.includes(each.status)) &&
				each.name.toLowerCase().includes(part) &&
				(members === undefined || members.has(each.name)),
		)
		.sort((a, b) => a.name.localeCompare(b.name));
}

function simple({
	robotId,
	name,
	status,
	connected,
	closed,
	quarantine,
	labels,
	capabilities,
	slots,
	held,
	currentJobs,
	lastSeenAt,
}: Robot) {
	return {
		robotId,
		name,
		status,
		connected,
		closed,
		quarantine,
		labels,
		capabilities,
		slots,
		held,
		currentJobs,
		lastSeenAt,
	};
}

import {
	type IDataObject,
	type INodeType,
	type INodeTypeDescription,
	type IRun,
	type ITriggerFunctions,
	type ITriggerResponse,
	NodeConnectionTypes,
	sleep,
} from 'n8n-workflow';
import type { ScheduleDue, ScheduleRequest } from '../../protocol';
import { now } from '../shared/clock';
import { connect } from '../shared/connection';
import { robotFleetApiTest } from '../shared/credential-test';
import { sha256 } from '../shared/digest';
import { nodeError } from '../shared/refusals';
import { follow } from './follow';

/** n8n stops a process after 30 s; a trigger must not be what it waits for. */
const closeMs = 2_000;
/**
 * After so long n8n has stored the execution, and the occurrence is safe even if the run takes
 * hours. Waiting for its end would keep the next occurrences back.
 */
const storedMs = 1_000;
const hourMs = 3_600_000;

/** A schedule that lives in the service: it is kept, and made up for, while n8n is off. */
export class ScheduleTrigger implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Fleet Schedule Trigger',
		name: 'scheduleTrigger',
		icon: { light: 'file:scheduleTrigger.svg', dark: 'file:scheduleTrigger.dark.svg' },
		group: ['trigger', 'schedule'],
		version: 1,
		subtitle: '={{ $parameter["cron"] }}',
		description: 'Start the workflow at times kept by the robot fleet, even across restarts',
		eventTriggerDescription: '',
		activationMessage:
			'The schedule is stored in the Robot Fleet service and starts the workflow at its times.',
		defaults: { name: 'Fleet Schedule Trigger' },
		inputs: [],
		outputs: [NodeConnectionTypes.Main],
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		properties: [
			{
				displayName:
					'The schedule counts once the workflow is published. To try it out now, execute the workflow: it starts once, right away.',
				name: 'notice',
				type: 'notice',
				default: '',
			},
			{
				displayName: 'Cron Expression',
				name: 'cron',
				type: 'string',
				default: '0 * * * *',
				required: true,
				placeholder: 'e.g. 0 6 * * 1-5',
				description:
					'Minute, hour, day of month, month, day of week; with six fields the first one is the second',
			},
			{
				displayName: 'Time Zone',
				name: 'timezone',
				type: 'string',
				default: '',
				placeholder: 'e.g. Europe/Berlin',
				description: 'An IANA name. The time zone of the workflow when empty.',
			},
			{
				displayName: 'Missed Times',
				name: 'missed',
				type: 'options',
				options: [
					{
						name: 'Run the Last One Late',
						value: 'last',
						description: 'Up to one hour late, once, however many were missed',
					},
					{ name: 'Skip', value: 'skip', description: 'Go on with the next time' },
				],
				default: 'last',
				description: 'What happens to times that passed while n8n or the service was off',
			},
		],
	};

	methods = { credentialTest: { robotFleetApiTest } };

	async trigger(this: ITriggerFunctions): Promise<ITriggerResponse> {
		const timezone = String(this.getNodeParameter('timezone', '') ?? '').trim();
		const schedule: ScheduleRequest = {
			name: `${this.getWorkflow().name ?? 'Workflow'}: ${this.getNode().name}`,
			cron: String(this.getNodeParameter('cron', '') ?? '').trim(),
			timezone: timezone || this.getTimezone(),
			enabled: true,
			catchUpMs: this.getNodeParameter('missed', 'last') === 'skip' ? 0 : hourMs,
		};
		const scheduleId = await scheduleIdOf(this);
		const emitNow = async () => {
			const due: ScheduleDue = { scheduleId, plannedAt: now(), origin: 'manual', late: false };
			this.emit([[{ json: itemOf(due, schedule) }]]);
		};
		// A test run leaves the stored schedule, and who follows it, alone.
		if (this.getMode() === 'manual') {
			return { closeFunction: async () => undefined, manualTriggerFunction: emitNow };
		}
		return {
			closeFunction: await start(this, scheduleId, schedule),
			manualTriggerFunction: emitNow,
		};
	}
}

/** Two n8n on one service, or a copied workflow, never share a schedule. */
async function scheduleIdOf(context: ITriggerFunctions): Promise<string> {
	const facts = [context.getInstanceId(), context.getWorkflow().id, context.getNode().id];
	return `n8n-${(await sha256(JSON.stringify(facts))).slice(0, 32)}`;
}

async function start(
	context: ITriggerFunctions,
	scheduleId: string,
	schedule: ScheduleRequest,
): Promise<() => Promise<void>> {
	const stop = new AbortController();
	try {
		const { client } = await connect(context);
		await client.putSchedule(scheduleId, schedule);
		const following = follow({
			client,
			scheduleId,
			schedule,
			// Somebody who switches a workflow on wants it from now on; after a restart nothing may be lost.
			backlog:
				context.getActivationMode() === 'activate' || schedule.catchUpMs === 0 ? 'drop' : 'last',
			signal: stop.signal,
			fire: async (due) => await fire(context, due, schedule),
			giveUp: (error) => context.emitError(nodeError(context.getNode(), error)),
			log: (text, facts) => context.logger.debug(`Fleet Schedule Trigger: ${text}`, facts),
		});
		return async () => {
			stop.abort();
			await settledWithin(following, closeMs);
		};
	} catch (error) {
		throw nodeError(context.getNode(), error);
	}
}

async function fire(
	context: ITriggerFunctions,
	due: ScheduleDue,
	schedule: ScheduleRequest,
): Promise<void> {
	const done = context.helpers.createDeferredPromise<IRun>();
	// n8n keeps the key in a unique column: an occurrence delivered twice makes one execution.
	const key = `${due.scheduleId}:${due.plannedAt}`;
	context.emit([[{ json: itemOf(due, schedule) }]], undefined, done, key);
	await settledWithin(done.promise, storedMs);
}

/** Gives up waiting after some time, and leaves no timer behind. Rejects if the promise did. */
async function settledWithin(promise: Promise<unknown>, ms: number): Promise<void> {
	const timer = new AbortController();
	const late = sleep(ms, timer.signal);
	await Promise.race([promise, late]).finally(() => timer.abort());
}

function itemOf(due: ScheduleDue, { cron, timezone }: ScheduleRequest): IDataObject {
	return {
		timestamp: new Date(due.plannedAt).toISOString(),
		plannedAt: due.plannedAt,
		late: due.late,
		origin: due.origin,
		scheduleId: due.scheduleId,
		cron,
		timezone,
	};
}

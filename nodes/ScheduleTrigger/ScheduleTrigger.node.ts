import {
	type IDataObject,
	type INodeType,
	type INodeTypeDescription,
	type ITriggerFunctions,
	type ITriggerResponse,
	NodeConnectionTypes,
} from 'n8n-workflow';
import type { ScheduleDue, ScheduleDueEvent, ScheduleRequest } from '../../protocol';
import { now } from '../shared/clock';
import { connect, lastingClient } from '../shared/connection';
import { givenUp, running, type Started, startWorkflow } from '../shared/consumer';
import { robotFleetApiTest } from '../shared/credential-test';
import { sha256 } from '../shared/digest';
import { asProblem, nodeError } from '../shared/refusals';
import { getNextRuns, searchSchedules } from '../shared/schedules';
import { fields, readTrigger, type Wish } from './fields';
import { follow } from './follow';
import { attach, type Kept, keptAtLast, store } from './kept';

/** A schedule that lives in the service: it is kept, and made up for, while n8n is off. */
export class ScheduleTrigger implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Fleet Schedule Trigger',
		name: 'scheduleTrigger',
		icon: { light: 'file:scheduleTrigger.svg', dark: 'file:scheduleTrigger.dark.svg' },
		group: ['trigger', 'schedule'],
		version: [1, 1.1],
		defaultVersion: 1.1,
		subtitle:
			'={{ $parameter["source"] === "existing" ? "existing schedule" : ($parameter["frequency"] || "cron") === "cron" ? $parameter["cron"] : $parameter["frequency"] }}',
		description: 'Start the workflow at times kept by the robot fleet, even across restarts',
		eventTriggerDescription: '',
		activationMessage:
			'The schedule is stored in the Robot Fleet service and starts the workflow at its times.',
		defaults: { name: 'Fleet Schedule Trigger' },
		inputs: [],
		outputs: [NodeConnectionTypes.Main],
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		properties: fields,
	};

	methods = {
		credentialTest: { robotFleetApiTest },
		listSearch: { searchSchedules },
		loadOptions: { getNextRuns },
	};

	async trigger(this: ITriggerFunctions): Promise<ITriggerResponse> {
		try {
			const wish = readTrigger(this);
			// A test run leaves the stored schedule, and who follows it, alone.
			if (this.getMode() === 'manual') {
				return {
					closeFunction: async () => undefined,
					manualTriggerFunction: async () => await testRun(this, wish),
				};
			}
			const closeFunction = await start(this, wish);
			return { closeFunction, manualTriggerFunction: async () => await testRun(this, wish) };
		} catch (error) {
			throw nodeError(this.getNode(), error);
		}
	}
}

/** Starts once, right away. */
async function testRun(context: ITriggerFunctions, wish: Wish): Promise<void> {
	try {
		const followed = await followedFor(context, wish);
		const { scheduleId } = followed;
		const due: ScheduleDue = { scheduleId, plannedAt: now(), origin: 'manual', late: false };
		context.emit([[{ json: itemOf(due, followed) }]]);
	} catch (error) {
		throw nodeError(context.getNode(), error);
	}
}

/** What the trigger follows, as its items describe it. */
interface Followed {
	scheduleId: string;
	name: string;
	/** Of a cron schedule. */
	cron: string | null;
	timezone: string;
}

async function followedFor(context: ITriggerFunctions, wish: Wish): Promise<Followed> {
	if (wish.request === undefined) {
		return await (await connect(context)).client.schedule(wish.scheduleId);
	}
	return followedOf(await ownIdOf(context), wish.request);
}

function followedOf(scheduleId: string, request: ScheduleRequest): Followed {
	const { name = scheduleId, timezone = 'UTC' } = request;
	return { scheduleId, name, cron: request.cron ?? request.when?.cron ?? null, timezone };
}

/** Two n8n on one service, or a copied workflow, never share a schedule. */
async function ownIdOf(context: ITriggerFunctions, ...more: string[]): Promise<string> {
	const facts = [context.getInstanceId(), context.getWorkflow().id, context.getNode().id, ...more];
	return `n8n-${(await sha256(JSON.stringify(facts))).slice(0, 32)}`;
}

async function start(context: ITriggerFunctions, wish: Wish): Promise<() => Promise<void>> {
	const stop = new AbortController();
	const { signal } = stop;
	const client = lastingClient(context);
	const ownId = await ownIdOf(context);
	const { request } = wish;
	// Another schedule is another subscription: how far the previous one had got is of no use to it.
	const key = request === undefined ? await ownIdOf(context, wish.scheduleId) : ownId;
	const activation = givenUp.has(key) ? 'init' : context.getActivationMode();
	const switchedOn = activation === 'activate';
	const restarted = activation === 'init' || activation === 'leadershipChange';
	const keep = async () =>
		request === undefined
			? await attach(client, ownId, wish.scheduleId)
			: await store(client, ownId, request, { switchedOn, restarted });
	const giveUp = (error: unknown) => context.emitError(nodeError(context.getNode(), error));
	const log = (text: string, facts: Record<string, unknown>) =>
		context.logger.debug(`Fleet Schedule Trigger: ${text}`, facts);
	const followIt = async ({ followed, changed }: Kept) => {
		const { scheduleId } = followed;
		await follow({
			client,
			key,
			scheduleId,
			// Our own may have fired before its first consumer was there.
			from: request === undefined ? 'now' : 'start',
			catchUp: { ...followed, ...wish.catchUp },
			// Somebody who switches a workflow on wants it from now on; after a restart nothing may be lost.
			dropFirst: switchedOn || changed,
			whileRunning: wish.whileRunning,
			signal,
			start: (event) => startFor(context, key, event, followed),
			...(request === undefined
				? {}
				: { restore: async () => await client.putSchedule(scheduleId, request) }),
			giveUp,
			log,
		});
	};
	// When n8n starts nobody is there to be told: a service that is away is waited for.
	const kept = await keep().catch((error: unknown) => {
		if (restarted && asProblem(error)?.retry === true) return undefined;
		throw error;
	});
	const following = kept
		? followIt(kept)
		: keptAtLast({ keep, key, signal, giveUp, log }, followIt);
	return running(stop, following);
}

function startFor(
	context: ITriggerFunctions,
	key: string,
	{ cursor, data }: ScheduleDueEvent,
	followed: Followed,
): Started {
	const { origin, plannedAt } = data;
	const once = origin === 'planned' ? `${plannedAt}` : `${origin}:${plannedAt}:${cursor}`;
	return startWorkflow(context, itemOf(data, followed), `${key}:${once}`);
}

function itemOf(due: ScheduleDue, { name, cron, timezone }: Followed): IDataObject {
	return {
		timestamp: new Date(due.plannedAt).toISOString(),
		plannedAt: due.plannedAt,
		late: due.late,
		origin: due.origin,
		scheduleId: due.scheduleId,
		scheduleName: name,
		cron,
		timezone,
		// The schedule has a job of its own: this is the one that was submitted for this time.
		...(due.jobId === undefined ? {} : { jobId: due.jobId }),
	};
}

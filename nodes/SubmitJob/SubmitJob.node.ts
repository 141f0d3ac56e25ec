import {
	type IExecuteFunctions,
	type INodeExecutionData,
	type INodeProperties,
	type INodeType,
	type INodeTypeDescription,
	NodeConnectionTypes,
} from 'n8n-workflow';
import type { Submit } from '../../protocol';
import { connect } from '../shared/connection';
import { robotFleetApiTest } from '../shared/credential-test';
import {
	isRefused,
	passItem,
	readItems,
	refusedItem,
	together,
	type Settled,
} from '../shared/items';
import { commandFields, jobFields, readSubmit } from '../shared/job-fields';
import { getKindFields, getKinds } from '../shared/kind-fields';
import { onErrorOf } from '../shared/refusals';
import { rolloutFields, withRollout } from '../shared/rollout-fields';
import {
	getCapabilities,
	getGroups,
	getMatchingRobots,
	getPools,
	getRobots,
	searchRobots,
} from '../shared/robots';
import { cancelWhenStopped } from '../shared/stopping';
import { submissionFields, withSubmission } from '../shared/submission-fields';
import { submitItems } from '../shared/submitting';
import { readTarget, targetFields } from '../shared/target-fields';
import { cancelOnStopField } from '../shared/wait-fields';
import { reasonsOf, withReason } from '../shared/why';

const cancelOnStop: INodeProperties = {
	...cancelOnStopField,
	description:
		'Whether stopping the n8n execution in a later step cancels its jobs. While a step is parked, its own option decides: Wait for Execution has the same one.',
};

/** One job for each item; answers as soon as the jobs are stored. */
export class SubmitJob implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Submit Job',
		name: 'submitJob',
		icon: { light: 'file:submitJob.svg', dark: 'file:submitJob.dark.svg' },
		group: ['transform'],
		version: [1],
		subtitle: '={{ $parameter["program"] || $parameter["shell"] || $parameter["kind"] }}',
		description: 'Submit a job to the robot fleet and go on at once with its job ID',
		defaults: { name: 'Submit Job' },
		inputs: [NodeConnectionTypes.Main],
		outputs: [NodeConnectionTypes.Main],
		usableAsTool: true,
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		properties: [
			...commandFields,
			...targetFields,
			...rolloutFields,
			...jobFields,
			...submissionFields,
			cancelOnStop,
		],
	};

	methods = {
		credentialTest: { robotFleetApiTest },
		listSearch: { searchRobots },
		loadOptions: { getCapabilities, getGroups, getKinds, getMatchingRobots, getPools, getRobots },
		resourceMapping: { getKindFields },
	};

	async execute(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
		const submits = readItems(this, (i) =>
			withSubmission(this, i, withRollout(this, i, readSubmit(this, i, readTarget(this, i)))),
		);
		return await together(this, submits, async () => await submitAll(this, submits));
	}
}

async function submitAll(
	context: IExecuteFunctions,
	submits: Array<Settled<Submit>>,
): Promise<INodeExecutionData[][]> {
	const fleet = await connect(context);
	const answers = await submitItems(context, fleet, submits);
	if (context.getNodeParameter('cancelOnStop', 0, false) === true) {
		const jobIds = answers.map((answer): Settled<string> =>
			isRefused(answer) ? answer : { value: answer.value.jobId },
		);
		cancelWhenStopped(context, fleet, jobIds);
	}
	const reasons = await reasonsOf(context, fleet, submits, answers);
	const items = context.getInputData().map((item, i) => {
		const answer = answers[i]!;
		if (isRefused(answer))
			return refusedItem(onErrorOf(context.getNode()), item, i, answer.refusal);
		// Not its state: that is old before the next node reads it.
		return passItem(item, i, { jobId: answer.value.jobId, ...withReason(reasons[i]) });
	});
	return [items];
}

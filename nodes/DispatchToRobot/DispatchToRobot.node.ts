import {
	type IExecuteFunctions,
	type INodeExecutionData,
	type INodeProperties,
	type INodeType,
	type INodeTypeDescription,
	isToolType,
	type IWebhookFunctions,
	type IWebhookResponseData,
	NodeConnectionTypes,
} from 'n8n-workflow';
import type { Submit } from '../../protocol';
import { connect } from '../shared/connection';
import { robotFleetApiTest } from '../shared/credential-test';
import { failAsResumed } from '../shared/failing';
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
import { searchRobots } from '../shared/robots';
import { cancelWhenStopped } from '../shared/stopping';
import { submissionFields, withSubmission } from '../shared/submission-fields';
import { submitItems } from '../shared/submitting';
import { readRobot, robotField } from '../shared/target-fields';
import { cancelOnStopField } from '../shared/wait-fields';
import {
	mayWait,
	readWaitLimit,
	resumeParked,
	resumeWebhooks,
	waitFields,
	waitForJobs,
	waitingNodeTooltip,
	waitInMemory,
} from '../shared/waiting';
import { reasonsOf, withReason } from '../shared/why';

const completionFields: INodeProperties[] = [
	{
		displayName: 'Wait for Completion',
		name: 'waitForCompletion',
		type: 'boolean',
		default: true,
		description:
			'Whether to go on only when the command has ended, with its result in the field "job". The waiting execution is stored, so it survives a restart of n8n.',
	},
	...waitFields.map((field) => ({
		...field,
		displayOptions: {
			show: { ...field.displayOptions?.show, waitForCompletion: [true], '@tool': [false] },
		},
	})),
	{ ...cancelOnStopField, displayOptions: { show: { waitForCompletion: [true] } } },
	{
		displayName: 'Tool Wait Limit (Seconds)',
		name: 'toolWaitSeconds',
		type: 'number',
		typeOptions: { minValue: 1 },
		default: 60,
		description:
			'How long to wait for the result before the answer is that the job still runs, with its ID',
		displayOptions: { show: { waitForCompletion: [true], '@tool': [true] } },
	},
];

/** When it waits for the end, nobody asks why it has not begun. */
function explainingOnlyAtOnce(field: INodeProperties): INodeProperties {
	const displayOptions = { show: { '/waitForCompletion': [false] } };
	const options = (field.options as INodeProperties[]).map((option) =>
		option.name === 'explain' ? { ...option, displayOptions } : option,
	);
	return { ...field, options };
}

/** One job for each item on a robot of your choice, and by default its result. */
export class DispatchToRobot implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Dispatch to Robot',
		name: 'dispatchToRobot',
		icon: { light: 'file:dispatchToRobot.svg', dark: 'file:dispatchToRobot.dark.svg' },
		group: ['transform'],
		version: [1],
		subtitle: '={{ $parameter["program"] || $parameter["shell"] || $parameter["kind"] }}',
		description: 'Run a command on one robot of the fleet and get its result',
		defaults: { name: 'Dispatch to Robot' },
		inputs: [NodeConnectionTypes.Main],
		outputs: [NodeConnectionTypes.Main],
		usableAsTool: true,
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		webhooks: resumeWebhooks,
		waitingNodeTooltip,
		properties: [
			robotField,
			...commandFields,
			...completionFields,
			...jobFields,
			...submissionFields.map(explainingOnlyAtOnce),
		],
	};

	methods = {
		credentialTest: { robotFleetApiTest },
		listSearch: { searchRobots },
		loadOptions: { getKinds },
		resourceMapping: { getKindFields },
	};

	async execute(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
		failAsResumed(this);
		const submits = readItems(this, (i) =>
			withSubmission(this, i, readSubmit(this, i, readRobot(this, i))),
		);
		const wait = this.getNodeParameter('waitForCompletion', 0, true) === true;
		return await together(this, submits, async () =>
			wait ? await submitAndWait(this, submits) : await submitOnly(this, submits),
		);
	}

	async webhook(this: IWebhookFunctions): Promise<IWebhookResponseData> {
		return await resumeParked(this);
	}
}

async function submitAndWait(
	context: IExecuteFunctions,
	submits: Array<Settled<Submit>>,
): Promise<INodeExecutionData[][]> {
	const limit = readWaitLimit(context);
	// A model may give any number.
	const toolWaitSeconds = Number(context.getNodeParameter('toolWaitSeconds', 0, 60));
	const toolWaitMs = Math.max(0, Math.round(toolWaitSeconds * 1000));
	const cancelOnStop = context.getNodeParameter('cancelOnStop', 0, false) === true;
	const fleet = await connect(context);
	await mayWait(context, fleet, submits, { cancelOnStop });
	const answers = await submitItems(context, fleet, submits);
	const jobIds = answers.map((answer): Settled<string> =>
		isRefused(answer) ? answer : { value: answer.value.jobId },
	);
	// A tool is called from within another node, which cannot be parked.
	if (!isToolType(context.getNode().type)) {
		return await waitForJobs(context, fleet, jobIds, limit, { cancelOnStop });
	}
	const disarm = cancelOnStop ? cancelWhenStopped(context, fleet, jobIds) : undefined;
	try {
		return await waitInMemory(context, fleet, jobIds, toolWaitMs);
	} finally {
		disarm?.();
	}
}

async function submitOnly(
	context: IExecuteFunctions,
	submits: Array<Settled<Submit>>,
): Promise<INodeExecutionData[][]> {
	const fleet = await connect(context);
	const answers = await submitItems(context, fleet, submits);
	const reasons = await reasonsOf(context, fleet, submits, answers);
	const items = context.getInputData().map((item, i) => {
		const answer = answers[i]!;
		if (isRefused(answer)) {
			return refusedItem(onErrorOf(context.getNode()), item, i, answer.refusal);
		}
		const { jobId, state } = answer.value;
		return passItem(item, i, { jobId, state, ...withReason(reasons[i]) });
	});
	return [items];
}

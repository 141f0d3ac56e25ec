import {
	type IExecuteFunctions,
	type INodeExecutionData,
	type INodeType,
	type INodeTypeDescription,
	type IWebhookFunctions,
	type IWebhookResponseData,
	NodeConnectionTypes,
} from 'n8n-workflow';
import { connect } from '../shared/connection';
import { robotFleetApiTest } from '../shared/credential-test';
import { readItems, together } from '../shared/items';
import { readWaitAsked, waitForFields, waitOptions } from '../shared/wait-fields';
import {
	jobOf,
	readJobId,
	readWaitLimit,
	resumeParked,
	resumeWebhooks,
	waitFields,
	waitForJobs,
	waitingNodeTooltip,
} from '../shared/waiting';

/** Parks the execution until the jobs of all its items have ended. */
export class WaitForExecution implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Wait for Execution',
		name: 'waitForExecution',
		icon: { light: 'file:waitForExecution.svg', dark: 'file:waitForExecution.dark.svg' },
		group: ['transform'],
		version: [1],
		subtitle: '={{ $parameter["jobId"] }}',
		description: 'Wait for jobs on robots, not n8n executions, and get their results',
		defaults: { name: 'Wait for Execution' },
		inputs: [NodeConnectionTypes.Main],
		outputs: [NodeConnectionTypes.Main],
		// A wait parks the whole execution, which a tool cannot do.
		usableAsTool: undefined,
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		webhooks: resumeWebhooks,
		waitingNodeTooltip,
		properties: [
			{
				displayName: 'Job ID',
				name: 'jobId',
				type: 'string',
				default: '={{ $json.jobId }}',
				required: true,
				description: 'The job to wait for, as Submit Job returned it; read for each item',
			},
			...waitForFields,
			...waitFields,
			waitOptions,
		],
	};

	methods = { credentialTest: { robotFleetApiTest } };

	async execute(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
		const jobIds = readItems(this, (i) => readJobId(this, i));
		return await together(
			this,
			jobIds,
			async () => {
				const limit = readWaitLimit(this);
				const asked = readWaitAsked(this);
				const fleet = await connect(this);
				return await waitForJobs(this, fleet, jobIds, limit, asked);
			},
			jobOf,
		);
	}

	async webhook(this: IWebhookFunctions): Promise<IWebhookResponseData> {
		return await resumeParked(this);
	}
}

import {
	type INodeType,
	type INodeTypeDescription,
	type ITriggerFunctions,
	type ITriggerResponse,
	NodeConnectionTypes,
} from 'n8n-workflow';
import { robotFleetApiTest } from '../shared/credential-test';
import { getRobots } from '../shared/robots';
import { getSchedules } from '../shared/schedules';
import { fields } from './fields';
import { listen, listenOnce } from './listen';

/** Events of the fleet start a workflow: each once, and none is lost while n8n is off. */
export class RobotFleetTrigger implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Robot Fleet Trigger',
		name: 'robotFleetTrigger',
		icon: { light: 'file:robotFleetTrigger.svg', dark: 'file:robotFleetTrigger.dark.svg' },
		group: ['trigger'],
		version: [1],
		subtitle: '={{ [$parameter["events"]].flat().join(", ") }}',
		description: 'Start the workflow when jobs end, robots are lost or come back, programs ask, …',
		eventTriggerDescription: 'Waiting for the next event of the fleet',
		activationMessage:
			'From now on the events you chose start the workflow, once each. What happens while n8n is off is kept by the Robot Fleet service.',
		defaults: { name: 'Robot Fleet Trigger' },
		inputs: [],
		outputs: [NodeConnectionTypes.Main],
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		triggerPanel: {
			header: 'Listen for events of the fleet',
			executionsHelp: {
				inactive:
					'<b>While building</b>, click “Execute step” and let the event happen, e.g. run a job: the workflow starts with the next one. <b>Once it works</b>, publish the workflow: it then starts for every event, shown under executions.',
				active:
					'<b>While building</b>, click “Execute step” and let the event happen, e.g. run a job: the workflow starts with the next one, and the published workflow gets it, too. <b>Every event</b> starts the published workflow, shown under executions.',
			},
			activationHint:
				'Once the workflow is published, every event starts it, shown under executions.',
		},
		properties: fields,
	};

	methods = {
		credentialTest: { robotFleetApiTest },
		loadOptions: { getRobots, getSchedules },
	};

	async trigger(this: ITriggerFunctions): Promise<ITriggerResponse> {
		if (this.getMode() === 'manual') {
			// A test run leaves the stored subscription, and who follows it, alone.
			const { listen: manualTriggerFunction, close: closeFunction } = listenOnce(this);
			return { closeFunction, manualTriggerFunction };
		}
		return { closeFunction: await listen(this) };
	}
}

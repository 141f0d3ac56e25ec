import {
	type IExecuteFunctions,
	type INodeExecutionData,
	type INodeType,
	type INodeTypeDescription,
	NodeConnectionTypes,
} from 'n8n-workflow';
import { connect, type Fleet } from '../shared/connection';
import { robotFleetApiTest } from '../shared/credential-test';
import { refusedItem } from '../shared/items';
import { getKindFields, getKinds } from '../shared/kind-fields';
import { nodeError, onErrorOf, type Refusal, refusalOf } from '../shared/refusals';
import {
	getCapabilities,
	getGroups,
	getMatchingRobots,
	getPools,
	getRobots,
	searchRobots,
} from '../shared/robots';
import { searchSchedules } from '../shared/schedules';
import { jobs } from './job';
import { searchJobs, searchTokens, searchWaits } from './lists';
import { metrics } from './metrics';
import { Ask, operationOf, propertiesOf } from './operation';
import { robots } from './robot';
import { schedules } from './schedule';
import { tokens } from './token';

const resources = [jobs, metrics, robots, schedules, tokens];

/** Looks after the fleet: what robots, jobs, schedules and tokens there are, and what becomes of them. */
export class RobotFleet implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Robot Fleet',
		name: 'robotFleet',
		icon: { light: 'file:robotFleet.svg', dark: 'file:robotFleet.dark.svg' },
		group: ['transform'],
		version: [1],
		subtitle: '={{ $parameter["operation"] + ": " + $parameter["resource"] }}',
		description: 'Manage the robots, jobs, files and schedules of the robot fleet',
		defaults: { name: 'Robot Fleet' },
		inputs: [NodeConnectionTypes.Main],
		outputs: [NodeConnectionTypes.Main],
		usableAsTool: true,
		credentials: [{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' }],
		hints: [
			{
				message:
					'The token is a secret that is shown only now. It is stored with this execution: do not keep execution data longer than the token is valid.',
				displayCondition:
					'={{ $parameter["resource"] === "token" && $parameter["operation"] === "create" }}',
				whenToDisplay: 'afterExecution',
				location: 'outputPane',
				type: 'warning',
			},
		],
		properties: propertiesOf(resources),
	};

	methods = {
		credentialTest: { robotFleetApiTest },
		listSearch: { searchJobs, searchRobots, searchSchedules, searchTokens, searchWaits },
		loadOptions: { getCapabilities, getGroups, getKinds, getMatchingRobots, getPools, getRobots },
		resourceMapping: { getKindFields },
	};

	async execute(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
		const node = this.getNode();
		const onError = onErrorOf(node);
		const output: INodeExecutionData[] = [];
		let fleet: Fleet | undefined;
		const stopped = this.getExecutionCancelSignal();
		for (const [i, item] of this.getInputData().entries()) {
			try {
				// Nothing goes on in an execution that somebody stops.
				stopped?.throwIfAborted();
				const operation = operationOf(resources, this, i);
				fleet ??= await connect(this);
				const found = await operation.run(new Ask(this, i, fleet.client));
				output.push(...found.map((each) => ({ ...each, pairedItem: { item: i } })));
			} catch (error) {
				const refusal = withWayOut(refusalOf(error));
				if (onError === 'stop' || stopped?.aborted) {
					throw nodeError(node, refusal.code ? refusal : error, i);
				}
				output.push(refusedItem(onError, item, i, refusal));
			}
		}
		return [output];
	}
}

/** The key of "This n8n" is narrow on purpose, and nobody sees it: so tell how to get another one. */
function withWayOut(refusal: Refusal): Refusal {
	if (refusal.code !== 'no-scope') return refusal;
	const scope = /"(\w+)"/.exec(refusal.message)?.[1] ?? 'operate';
	return {
		...refusal,
		description: `Make a key with: robot-fleet key create --name n8n-${scope} --scope read --scope ${scope}. Then make a separate credential for it: choose "Robot Fleet Server" and enter that key.`,
	};
}

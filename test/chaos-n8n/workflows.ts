/**
 * The workflows of the kill test. Each begins with a webhook, and behind each wait stands a node whose
 * execution is counted outside of n8n: an HTTP request to the test itself.
 */

/** What a call of a webhook says. Seconds and exit codes of the jobs, by step. */
export interface Order {
	seconds: Record<string, number>;
	codes: Record<string, number>;
	robot: string;
}

interface Node {
	name: string;
	type: string;
	typeVersion?: number;
	[field: string]: unknown;
}

interface Workflow {
	name: string;
	nodes: Node[];
	connections: Record<string, { main: object[][] }>;
	settings: object;
}

export interface Plan {
	/** The steps of each workflow, in order. */
	steps: Record<string, readonly string[]>;
	workflows: Workflow[];
}

export const steps = { one: ['a'], dispatch: ['a'], two: ['a', 'b'] } as const;

/** Each line is one write to a file opened for appending. */
const shell = [
	'echo "$ROBOT_FLEET_JOB_ID $ROBOT_FLEET_ATTEMPT" >> "$CHAOS_STARTS"',
	'sleep "$ROBOT_FLEET_VAR_SECONDS"',
	'echo "done after $ROBOT_FLEET_VAR_SECONDS s"',
	'exit "$ROBOT_FLEET_VAR_CODE"',
].join('; ');

/** @param credential of our nodes @param countAt where executions of the node behind a wait are counted */
export function plan(credential: { id: string; name: string }, countAt: string): Plan {
	const ours = (name: string, type: string, parameters: object, more: object): Node => ({
		name,
		type: `n8n-nodes-robot-fleet.${type}`,
		parameters,
		credentials: { robotFleetApi: credential },
		...more,
	});
	const body = (field: string) => `$('Webhook').first().json.body.${field}`;
	const job = (step: string) => ({
		commandType: 'shell',
		shell,
		variables: {
			variable: [
				{ name: 'execution', value: '={{ $execution.id }}' },
				{ name: 'step', value: step },
				{ name: 'seconds', value: `={{ ${body(`seconds.${step}`)} }}` },
				{ name: 'code', value: `={{ ${body(`codes.${step}`)} }}` },
			],
		},
	});
	// A service that is away for a moment is asked again, as a careful builder has it.
	const again = { retryOnFail: true, maxTries: 5, waitBetweenTries: 2_000 };
	const waiting = {
		retryOnFail: true,
		maxTries: 3,
		waitBetweenTries: 1_000,
		onError: 'continueErrorOutput',
	};
	const wait = (step: string) => ours(`Wait ${step}`, 'waitForExecution', {}, waiting);
	const submit = (step: string) => ours(`Submit ${step}`, 'submitJob', job(step), again);
	const dispatch = (step: string) => {
		const robot = { __rl: true, mode: 'id', value: `={{ ${body('robot')} }}` };
		const parameters = { robot, ...job(step) };
		return ours(`Dispatch ${step}`, 'dispatchToRobot', parameters, { ...waiting, maxTries: 5 });
	};
	const count = (step: string): Node => ({
		name: `Count ${step}`,
		type: 'n8n-nodes-base.httpRequest',
		typeVersion: 4.2,
		parameters: {
			method: 'POST',
			url: countAt,
			sendBody: true,
			specifyBody: 'json',
			jsonBody: `={{ JSON.stringify({
				execution: $execution.id,
				step: ${JSON.stringify(step)},
				job: $json.job?.id ?? $json.details?.id ?? null,
				state: $json.job?.state ?? $json.details?.state ?? null,
				error: $json.error ?? null,
			}) }}`,
			options: {},
		},
	});
	const workflows = [
		chain('one', [submit('a'), wait('a'), count('a')]),
		chain('dispatch', [dispatch('a'), count('a')]),
		chain('two', [submit('a'), wait('a'), count('a'), submit('b'), wait('b'), count('b')]),
	];
	return { steps, workflows };
}

/** One after the other; whoever has an error output sends it the same way. */
function chain(name: keyof typeof steps, nodes: Node[]): Workflow {
	const webhook: Node = {
		name: 'Webhook',
		type: 'n8n-nodes-base.webhook',
		typeVersion: 2,
		webhookId: name,
		parameters: { path: name, httpMethod: 'POST', responseMode: 'onReceived', options: {} },
	};
	const all = [webhook, ...nodes];
	const connections = Object.fromEntries(
		all.slice(0, -1).map((node, at) => {
			const to = [{ node: all[at + 1]!.name, type: 'main', index: 0 }];
			return [node.name, { main: node['onError'] === undefined ? [to] : [to, to] }];
		}),
	);
	return { name, nodes: all, connections, settings: { executionOrder: 'v1' } };
}

import type { IAuthenticate, Icon, ICredentialType, INodeProperties } from 'n8n-workflow';

/**
 * Where the service is. The test is a method of the nodes (`testedBy`), because "This n8n" has no
 * URL that n8n's own request test could ask: the method starts the service if need be.
 */
export class RobotFleetApi implements ICredentialType {
	name = 'robotFleetApi';

	displayName = 'Robot Fleet API';

	icon: Icon = { light: 'file:robotFleetApi.svg', dark: 'file:robotFleetApi.dark.svg' };

	documentationUrl =
		'https://github.com/robot-fleet/robot-fleet/blob/main/docs/first-hour.md#2-make-the-credential';

	properties: INodeProperties[] = [
		{
			displayName: 'Connection',
			name: 'connection',
			type: 'options',
			options: [
				{
					name: 'This n8n',
					value: 'embedded',
					description: 'N8n itself runs the service; nothing else to install on this machine',
				},
				{
					name: 'Robot Fleet Server',
					value: 'server',
					description: 'The service runs on its own, started with robot-fleet serve',
				},
			],
			default: 'embedded',
		},
		{
			displayName:
				'The service starts by itself, on port 8765 of this machine unless ROBOT_FLEET_PORT says otherwise. For n8n in queue mode, or with several main processes, choose Robot Fleet Server.',
			name: 'embeddedNotice',
			type: 'notice',
			default: '',
			displayOptions: { show: { connection: ['embedded'] } },
		},
		{
			displayName: 'Server URL',
			name: 'url',
			type: 'string',
			default: '',
			required: true,
			placeholder: 'e.g. http://fleet.example.com:8765',
			displayOptions: { show: { connection: ['server'] } },
		},
		{
			displayName: 'API Key',
			name: 'apiKey',
			type: 'string',
			typeOptions: { password: true },
			default: '',
			required: true,
			description:
				'The first start of the service writes one for n8n to n8n.key in its data folder',
			displayOptions: { show: { connection: ['server'] } },
		},
		{
			displayName: 'How Waits Come Back',
			name: 'reach',
			type: 'options',
			options: [
				{
					name: 'The Service Calls n8n',
					value: 'call',
					description: 'The server reaches this n8n, over a URL given below or its webhook URL',
				},
				{
					name: 'This n8n Collects',
					value: 'collect',
					description:
						'The server cannot reach this n8n: n8n asks the server instead. Not in queue mode.',
				},
			],
			default: 'call',
			description: 'How n8n learns that the jobs of a waiting execution have ended',
			displayOptions: { show: { connection: ['server'] } },
		},
		{
			displayName: 'URL of This n8n',
			name: 'callbackUrl',
			type: 'string',
			default: '',
			placeholder: 'e.g. http://n8n.internal:5678',
			description:
				'Where the server reaches this n8n to resume waiting executions. Leave empty to use the webhook URL of n8n.',
			displayOptions: { show: { connection: ['server'], reach: ['call'] } },
		},
	];

	/**
	 * Not n8n's declarative form: that one evaluates an expression, which n8n refuses to a trigger
	 * once its `trigger()` has returned, and ours calls the service for as long as it is active.
	 */
	authenticate: IAuthenticate = async (credentials, requestOptions) => ({
		...requestOptions,
		headers: {
			...requestOptions.headers,
			Authorization: `Bearer ${String(credentials.apiKey ?? '')}`,
		},
	});
}

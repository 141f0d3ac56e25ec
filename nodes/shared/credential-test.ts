/** The "Test" of the credential, the same on every node: starts or reaches the service, asks who we are. */
import type {
	ICredentialsDecrypted,
	ICredentialTestFunctions,
	IHttpRequestOptions,
	INodeCredentialTestResult,
} from 'n8n-workflow';
import { FleetClient, type Send } from '../../client';
import type { Scope } from '../../protocol';
import { type RobotFleetCredential, sendThroughN8n, serverUrl } from './connection';
import { sendEmbedded } from './embedded';
import { refusalOf } from './refusals';

/** What the nodes cannot do without. */
const needed: Scope[] = ['submit', 'read'];

export async function robotFleetApiTest(
	this: ICredentialTestFunctions,
	credential: ICredentialsDecrypted,
): Promise<INodeCredentialTestResult> {
	return await testCredential(this, credential.data as unknown as RobotFleetCredential);
}

async function testCredential(
	context: ICredentialTestFunctions,
	data: RobotFleetCredential,
): Promise<INodeCredentialTestResult> {
	try {
		const send = data.connection === 'server' ? sendToServer(context, data) : sendEmbedded;
		const { name, scopes } = await new FleetClient(send).me();
		const missing = needed.filter((scope) => !scopes.includes(scope) && !scopes.includes('admin'));
		if (missing.length > 0) {
			const lacks = missing.map((scope) => `"${scope}"`).join(' and ');
			return {
				status: 'Error',
				message: `The API key "${name}" lacks the scope ${lacks}. Use the key in n8n.key, or make one with both scopes.`,
			};
		}
		return { status: 'OK', message: `Connected as "${name}" (${scopes.join(', ')})` };
	} catch (error) {
		const { message, description } = refusalOf(error);
		return { status: 'Error', message: description ? `${message}. ${description}` : message };
	}
}

/** A credential test is given n8n's older request helper and nothing else. */
function sendToServer(context: ICredentialTestFunctions, data: RobotFleetCredential): Send {
	return sendThroughN8n(serverUrl(data), async (options: IHttpRequestOptions) => {
		const { url, method, timeout } = options;
		return (await context.helpers.request({
			uri: url,
			method,
			timeout,
			json: true,
			followRedirect: false,
			simple: false,
			resolveWithFullResponse: true,
			headers: { Authorization: `Bearer ${data.apiKey ?? ''}` },
		})) as unknown;
	});
}

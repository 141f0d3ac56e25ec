/**
 * n8n's own port as the robots' door. The shim in n8n's user folder (`robot-fleet hook install`) calls
 * `ready` when n8n listens and `stop` when it ends; both belong to n8n's main process alone.
 *
 * These listeners stay for as long as n8n runs, even through an update of the package: each request asks
 * anew which service is in charge, and leaves the rest to that one.
 */
import { closeHost, type Front, log, owner, processRefusal } from './embedded';
import { asProblem } from './refusals';
import { Problem } from '../../protocol';

type RobotRequest = Parameters<Front['request']>[0];
type Answer = Parameters<Front['request']>[1];
type Wire = Parameters<Front['upgrade']>[1];
type Head = Parameters<Front['upgrade']>[2];

/** What we use of n8n's `http.Server`. */
interface Listening {
	listeners(event: 'request'): unknown[];
	removeAllListeners(event: 'request'): unknown;
	on(event: 'request', listener: (request: RobotRequest, answer: Answer) => void): unknown;
	on(event: 'upgrade', listener: (request: RobotRequest, wire: Wire, head: Head) => void): unknown;
}

/** What stands before the robots' paths on n8n's port: robots use `--server https://n8n.example.com/robot-fleet`. */
const prefix = '/robot-fleet';
const attached = new WeakSet<object>();

/** `n8n` is its server, as it hands itself to `n8n.ready`. Does not wait for the service: n8n's start must not. */
export function ready(n8n: { server?: Listening } | undefined): void {
	const server = n8n?.server;
	if (!server || processRefusal() !== undefined || attached.has(server)) return;
	attached.add(server);
	attach(server);
	owner()
		.start()
		.catch((error: unknown) => {
			const problem = asProblem(error);
			log('error', problem?.message ?? String(error), { code: problem?.code });
		});
}

/** When this settles, robots have been told, what was taken is on disk, and port and data folder are free. */
export async function stop(): Promise<void> {
	await closeHost();
}

function attach(server: Listening): void {
	const n8ns = server.listeners('request') as ((request: RobotRequest, answer: Answer) => void)[];
	// Ours come first, because n8n answers everything it is asked; and our callers are not asked for n8n's cookies.
	server.removeAllListeners('request');
	server.on('request', (request, answer) => {
		const path = pathBehind(request.url);
		if (path === undefined) {
			for (const listener of n8ns) listener.call(server, request, answer);
			return;
		}
		front()
			.then(async (it) => await it.request(request, answer, path))
			.catch(() => {
				const { status, text, headers } = notNow();
				if (!answer.headersSent) answer.writeHead(status, headers).end(text);
			});
	});
	// n8n leaves paths that it does not know alone.
	server.on('upgrade', (request, wire, head) => {
		const path = pathBehind(request.url);
		if (path === undefined) return;
		wire.on('error', () => wire.destroy());
		front()
			.then(async (it) => await it.upgrade(request, wire, head, path))
			.catch(() => {
				const { status, text, headers } = notNow();
				const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
				wire.end(`HTTP/1.1 ${status} Refused\r\n${lines.join('\r\n')}\r\n\r\n${text}`);
			});
	});
}

function pathBehind(url = ''): string | undefined {
	return url.startsWith(`${prefix}/`) ? url.slice(prefix.length) : undefined;
}

/** That of the running service: a stranger's request starts none. */
async function front(): Promise<Front> {
	const host = await owner().ready;
	if (!host?.front) throw new Problem('not-ready', { state: 'not running' });
	return host.front;
}

/** Robots try again for ever. */
function notNow() {
	const problem = new Problem('not-ready', { state: 'not running' });
	const text = JSON.stringify({ error: problem.toBody() });
	return {
		status: problem.status,
		text,
		headers: {
			'content-type': 'application/json',
			'content-length': String(text.length),
			'retry-after': '10',
			connection: 'close',
		},
	};
}

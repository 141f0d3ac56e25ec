/**
 * The constellation file of the service, as read by an agent: the device of its own name says what it can do,
 * which clients it has and, if the service dials it, where it listens. The agent's own settings may be in the
 * file too, and win.
 */
import { hostname } from 'node:os';
import { constellationFields, readConstellation, tellMistake } from '../protocol';

/** What the file says about this machine; a file without devices is left as it is. */
export function settingsOf(
	file: Readonly<Record<string, unknown>>,
	{ name, dials }: { name: string | undefined; dials: boolean },
	mistakes: string[],
): Record<string, unknown> {
	const own = { ...file };
	const theirs: Record<string, unknown> = {};
	for (const field of constellationFields) {
		if (Object.hasOwn(file, field)) theirs[field] = file[field];
		delete own[field];
	}
	if (Object.keys(theirs).length === 0) return own;
	const { constellation, mistakes: wrong } = readConstellation(theirs);
	mistakes.push(...wrong.map((mistake) => `${tellMistake(mistake)}.`));
	if (!constellation) return own;
	const { devices, heartbeatInterval } = constellation;
	const called = name ?? (typeof own['name'] === 'string' ? own['name'] : hostname());
	const device = devices.find(({ deviceId }) => deviceId === called);
	if (!device) {
		const known = devices.map(({ deviceId }) => deviceId).join(', ') || 'none';
		mistakes.push(
			`The config file has no device "${called}" (there are: ${known}); say which one this is with --name.`,
		);
		return own;
	}
	const { deviceId, capabilities, clientIds, serverUrl } = device;
	const namesClients = own['clients'] !== undefined || own['local_client_ids'] !== undefined;
	const listens = serverUrl !== null && !dials && own['server'] === undefined;
	return {
		name: deviceId,
		...(capabilities.length > 0 && { capabilities }),
		...(clientIds.length > 0 && !namesClients && { clients: [...new Set(clientIds)] }),
		...(heartbeatInterval !== null && { heartbeatInterval }),
		...(listens && { listen: listenAt(new URL(serverUrl)) }),
		...own,
	};
}

/** Others may know this machine by a name or address that it does not know itself. */
function listenAt({ hostname: host, port, protocol }: URL): string {
	const own = host === 'localhost' || host === '[::1]' || host.startsWith('127.');
	const number = port !== '' ? port : /^(wss|https):$/.test(protocol) ? '443' : '80';
	return `${own ? host : '0.0.0.0'}:${number}`;
}

/** Registering devices, and dialling them by hand. */
import { Option, type Command } from 'commander';
import type { FleetClient } from '../../client';
import type { Robot } from '../../protocol';
import { listOf, pairOf, wholeOf } from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
}

interface RegisterFlags extends Flags {
	serverUrl?: string;
	fingerprint?: string;
	capability?: string[];
	metadata?: Record<string, string>;
	clientId?: string[];
	autoConnect: boolean;
	maxRetries?: number;
}

export interface DeviceKit {
	client(flags: Flags): FleetClient;
	tell<T>(flags: Flags, value: T, text: (value: T) => string): void;
	sub(parent: Command, usage: string, summary: string, example: string): Command;
}

export function addDevices(robots: Command, { client, tell, sub }: DeviceKit): void {
	sub(
		robots,
		'register <name>',
		'register a device before its agent comes, or change it: one that dials, or one that is dialled',
		'register workshop --server-url wss://192.168.1.100:9765 --fingerprint 4f0c…',
	)
		.option(
			'--server-url <url>',
			'where its agent listens; without it, the agent dials the service',
		)
		.option('--fingerprint <sha256>', 'that of its key, as its agent prints it')
		.addOption(new Option('--capability <name>', 'what it can do (repeatable)').argParser(listOf))
		.option('--metadata <name=value>', 'what is known about it; a label, too (repeatable)', pairOf)
		.addOption(new Option('--client-id <name>', 'a client on it (repeatable)').argParser(listOf))
		.option('--no-auto-connect', 'dial it only when asked: robots connect')
		.option('--max-retries <count>', 'tries after the first that failed (default 5)', wholeOf)
		.action(async (name: string, flags: RegisterFlags) => {
			const { serverUrl, fingerprint, capability, metadata, clientId, maxRetries } = flags;
			const robot = await client(flags).registerRobot({
				name,
				...(!flags.autoConnect && { autoConnect: false }),
				...(serverUrl !== undefined && { serverUrl }),
				...(fingerprint !== undefined && { fingerprint }),
				...(capability && { capabilities: capability }),
				...(metadata && { metadata }),
				...(clientId && { clientIds: clientId }),
				...(maxRetries !== undefined && { maxRetries }),
			});
			tell(flags, robot, ({ device }) =>
				device?.dial
					? `${name} is registered and ${device.autoConnect ? 'is dialled' : 'waits for: robot-fleet robots connect'}\n`
					: `${name} is registered; start its agent there with --server, --name ${name} and a token\n`,
			);
		});
	sub(
		robots,
		'connect <robot>',
		'dial a registered device now, whatever happened before',
		'connect workshop',
	).action(async (robot: string, flags: Flags) =>
		tell(flags, await client(flags).connectRobot(robot), connectedText),
	);
}

function connectedText({ name, status, connected, device }: Robot): string {
	if (connected) return `${name} is ${status}\n`;
	const { state, reason } = device?.dial ?? { state: status, reason: null };
	return `${name} is not connected: ${state}${reason === null ? '' : `, ${reason}`}\n`;
}

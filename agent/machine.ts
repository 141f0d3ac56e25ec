/**
 * The name of this machine, by which the service notices that a data folder was copied to another one.
 * Only a hash of what the system calls itself leaves the machine. Where there is no such name (many
 * containers), nothing can be noticed.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Read once, at the start of the agent. */
export function machineId(system: NodeJS.Platform = process.platform): string | undefined {
	const name = (finders[system] ?? linuxName)();
	return name === undefined
		? undefined
		: createHash('sha256').update(`robot-fleet machine v1\n${name}`).digest('base64url');
}

const finders: Partial<Record<NodeJS.Platform, () => string | undefined>> = {
	darwin: () =>
		/"IOPlatformUUID" = "([^"]+)"/.exec(
			printedBy('ioreg', ['-rd1', '-c', 'IOPlatformExpertDevice']),
		)?.[1],
	win32: () =>
		/MachineGuid\s+REG_SZ\s+(\S+)/.exec(
			printedBy('reg', ['query', 'HKLM\\SOFTWARE\\Microsoft\\Cryptography', '/v', 'MachineGuid']),
		)?.[1],
};

function linuxName(): string | undefined {
	for (const file of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
		let text: string;
		try {
			text = readFileSync(file, 'utf8').trim();
		} catch {
			continue; // not every system has both, or one
		}
		// systemd writes "uninitialized" into images that were never started.
		if (/^[0-9a-f]{32}$/.test(text)) return text;
	}
	return undefined;
}

function printedBy(program: string, args: readonly string[]): string {
	try {
		return execFileSync(program, args, { encoding: 'utf8', timeout: 5_000, windowsHide: true });
	} catch {
		return ''; // it has no such program: then it has no name either
	}
}

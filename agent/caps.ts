/**
 * Caps this robot can hold a job to. What a process tree uses is read from /proc, so those caps need a Linux with one.
 */
import { capNames, type WireCaps } from '../protocol';
import { seesProcesses } from './drivers/process';

const held = Object.values(capNames).filter(({ wire }) => seesProcesses || wire === 'output_bytes');

/** Told to the service, so that the robot is given no others. */
export const capCapabilities: readonly string[] = held.map(({ capability }) => capability);

/** A cap that it could only ignore; one of a newer service counts, too. */
export function capBeyond(caps: WireCaps = {}): string | undefined {
	return Object.keys(caps).find((name) => !held.some(({ wire }) => wire === name));
}

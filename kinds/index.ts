/** All kinds this version knows, by name. Adding one = one file here and one executor on the agent. */
import { command } from './command';
import type { FileWishes } from './files';
import type { Kind } from './kind';
import { probe } from './probe';

export type { Kind } from './kind';

export const kinds: ReadonlyMap<string, Kind> = new Map<string, Kind>([
	[command.name, command as Kind],
	[probe.name, probe as Kind],
]);

const nothing: FileWishes = {};

/** What a job of this kind and spec brings along and takes home. */
export function wishesOf(kind: string, spec: unknown): FileWishes {
	return kinds.get(kind)?.wishes?.(spec) ?? nothing;
}

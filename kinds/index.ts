/** All kinds this version knows, by name. Adding one = one file here and one executor on the agent. */
import { command } from './command';
import type { Kind } from './kind';

export type { Kind } from './kind';

export const kinds: ReadonlyMap<string, Kind> = new Map<string, Kind>([
	[command.name, command as Kind],
]);

/**
 * Runs a `probe`: the program of this agent itself, asked for its version. It goes the way of every command
 * (keeper, spool, exit record), so what keeps commands from starting keeps it from starting too.
 */
import type { CommandSpec } from '../../kinds/command';
import { type ProbeSpec, probeKind } from '../../kinds/probe';
import type { Executor } from './executor';

/** `program` is surely there: it runs this agent. */
export function probeExecutor(
	command: Executor<CommandSpec>,
	program: string,
): Executor<ProbeSpec> {
	const spec: CommandSpec = { command: program, args: ['--version'] };
	return {
		...command,
		kind: probeKind,
		run: (_spec, context) => command.run(spec, context),
		rejoin: async (_spec, context, trace) => await command.rejoin?.(spec, context, trace),
	};
}

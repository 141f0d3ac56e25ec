import type { IExecuteFunctions } from 'n8n-workflow';

/**
 * What n8n keeps with an execution, for all of it ("flow") or for one node. A tool that an MCP Server Trigger calls runs
 * in no execution: nothing is kept there, and n8n throws.
 */
export function memoryOf(
	context: IExecuteFunctions,
	of: 'flow' | 'node',
): ReturnType<IExecuteFunctions['getContext']> {
	try {
		return context.getContext(of);
	} catch {
		return {};
	}
}

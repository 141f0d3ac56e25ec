/**
 * From what went wrong to what a person reads in n8n: one sentence that says what happened, and a
 * second one that says what to do. The texts come from the catalogue in protocol/problems.
 */
import {
	type IDataObject,
	type INode,
	type JsonObject,
	NodeApiError,
	NodeOperationError,
} from 'n8n-workflow';
import { Problem, type ProblemCode, type ProblemDetails, problems } from '../../protocol';

/** Why one item did not make it. Plain data: it is kept while an execution is parked. */
export interface Refusal {
	message: string;
	/** How to fix it. */
	description?: string;
	/** A code of the catalogue; absent when the refusal is our own about a parameter. */
	code?: ProblemCode;
	details?: IDataObject;
}

/** Thrown for a parameter that makes no sense, before anything is sent. */
export class BadParameter extends Error {
	readonly description: string;

	constructor(message: string, description: string) {
		super(message);
		this.description = description;
	}
}

/**
 * The bundled service has its own copy of `Problem`, so an instance check would miss what it throws:
 * a problem is recognized by its code.
 */
export function asProblem(error: unknown): Problem | undefined {
	if (error instanceof Problem) return error;
	const { code, details } = (error ?? {}) as { code?: unknown; details?: ProblemDetails };
	if (typeof code !== 'string' || !Object.hasOwn(problems, code)) return undefined;
	return new Problem(code as ProblemCode, details ?? {}, error);
}

export function refusalOf(error: unknown): Refusal {
	const problem = asProblem(error);
	if (problem) return { ...inTwoSentences(problem.message), code: problem.code };
	if (error instanceof Error) {
		const { description } = error as { description?: string | null };
		return { message: error.message, ...(description ? { description } : {}) };
	}
	return { message: String(error) };
}

/** As an error that n8n shows with the item it is about. Errors of n8n itself pass as they are. */
export function nodeError(node: INode, error: unknown, itemIndex?: number): Error {
	if (error instanceof NodeOperationError || error instanceof NodeApiError) return error;
	const refusal = isRefusal(error) ? error : refusalOf(error);
	const { message, description } = refusal;
	const status = refusal.code === undefined ? 0 : problems[refusal.code].status;
	if (status >= 400 && status !== 422 && !isOfThisProcess(refusal.code)) {
		return new NodeApiError(node, { message, code: refusal.code } as JsonObject, {
			message,
			description,
			httpCode: String(status),
			itemIndex,
		});
	}
	return new NodeOperationError(node, message, { description, itemIndex });
}

/** No service was asked: this n8n itself is set up so that it has none. */
const ofThisProcess: readonly ProblemCode[] = [
	'wrong-process',
	'port-taken',
	'data-taken',
	'data-unusable',
	'bad-config',
	'needs-tls',
	'node-too-old',
	'sqlite-unsafe',
];

function isOfThisProcess(code: ProblemCode | undefined): boolean {
	return code !== undefined && ofThisProcess.includes(code);
}

export type OnError = 'stop' | 'continue' | 'output';

/** What the node's "On Error" setting says; readable in every context, unlike `continueOnFail()`. */
export function onErrorOf(node: INode): OnError {
	if (node.onError === 'continueErrorOutput') return 'output';
	if (node.onError === 'continueRegularOutput') return 'continue';
	return node.onError === undefined && node.continueOnFail ? 'continue' : 'stop';
}

function isRefusal(value: unknown): value is Refusal {
	return !(value instanceof Error) && typeof (value as Refusal | null)?.message === 'string';
}

/** The catalogue writes "what happened; what to do." */
function inTwoSentences(text: string): { message: string; description?: string } {
	const at = text.indexOf('; ');
	if (at < 0) return { message: text.replace(/\.$/, '') };
	const advice = text.slice(at + 2);
	return {
		message: text.slice(0, at),
		description: advice.charAt(0).toUpperCase() + advice.slice(1),
	};
}

/** The one loop over input items, and the one place that makes output items. */
import type { IDataObject, IExecuteFunctions, INodeExecutionData } from 'n8n-workflow';
import { nodeError, type OnError, onErrorOf, type Refusal, refusalOf } from './refusals';

/** What became of one input item so far. */
export type Settled<T> = { value: T } | { refusal: Refusal };

export function isRefused<T>(settled: Settled<T>): settled is { refusal: Refusal } {
	return 'refusal' in settled;
}

/**
 * Reads every input item with `read`, which throws for an item that cannot be used. Under
 * "On Error: Stop" the first such item ends the node before anything was sent.
 */
export function readItems<T>(
	context: IExecuteFunctions,
	read: (itemIndex: number) => T,
): Array<Settled<T>> {
	return context.getInputData().map((_, itemIndex) => {
		try {
			return { value: read(itemIndex) };
		} catch (error) {
			if (onErrorOf(context.getNode()) === 'stop') {
				throw nodeError(context.getNode(), error, itemIndex);
			}
			return { refusal: refusalOf(error) };
		}
	});
}

/**
 * What is done for all items at once. If a node throws under an On Error that continues, n8n passes its input to its
 * first output, as if all had gone well; so there, each item that was not refused already says what kept the node from
 * its work. `factsOf`: what else such an item has in `details`.
 */
export async function together<T>(
	context: IExecuteFunctions,
	entries: Array<Settled<T>>,
	deed: () => Promise<INodeExecutionData[][]>,
	factsOf: (value: T) => IDataObject = () => ({}),
): Promise<INodeExecutionData[][]> {
	try {
		return await deed();
	} catch (error) {
		const node = context.getNode();
		const onError = onErrorOf(node);
		// Nothing goes on in an execution that somebody stops.
		if (onError === 'stop' || context.getExecutionCancelSignal()?.aborted) {
			throw nodeError(node, error);
		}
		const refusal = refusalOf(error);
		const items = context.getInputData().map((item, i) => {
			const entry = entries[i];
			if (entry === undefined) return refusedItem(onError, item, i, refusal);
			if (isRefused(entry)) return refusedItem(onError, item, i, entry.refusal);
			const { code } = refusal;
			const details = { ...(code === undefined ? {} : { code }), ...factsOf(entry.value) };
			const facts = Object.keys(details).length > 0 ? { details } : {};
			return refusedItem(onError, item, i, { ...refusal, ...facts });
		});
		return [items];
	}
}

/**
 * The input item with fields added. Input items are never changed in place. The `error` that n8n leaves beside the
 * json of an item from an error output is not passed on: with it, n8n would make its text the whole json.
 */
export function passItem(
	item: INodeExecutionData,
	itemIndex: number,
	fields: IDataObject,
): INodeExecutionData {
	const { error: _, ...rest } = item;
	return { ...rest, json: { ...item.json, ...fields }, pairedItem: { item: itemIndex } };
}

/**
 * The input item as the output shows it while the execution is parked. It carries no error: with one, n8n would run
 * the node once more under Retry On Fail, and would overwrite the json, which is that of the input.
 */
export function parkedItem(item: INodeExecutionData): INodeExecutionData {
	const { error: _, ...rest } = item;
	const { error: __, ...json } = item.json;
	return { ...rest, json };
}

/**
 * n8n moves an item to the error output only if it has no other keys than these three; it adds the
 * fields of the input item itself. Before 2.35.7 it does not know `details`, and leaves such an item where it is. An
 * `error` beside the json would not help: n8n makes that the whole json, and copies items that are resumed.
 */
export function refusedItem(
	onError: OnError,
	item: INodeExecutionData,
	itemIndex: number,
	refusal: Refusal,
): INodeExecutionData {
	const { message, description, code, details } = refusal;
	const facts = details ?? (code === undefined ? undefined : { code });
	const json: IDataObject = {
		error: message,
		...(description === undefined ? {} : { message: description }),
		...(facts === undefined ? {} : { details: facts }),
	};
	if (onError !== 'output') return passItem(item, itemIndex, json);
	// From the input item it adds the json, and nothing else.
	const { binary } = item;
	return { json, ...(binary ? { binary } : {}), pairedItem: { item: itemIndex } };
}

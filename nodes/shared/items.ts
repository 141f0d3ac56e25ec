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

/** The input item with fields added. Input items are never changed in place. */
export function passItem(
	item: INodeExecutionData,
	itemIndex: number,
	fields: IDataObject,
): INodeExecutionData {
	return { ...item, json: { ...item.json, ...fields }, pairedItem: { item: itemIndex } };
}

/**
 * n8n moves an item to the error output only if it has no other keys than these three; it adds the
 * fields of the input item itself. Before 2.35.7 it knows no `details`, and leaves such an item where it is. An `error`
 * beside the json would not help: n8n makes that the whole json, and copies items that are taken up again.
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
	return { json, pairedItem: { item: itemIndex } };
}

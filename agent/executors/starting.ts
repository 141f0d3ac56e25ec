/**
 * A program is started by somebody else, who may stay silent about it: waits for the answer, and says what it means
 * when none comes. Knows no keeper and no process.
 */
import { enough } from '../clock';
import type { RunContext } from './executor';

/** How long to wait for somebody who does not say whether the program of a job that must stop was started. */
const answerMs = 10_000;

export interface Starter<Started> {
	/** True = it was not called, and never will be. */
	preclude(): boolean;
	/** It started after all, and nobody wants it any more. */
	unwanted(started: Started): Promise<void>;
}

/** The start; or, when the job must stop and no answer comes, that it `never` starts, or that this is `unknown`. */
export async function started<Started extends object>(
	starting: Promise<Started>,
	{ signal, sleep }: Pick<RunContext, 'signal' | 'sleep'>,
	{ preclude, unwanted }: Starter<Started>,
): Promise<Started | 'never' | 'unknown'> {
	if ((await unlessStopped(starting, signal)) !== 'aborted') return await starting;
	const ending = new AbortController();
	const late = sleep(answerMs, ending.signal).then((over) => (over ? undefined : starting));
	const found = await Promise.race([starting, late]).finally(() => ending.abort(enough));
	if (found !== undefined) return found;
	if (preclude()) {
		starting.catch(() => undefined);
		return 'never';
	}
	starting.then(unwanted).catch(() => undefined);
	return 'unknown';
}

export async function unlessStopped<T>(
	work: Promise<T>,
	signal: AbortSignal,
): Promise<T | 'aborted'> {
	const ending = new AbortController();
	return await Promise.race([work, aborted(signal, ending.signal)]).finally(() =>
		ending.abort(enough),
	);
}

export async function aborted(signal: AbortSignal, ending: AbortSignal): Promise<'aborted'> {
	return await new Promise((resolve) => {
		if (signal.aborted) resolve('aborted');
		signal.addEventListener('abort', () => resolve('aborted'), { once: true, signal: ending });
	});
}

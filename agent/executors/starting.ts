/**
 * A program is started by somebody else, who may be silent about it: the wait for that word, and what it means when it
 * does not come. Knows no keeper and no process.
 */
import { enough } from '../clock';
import type { RunContext } from './executor';

/** How long somebody is waited for who does not say whether he started the program of a job that shall stop. */
const answerMs = 10_000;

export interface Starter<Started> {
	/** True = it was not called, and nobody will. */
	preclude(): boolean;
	/** It came after all, and nobody wants it any more. */
	unwanted(started: Started): Promise<void>;
}

/** The start; or, when the job shall stop and no word comes, that it `never` starts, or that this is `unknown`. */
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

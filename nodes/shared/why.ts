/** Why jobs do not start at once: a sentence for the item, and a hint for the person at the editor. */
import type { IExecuteFunctions } from 'n8n-workflow';
import type { Submit, SubmitAnswer, Why } from '../../protocol';
import type { Fleet } from './connection';
import { isRefused, type Settled } from './items';
import { wantsReason } from './submission-fields';

/** Unasked, at most this many different targets are looked at: explanations must not slow a step down. */
const maxTargets = 3;
/** When asked for, at most this many jobs are. */
const maxExplained = 100;
const atOnce = 8;

/**
 * `whyWaiting` for each item, where it is known: for items that ask for it, and unasked for jobs that no robot may run.
 * A job that was given to a robot has null. A look that fails does not fail the step.
 */
export async function reasonsOf(
	context: IExecuteFunctions,
	{ client }: Fleet,
	submits: Array<Settled<Submit>>,
	answers: Array<Settled<SubmitAnswer>>,
): Promise<Array<string | null | undefined>> {
	const reasons: Array<string | null | undefined> = answers.map(() => undefined);
	const looks: Array<() => Promise<void>> = [];
	const targets = new Map<string, number[]>();
	let explained = 0;
	for (const [i, answer] of answers.entries()) {
		const submit = submits[i];
		if (isRefused(answer) || submit === undefined || isRefused(submit)) continue;
		const { jobId, state, unmatched: alone } = answer.value;
		const waits = state === 'queued' || state === 'pending';
		if (wantsReason(context, i)) {
			if (!waits) reasons[i] = null;
			else if (explained++ < maxExplained) {
				looks.push(async () => {
					reasons[i] = (await client.why(jobId)).text;
				});
			}
		}
		// A job with a start time waits for that, whoever matches.
		if (state !== 'queued' || !alone) continue;
		const key = JSON.stringify(submit.value.target ?? {});
		targets.set(key, [...(targets.get(key) ?? []), i]);
	}
	const unmatched: string[] = [];
	for (const indexes of [...targets.values()].slice(0, maxTargets)) {
		looks.push(async () => {
			const answer = answers[indexes[0]!]!;
			if (isRefused(answer)) return;
			const why = await client.why(answer.value.jobId, { only: 'matching', limit: 1 });
			if (!nobodyMatches(why)) return;
			unmatched.push(why.text);
			for (const i of indexes) reasons[i] ??= why.text;
		});
	}
	while (looks.length > 0) {
		await Promise.all(looks.splice(0, atOnce).map((look) => look().catch(() => undefined)));
	}
	for (const text of unmatched) {
		context.addExecutionHints({
			message: `The job waits until there is a robot that may run it. ${text}`,
			type: 'warning',
			location: 'outputPane',
		});
	}
	return reasons;
}

/** The field of an item; absent = nobody looked. */
export const withReason = (reason: string | null | undefined) =>
	reason === undefined ? {} : { whyWaiting: reason };

const nobodyMatches = ({ robots }: Why) => robots !== undefined && robots.matching === 0;

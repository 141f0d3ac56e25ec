/** Why jobs do not start at once: a sentence for the item, and a hint for the person at the editor. */
import type { IExecuteFunctions } from 'n8n-workflow';
import type { Submit, SubmitAnswer, Why } from '../../protocol';
import type { Fleet } from './connection';
import { isRefused, type Settled } from './items';
import { wantsReason } from './submission-fields';

/** Unasked, so many different targets are looked at: a step must not become slow by its explanations. */
const maxTargets = 3;
/** Asked for, so many jobs are. */
const maxExplained = 100;
const atOnce = 8;

/**
 * For each item `whyWaiting`, where it is known: for those that ask for it, and unasked for jobs that no robot may run. A
 * job that was given away has null. A look that fails is no failure of the step.
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
		// A job with a time to start at waits for that, whoever matches.
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

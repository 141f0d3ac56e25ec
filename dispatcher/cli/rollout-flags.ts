/** On how many robots a job runs, and how it goes out to them: the flags, and what they become. */
import { type Command, Option } from 'commander';
import { type Away, awayChoices, type Rollout, type Target } from '../../protocol';
import { durationOf, UsageMistake, wholeOf } from './terminal';

export interface RolloutFlags {
	all?: boolean;
	count?: number;
	perLabel?: string;
	perGroup?: string;
	away?: Away;
	batch?: number | string;
	canary?: number;
	stagger?: number;
	maxFailures?: number | string;
	pauseBetween?: true | number;
}

export function withRollout(command: Command): Command {
	const others = ['count', 'perLabel', 'perGroup'];
	return command
		.addOption(new Option('--all', 'run on every robot that matches, not on one').conflicts(others))
		.option('--count <number>', 'run on this many different robots', wholeOf)
		.addOption(
			new Option('--per-label <name>', 'run on one robot for each value of this label').conflicts([
				'count',
				'perGroup',
			]),
		)
		.addOption(
			new Option(
				'--per-group <name>',
				'run on one robot for each group that lies in this group',
			).conflicts('count'),
		)
		.addOption(
			new Option(
				'--away <what>',
				'of these robots, those that are away: wait for them (default), or skip them',
			).choices(awayChoices),
		)
		.option('--batch <size>', 'go out in batches of this many robots, or a share: 10, 25%', shareOf)
		.option(
			'--canary <number>',
			'this many first and alone; when one of them fails, it stops',
			wholeOf,
		)
		.option('--stagger <duration>', 'within a batch, start one after the other: 10s', durationOf)
		.option(
			'--max-failures <number>',
			'stop when more than this have failed: 2, 10% (default 0)',
			shareOf,
		)
		.option(
			'--pause-between [duration]',
			'between batches, wait for jobs resume, or for this long: 5m',
			durationOf,
		);
}

/** What the flags say about how many robots, and about those that are away. */
export function fanOutOf(flags: RolloutFlags): Pick<Target, 'mode' | 'away'> {
	const { all, count, perLabel, perGroup, away } = flags;
	return {
		...(all && { mode: 'all' as const }),
		...(count !== undefined && { mode: { count } }),
		...(perLabel !== undefined && { mode: { perLabel } }),
		...(perGroup !== undefined && { mode: { perGroup } }),
		...(away !== undefined && { away }),
	};
}

/** Whether the job is for several robots. */
export function isForSeveral(flags: RolloutFlags): boolean {
	return fanOutOf(flags).mode !== undefined;
}

/** `known`: the rollout of a job that already goes out in batches; flags change what they name. */
export function rolloutOf(flags: RolloutFlags, known?: Rollout): Rollout | undefined {
	const { batch, canary, stagger, maxFailures, pauseBetween } = flags;
	const said = {
		...(batch !== undefined && { batch }),
		...(canary !== undefined && { canary }),
		...(stagger !== undefined && { staggerMs: stagger }),
		...(maxFailures !== undefined && { maxFailures }),
		...(pauseBetween !== undefined && { pauseBetween }),
	};
	if (Object.keys(said).length === 0) return known;
	const size = batch ?? known?.batch;
	if (size === undefined) {
		throw new UsageMistake('Say how many robots a batch has: --batch 10, or --batch 25%.');
	}
	return { ...known, ...said, batch: size };
}

/** `10`, `25%`. */
function shareOf(text: string): number | string {
	return /^\d{1,3}%$/.test(text) ? text : wholeOf(text);
}

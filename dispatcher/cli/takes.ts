/** The flags that say what a job takes besides a robot: locks, places of a key, a rate, slots. */
import { type Command, InvalidArgumentError } from 'commander';
import type { Concurrency, LockWish, Rate, Takes } from '../../protocol';
import { durationOf, wholeOf } from './terminal';

export interface TakesFlags {
	lock?: LockWish[];
	concurrency?: Concurrency;
	rate?: Rate;
	slots?: number;
}

export function withTakes(command: Command): Command {
	return command
		.option(
			'--lock <name>',
			'have this lock while it runs, or this many of one that has several: licence:2 (repeatable)',
			lockOf,
		)
		.option(
			'--concurrency <key=max>',
			'at most this many jobs of the key at once: crm=3',
			concurrencyOf,
		)
		.option(
			'--rate <key=max/time>',
			'at most this many starts of the key within a time: crm=10/1m',
			rateOf,
		)
		.option('--slots <number>', 'take this many slots of its robot', countOf);
}

export function takesOfFlags({ lock, concurrency, rate, slots }: TakesFlags): Takes {
	return {
		...(lock && { locks: lock }),
		...(concurrency && { concurrency }),
		...(rate && { rate }),
		...(slots !== undefined && { slots }),
	};
}

/** `db-prod` or `licence:2`. */
function lockOf(text: string, before: LockWish[] = []): LockWish[] {
	const [, name = text, slots] = /^(.+?)(?::(\d+))?$/.exec(text) ?? [];
	return [...before, { name, ...(slots !== undefined && { slots: countOf(slots) }) }];
}

function concurrencyOf(text: string): Concurrency {
	const [, key, max] = /^(.+)=(\d+)$/.exec(text) ?? [];
	if (key === undefined) throw new InvalidArgumentError('Write it as KEY=NUMBER: crm=3.');
	return { key, max: countOf(max!) };
}

function rateOf(text: string): Rate {
	const [, key, max, time] = /^(.+)=(\d+)\/(\S+)$/.exec(text) ?? [];
	if (key === undefined) throw new InvalidArgumentError('Write it as KEY=NUMBER/TIME: crm=10/1m.');
	// `10/m` is ten a minute.
	return { key, max: countOf(max!), perMs: durationOf(/^\d/.test(time!) ? time! : `1${time!}`) };
}

function countOf(text: string): number {
	const count = wholeOf(text);
	if (count === 0) throw new InvalidArgumentError('Write a number above 0.');
	return count;
}

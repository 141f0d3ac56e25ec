/** How the options of a simulation are written: ranges, shares, rates, and values to choose from. */
import { InvalidArgumentError } from 'commander';
import { durationOf } from '../terminal';

/** Both ends included. */
export interface Range {
	least: number;
	most: number;
}

/** `20ms..200ms`, or one duration; in milliseconds. */
export function durationsOf(text: string): Range {
	return rangeOf(text, durationOf);
}

/** `1..4`, or one number. */
export function countsOf(text: string): Range {
	return rangeOf(text, (one) => {
		if (!/^[1-9]\d{0,3}$/.test(one)) {
			throw new InvalidArgumentError('Write a whole number from 1, or two of them: 1..4.');
		}
		return Number(one);
	});
}

function rangeOf(text: string, read: (text: string) => number): Range {
	const [least, most = least, more] = text.split('..');
	const range = { least: read(least!), most: read(most!) };
	if (more !== undefined || range.most < range.least) {
		throw new InvalidArgumentError('Write the lower end first: LOW..HIGH.');
	}
	return range;
}

/** `5%`; 0…1. */
export function shareOf(text: string): number {
	const [, number] = /^(\d{1,3}(?:\.\d+)?)%$/.exec(text) ?? [];
	const percent = Number(number);
	if (number === undefined || percent > 100) {
		throw new InvalidArgumentError('Write a percentage: 5%.');
	}
	return percent / 100;
}

/** `5/s`, `1/10m`: this many in that time, as the mean milliseconds from one to the next. */
export function meanGapOf(text: string): number {
	const [, number, time] = /^(\d+(?:\.\d+)?)\/(.+)$/.exec(text) ?? [];
	if (number === undefined || Number(number) === 0) {
		throw new InvalidArgumentError('Write how many in which time: 5/s or 1/10m.');
	}
	const span = durationOf(/^\d/.test(time!) ? time! : `1${time}`);
	if (span === 0) throw new InvalidArgumentError('The time must be longer than nothing.');
	return span / Number(number);
}

/** `site=berlin,oslo`: each robot gets one of the values; one listed twice is drawn twice as often. */
export function valuesOf(
	text: string,
	before: Record<string, string[]> = {},
): Record<string, string[]> {
	const [, name, values] = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,127})=(.+)$/.exec(text) ?? [];
	if (name === undefined) throw new InvalidArgumentError('Write it as NAME=VALUE,VALUE…');
	if (Object.hasOwn(before, name)) throw new InvalidArgumentError(`"${name}" is given twice.`);
	return { ...before, [name]: values!.split(',') };
}

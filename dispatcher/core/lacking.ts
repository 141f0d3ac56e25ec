/** What nobody has that a job asks for, where another word was perhaps meant. */
import type { Rule, Terms } from './matching';
import { nearest } from './nearest';

/** Of the first single term that no robot fulfils, if somebody has one that is written nearly the same. */
export function misspelt(rule: Rule, robots: readonly Terms[]): string | undefined {
	const names = robots.flatMap(({ labels }) => Object.keys(labels));
	for (const name of [...Object.keys(rule.labels), ...(rule.tags ?? [])]) {
		if (!names.includes(name)) return meant('label', name, nearest(name, names));
	}
	for (const [name, wanted] of Object.entries(rule.labels)) {
		const values = robots.flatMap(({ labels }) => labels[name] ?? []);
		if (values.includes(wanted)) continue;
		const near = nearest(wanted, values);
		return meant('label', `${name}=${wanted}`, near && `${name}=${near}`);
	}
	const offered = robots.flatMap(({ capabilities }) => capabilities);
	const missing = rule.capabilities.find((name) => !offered.includes(name));
	return missing === undefined
		? undefined
		: meant('capability', missing, nearest(missing, offered));
}

function meant(what: string, word: string, near: string | undefined): string | undefined {
	return near === undefined ? undefined : `No robot has the ${what} ${word}; did you mean ${near}?`;
}

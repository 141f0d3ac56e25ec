/** What a job asks for and nobody has, where perhaps another word was meant. */
import { describeRule, misfit, type Rule, type Terms } from './matching';
import { nearest } from './nearest';

/** Why none of them matches, in one sentence. */
export function whyNobody(
	rule: Rule,
	robots: readonly Terms[],
	nameOf: (robotId: string) => string,
): string {
	const [first] = robots;
	if (!first) return 'No robot has been enrolled yet; make a token with: robot-fleet token create.';
	if (rule.client !== undefined) {
		const announced = robots.flatMap(({ clients }) => clients);
		if (!announced.includes(rule.client)) {
			return `No robot announces client ${rule.client}${meantClient(rule.client, announced)}`;
		}
	}
	const slip = misspelt(rule, robots);
	if (slip !== undefined) return slip;
	const lacks = misfit(rule, first)?.text ?? 'does';
	return `None of the ${robots.length} robots matches ${describeRule(rule, nameOf)} (${nameOf(first.robotId)} ${lacks}).`;
}

/** The rest of a sentence about a client that nobody has. */
export function meantClient(client: string, announced: readonly string[]): string {
	const near = nearest(client, announced);
	if (near !== undefined) return `; did you mean ${near}?`;
	const known = [...new Set(announced)];
	if (known.length === 0) return '; an agent announces one with: --client NAME.';
	const more = known.length > 5 ? ` and ${known.length - 5} more` : '';
	return `; known ones are ${known.slice(0, 5).join(', ')}${more}.`;
}

/** About the first single term that no robot meets, if some robot has one that is spelled almost the same. */
export function misspelt(rule: Rule, robots: readonly Terms[]): string | undefined {
	const names = robots.flatMap(({ labels }) => Object.keys(labels));
	for (const name of [...Object.keys(rule.labels), ...(rule.tags ?? [])]) {
		if (!names.includes(name)) return meant('label', name, nearest(name, names));
	}
	for (const [name, wanted] of Object.entries(rule.labels)) {
		const values = robots.flatMap(({ labels }) =>
			Object.hasOwn(labels, name) ? labels[name]! : [],
		);
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

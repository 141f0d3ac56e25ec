/** Choices of a field, made from the tables of protocol/ or from words. */
import type { INodeProperties, INodePropertyOptions } from 'n8n-workflow';

/** The choices of a table, as n8n words them: `run_timeout` reads "Run Timeout", a single sentence has no full stop. */
export function optionsOf(texts: Record<string, string>): INodePropertyOptions[] {
	return Object.entries(texts)
		.map(([value, text]) => {
			const description = text.replaceAll('`', '').replace(/\.$/, '');
			return { name: titleOf(value), value, description };
		})
		.sort((a, b) => a.name.localeCompare(b.name));
}

export function titleOf(words: string): string {
	return words
		.split(/[_ ]/)
		.map((word) => word.charAt(0).toUpperCase() + word.slice(1))
		.join(' ');
}

type Shown = NonNullable<NonNullable<INodeProperties['displayOptions']>['show']>;

/** The same field, shown only where this holds as well. */
export function shownFor(field: INodeProperties, when: Shown): INodeProperties {
	const { displayOptions } = field;
	return {
		...field,
		displayOptions: { ...displayOptions, show: { ...when, ...displayOptions?.show } },
	};
}

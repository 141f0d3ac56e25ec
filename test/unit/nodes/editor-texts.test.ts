/**
 * What a builder reads in n8n's editor, held against n8n's UX guide: every node and credential that the
 * package lists, every field of it, also those that tables have made and a lint of the source cannot see.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type {
	ICredentialType,
	INodeProperties,
	INodePropertyCollection,
	INodePropertyOptions,
	INodeType,
} from 'n8n-workflow';

const root = join(__dirname, '../../..');
const { n8n } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
	n8n: { nodes: string[]; credentials: string[] };
};

/** `dist/nodes/X/X.node.js` as its source and its class. */
function load<T>(file: string): { name: string; folder: string; type: T } {
	const source = file.replace(/^dist\//, '').replace(/\.js$/, '');
	const name = source.split('/').at(-1)!.split('.')[0]!;
	const classes = jest.requireActual<Record<string, new () => T>>(join(root, source));
	return { name, folder: join(root, source, '..'), type: new classes[name]!() };
}
const nodes = n8n.nodes.map((file) => load<INodeType>(file));
const credentials = n8n.credentials.map((file) => load<ICredentialType>(file));

/** A field, and where it stands. */
interface Placed {
	at: string;
	field: INodeProperties;
}

function allFields(at: string, fields: readonly INodeProperties[]): Placed[] {
	return fields.flatMap((field) => [
		{ at: `${at} › ${field.displayName}`, field },
		...groupsOf(field).flatMap(({ displayName, values }) =>
			allFields(`${at} › ${field.displayName} › ${displayName}`, values),
		),
		...allFields(`${at} › ${field.displayName}`, fieldsIn(field)),
	]);
}

const fieldsIn = ({ type, options = [] }: INodeProperties) =>
	type === 'collection' ? (options as INodeProperties[]) : [];
const groupsOf = ({ type, options = [] }: INodeProperties) =>
	type === 'fixedCollection' ? (options as INodePropertyCollection[]) : [];
const choicesOf = ({ type, options = [] }: INodeProperties) =>
	type === 'options' || type === 'multiOptions' ? (options as INodePropertyOptions[]) : [];

const fields: Placed[] = [
	...nodes.flatMap(({ name, type }) => allFields(name, type.description.properties)),
	...credentials.flatMap(({ name, type }) => allFields(name, type.properties)),
];
const said = fields.filter(({ field }) => field.type !== 'notice');

/** Where a rule is broken, with the words. */
const broken = (placed: Placed[], words: (field: INodeProperties) => string | undefined) =>
	placed.flatMap(({ at, field }) => {
		const wrong = words(field);
		return wrong === undefined ? [] : [`${at}: ${wrong}`];
	});

const small = new Set(
	'a an and as at but by for from if in into nor of off on or out over per than that the to up via vs with without'.split(
		' ',
	),
);

/** As n8n writes labels: each word begins with a capital, but for small ones inside. */
function isTitle(text: string): boolean {
	const words = text.replace(/[()"…]/g, '').split(/[\s/-]+/);
	return words.every(
		(word, at) =>
			/^[A-Z0-9]/.test(word) ||
			(at > 0 && at < words.length - 1 && small.has(word)) ||
			word === 'n8n',
	);
}

/** One sentence has no full stop; several have one each. */
function isDescription(text: string): boolean {
	const plain = text.replace(/<[^>]+>/g, '').replace(/\be\.g\. /g, '');
	const several = /[.!?]\s+["A-Z0-9]/.test(plain);
	return /^["A-Z0-9]/.test(plain) && plain === plain.trim() && /[.!?]$/.test(plain) === several;
}

describe('fields', () => {
	test('the walk sees them all', () => {
		expect(nodes.length).toBeGreaterThanOrEqual(5);
		expect(fields.length).toBeGreaterThan(200);
	});

	test('labels are in title case', () => {
		expect(
			broken(said, ({ displayName }) => (isTitle(displayName) ? undefined : displayName)),
		).toEqual([]);
		const choices = said.flatMap(({ at, field }) =>
			choicesOf(field)
				.filter(({ name }) => !isTitle(name))
				.map(({ name }) => `${at}: ${name}`),
		);
		expect(choices).toEqual([]);
		const groups = said.flatMap(({ at, field }) =>
			groupsOf(field)
				.filter(({ displayName }) => !isTitle(displayName))
				.map(({ displayName }) => `${at}: ${displayName}`),
		);
		expect(groups).toEqual([]);
	});

	test('descriptions are sentences, with a full stop only when there are several', () => {
		const wrong = (text: string | undefined) =>
			text === undefined || isDescription(text) ? undefined : text;
		expect(broken(said, ({ description }) => wrong(description))).toEqual([]);
		expect(
			said.flatMap(({ at, field }) =>
				choicesOf(field)
					.filter(({ description }) => wrong(description) !== undefined)
					.map(({ description }) => `${at}: ${description}`),
			),
		).toEqual([]);
	});

	test('descriptions and labels say different things', () => {
		const bare = (text = '') => text.toLowerCase().replace(/[^a-z0-9]/g, '');
		expect(
			broken(said, ({ displayName, description }) =>
				bare(displayName) === bare(description) ? description : undefined,
			),
		).toEqual([]);
	});

	test('switches begin with "Whether"', () => {
		expect(
			broken(said, ({ type, description = '' }) =>
				type === 'boolean' && !description.startsWith('Whether ') ? description : undefined,
			),
		).toEqual([]);
	});

	test('placeholders are examples, or say what is added or selected', () => {
		const begins: Partial<Record<INodeProperties['type'], RegExp>> = {
			string: /^e\.g\. /,
			number: /^e\.g\. /,
			dateTime: /^e\.g\. /,
			collection: /^Add /,
			fixedCollection: /^Add /,
		};
		expect(
			broken(said, ({ type, placeholder }) => {
				if (type === 'collection' || type === 'fixedCollection') {
					return begins[type]!.test(placeholder ?? '') ? undefined : String(placeholder);
				}
				return placeholder === undefined || begins[type]?.test(placeholder)
					? undefined
					: placeholder;
			}),
		).toEqual([]);
	});

	test('what is chosen from is in the order of the alphabet, from five on', () => {
		const out = (names: string[]) =>
			// Weeks have an order of their own.
			names[0] === 'Monday' ||
			names.length < 5 ||
			names.every((name, at) => at === 0 || names[at - 1]!.localeCompare(name) <= 0)
				? undefined
				: names.join(', ');
		expect(broken(said, (field) => out(choicesOf(field).map(({ name }) => name)))).toEqual([]);
		expect(
			broken(said, (field) => out(fieldsIn(field).map(({ displayName }) => displayName))),
		).toEqual([]);
	});

	test('a locator begins with the live list, and its other modes have examples', () => {
		const locators = said.filter(({ field }) => field.type === 'resourceLocator');
		expect(locators.length).toBeGreaterThan(5);
		for (const { at, field } of locators) {
			const [first, ...others] = field.modes!;
			expect([at, first]).toEqual([
				at,
				expect.objectContaining({
					displayName: 'From List',
					name: 'list',
					type: 'list',
					placeholder: expect.stringMatching(/^Select an? .*\.\.\.$/),
				}),
			]);
			// Unless it is what the item of the node before it names.
			const chosen = field.default as { mode: string; value: string };
			if (!chosen.value.startsWith('={{ $json.')) {
				expect([at, chosen]).toEqual([at, { mode: 'list', value: '' }]);
			} else expect([at, chosen.mode]).toEqual([at, 'id']);
			for (const { placeholder } of others)
				expect([at, placeholder]).toEqual([at, expect.stringMatching(/^e\.g\. /)]);
		}
	});

	test('lists that are loaded live are of functions that the node has', () => {
		for (const { name, type } of nodes) {
			for (const { field, at } of allFields(name, type.description.properties)) {
				const wanted = field.typeOptions?.loadOptionsMethod;
				if (wanted)
					expect([at, type.methods?.loadOptions]).toEqual([
						at,
						expect.objectContaining({ [wanted]: expect.any(Function) }),
					]);
				for (const { typeOptions } of field.modes ?? []) {
					const search = typeOptions?.searchListMethod;
					if (search)
						expect([at, type.methods?.listSearch]).toEqual([
							at,
							expect.objectContaining({ [search]: expect.any(Function) }),
						]);
				}
			}
		}
	});

	test('Limit and Return All are as everywhere in n8n', () => {
		for (const { at, field } of said) {
			if (field.name === 'returnAll') {
				expect([at, field]).toEqual([
					at,
					expect.objectContaining({
						displayName: 'Return All',
						type: 'boolean',
						default: false,
						description: 'Whether to return all results or only up to a given limit',
					}),
				]);
			}
			if (field.name === 'limit') {
				expect([at, field]).toEqual([
					at,
					expect.objectContaining({
						displayName: 'Limit',
						type: 'number',
						default: 50,
						typeOptions: expect.objectContaining({ minValue: 1 }),
						description: 'Max number of results to return',
					}),
				]);
			}
		}
	});

	test('no text speaks of errors or problems; what n8n calls "On Error" is meant by its name', () => {
		const texts = [
			...fields.flatMap(({ at, field }) =>
				[field.displayName, field.description, field.placeholder, field.hint]
					.concat(choicesOf(field).flatMap(({ name, description }) => [name, description]))
					.map((text) => ({ at, text })),
			),
			...nodes.map(({ name, type }) => ({ at: name, text: type.description.description })),
		];
		// A setting of n8n, a stream, and why a job ended: called so everywhere.
		const names = /On Error|Standard Error|^Spawn Error$/g;
		const wrong = texts.filter(({ text = '' }) =>
			/\b(error|errors|problem|problems|failure)\b/i.test((text ?? '').replace(names, '')),
		);
		expect(wrong).toEqual([]);
	});

	test('what a model may fill in says what it is', () => {
		const tools = nodes.filter(({ type }) => type.description.usableAsTool === true);
		const typed = new Set(['string', 'number', 'boolean', 'json', 'dateTime']);
		const mute = tools.flatMap(({ name, type }) =>
			type.description.properties
				.filter(({ type: kind, description, hint }) => typed.has(kind) && !(description ?? hint))
				.map(({ displayName }) => `${name} › ${displayName}`),
		);
		expect(mute).toEqual([]);
	});
});

describe.each(nodes)('$name', ({ name, folder, type }) => {
	const { description } = type;
	const isTrigger = description.group.includes('trigger');

	test('has a title, and a default name that is the same', () => {
		expect(isTitle(description.displayName)).toBe(true);
		expect(description.defaults.name).toBe(description.displayName);
		expect(isDescription(description.description)).toBe(true);
		expect(description.displayName.endsWith('Trigger')).toBe(isTrigger);
		expect(description.subtitle).toMatch(/^=/);
	});

	test('has versions as a list, so that a later one is added to it', () => {
		expect(description.version).toEqual(expect.arrayContaining([1]));
	});

	test('has an icon for each theme', () => {
		const { light, dark } = description.icon as { light: string; dark: string };
		expect(dark).toBe(light.replace(/\.svg$/, '.dark.svg'));
		for (const file of [light, dark]) {
			const text = readFileSync(join(folder, file.replace('file:', '')), 'utf8');
			const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(text) ?? [];
			expect([file, width]).toEqual([file, height]);
			expect(text).not.toMatch(/<script|href=/);
		}
	});

	test('needs the credential, whose test is the same everywhere', () => {
		expect(description.credentials).toEqual([
			{ name: 'robotFleetApi', required: true, testedBy: 'robotFleetApiTest' },
		]);
		expect(type.methods?.credentialTest).toHaveProperty('robotFleetApiTest');
	});

	test('is found by the words people look for', () => {
		const codex = JSON.parse(readFileSync(join(folder, `${name}.node.json`), 'utf8')) as {
			node: string;
			nodeVersion: string;
			codexVersion: string;
			categories: string[];
			alias: string[];
			resources: {
				primaryDocumentation: { url: string }[];
				credentialDocumentation: { url: string }[];
			};
		};
		expect(codex).toMatchObject({
			node: `n8n-nodes-robot-fleet.${description.name}`,
			nodeVersion: '1.0',
			codexVersion: '1.0',
		});
		expect(codex.alias).toEqual(
			expect.arrayContaining(['robot fleet', 'fleet', 'agent', 'ssh', 'remote command']),
		);
		expect(new Set(codex.alias).size).toBe(codex.alias.length);
		const known = [
			'Analytics',
			'Communication',
			'Core Nodes',
			'Data & Storage',
			'Development',
			'Finance & Accounting',
			'Marketing & Content',
			'Miscellaneous',
			'Productivity',
			'Sales',
			'Utility',
		];
		expect(codex.categories.filter((category) => !known.includes(category))).toEqual([]);
		for (const links of [
			codex.resources.primaryDocumentation,
			codex.resources.credentialDocumentation,
		]) {
			expect(links[0]!.url).toMatch(/^https:\/\//);
		}
	});

	test('says whether an agent may call it', () => {
		if (isTrigger) {
			expect(description).not.toHaveProperty('usableAsTool');
			expect(description.inputs).toEqual([]);
			expect(description.eventTriggerDescription).toBeDefined();
			expect(description.activationMessage).toMatch(/\.$/);
			return;
		}
		expect(Object.hasOwn(description, 'usableAsTool')).toBe(true);
		// What can only park must not be one.
		expect(description.usableAsTool).toBe(name === 'WaitForExecution' ? undefined : true);
	});

	test('tells what it waits for, if it parks', () => {
		if (!description.webhooks?.some(({ restartWebhook }) => restartWebhook)) return;
		expect(description.waitingNodeTooltip).toEqual(expect.any(String));
		expect(type.webhook).toEqual(expect.any(Function));
	});

	test('has resources and operations in n8n’s form', () => {
		const properties = description.properties;
		const resources = properties.filter((field) => field.name === 'resource');
		if (resources.length === 0) return;
		const operations = properties.filter((field) => field.name === 'operation');
		expect(operations).toHaveLength(choicesOf(resources[0]!).length);
		for (const field of [...resources, ...operations]) expect(field.noDataExpression).toBe(true);
		for (const choice of operations.flatMap(choicesOf)) {
			// Sentence case, e.g. "Get many robots".
			expect(choice.action).toMatch(/^[A-Z][a-z]+( [a-z0-9 ]+|$)/);
			expect(choice.description).toBeDefined();
			if (choice.value === 'getAll') expect(choice.name).toMatch(/^Get Many/);
		}
	});
});

test('no two nodes have one name', () => {
	const names = nodes.map(({ type }) => type.description.displayName);
	expect(new Set(names).size).toBe(names.length);
});

describe.each(credentials)('$name', ({ type }) => {
	test('keeps what is secret out of sight, and links to its page', () => {
		for (const field of type.properties) {
			if (/key|token|secret|password/i.test(field.name)) {
				expect([field.name, field.typeOptions?.password]).toEqual([field.name, true]);
			}
		}
		expect(type.documentationUrl).toMatch(/^https:\/\//);
		expect(type.icon).toMatchObject({ light: expect.any(String), dark: expect.any(String) });
	});
});

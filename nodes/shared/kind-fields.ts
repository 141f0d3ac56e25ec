/** Jobs of other kinds than commands: a live list of kinds, and fields made from the schema of the chosen one. */
import type {
	IExecuteFunctions,
	ILoadOptionsFunctions,
	INodeProperties,
	INodePropertyOptions,
	ResourceMapperField,
	ResourceMapperFields,
	ResourceMapperValue,
} from 'n8n-workflow';
import type { Submit } from '../../protocol';
import { BadParameter } from './refusals';
import { asking } from './robots';

export const kindFields: INodeProperties[] = [
	{
		displayName: 'Kind Name or ID',
		name: 'kind',
		type: 'options',
		typeOptions: { loadOptionsMethod: 'getKinds' },
		default: '',
		required: true,
		description:
			'What sort of job it is. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { commandType: ['kind'] } },
	},
	{
		displayName: 'What to Do',
		name: 'kindSpec',
		type: 'resourceMapper',
		noDataExpression: true,
		default: { mappingMode: 'defineBelow', value: null },
		required: true,
		typeOptions: {
			loadOptionsDependsOn: ['kind'],
			resourceMapper: {
				resourceMapperMethod: 'getKindFields',
				mode: 'add',
				fieldWords: { singular: 'field', plural: 'fields' },
				addAllFields: true,
				supportAutoMap: false,
				noFieldsError: 'Jobs of this kind have no fields: there is nothing to fill in.',
			},
		},
		displayOptions: { show: { commandType: ['kind'] }, hide: { kind: [''] } },
	},
];

export async function getKinds(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	return await asking(this, async (client) =>
		(await client.kinds()).map(({ name, summary }) => ({
			name,
			value: name,
			description: summary,
		})),
	);
}

export async function getKindFields(this: ILoadOptionsFunctions): Promise<ResourceMapperFields> {
	const wanted = String(this.getCurrentNodeParameter('kind') ?? '');
	return await asking(this, async (client) => {
		const kind = (await client.kinds()).find(({ name }) => name === wanted);
		return { fields: kind ? fieldsOf(kind.schema as Schema) : [] };
	});
}

/** What we read of a JSON Schema. */
interface Schema {
	type?: string;
	description?: string;
	enum?: (string | number)[];
	properties?: Record<string, Schema>;
	required?: string[];
}

const types: Record<string, ResourceMapperField['type']> = {
	string: 'string',
	number: 'number',
	integer: 'number',
	boolean: 'boolean',
	array: 'array',
	object: 'object',
};

function fieldsOf({ properties = {}, required = [] }: Schema): ResourceMapperField[] {
	return Object.entries(properties).map(([id, schema]) => ({
		id,
		displayName: id,
		required: required.includes(id),
		defaultMatch: false,
		display: true,
		...(schema.enum
			? { type: 'options', options: schema.enum.map((value) => ({ name: String(value), value })) }
			: { type: types[schema.type ?? ''] ?? 'object' }),
	}));
}

/** Kind and spec, when another kind than a command is chosen. */
export function readKind(
	context: IExecuteFunctions,
	itemIndex: number,
): Pick<Submit, 'kind' | 'spec'> | undefined {
	if (context.getNodeParameter('commandType', itemIndex, 'program') !== 'kind') return undefined;
	const kind = String(context.getNodeParameter('kind', itemIndex, '') ?? '').trim();
	if (kind === '') throw new BadParameter('No kind is chosen', 'Choose one in "Kind"');
	const mapped = context.getNodeParameter('kindSpec', itemIndex, {}) as
		Partial<ResourceMapperValue> | undefined;
	const known = new Map((mapped?.schema ?? []).map((field) => [field.id, field]));
	const spec: Record<string, unknown> = {};
	for (const [id, value] of Object.entries(mapped?.value ?? {})) {
		// A field that was left empty sets nothing.
		if (value === null || value === undefined || value === '') continue;
		spec[id] = parsed(id, value, known.get(id)?.type);
	}
	return { kind, spec };
}

/** Lists and objects are written as JSON. */
function parsed(id: string, value: unknown, type: ResourceMapperField['type']): unknown {
	if (typeof value !== 'string' || type === undefined || type === 'string' || type === 'options') {
		return value;
	}
	const json = fromJson(value);
	if (json !== undefined) return json;
	const example =
		type === 'array' ? '["one", "two"]' : type === 'object' ? '{"name": "value"}' : '1';
	throw new BadParameter(
		`"${id}" is no ${type === 'array' ? 'list' : type}`,
		`Write JSON in "${id}", e.g. ${example}`,
	);
}

function fromJson(text: string): unknown {
	try {
		return JSON.parse(text) as unknown;
	} catch {
		return undefined;
	}
}

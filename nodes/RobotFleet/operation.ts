/**
 * What the node can do, as a table: a resource has operations, an operation has its fields and its action side
 * by side. The description and `execute` both read the table, so neither can know an operation that the other
 * does not.
 */
import type {
	IDataObject,
	IExecuteFunctions,
	INodeExecutionData,
	INodeProperties,
	INodePropertyOptions,
} from 'n8n-workflow';
import type { FleetClient } from '../../client';
import { shownFor } from '../shared/choices';
import { BadParameter } from '../shared/refusals';

export { shownFor } from '../shared/choices';

export interface Resource {
	title: string;
	value: string;
	/** In the order of their names. */
	operations: Operation[];
	/** The operation that is chosen by default. */
	first: string;
}

export interface Operation {
	name: string;
	value: string;
	action: string;
	description: string;
	fields: INodeProperties[];
	run(ask: Ask): Promise<Found[]>;
}

/** One item of output; the caller knows what it is paired with. */
export type Found = Pick<INodeExecutionData, 'json' | 'binary'>;

/** One input item, and what the person who made the workflow wants for it. */
export class Ask {
	constructor(
		readonly context: IExecuteFunctions,
		readonly itemIndex: number,
		readonly client: FleetClient,
	) {}

	get signal(): AbortSignal | undefined {
		return this.context.getExecutionCancelSignal();
	}

	get timezone(): string {
		return this.context.getTimezone();
	}

	value<T>(name: string, fallback: T): T {
		return (this.context.getNodeParameter(name, this.itemIndex, fallback) ?? fallback) as T;
	}

	text(name: string): string {
		return String(this.value(name, '')).trim();
	}

	/** What a list or a field names; refused when it names nothing. */
	chosen(name: string, what: string): string {
		const { context, itemIndex } = this;
		const value = context.getNodeParameter(name, itemIndex, '', { extractValue: true });
		const id = String(value ?? '').trim();
		if (id !== '') return id;
		throw new BadParameter(
			`No ${what.toLowerCase()} is given`,
			`Choose one in "${what}", or write its ID`,
		);
	}
}

/** Objects of the service are plain data. */
export function found(value: object | readonly object[]): Found[] {
	return [value].flat().map((each) => ({ json: each as IDataObject }));
}

export const deleted = (facts: IDataObject): Found[] => found({ ...facts, deleted: true });

/** The fields of a node that has these resources. */
export function propertiesOf(resources: readonly Resource[]): INodeProperties[] {
	const first = resources[0]!.value;
	return [
		{
			displayName: 'Resource',
			name: 'resource',
			type: 'options',
			noDataExpression: true,
			options: resources.map(({ title, value }) => ({ name: title, value })),
			default: first,
		},
		...resources.map(operationsOf),
		...resources.flatMap(({ value: resource, operations }) =>
			operations.flatMap(({ value, fields }) =>
				fields.map((field) => shownFor(field, { resource: [resource], operation: [value] })),
			),
		),
	];
}

function operationsOf({ value, operations, first }: Resource): INodeProperties {
	return {
		displayName: 'Operation',
		name: 'operation',
		type: 'options',
		noDataExpression: true,
		displayOptions: { show: { resource: [value] } },
		options: operations.map(({ name, value, action, description }): INodePropertyOptions => ({
			name,
			value,
			action,
			description,
		})),
		default: first,
	};
}

export function operationOf(
	resources: readonly Resource[],
	context: IExecuteFunctions,
	itemIndex: number,
): Operation {
	const resource = context.getNodeParameter('resource', itemIndex, '') as string;
	const operation = context.getNodeParameter('operation', itemIndex, '') as string;
	const known = resources
		.find(({ value }) => value === resource)
		?.operations.find(({ value }) => value === operation);
	if (known) return known;
	throw new BadParameter(
		`"${resource}: ${operation}" is not an operation of this node`,
		'Choose a resource and an operation from the lists',
	);
}

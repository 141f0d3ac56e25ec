/** The table of operations, as n8n's own rules want it. What the operations do is tested with a real service. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { INodeProperties, INodePropertyOptions } from 'n8n-workflow';
import { RobotFleet } from '../../../nodes/RobotFleet/RobotFleet.node';

const { properties } = new RobotFleet().description;
const named = (name: string) => properties.filter((field) => field.name === name);
const optionsOf = (field: INodeProperties) => field.options as INodePropertyOptions[];
const sorted = (names: string[]) => [...names].sort((a, b) => a.localeCompare(b));
const shows = (field: INodeProperties, resource: string, operation: string) => {
	const { show = {} } = field.displayOptions ?? {};
	return show.resource?.includes(resource) && show.operation?.includes(operation);
};

const resources = optionsOf(named('resource')[0]!);
const operations = named('operation').flatMap((field) =>
	optionsOf(field).map((option) => ({
		resource: String(field.displayOptions!.show!.resource![0]),
		...option,
	})),
);

test('every resource has its operations, in the order of their names, each with a sentence', () => {
	expect(resources.map(({ name }) => name)).toEqual(
		sorted(['Robot', 'Job', 'Schedule', 'Token', 'Metric']),
	);
	expect(named('operation')).toHaveLength(resources.length);
	for (const field of named('operation')) {
		const names = optionsOf(field).map(({ name }) => name);
		expect(names).toEqual(sorted(names));
		expect(optionsOf(field).map(({ value }) => value)).toContain(field.default);
	}
	const many = operations.filter(({ value }) => value === 'getAll');
	expect(many.every(({ name, action }) => name === 'Get Many' && /^Get many /.test(action!))).toBe(
		true,
	);
	for (const { name, action = '', description = '' } of operations) {
		expect(action).toMatch(/^[A-Z][a-z]+( [a-z]+)+$/);
		expect([name, description.endsWith('.')]).toEqual([name, false]);
		expect(description.length).toBeGreaterThan(10);
	}
});

test('robots, jobs, files, schedules and tokens are managed from their first day to their last', () => {
	const found = operations.map(({ resource, value }) => `${resource}:${String(value)}`);
	expect(found).toEqual(
		expect.arrayContaining([
			...['get', 'getAll', 'pause', 'resume', 'drain', 'delete'].map((each) => `robot:${each}`),
			...[
				'get',
				'getAll',
				'answer',
				'cancel',
				'pause',
				'resume',
				'retry',
				'getOutput',
				'sendInput',
			].map((each) => `job:${each}`),
			...['uploadFile', 'downloadFile', 'retryDelivery', 'update'].map((each) => `job:${each}`),
			...['create', 'get', 'getAll', 'update', 'delete'].map((each) => `schedule:${each}`),
			...['pause', 'resume', 'run'].map((each) => `schedule:${each}`),
			...['create', 'getAll', 'delete'].map((each) => `token:${each}`),
			'metric:get',
		]),
	);
});

test('a field is shown once for an operation, unless another field chooses between two of its name', () => {
	for (const { resource, value } of operations) {
		const fields = properties.filter((field) => shows(field, resource, String(value)));
		const twice = fields.filter((field, i) => fields.findIndex((f) => f.name === field.name) !== i);
		const plain = twice.filter(({ displayOptions }) => {
			const conditions = Object.keys(displayOptions!.show!);
			return conditions.length === 2;
		});
		expect([resource, value, plain.map(({ name }) => name)]).toEqual([resource, value, []]);
	}
});

test('fields that are chosen from have their choices in order, and those in collections too', () => {
	const all = properties.flatMap((field) =>
		field.type === 'collection' ? [field, ...(field.options as INodeProperties[])] : [field],
	);
	for (const field of all.filter(({ type }) => type === 'collection')) {
		const names = (field.options as INodeProperties[]).map(({ displayName }) => displayName);
		expect([field.name, names]).toEqual([field.name, sorted(names)]);
	}
	const chosen = all.filter(({ type, options, typeOptions }) =>
		Boolean(/ptions$/.test(type) && options && !typeOptions?.loadOptionsMethod),
	);
	for (const field of chosen.filter(({ name }) => name !== 'priority' && name !== 'runOn')) {
		const values = optionsOf(field).map(({ value }) => value);
		expect(new Set(values).size).toBe(values.length);
	}
});

test('what lists and searches the fields name is there', () => {
	const { listSearch, loadOptions } = new RobotFleet().methods;
	const text = JSON.stringify(properties);
	const methods = (kind: string) =>
		[...text.matchAll(new RegExp(`"${kind}":"(\\w+)"`, 'g'))].map(([, name]) => name!);
	expect(methods('searchListMethod').length).toBeGreaterThan(10);
	for (const name of methods('searchListMethod')) expect(listSearch).toHaveProperty(name);
	for (const name of methods('loadOptionsMethod')) expect(loadOptions).toHaveProperty(name);
});

test('Download File with nothing set gets what the job of the item has collected', () => {
	const shown = properties.filter((field) => shows(field, 'job', 'downloadFile'));
	const defaultOf = (name: string) => shown.find((field) => field.name === name)!.default;
	expect(defaultOf('download')).toBe('job');
	expect(defaultOf('job')).toEqual({
		mode: 'id',
		value: '={{ $json.error && $json.details?.id || ($json.job?.id ?? $json.jobId) }}',
	});
});

test('docs/nodes.md has a row for each operation and no other', () => {
	const page = readFileSync(join(__dirname, '../../../docs/nodes.md'), 'utf8');
	const rows = [...page.matchAll(/^\| (Job|Metric|Robot|Schedule|Token) \| ([\w ]+) \|/gm)];
	const titles = new Map(resources.map(({ name, value }) => [String(value), name]));
	expect(rows.map(([, resource, name]) => `${resource}: ${name}`)).toEqual(
		operations.map(({ resource, name }) => `${titles.get(resource)}: ${name}`),
	);
});

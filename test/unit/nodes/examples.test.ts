/** Workflows that people import: whole, readable, and of nobody's machine. That they run is shown in test/n8n/examples.test.ts. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { INodeProperties, INodeType, INodeTypeDescription } from 'n8n-workflow';

interface ExampleNode {
	id: string;
	name: string;
	type: string;
	typeVersion: number;
	parameters: Record<string, unknown>;
	position: [number, number];
	credentials?: Record<string, { id: string; name: string }>;
}

interface Workflow {
	id: string;
	name: string;
	nodes: ExampleNode[];
	connections: Record<string, Record<string, Array<Array<{ node: string }>>>>;
}

const root = join(__dirname, '../../..');
const folder = join(root, 'examples');
const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
const index = readFileSync(join(folder, 'README.md'), 'utf8');
const ourPrefix = 'n8n-nodes-robot-fleet.';
const others = ['n8n-nodes-base.', '@n8n/n8n-nodes-langchain.'];

const types = new Map(
	readdirSync(join(root, 'nodes')).flatMap((name) => {
		const found = readdirSync(join(root, 'nodes', name)).find((file) => file.endsWith('.node.ts'));
		if (found === undefined) return [];
		// eslint-disable-next-line @typescript-eslint/no-require-imports -- whichever nodes there are
		const made = require(join(root, 'nodes', name, found)) as Record<string, new () => INodeType>;
		const { description } = new made[name]!();
		return [[description.name, description] as const];
	}),
);

/** As a tool of an agent n8n knows a node by another name, and adds two fields. */
function descriptionOf(type: string): INodeTypeDescription | undefined {
	const name = type.slice(ourPrefix.length);
	const asTool = types.get(name.replace(/Tool$/, ''));
	return types.get(name) ?? (asTool?.usableAsTool ? asTool : undefined);
}
const toolFields = ['descriptionType', 'toolDescription'];

/** A parameter that no field has would be dropped by n8n without a word; so would one inside a collection. */
function strangers(parameters: Record<string, unknown>, fields: INodeProperties[]): string[] {
	return Object.entries(parameters).flatMap(([name, value]) => {
		const named = fields.filter((field) => field.name === name);
		if (named.length === 0) return toolFields.includes(name) ? [] : [name];
		const collections = named.filter(({ type }) => type === 'collection');
		if (collections.length === 0) return [];
		const inside = collections.flatMap(({ options }) => (options ?? []) as INodeProperties[]);
		return strangers(value as Record<string, unknown>, inside).map((each) => `${name}.${each}`);
	});
}

const isNote = ({ type }: ExampleNode) => type === 'n8n-nodes-base.stickyNote';
const isOurs = ({ type }: ExampleNode) => type.startsWith(ourPrefix);

test('there are at least a dozen examples, for more than one purpose each', () => {
	expect(files.length).toBeGreaterThanOrEqual(12);
	const all = files.map((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as Workflow);
	expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
	expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
});

test('the index names every example once, and nothing that is not there', () => {
	const listed = [...index.matchAll(/^\| \[([\w-]+\.json)\]\(\1\) \| ([^|]+) \| ([^|]+) \|$/gm)];
	expect(listed.map(([, file]) => file).sort()).toEqual([...files].sort());
});

describe.each(files)('%s', (file) => {
	const text = readFileSync(join(folder, file), 'utf8');
	const workflow = JSON.parse(text) as Workflow;
	const names = workflow.nodes.map(({ name }) => name);
	const steps = workflow.nodes.filter((node) => !isNote(node));
	const ends = Object.entries(workflow.connections).flatMap(([from, kinds]) =>
		Object.entries(kinds).flatMap(([kind, outputs]) =>
			outputs.flat().map(({ node }) => ({ from, kind, to: node })),
		),
	);
	const named = (name: string) => workflow.nodes.find((node) => node.name === name)!;

	test('has ids and names that are unique, and connects all of its nodes', () => {
		expect(new Set(names).size).toBe(names.length);
		expect(new Set(workflow.nodes.map(({ id }) => id)).size).toBe(names.length);
		const connected = ends.flatMap(({ from, to }) => [from, to]);
		expect([...new Set(connected)].sort()).toEqual(steps.map(({ name }) => name).sort());
	});

	test('uses only nodes that there are, only fields that they have, and the credential to be chosen', () => {
		expect(workflow.nodes.filter(isOurs).length).toBeGreaterThan(0);
		for (const node of workflow.nodes) {
			if (!isOurs(node)) {
				expect(others.some((prefix) => node.type.startsWith(prefix))).toBe(true);
				expect(node.credentials).toBeUndefined();
				continue;
			}
			const description = descriptionOf(node.type);
			expect([node.type, description === undefined]).toEqual([node.type, false]);
			expect([description!.version].flat()).toContain(node.typeVersion);
			const unknown = strangers(node.parameters, description!.properties);
			expect([node.name, unknown]).toEqual([node.name, []]);
			expect(node.credentials).toEqual({
				robotFleetApi: { id: 'robotFleetThisN8n', name: 'Robot Fleet (this n8n)' },
			});
		}
	});

	test('knows no robot, job or host of the machine it was made on', () => {
		// What is chosen from a list is kept by its id.
		expect(text).not.toMatch(/"mode": "list"/);
		for (const [, host] of text.matchAll(/https?:\/\/([\w.-]+)/g)) {
			expect(['localhost', '127.0.0.1']).toContain(host);
		}
		expect(text).not.toMatch(/\/(home|root|Users|tmp)\//);
		expect(workflow).toHaveProperty('active', false);
		expect(workflow).toHaveProperty('pinData', {});
	});

	test('says in a note what it does, what to change and what it needs', () => {
		const notes = workflow.nodes.filter(isNote);
		expect(notes).toHaveLength(1);
		const lines = String(notes[0]!.parameters.content).split('\n');
		const said = lines.filter((line) => line !== '');
		expect(said.length).toBeGreaterThanOrEqual(4);
		expect(said.length).toBeLessThanOrEqual(6);
		expect(said[0]).toMatch(/^## /);
		expect(said.some((line) => line.startsWith('**Change:** '))).toBe(true);
		expect(said.some((line) => line.startsWith('**Needs:** '))).toBe(true);
		// Nodes are called what they do.
		const bare = names.filter((name) => /\d$/.test(name));
		expect(bare).toEqual([]);
	});

	test('reads from left to right, and nothing lies on anything', () => {
		for (const { from, kind, to } of ends) {
			// Only a pause leads back.
			if (kind !== 'main' || named(from).type === 'n8n-nodes-base.wait') continue;
			expect([from, to, named(to).position[0] > named(from).position[0]]).toEqual([from, to, true]);
		}
		const boxes = workflow.nodes.map((node) => ({
			name: node.name,
			x: node.position[0],
			y: node.position[1],
			width: isNote(node) ? Number(node.parameters.width) : 96,
			// A node has its name below it.
			height: isNote(node) ? Number(node.parameters.height) : 140,
		}));
		const touching = boxes.flatMap((a, i) =>
			boxes
				.slice(i + 1)
				.filter(
					(b) =>
						a.x < b.x + b.width &&
						b.x < a.x + a.width &&
						a.y < b.y + b.height &&
						b.y < a.y + a.height,
				)
				.map((b) => `${a.name} and ${b.name}`),
		);
		expect(touching).toEqual([]);
	});
});

/** What a job does and how long it may take: the fields, and how they become a `Submit`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Priority, Submit, Target, Timeouts, Variables } from '../../protocol';
import { awayFields, readAway } from './away-fields';
import { kindFields, readKind } from './kind-fields';
import { limitFields, readLimits } from './limit-fields';
import { choiceOf, readMatching } from './matching-fields';
import { BadParameter } from './refusals';
import { readRetry, retryFields } from './retry-fields';
import { plainText, textOf } from './text';
import { readCaps, readWatch, watchFields, type WatchOptions } from './watch-fields';

export const commandFields: INodeProperties[] = [
	{
		displayName: 'Command Type',
		name: 'commandType',
		type: 'options',
		options: [
			{
				name: 'Other Kind of Job',
				value: 'kind',
				description: 'A job of any other kind that the service knows',
			},
			{
				name: 'Program',
				value: 'program',
				description: 'One program with its arguments, run exactly as given: no shell, no quoting',
			},
			{
				name: 'Shell Text',
				value: 'shell',
				description: 'Text for the shell of the robot, pipes included',
			},
		],
		default: 'program',
	},
	{
		displayName: 'Program',
		name: 'program',
		type: 'string',
		default: '',
		required: true,
		placeholder: 'e.g. uname',
		description: 'Found on the PATH of the robot',
		displayOptions: { show: { commandType: ['program'] } },
	},
	{
		displayName: 'Arguments',
		name: 'args',
		type: 'string',
		typeOptions: { multipleValues: true, multipleValueButtonText: 'Add Argument' },
		default: [],
		placeholder: 'e.g. -a',
		description:
			'One argument per line, with spaces and quotes kept as they are. An expression that gives a list adds one argument for each entry.',
		displayOptions: { show: { commandType: ['program'] } },
	},
	{
		displayName: 'Shell Text',
		name: 'shell',
		type: 'string',
		typeOptions: { rows: 4 },
		default: '',
		required: true,
		placeholder: 'e.g. df -h | tail -n +2',
		description:
			'Run by /bin/sh (cmd.exe on Windows). Values of items do not belong here: add them as variables and write "$ROBOT_FLEET_VAR_NAME".',
		displayOptions: { show: { commandType: ['shell'] } },
	},
	...kindFields,
];

export const jobFields: INodeProperties[] = [
	{
		displayName: 'Priority',
		name: 'priority',
		type: 'options',
		options: [
			{ name: 'Critical', value: 'critical', description: 'Before everything else' },
			{ name: 'High', value: 'high' },
			{ name: 'Normal', value: 'normal' },
			{ name: 'Low', value: 'low' },
		],
		default: 'normal',
		description: 'Which of the waiting jobs goes first',
	},
	{
		displayName: 'Variables',
		name: 'variables',
		type: 'fixedCollection',
		typeOptions: { multipleValues: true },
		placeholder: 'Add Variable',
		default: {},
		description:
			'Values for the command: ROBOT_FLEET_VAR_NAME in its environment. A value never becomes shell code.',
		options: [
			{
				displayName: 'Variable',
				name: 'variable',
				values: [
					{
						displayName: 'Name',
						name: 'name',
						type: 'string',
						default: '',
						placeholder: 'e.g. build',
					},
					{ displayName: 'Value', name: 'value', type: 'string', default: '' },
				],
			},
		],
	},
	{
		displayName: 'Options',
		name: 'options',
		type: 'collection',
		placeholder: 'Add option',
		default: {},
		options: byName([
			{
				displayName: 'Client',
				name: 'client',
				type: 'string',
				default: '',
				placeholder: 'e.g. emulator-5554',
				description:
					'Which client of the robot (a profile, session or emulator that its agent names) runs the command; any that is free when empty',
			},
			{
				displayName: 'Collect Files',
				name: 'collect',
				type: 'string',
				typeOptions: { multipleValues: true, multipleValueButtonText: 'Add Pattern' },
				default: [],
				placeholder: 'e.g. report/**/*.html',
				description:
					'Files that the job leaves in its workspace and you want to keep, however it ends. The field "files" of the job lists them with their IDs, and Download File of the node Robot Fleet gets all of them. With this option the job runs in a folder of its own.',
			},
			{
				displayName: 'Environment Variables',
				name: 'env',
				type: 'fixedCollection',
				typeOptions: { multipleValues: true },
				placeholder: 'Add Variable',
				default: {},
				description: 'Added to the environment of the agent',
				options: [
					{
						displayName: 'Variable',
						name: 'variable',
						values: [
							{
								displayName: 'Name',
								name: 'name',
								type: 'string',
								default: '',
								placeholder: 'e.g. LANG',
							},
							{ displayName: 'Value', name: 'value', type: 'string', default: '' },
						],
					},
				],
			},
			{
				displayName: 'Files',
				name: 'files',
				type: 'fixedCollection',
				typeOptions: { multipleValues: true },
				placeholder: 'Add File',
				default: {},
				description: 'Placed in the workspace of the job before it starts',
				options: [
					{
						displayName: 'File',
						name: 'file',
						values: [
							{
								displayName: 'File ID',
								name: 'file',
								type: 'string',
								default: '',
								description: 'As Upload File of the node Robot Fleet has returned it',
							},
							{
								displayName: 'Path',
								name: 'path',
								type: 'string',
								default: '',
								placeholder: 'e.g. conf/app.json',
								description: 'Where it is placed in the workspace',
							},
						],
					},
				],
			},
			{
				displayName: 'If It Hangs',
				name: 'onHang',
				type: 'options',
				options: [
					{ name: 'Report It', value: 'report', description: 'In the health of the job' },
					{ name: 'Stop It', value: 'stop', description: 'The job ends as timed out' },
				],
				default: 'report',
				description: 'What its robot does when the job neither prints nor computes any more',
			},
			{
				displayName: 'Input Time Limit (Seconds)',
				name: 'inputSeconds',
				type: 'number',
				typeOptions: { minValue: 1 },
				default: 300,
				description: 'How long a program that asks for something waits for an answer',
			},
			{
				displayName: 'Interactive',
				name: 'interactive',
				type: 'boolean',
				default: true,
				description:
					'Whether its input stays open, so that Robot Fleet can send input to the job and is told when the program asks',
			},
			{
				displayName: 'Max Attempts',
				name: 'maxAttempts',
				type: 'number',
				typeOptions: { minValue: 1, numberPrecision: 0 },
				default: 3,
				description:
					'How often the job is started at most, including the first time. Only starts that failed because of the robot are repeated, not a command that ended with an exit code.',
			},
			{
				displayName: 'Queue Time Limit (Seconds)',
				name: 'queueSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 0,
				description: 'How long the job may wait for a robot; 0 for no limit',
			},
			{
				displayName: 'Run Time Limit (Seconds)',
				name: 'runSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 3600,
				description: 'How long one attempt may run; 0 for the limit of the service',
			},
			{
				displayName: 'Silence Time Limit (Seconds)',
				name: 'silenceSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 0,
				description: 'How long a running job may print nothing; 0 for no limit',
			},
			{
				displayName: 'Standard Input',
				name: 'stdin',
				type: 'string',
				typeOptions: { rows: 4 },
				default: '',
				description: 'Written to the command, whose input is then closed',
			},
			{
				displayName: 'Working Folder',
				name: 'cwd',
				type: 'string',
				default: '',
				placeholder: 'e.g. /var/tmp',
				description: 'Where the command runs; the home folder of the agent when empty',
			},
			...watchFields,
		]),
	},
	...limitFields,
	...awayFields,
	...retryFields,
];

function byName(fields: INodeProperties[]): INodeProperties[] {
	return fields.sort((a, b) => a.displayName.localeCompare(b.displayName));
}

interface Pair {
	name?: unknown;
	value?: unknown;
}

interface Placed {
	file?: unknown;
	path?: unknown;
}

/** An expression may give something other than text. */
interface Options extends WatchOptions {
	client?: unknown;
	cwd?: unknown;
	env?: { variable?: Pair[] } | null;
	files?: { file?: Placed[] } | null;
	collect?: unknown;
	stdin?: unknown;
	interactive?: boolean;
	inputSeconds?: number;
	onHang?: Submit['onHang'];
	queueSeconds?: number;
	runSeconds?: number;
	silenceSeconds?: number;
	maxAttempts?: number;
}

export function readSubmit(
	context: IExecuteFunctions,
	itemIndex: number,
	target: Target | undefined,
): Submit {
	const options = context.getNodeParameter('options', itemIndex, {}) as Options;
	const variables = context.getNodeParameter('variables', itemIndex, {}) as { variable?: Pair[] };
	const timeouts = readTimeouts(options);
	const surroundings = readSurroundings(options);
	const other = readKind(context, itemIndex);
	if (other) refuseSurroundings(surroundings);
	return {
		...(other ?? {
			kind: 'command',
			spec: { ...readCommand(context, itemIndex), ...surroundings },
		}),
		...readWhere(target, options),
		...(target?.robot === undefined ? choiceOf(readMatching(context, itemIndex)) : {}),
		priority: context.getNodeParameter('priority', itemIndex, 'normal') as Priority,
		variables: readPairs(variables.variable, 'Variables') as Variables,
		...(Object.keys(timeouts).length > 0 ? { timeouts } : {}),
		...readWatch(options),
		...readCaps(options),
		...(options.onHang ? { onHang: options.onHang } : {}),
		...readLimits(context, itemIndex),
		...readAway(context, itemIndex),
		...readRetry(context, itemIndex, options.maxAttempts),
	};
}

function readCommand(context: IExecuteFunctions, itemIndex: number) {
	if (context.getNodeParameter('commandType', itemIndex, 'program') === 'shell') {
		const said = context.getNodeParameter('shell', itemIndex, '') ?? '';
		const shell = plainText(said, '"Shell Text"');
		if (textOf(shell) === '') {
			throw new BadParameter('The shell text is empty', 'Write a command in "Shell Text"');
		}
		return { shell };
	}
	const said = context.getNodeParameter('program', itemIndex, '') ?? '';
	const command = plainText(said, '"Program"').trim();
	if (command === '') {
		throw new BadParameter('No program is given', 'Write one in "Program", e.g. uname');
	}
	return { command, args: readArgs(context.getNodeParameter('args', itemIndex, [])) };
}

/** A line that yields a list is as many arguments as the list has, even none. */
function readArgs(said: unknown): string[] {
	return [said ?? []].flat().flatMap((line: unknown, index) =>
		([line].flat(Infinity) as unknown[]).map((value) => {
			const name = `Argument ${index + 1}`;
			if (value !== undefined && value !== null) return plainText(value, name);
			throw new BadParameter(
				`${name} is nothing`,
				'Remove it, or use an expression that gives text, or a list that may be empty',
			);
		}),
	);
}

function readSurroundings({ cwd, env, stdin, interactive, files, collect }: Options) {
	const pairs = readPairs(env?.variable, 'Environment Variables');
	const patterns = [collect ?? []].flat().filter((pattern) => textOf(pattern) !== '');
	const placed = readFiles(files?.file);
	const folder = textOf(cwd);
	const input = stdin === undefined || stdin === null ? '' : plainText(stdin, '"Standard Input"');
	return {
		...(placed.length > 0 ? { files: placed } : {}),
		...(patterns.length > 0 ? { collect: patterns.map(String) } : {}),
		...(folder ? { cwd: folder } : {}),
		...(Object.keys(pairs).length > 0 ? { env: pairs } : {}),
		...(input ? { stdin: input } : {}),
		...(interactive ? { interactive } : {}),
	};
}

/** What they are called in the editor. */
const surroundingNames: Record<keyof ReturnType<typeof readSurroundings>, string> = {
	files: 'Files',
	collect: 'Collect Files',
	cwd: 'Working Folder',
	env: 'Environment Variables',
	stdin: 'Standard Input',
	interactive: 'Interactive',
};

/** A job of another kind has no place for them, and dropping them would look like success. */
function refuseSurroundings(surroundings: ReturnType<typeof readSurroundings>): void {
	const [first] = Object.keys(surroundings) as (keyof typeof surroundings)[];
	if (first === undefined) return;
	throw new BadParameter(
		`"${surroundingNames[first]}" counts only for a program or shell text`,
		'Remove it from "Options"; what a job of this kind takes is in "What to Do"',
	);
}

function readFiles(files: Placed[] = []) {
	return files.map((said, index) => {
		const file = textOf(said.file);
		const path = textOf(said.path);
		if (file === '' || path === '') {
			throw new BadParameter(
				`"Files" lacks an ID or a path in line ${index + 1}`,
				'Give both: the ID of the file, and where it is placed',
			);
		}
		return { file, path };
	});
}

function readWhere(target: Target | undefined, { client }: Options): { target?: Target } {
	const name = textOf(client);
	if (name) return { target: { ...target, client: name } };
	return target === undefined ? {} : { target };
}

function readTimeouts(options: Options): Timeouts {
	const { inputSeconds, queueSeconds, runSeconds, silenceSeconds } = options;
	return {
		...(queueSeconds ? { queueMs: queueSeconds * 1000 } : {}),
		...(runSeconds ? { runMs: runSeconds * 1000 } : {}),
		...(silenceSeconds ? { silenceMs: silenceSeconds * 1000 } : {}),
		...(inputSeconds ? { inputMs: Math.round(inputSeconds * 1000) } : {}),
	};
}

function readPairs(pairs: Pair[] = [], field: string): Record<string, string> {
	return Object.fromEntries(
		pairs.map(({ name: said, value }, index) => {
			const name = textOf(said);
			if (name === '') {
				throw new BadParameter(`"${field}" has no name in line ${index + 1}`, 'Give it a name');
			}
			return [name, plainText(value ?? '', `"${name}" in "${field}"`)];
		}),
	);
}

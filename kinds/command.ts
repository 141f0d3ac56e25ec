/**
 * The `command` kind: one program with arguments (no shell), or one line of shell text.
 *
 * Values reach a command in two ways only: as environment (`ROBOT_FLEET_VAR_NAME`, always) and as
 * `{{name}}` in args, cwd, env and stdin. Shell text is never filled in: a value with a quote in it
 * would become code.
 */
import { Type, type Static } from 'typebox';
import { limits, Problem, type Variables } from '../protocol';
import { collectPatterns, placedFiles, wishMistake } from './files';
import type { Kind } from './kind';

const text = (description: string, examples: string[] = []) =>
	Type.String({ description, examples, maxLength: limits.maxCommandBytes });

export const commandSpec = Type.Object(
	{
		command: Type.Optional(
			Type.String({
				description: 'The program to run, found on the PATH of the robot. No shell.',
				minLength: 1,
				maxLength: limits.maxCommandBytes,
				examples: ['uname'],
			}),
		),
		args: Type.Optional(
			Type.Array(text('One argument; may hold {{name}}', ['-a']), { maxItems: 10_000 }),
		),
		shell: Type.Optional(
			Type.String({
				description:
					'Shell text, run by /bin/sh (cmd.exe on Windows). Use "$ROBOT_FLEET_VAR_NAME" for variables.',
				minLength: 1,
				maxLength: limits.maxCommandBytes,
				examples: ['df -h | tail -n +2'],
			}),
		),
		cwd: Type.Optional(
			text(
				'Folder to run in. Default: the workspace of the job if it has one, else the home of the agent’s user. A relative path starts from there.',
			),
		),
		env: Type.Optional(
			Type.Record(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]*$' }), text('A value'), {
				description: 'Added to the environment of the agent.',
			}),
		),
		stdin: Type.Optional(
			text('Written to standard input, which is then closed (kept open when interactive).'),
		),
		interactive: Type.Optional(
			Type.Boolean({
				description:
					'Keep standard input open for POST /jobs/{id}/input, and notice when the program asks for input. Default no.',
			}),
		),
		files: Type.Optional(placedFiles),
		collect: Type.Optional(collectPatterns),
	},
	{ additionalProperties: false },
);
export type CommandSpec = Static<typeof commandSpec>;

/** The blanks around a name are left to `trim`: in the pattern, many of them would cost their number cubed. */
const placeholder = /\{\{([^{}]*)\}\}/g;

/** The environment name of a variable: `build-id` → `ROBOT_FLEET_VAR_BUILD_ID`. */
export function variableEnvName(name: string): string {
	return `ROBOT_FLEET_VAR_${name.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`;
}

/** Fills `{{name}}`. Names were checked at submit, so a missing one is left as it stands. */
export function fill(template: string, variables: Variables): string {
	return template.replace(placeholder, (whole, said: string) => {
		const name = said.trim();
		return Object.hasOwn(variables, name) ? String(variables[name]) : whole;
	});
}

/** The spec with every `{{name}}` filled in, ready to run. */
export function fillSpec(spec: CommandSpec, variables: Variables): CommandSpec {
	const filled: CommandSpec = { ...spec };
	if (spec.args) filled.args = spec.args.map((arg) => fill(arg, variables));
	if (spec.cwd !== undefined) filled.cwd = fill(spec.cwd, variables);
	if (spec.stdin !== undefined) filled.stdin = fill(spec.stdin, variables);
	if (spec.env) {
		filled.env = Object.fromEntries(
			Object.entries(spec.env).map(([name, value]) => [name, fill(value, variables)]),
		);
	}
	return filled;
}

export const command: Kind<CommandSpec> = {
	name: 'command',
	summary: 'A program with arguments, or a line of shell text.',
	schema: commandSpec,

	wishes: ({ files, collect }) => ({
		...(files && { files }),
		...(collect && { collect }),
	}),

	fill: fillSpec,

	check(spec, variables) {
		if ((spec.command === undefined) === (spec.shell === undefined)) {
			return new Problem('bad-field', {
				path: 'spec',
				reason: 'give exactly one of "command" (with "args", no shell) and "shell"',
			});
		}
		if (spec.shell !== undefined && spec.args !== undefined) {
			return new Problem('bad-field', {
				path: 'spec.args',
				reason: 'goes with "command", not with "shell"',
			});
		}
		for (const [path, value] of [
			['spec.shell', spec.shell],
			['spec.command', spec.command],
		] as const) {
			const found = value === undefined ? null : /\{\{(?:([^{}]*)\}\})?/.exec(value);
			if (!found) continue;
			if (path === 'spec.command') {
				return new Problem('bad-field', {
					path,
					reason: 'the program itself cannot hold {{…}}; put values into args',
				});
			}
			return new Problem('template-in-shell', {
				found: found[0],
				instead: `"$${variableEnvName(found[1]?.trim() || 'name')}"`,
			});
		}
		const templates: [string, string][] = [
			...(spec.args ?? []).map((arg, i): [string, string] => [`spec.args[${i}]`, arg]),
			...Object.entries(spec.env ?? {}).map(([k, v]): [string, string] => [`spec.env.${k}`, v]),
		];
		if (spec.cwd !== undefined) templates.push(['spec.cwd', spec.cwd]);
		if (spec.stdin !== undefined) templates.push(['spec.stdin', spec.stdin]);
		let filledBytes = 0;
		for (const [path, template] of templates) {
			filledBytes += Buffer.byteLength(template);
			for (const [whole, said] of template.matchAll(placeholder)) {
				const name = said!.trim();
				if (!Object.hasOwn(variables, name)) return new Problem('unknown-variable', { path, name });
				filledBytes += Buffer.byteLength(String(variables[name])) - Buffer.byteLength(whole);
				if (filledBytes <= limits.maxFilledBytes) continue;
				return new Problem('bad-field', {
					path,
					reason: `with its variables in place, the job has more than ${limits.maxFilledBytes} bytes; put what is large into a file`,
				});
			}
		}
		const values = Object.entries(variables).map(([name, value]): [string, string] => [
			`variables.${name}`,
			String(value),
		]);
		for (const [path, value] of [
			...templates,
			...values,
			['spec.shell', spec.shell ?? ''],
			['spec.command', spec.command ?? ''],
		] as const) {
			if (value.includes('\0')) {
				return new Problem('bad-field', { path, reason: 'must not hold a NUL byte' });
			}
		}
		const wish = wishMistake(spec);
		if (wish) return wish;
		const bytes = Buffer.byteLength([spec.shell, spec.command, ...(spec.args ?? [])].join(' '));
		if (bytes > limits.maxCommandBytes) {
			return new Problem('bad-field', {
				path: spec.shell === undefined ? 'spec.args' : 'spec.shell',
				reason: `the command is ${bytes} bytes long, at most ${limits.maxCommandBytes} are allowed; put large input into stdin or a file`,
			});
		}
		return undefined;
	},
};

/** `robot-fleet hook`: n8n's own port as the robots' door, for an n8n that hosts the service. */
import {
	chmodSync,
	existsSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { emptyShimText, shimMark, shimName, shimText } from './hook-shim';
import { card, json, type Terminal, UsageMistake } from './terminal';

interface Flags {
	n8nFolder?: string;
	json?: boolean;
	delete?: boolean;
}

interface HookStatus {
	file: string;
	/** `foreign`: somebody else's file has that name. */
	hook: 'installed' | 'outdated' | 'out of use' | 'absent' | 'foreign';
	package: string | null;
	/** To be set where n8n is started. */
	environment: Record<string, string>;
}

export function addHook(program: Command, terminal: Terminal): void {
	const hook = program
		.command('hook')
		.summary('let robots come in by n8n’s own port')
		.description(
			'For an n8n that hosts the service ("This n8n"): a small file in n8n’s user folder starts the service with n8n, stops it in order, and lets robots in by n8n’s own port, at the path /robot-fleet.',
		);
	const command = (name: string, summary: string, description: string) =>
		hook
			.command(name)
			.summary(summary)
			.description(description)
			.option(
				'--n8n-folder <dir>',
				'user folder of n8n, which holds .n8n (default: N8N_USER_FOLDER, or your home folder)',
			)
			.option('--json', 'print JSON')
			.addHelpText('after', `\nExample:\n  $ robot-fleet hook ${name} --n8n-folder /home/node`);

	command(
		'install',
		'put the file there, and say what to set',
		'Puts the file into n8n’s user folder, or brings it up to date, and prints what to set where n8n is started. It does nothing, and disturbs nothing, when the package is not installed.',
	).action((flags: Flags) => {
		const folder = n8nFolder(terminal, flags);
		const before = statusOf(folder);
		if (before.hook === 'foreign') throw notOurs(before.file);
		write(before.file, shimText);
		const status = statusOf(folder);
		if (flags.json) return terminal.out(json(status));
		terminal.out(`${status.file}\n\nSet this where n8n is started, and start it again:\n`);
		for (const [name, value] of Object.entries(status.environment)) {
			terminal.out(`${name}=${value}\n`);
		}
		if (status.environment.EXTERNAL_HOOK_FILES_SEPARATOR !== undefined) {
			terminal.out(
				'\nn8n splits EXTERNAL_HOOK_FILES at ":", which this path has; with the separator it does not. Other files in the list are then separated by ";", too.\n',
			);
		}
		terminal.out(
			'\nRobots then use --server with that address. Never remove the file while EXTERNAL_HOOK_FILES names it: n8n would not start.\n',
		);
		if (status.package === null) {
			terminal.err(
				`n8n-nodes-robot-fleet is not installed in ${folder}; until it is, the hook does nothing.\n`,
			);
		}
	});

	command(
		'uninstall',
		'make it do nothing',
		'Puts an empty file in its place, because n8n does not start while EXTERNAL_HOOK_FILES names a file that is not there. With --delete the file is removed.',
	)
		.option('--delete', 'remove the file; first take it out of EXTERNAL_HOOK_FILES')
		.action((flags: Flags) => {
			const folder = n8nFolder(terminal, flags);
			const { file, hook: state } = statusOf(folder);
			if (state === 'foreign') throw notOurs(file);
			if (flags.delete) rmSync(file, { force: true });
			else if (state !== 'absent') write(file, emptyShimText);
			const status = statusOf(folder);
			if (flags.json) return terminal.out(json(status));
			terminal.out(
				status.hook === 'absent'
					? `${file} is gone\n`
					: `${file} does nothing from n8n’s next start on; take it out of EXTERNAL_HOOK_FILES, then: robot-fleet hook uninstall --delete\n`,
			);
		});

	command('status', 'say what is there', 'Says whether the file is there and up to date.').action(
		(flags: Flags) => {
			const status = statusOf(n8nFolder(terminal, flags));
			const { environment, package: found, ...more } = status;
			terminal.out(
				flags.json
					? json(status)
					: card({ ...more, package: found ?? 'not installed', ...environment }),
			);
		},
	);
}

/** The folder `.n8n`; people name it, or the one that holds it. */
function n8nFolder({ env }: Terminal, { n8nFolder: given }: Flags): string {
	const user = resolve(given ?? (env.N8N_USER_FOLDER?.trim() || homedir()));
	const folder = basename(user) === '.n8n' ? user : join(user, '.n8n');
	if (!existsSync(folder) || !statSync(folder).isDirectory()) {
		throw new UsageMistake(
			`There is no folder ${folder}; start n8n once, or name its user folder with --n8n-folder DIR.`,
		);
	}
	return folder;
}

function statusOf(folder: string): HookStatus {
	const file = join(folder, shimName);
	const found = ['nodes', 'custom']
		.map((place) => join(folder, place, 'node_modules', 'n8n-nodes-robot-fleet'))
		.find((place) => existsSync(join(place, 'package.json')));
	return {
		file,
		hook: hookIn(file),
		package: found ?? null,
		environment: {
			EXTERNAL_HOOK_FILES: file,
			...(file.includes(':') && { EXTERNAL_HOOK_FILES_SEPARATOR: ';' }),
			ROBOT_FLEET_PUBLIC_URL: 'https://ADDRESS-OF-YOUR-N8N/robot-fleet',
		},
	};
}

function hookIn(file: string): HookStatus['hook'] {
	if (!existsSync(file)) return 'absent';
	const text = readFileSync(file, 'utf8');
	if (!text.startsWith(shimMark)) return 'foreign';
	if (text === shimText) return 'installed';
	return text === emptyShimText ? 'out of use' : 'outdated';
}

/** Whole or not at all: n8n may start at any moment. */
function write(file: string, text: string): void {
	const draft = `${file}.${process.pid}.tmp`;
	try {
		writeFileSync(draft, text);
		chmodSync(draft, 0o644);
		renameSync(draft, file);
	} finally {
		rmSync(draft, { force: true });
	}
}

function notOurs(file: string): UsageMistake {
	return new UsageMistake(`${file} is not a file of Robot Fleet; move it away first.`);
}

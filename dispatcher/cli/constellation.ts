/** The settings file: prints a sample, or says what is wrong with one. */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { sampleConstellation } from '../../protocol';
import { checkConfig } from '../config';
import { json, plural, type Terminal, UsageMistake } from './terminal';

export function addConstellation(
	program: Command,
	terminal: Terminal,
	exit: (code: number) => void,
): void {
	const config = program
		.command('config')
		.summary('make and check the settings file')
		.description('Makes and checks the file of serve --config: settings, devices, or both.')
		.addHelpText('after', '\nExample:\n  $ robot-fleet config check constellation_config.json');
	config
		.command('sample')
		.summary('print a constellation file to start from')
		.description(
			'Prints a constellation file: one device that the service dials, one that dials the service. Settings of the service may stand in it, too.',
		)
		.option('--out <file>', 'write it there; nothing is overwritten')
		.addHelpText(
			'after',
			'\nExample:\n  $ robot-fleet config sample --out constellation_config.json',
		)
		.action(({ out }: { out?: string }) => {
			const text = json(sampleConstellation);
			if (out === undefined) return terminal.out(text);
			const file = resolve(out);
			try {
				writeFileSync(file, text, { flag: 'wx' });
			} catch (error) {
				const { code } = error as NodeJS.ErrnoException;
				throw new UsageMistake(
					code === 'EEXIST'
						? `There is already a file ${file}; name another one with --out.`
						: `${file} cannot be written (${code}).`,
				);
			}
			terminal.out(`${file}\n`);
		});
	config
		.command('check <file>')
		.summary('say everything that is wrong with a settings file')
		.description(
			'Reads a settings file as serve --config does, and says everything that is wrong with it, or OK. Exit code 1 when something is.',
		)
		.addHelpText('after', '\nExample:\n  $ robot-fleet config check constellation_config.json')
		.action((file: string) => {
			const checked = checkConfig({ file });
			if ('mistakes' in checked) {
				for (const mistake of checked.mistakes) terminal.err(`${mistake}\n`);
				return exit(1);
			}
			const { constellation, warnings } = checked.config;
			for (const warning of warnings) terminal.err(`note: ${warning}\n`);
			const devices = constellation?.devices ?? [];
			const dialled = devices.filter(({ serverUrl }) => serverUrl !== null).length;
			terminal.out(
				constellation
					? `OK: ${plural(devices.length, 'device')} of ${constellation.constellationId}, ${dialled} of them to be dialled\n`
					: 'OK: settings of the service, no devices\n',
			);
		});
}

/** `robot-fleet jobs input JOB TEXT`: one answer to a job that asks. */
import type { Command } from 'commander';
import { plural, UsageMistake, json, wholeOf } from './terminal';
import type { CommandKit } from './job-changes';
import { Typist } from './typist';

interface Flags {
	eof?: boolean;
	line?: boolean;
	from?: number;
	json?: boolean;
	data?: string;
}

export function addJobInput(jobs: Command, { terminal, client, sub }: CommandKit): void {
	sub(
		jobs,
		'input <id> [text]',
		'type into a running interactive job: a line, or - for piped input',
		'input 0190f6c2-… yes\n  $ cat secret.txt | robot-fleet jobs input 0190f6c2-… - --eof',
	)
		.option('--eof', 'close the input of the job after it')
		.option('--no-line', 'type the text without an Enter after it')
		.option(
			'--from <offset>',
			'where it begins, as told by waitingFor.offset: safe to repeat',
			wholeOf,
		)
		.action(async (id: string, text: string | undefined, flags: Flags) => {
			if (text === undefined && !flags.eof) {
				throw new UsageMistake('Say what to type, - for piped input, or --eof.');
			}
			const service = client(flags);
			if (text === '-') {
				let failure: Error | undefined;
				const typist = new Typist(service, id, {
					sleep: (ms) => terminal.sleep(ms),
					failed: (error) => (failure = error),
				});
				await typist.begin();
				await piped(terminal.keyboard, (bytes) => typist.type(bytes));
				if (flags.eof) typist.end();
				await typist.sent();
				if (failure) throw failure;
			}
			const answer = await service.input(id, {
				...(text === undefined || text === '-'
					? {}
					: { text: flags.line === false ? text : `${text}\n` }),
				...(flags.eof ? { eof: true } : {}),
				...(flags.from === undefined ? {} : { from: flags.from }),
			});
			const { have, open } = answer;
			terminal.out(
				flags.json
					? json(answer)
					: `${plural(have, 'byte')} typed in all${open ? '' : ', closed'}\n`,
			);
		});
}

function piped(
	keyboard: CommandKit['terminal']['keyboard'],
	typed: (bytes: Uint8Array) => void,
): Promise<void> {
	return new Promise((resolve) => {
		if (!keyboard) return resolve();
		const ended = () => {
			keyboard.close();
			resolve();
		};
		keyboard.open({ typed, ended, resized: () => undefined });
	});
}

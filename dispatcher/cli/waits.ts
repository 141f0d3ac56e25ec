/** The commands about parked n8n executions: which wait, for what, and which of them nobody took. */
import type { Wait, WaitRecord } from '../../protocol';
import type { CommandKit } from './job-changes';
import { json, table, UsageMistake, when, wholeOf } from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
	state?: string;
	limit?: string;
}

const states: readonly Wait['state'][] = ['open', 'due', 'closed', 'dead'];

export function addWaits({ terminal, client, group, sub }: CommandKit): void {
	const waits = group(
		'waits',
		'see parked n8n executions, and poke again those that n8n did not take up',
		'robot-fleet waits list --state dead',
	);
	const list = async (flags: Flags) => {
		const state = states.find((each) => each === flags.state);
		if (flags.state !== undefined && state === undefined) {
			throw new UsageMistake(`--state is one of ${states.join(', ')}.`);
		}
		const limit = wholeOf(flags.limit ?? '100');
		const { items } = await client(flags).waits({ limit, ...(state ? { state } : {}) });
		terminal.out(
			flags.json
				? json(items)
				: table(
						['WAIT', 'STATE', 'EXECUTION', 'JOBS', 'SINCE', 'TRIES', 'LAST ANSWER'],
						items.map(row),
					),
		);
	};
	waits.action(() => list({}));
	sub(waits, 'list', 'list waits, newest first', 'list --state dead')
		.option('--state <state>', `only ${states.join(', ')}; dead = nobody took it`)
		.option('--limit <n>', 'how many at most')
		.action(list);
	sub(
		waits,
		'deliver <id>',
		'tell n8n again now that a wait is over; for one that is not over, ask whether it still waits',
		'deliver 019f2b1c-7d3e-7a10-9c55-0d4c8a1b2e3f',
	).action(async (id: string, flags: Flags) => {
		await client(flags).deliverWait(id);
		const { state } = await client(flags).wait(id);
		terminal.out(flags.json ? json({ waitId: id, state }) : `${id} is ${state}\n`);
	});
}

function row(wait: WaitRecord): (string | number | null)[] {
	const { waitId, state, executionId, jobIds, createdAt, tries, lastError } = wait;
	return [waitId, state, executionId, jobIds.length, when(createdAt), tries, lastError];
}

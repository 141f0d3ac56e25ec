/** The commands about what jobs share: who has a lock, who waits for it, and how much there is. */
import type { GateRecord } from '../../protocol';
import type { CommandKit } from './job-changes';
import { card, json, table, UsageMistake, when, wholeOf } from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
}

export function addLocks({ terminal, client, group, sub }: CommandKit): void {
	const tell = <T>(flags: Flags, value: T, text: (value: T) => string) =>
		terminal.out(flags.json ? json(value) : text(value));
	const locks = group(
		'locks',
		'see locks, limits of keys and rates: who has them, who waits',
		'robot-fleet locks list',
	);
	const list = async (flags: Flags) =>
		tell(flags, await client(flags).locks(), (all) =>
			table(
				['KIND', 'NAME', 'USED', 'HELD BY', 'ON', 'SINCE', 'WAITING'],
				all.map((gate) => [gate.of, gate.name, used(gate), ...held(gate), gate.waiting]),
			),
		);
	locks.action(() => list({}));
	sub(
		locks,
		'list',
		'list all that somebody has, waits for, or has set a limit for',
		'list',
	).action(list);
	sub(locks, 'show <name>', 'show who has one and who is next', 'show db-prod').action(
		async (name: string, flags: Flags) => {
			const found = (await client(flags).locks()).filter((gate) => gate.name === name);
			if (found.length === 0) {
				throw new UsageMistake(
					`Nobody has ${name}, waits for it, or has set a limit for it; see: robot-fleet locks list.`,
				);
			}
			tell(flags, found, (all) => all.map(shown).join('\n'));
		},
	);

	const limits = group(
		'limits',
		'say how much a lock has, or how many jobs of a key run at most',
		'robot-fleet limits put licence 3',
	);
	sub(
		limits,
		'put <name> <max>',
		'set a limit; 0 = nobody gets through until it is set again',
		'put licence 3',
	).action(async (name: string, max: string, flags: Flags) =>
		tell(
			flags,
			await client(flags).putLimit(name, { max: wholeOf(max) }),
			(limit) => `${limit.name} has ${limit.max}\n`,
		),
	);
	sub(
		limits,
		'remove <name>',
		'remove a limit: a lock is for one job again, a key goes by its jobs',
		'remove licence',
	).action(async (name: string, flags: Flags) => {
		await client(flags).removeLimit(name);
		tell(flags, { removed: name }, () => `the limit of ${name} is removed\n`);
	});
}

const used = ({ used: taken, max }: GateRecord) => (max === null ? taken : `${taken}/${max}`);

function held({ holders, opensAt }: GateRecord): (string | null)[] {
	const [first, ...more] = holders;
	if (!first) return [null, null, opensAt === null ? null : `opens ${when(opensAt)}`];
	const others = more.length === 0 ? '' : ` +${more.length}`;
	return [`${first.jobId}${others}`, first.robot, when(first.since)];
}

function shown({ holders, next, opensAt, ...gate }: GateRecord): string {
	const facts = { ...gate, ...(opensAt !== null && { opensAt: when(opensAt) }) };
	return [
		card(facts),
		holders.length === 0
			? ''
			: table(
					['HELD BY', 'ON', 'SLOTS', 'SINCE'],
					holders.map(({ jobId, robot, slots, since }) => [jobId, robot, slots, when(since)]),
				),
		next.length === 0
			? ''
			: table(
					['WAITS', 'SLOTS', 'IN LINE SINCE'],
					next.map(({ jobId, slots, since }) => [jobId, slots, when(since)]),
				),
	].join('');
}

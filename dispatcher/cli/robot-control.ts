/**
 * The commands that close robots and open them again: pause, drain, maintenance, quarantine, resume, probe. By name, or
 * all that labels, groups or pools find; in that case they look first, then act on what they saw.
 */
import { type Command, Option } from 'commander';
import type { FleetClient } from '../../client';
import type {
	CloseRequest,
	Robot,
	RobotAction,
	RobotsBulkRequest,
	RobotsBulkResult,
	RobotSelection,
} from '../../protocol';
import type { DeviceKit } from './devices';
import {
	durationOf,
	json,
	listOf,
	momentOf,
	pairOf,
	plural,
	printable,
	type Terminal,
	UsageMistake,
	when,
} from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
	label?: Record<string, string>;
	tag?: string[];
	group?: string;
	pool?: string;
	reason?: string;
	for?: number;
	until?: string;
	dryRun?: boolean;
	timeout?: number;
}

/** The service holds one answer no longer than this. */
const drainWaitMs = 30_000;

const done: Record<RobotAction, string> = {
	pause: 'paused',
	drain: 'drained: they get no new jobs',
	maintenance: 'put into maintenance',
	quarantine: 'put into quarantine',
	resume: 'resumed',
};

export function addRobotControl(
	robots: Command,
	terminal: Terminal,
	{ client, tell, sub }: DeviceKit,
): void {
	const command = (name: RobotAction, summary: string, example: string) =>
		sub(robots, `${name} [robots...]`, summary, `${name} ${example}`)
			.option('--label <name=value>', 'all that carry it (repeatable)', pairOf)
			.option('--tag <name>', 'all with a label of this name (repeatable)', listOf)
			.option('--group <name>', 'all of this group')
			.option('--pool <name>', 'all of this pool')
			.option('--dry-run', 'change nothing, say which robots would be changed');
	const closing = (name: RobotAction, summary: string, example: string) =>
		command(name, summary, example)
			.option('--reason <text>', 'why, for whoever asks why jobs wait')
			.option('--for <duration>', 'it opens by itself after: 90s, 10m, 2h', durationOf)
			.option('--until <time>', 'it opens by itself at: 18:00 or 2026-05-01T18:00');
	const run = async (
		action: RobotAction,
		names: string[],
		flags: Flags,
		one: (service: FleetClient, robot: string) => Promise<Robot>,
	) => {
		const filter = filterOf(flags);
		const filtered = Object.keys(filter).length > 0;
		if (filtered === names.length > 0) {
			throw new UsageMistake(
				`Name the robots, or say which with --label, --tag, --group or --pool.`,
			);
		}
		const service = client(flags);
		if (filtered) {
			const request = { action, filter, ...closeOf(flags, terminal.now()) };
			const result = await lookThenDo(service, request, flags.dryRun);
			tell(flags, result, (told) => resultText(told, done[action]));
			return;
		}
		if (flags.dryRun) throw new UsageMistake('--dry-run is for robots chosen by flags.');
		for (const name of names) {
			const robot = await one(service, name);
			terminal.out(flags.json ? json(robot) : `${standingText(robot)}\n`);
		}
	};

	closing(
		'pause',
		'give robots no new jobs',
		'build-01 --reason "noisy neighbour" --for 2h',
	).action((names: string[], flags: Flags) =>
		run('pause', names, flags, (service, robot) =>
			service.pauseRobot(robot, closeOf(flags, terminal.now())),
		),
	);
	closing(
		'maintenance',
		'say that somebody works on the machines: no new jobs',
		'kiosk-3 --reason "disk swap" --until 18:00',
	).action((names: string[], flags: Flags) =>
		run('maintenance', names, flags, (service, robot) =>
			service.maintainRobot(robot, closeOf(flags, terminal.now())),
		),
	);
	closing(
		'drain',
		'give robots no new jobs, and wait until those that are named hold none',
		'build-01 --timeout 10m',
	)
		.addOption(
			new Option('--timeout <duration>', 'how long to wait: 90s, 10m, 2h')
				.argParser(durationOf)
				.default(3_600_000, '1h'),
		)
		.action((names: string[], flags: Flags) =>
			run('drain', names, flags, async (service, robot) => {
				const until = terminal.now() + flags.timeout!;
				let drained = await service.drainRobot(robot, 0, undefined, closeOf(flags, terminal.now()));
				// Asking again drains again, so not if it has opened by itself meanwhile, or was closed in another way.
				const goesOn = () => drained.held > 0 && drained.closed?.as === 'draining';
				while (goesOn() && terminal.now() < until) {
					const waitMs = Math.min(drainWaitMs, until - terminal.now());
					drained = await service.drainRobot(robot, Math.max(0, waitMs));
				}
				return drained;
			}),
		);
	command(
		'quarantine',
		'keep jobs from robots until they are resumed or probed',
		'build-01 --reason "fails every build"',
	)
		.requiredOption('--reason <text>', 'why, for whoever asks why jobs wait')
		.action((names: string[], flags: Flags) =>
			run('quarantine', names, flags, (service, robot) =>
				service.quarantineRobot(robot, flags.reason!),
			),
		);
	command(
		'resume',
		'give robots jobs again, whatever closed them; ends their quarantine too',
		'build-01',
	).action((names: string[], flags: Flags) =>
		run('resume', names, flags, (service, robot) => service.resumeRobot(robot)),
	);
	sub(
		robots,
		'probe <robot>',
		'send a robot in quarantine its probe now; when that succeeds it gets jobs again',
		'probe build-01',
	).action(async (robot: string, flags: Flags) =>
		tell(flags, await client(flags).probeRobot(robot), ({ name, connected }) =>
			connected ? `${name} is probed\n` : `${name} is probed when it is back\n`,
		),
	);
}

/** Why a robot gets no jobs, if people or the service say so: `maintenance until 2026-05-01 18:00:00 UTC: disk swap (by anna)`. */
export function closedText({ closed, quarantine }: Pick<Robot, 'closed' | 'quarantine'>): string {
	const parts = [];
	if (closed) {
		const { as, until, reason, by } = closed;
		parts.push(
			`${as}${until === null ? '' : ` until ${when(until)} UTC`}${reason === null ? '' : `: ${reason}`}${by === null ? '' : ` (by ${by})`}`,
		);
	}
	if (quarantine) {
		const { nextProbeAt, reason } = quarantine;
		const probe = nextProbeAt === null ? '' : `, probed at ${when(nextProbeAt)} UTC`;
		parts.push(`quarantine${probe}: ${reason}`);
	}
	return parts.join(', ');
}

function standingText(robot: Robot): string {
	const { name, status, held } = robot;
	const why = printable(closedText(robot));
	if (why === '') return `${name} is ${status}`;
	return `${name} gets no new jobs and holds ${held === 0 ? 'none' : held}; ${why}`;
}

function filterOf({ label, tag, group, pool }: Flags): RobotSelection {
	return {
		...(label && { labels: label }),
		...(tag && { tags: tag }),
		...(group !== undefined && { group }),
		...(pool !== undefined && { pool }),
	};
}

function closeOf({ reason, for: forMs, until }: Flags, now: number): CloseRequest {
	if (forMs !== undefined && until !== undefined) {
		throw new UsageMistake('Give --for or --until, not both.');
	}
	return {
		...(reason !== undefined && { reason }),
		...(forMs !== undefined && { forMs }),
		...(until !== undefined && { until: momentOf(until, now) }),
	};
}

async function lookThenDo(
	service: FleetClient,
	request: RobotsBulkRequest,
	dryRun: boolean | undefined,
): Promise<RobotsBulkResult> {
	const seen = await service.changeRobots({ ...request, dryRun: true });
	if (dryRun) return seen;
	return service.changeRobots({ ...request, expect: seen.matched });
}

function resultText(
	{ dryRun, matched, changed, skipped, robots }: RobotsBulkResult,
	what: string,
): string {
	const names = robots.map((name) => `  ${printable(name)}\n`).join('');
	const same = skipped > 0 ? `, ${skipped} ${skipped === 1 ? 'is' : 'are'} so already` : '';
	const end = dryRun ? 'Nothing was changed: this was a dry run.\n' : '';
	return `${plural(matched, 'robot')} found, ${changed} ${dryRun ? 'would be ' : ''}${what}${same}\n${names}${end}`;
}

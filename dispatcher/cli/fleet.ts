/** The commands that look at and look after things: jobs, robots, schedules, tokens, keys. */
import { type Command, Option } from 'commander';
import type { FleetClient, JobFilter } from '../../client';
import {
	type Clone,
	type Job,
	type JobHealth,
	type QueueStats,
	type Robot,
	type RobotClient,
	type RobotRecord,
	scopes,
	type Scope,
	type TokenCreated,
} from '../../protocol';
import { childCount } from './children';
import { addDevices } from './devices';
import {
	addDeadLetters,
	addJobChanges,
	selectionOf,
	type SelectionFlags,
	withSelection,
} from './job-changes';
import { addJobInput } from './job-input';
import { addMetrics } from './metrics';
import { addLocks } from './locks';
import { addPlacement } from './placement';
import { addRobotControl, closedText } from './robot-control';
import { addSchedules } from './schedules';
import { addWhy } from './why';
import { follow } from './follow';
import {
	addressOf,
	card,
	clientOf,
	durationOf,
	json,
	listOf,
	pairOf,
	pairs,
	plural,
	table,
	type Terminal,
	when,
	wholeOf,
} from './terminal';
import { addWaits } from './waits';
import { waves } from './waves';

interface Flags {
	json?: boolean;
	data?: string;
}

export function addFleet(program: Command, terminal: Terminal, exit: (code: number) => void): void {
	const client = (flags: Flags) => clientOf(terminal, flags.data);
	/** One value: JSON for machines, or the text made for people. */
	const tell = <T>(flags: Flags, value: T, text: (value: T) => string) =>
		terminal.out(flags.json ? json(value) : text(value));
	const group = (name: string, summary: string, example: string) =>
		program
			.command(name)
			.summary(summary)
			.description(summary)
			.addHelpText('after', `\nExample:\n  $ ${example}`);
	const sub = (parent: Command, usage: string, summary: string, example: string) =>
		parent
			.command(usage)
			.summary(summary)
			.description(summary)
			.option('--json', 'print JSON')
			.option('--data <folder>', 'data folder of the service, to find its address and key')
			.addHelpText(
				'after',
				`\nExample:\n  $ robot-fleet ${parent === program ? '' : `${parent.name()} `}${example}`,
			);

	const kit = { terminal, client, group, sub };
	const jobs = group(
		'jobs',
		'look at jobs, cancel, retry and change them',
		'robot-fleet jobs list --state running',
	);
	withSelection(sub(jobs, 'list', 'list jobs, newest first', 'list --state failed --limit 20'))
		.option('--limit <count>', 'at most so many', wholeOf, 50)
		.option('--cursor <cursor>', 'continue where the previous page ended')
		.action(async (flags: Flags & SelectionFlags & Pick<JobFilter, 'limit' | 'cursor'>) => {
			const { limit, cursor } = flags;
			const service = client(flags);
			const page = await service.jobs({ ...selectionOf(flags, terminal.now()), limit, cursor });
			const names = new Map((await service.robots()).map((one) => [one.robotId, one.name]));
			tell(
				flags,
				page,
				() => jobTable(page.items, names) + (page.cursor ? `more: --cursor ${page.cursor}\n` : ''),
			);
		});
	sub(jobs, 'show <id>', 'show one job', 'show 0190f6c2-…').action(
		async (id: string, flags: Flags) => {
			const service = client(flags);
			const job = await service.job(id);
			const family = flags.json || !job.children?.total ? '' : await familyOf(service, id);
			tell(flags, job, () => jobCard(job) + family);
		},
	);
	addJobChanges(jobs, kit);
	addJobInput(jobs, kit);
	sub(
		jobs,
		'output <id>',
		'print what a job printed, and follow it while it runs; with --json each event as a line',
		'output 0190f6c2-… > log.txt',
	)
		.addOption(new Option('--stream <name>', 'only one of them').choices(['stdout', 'stderr']))
		.action((id: string, flags: Flags & { stream?: string }) =>
			follow(terminal, addressOf(terminal, flags.data), id, {
				...(flags.json && { json: true }),
				...(flags.stream === undefined ? {} : { stream: flags.stream }),
			}),
		);
	sub(
		jobs,
		'timeline <id>',
		'show all moves of a job: who, when, why',
		'timeline 0190f6c2-…',
	).action(async (id: string, flags: Flags) =>
		tell(flags, await client(flags).timeline(id), (entries) =>
			table(
				['AT', 'FROM', 'TO', 'REASON', 'BY', 'ATTEMPT'],
				entries.map((entry) => [
					when(entry.at),
					entry.from,
					entry.to,
					entry.reason,
					entry.by,
					entry.attempt,
				]),
			),
		),
	);
	const why = 'say why a job waits, and why it went where it went';
	addWhy(sub(jobs, 'why <id>', why, 'why 0190f6c2-… --robots'), kit);
	addWhy(sub(program, 'why <id>', why, 'why 0190f6c2-… --robots'), kit);

	addDeadLetters(kit);
	addMetrics(kit);

	const queue = group('queue', 'look at the queue', 'robot-fleet queue stats');
	sub(queue, 'stats', 'say how many jobs wait, for how long, and for what', 'stats').action(
		async (flags: Flags) => tell(flags, await client(flags).queueStats(), queueText),
	);

	const robots = group(
		'robots',
		'look at robots, ping, pause, refresh, stop and remove them',
		'robot-fleet robots list',
	);
	sub(robots, 'list', 'list robots', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).robots(), robotTable),
	);
	sub(robots, 'show <robot>', 'show one robot, by name or id', 'show build-01').action(
		async (robot: string, flags: Flags) => tell(flags, await client(flags).robot(robot), robotCard),
	);
	addDevices(robots, { client, tell, sub });
	const oneRobot = ({ name, status }: Robot) => `${name} is ${status}\n`;
	addRobotControl(robots, terminal, { client, tell, sub });
	sub(
		robots,
		'allow-move <robot>',
		'let an identity move to the machine that last presented it',
		'allow-move build-01',
	).action(async (robot: string, flags: Flags) =>
		tell(
			flags,
			await client(flags).allowRobotMove(robot),
			({ name }) => `${name} may come from the machine that asked last\n`,
		),
	);
	sub(
		robots,
		'ping <robot>',
		'measure a round trip on the line that carries the work',
		'ping build-01',
	).action(async (robot: string, flags: Flags) =>
		tell(flags, await client(flags).pingRobot(robot), ({ name, ms }) => `${name}: ${ms} ms\n`),
	);
	sub(
		robots,
		'refresh <robot>',
		'have a robot look at its machine again, and show what it found',
		'refresh build-01',
	).action(async (robot: string, flags: Flags) =>
		tell(flags, await client(flags).refreshRobot(robot), robotCard),
	);
	sub(
		robots,
		'disconnect <robot>',
		'end the connection of a robot; it dials again by itself, or waits to be dialled',
		'disconnect build-01',
	).action(async (robot: string, flags: Flags) =>
		tell(flags, await client(flags).disconnectRobot(robot), oneRobot),
	);
	sub(
		robots,
		'shutdown <robot>',
		'end the agent of a robot; it must be started there again',
		'shutdown build-01',
	)
		.option('--at-once', 'give running jobs no time to end')
		.action(async (robot: string, flags: Flags & { atOnce?: boolean }) =>
			tell(
				flags,
				await client(flags).shutdownRobot(robot, flags.atOnce),
				({ name }) => `${name} was told to stop\n`,
			),
		);
	sub(
		robots,
		'broadcast <text>',
		'write a note into the logs of all connected agents',
		"broadcast 'maintenance at noon' --label site=berlin",
	)
		.option('--label <name=value>', 'only robots that carry it (repeatable)', pairOf)
		.action(async (text: string, flags: Flags & { label?: Record<string, string> }) =>
			tell(
				flags,
				await client(flags).broadcast({ text, ...(flags.label && { labels: flags.label }) }),
				({ told }) => `${told} robots were told\n`,
			),
		);
	sub(robots, 'remove <robot>', 'end the identity of a robot', 'remove build-01').action(
		async (robot: string, flags: Flags) => {
			await client(flags).removeRobot(robot);
			tell(flags, { removed: robot }, () => `${robot} is removed\n`);
		},
	);

	addSchedules(program, kit, exit);
	addPlacement(kit);
	addLocks(kit);
	addWaits(kit);

	const token = group(
		'token',
		'make enrollment tokens for robots',
		'robot-fleet token create --uses 5 --ttl 1h',
	).alias('tokens');
	sub(
		token,
		'create',
		'make a token; it is printed once, alone on stdout',
		'create --ttl 15m --label site=berlin',
	)
		.option('--uses <count>', 'how many robots may enroll with it', wholeOf, 1)
		.addOption(
			new Option('--ttl <duration>', 'how long it is good: 15m, 2h, 1d')
				.argParser(durationOf)
				.default(900_000, '15m'),
		)
		.option(
			'--label <name=value>',
			'label every robot gets that enrolls with it (repeatable)',
			pairOf,
		)
		.action(
			async (flags: Flags & { uses: number; ttl: number; label?: Record<string, string> }) => {
				const { uses, ttl, label } = flags;
				const made = await client(flags).createToken({
					uses,
					ttlMs: ttl,
					...(label && { labels: label }),
				});
				tell(flags, made, () => `${made.token}\n`);
				// For people, and apart from the token: a script takes that alone from stdout.
				if (!flags.json) terminal.err(enrolmentHint(made));
			},
		);
	sub(token, 'list', 'list tokens', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).tokens(), (tokens) =>
			table(
				['ID', 'USED', 'EXPIRES', 'REVOKED', 'LABELS'],
				tokens.map((one) => [
					one.tokenId,
					`${one.used}/${one.uses}`,
					when(one.expiresAt),
					when(one.revokedAt),
					pairs(one.labels),
				]),
			),
		),
	);
	sub(token, 'revoke <id>', 'revoke a token', 'revoke 4fj2').action(
		async (id: string, flags: Flags) => {
			await client(flags).revokeToken(id);
			tell(flags, { revoked: id }, () => `${id} is revoked\n`);
		},
	);

	const key = group(
		'key',
		'make API keys for programs and people',
		'robot-fleet key create --name n8n --scope submit --scope read',
	).alias('keys');
	sub(
		key,
		'create',
		'make a key; it is printed once, alone on stdout',
		'create --name dashboards --scope read',
	)
		.requiredOption('--name <name>', 'who or what uses it')
		.addOption(
			new Option('--scope <scope>', `what it may do (repeatable): ${scopes.join(', ')}`)
				.argParser(listOf)
				.makeOptionMandatory(),
		)
		.option('--ttl <duration>', 'how long it is good; default: for ever', durationOf)
		.action(async (flags: Flags & { name: string; scope: string[]; ttl?: number }) => {
			const { name, scope, ttl } = flags;
			const made = await client(flags).createKey({
				name,
				scopes: scope as Scope[],
				...(ttl !== undefined && { expiresAt: terminal.now() + ttl }),
			});
			tell(flags, made, () => `${made.key}\n`);
		});
	sub(key, 'list', 'list keys', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).keys(), (keys) =>
			table(
				['ID', 'NAME', 'SCOPES', 'EXPIRES', 'REVOKED', 'LAST USED'],
				keys.map((one) => [
					one.keyId,
					one.name,
					one.scopes.join(','),
					when(one.expiresAt),
					when(one.revokedAt),
					when(one.lastUsedAt),
				]),
			),
		),
	);
	sub(key, 'revoke <id>', 'revoke a key at once', 'revoke k_81').action(
		async (id: string, flags: Flags) => {
			await client(flags).revokeKey(id);
			tell(flags, { revoked: id }, () => `${id} is revoked\n`);
		},
	);
}

function jobTable(jobs: Job[], names: ReadonlyMap<string, string>): string {
	return table(
		['ID', 'KIND', 'STATE', 'CAUSE', 'PRIORITY', 'ROBOT', 'CREATED', 'ENDED'],
		jobs.map((job) => [
			job.jobId,
			job.kind,
			job.state,
			job.cause,
			job.priority,
			names.get(job.robotId ?? '') ?? job.robotId,
			when(job.createdAt),
			when(job.endedAt),
		]),
	);
}

function queueText({ byState, byPriority, oldestQueuedMs, lanes }: QueueStats): string {
	const facts = card({
		...byState,
		...Object.fromEntries(
			Object.entries(byPriority).map(([level, count]) => [`queued ${level}`, count]),
		),
		'longest wait': oldestQueuedMs === null ? null : `${Math.round(oldestQueuedMs / 1000)} s`,
	});
	if (lanes.length === 0) return facts;
	return `${facts}\n${table(
		['QUEUED', 'ROBOTS', 'FOR'],
		lanes.map(({ queued, robots, target }) => [queued, robots, target]),
	)}`;
}

function jobCard({
	result,
	createdAt,
	startedAt,
	endedAt,
	cancelRequestedAt,
	notBefore,
	children,
	health,
	rolledOut,
	...rest
}: Job): string {
	return card({
		...rest,
		...(children && { children: childCount(children) }),
		...(rolledOut && {
			rolledOut: `${rolledOut.state}, batch ${rolledOut.batch} of ${rolledOut.batches.length}`,
		}),
		...(health && { health: healthText(health.at(-1)!) }),
		...(result && {
			exitCode: result.exitCode,
			signal: result.signal,
			durationMs: result.durationMs,
		}),
		createdAt: when(createdAt),
		notBefore: when(notBefore),
		startedAt: when(startedAt),
		endedAt: when(endedAt),
		cancelRequestedAt: when(cancelRequestedAt),
	});
}

function healthText({ at, state, cpuPercent, quietMs, overdue }: JobHealth): string {
	const cpu = cpuPercent === null ? '' : `, ${cpuPercent} % of a processor`;
	const late =
		overdue === null
			? ''
			: `; ${overdue === 'total' ? 'runs' : 'is silent'} longer than such commands do`;
	return `${state.replaceAll('_', ' ')} (silent for ${Math.round(quietMs / 1000)} s${cpu}${late}; seen ${when(at)})`;
}

/** For more children than fit on a screen there is a list of its own. */
const maxShown = 50;

async function familyOf(service: FleetClient, jobId: string): Promise<string> {
	return `\n${waves(await service.cells(jobId, { limit: maxShown }))}`;
}

function enrolmentHint({ token, dial, uses, expiresAt }: TokenCreated): string {
	return `Good for ${plural(uses, 'robot')} until ${when(expiresAt)} UTC. On the robot:\n  robot-fleet-agent --server ${dial} --token ${token}\n`;
}

const cloneStories: Record<Clone['how'], string> = {
	moved: 'another machine presented its identity',
	twin: 'a second agent presented its identity while it was connected',
};

function cloneText(name: string, { how, address, firstAt, lastAt, times }: Clone): string {
	const seen =
		times === 1 ? when(lastAt) : `${times} times from ${when(firstAt)} to ${when(lastAt)}`;
	const offer = how === 'moved' ? `; if it moved there: robot-fleet robots allow-move ${name}` : '';
	return `${cloneStories[how]} (${seen}, from ${address}) and was turned away; enroll that one anew with: robot-fleet token create${offer}`;
}

function robotTable(robots: Robot[]): string {
	return table(
		['NAME', 'STATUS', 'SLOTS', 'LABELS', 'CAPABILITIES', 'LAST SEEN', 'ID'],
		robots.map((robot) => [
			robot.name,
			statusOf(robot),
			`${robot.slotsUsed ?? robot.held}/${robot.slots}`,
			pairs(robot.labels),
			robot.capabilities.join(','),
			when(robot.lastSeenAt),
			robot.robotId,
		]),
	);
}

/** How many characters of why a robot is closed a table shows. */
const maxClosed = 80;
/** States of a robot that people or the service keep jobs from; `closedText` says more. */
const shut: readonly Robot['status'][] = ['paused', 'maintenance', 'quarantined'];

function statusOf(robot: Robot): string {
	const { status, connected, clone, device, health } = robot;
	const dial = connected ? null : device?.dial;
	const closed = closedText(robot);
	return [
		...(closed !== '' && shut.includes(status) ? [] : [status]),
		...(closed === ''
			? []
			: [closed.length > maxClosed ? `${closed.slice(0, maxClosed - 1)}…` : closed]),
		...(health && health.level !== 'normal' ? [health.level] : []),
		...(dial ? [`dial ${dial.state}`] : []),
		...(clone ? ['clone seen'] : []),
	].join(', ');
}

function robotCard({
	createdAt,
	lastSeenAt,
	metrics,
	health,
	clone,
	clients,
	record,
	closed,
	quarantine,
	...rest
}: Robot): string {
	const share = (value: number | null | undefined) => (value == null ? null : `${value} %`);
	return card({
		...rest,
		...(clients.length > 0 && { clients: clients.map(clientText).join(', ') }),
		...((closed || quarantine) && { closed: closedText({ closed, quarantine }) }),
		...(quarantine?.lastProbe && { lastProbe: quarantine.lastProbe }),
		health: health && [health.level, ...health.reasons].join(': '),
		cpu: share(metrics?.cpuPercent),
		memory: share(metrics?.memoryPercent),
		disk: share(metrics?.diskPercent),
		agentBusy: share(metrics?.agentBusyPercent),
		roundTrip: metrics?.roundTripMs == null ? null : `${metrics.roundTripMs} ms`,
		lastTries: recordText(record),
		lastSeenAt: when(lastSeenAt),
		createdAt: when(createdAt),
		...(clone && { clone: cloneText(rest.name, clone) }),
	});
}

function recordText({ completed, failed, lost, successPercent }: RobotRecord): string {
	if (successPercent === null) return 'none yet';
	const gone = lost > 0 ? `, ${lost} lost` : '';
	return `${successPercent} % of ${completed + failed + lost} completed, ${failed} failed${gone}`;
}

const clientText = ({ name, jobId }: RobotClient) => `${name} (${jobId ?? 'free'})`;

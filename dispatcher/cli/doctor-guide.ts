/**
 * The first hour with Robot Fleet in n8n, step by step, and what doctor checks for each step. docs/first-hour.md describes
 * the same steps for people; a test compares the two.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FleetClient, Page, Send } from '../../client';
import {
	type DeadLetterGroup,
	type FileRecord,
	type Job,
	paths,
	Problem,
	type QueueStats,
	type Robot,
	type Schedule,
	type ServiceStatus,
	type Wait,
} from '../../protocol';
import type { Finding, Found } from './finding';
import { isOfN8n, plural, when } from './terminal';

/** Step of the guide → checks of doctor. */
export const guide = {
	'Install the package': ['data folder', 'n8n'],
	'Make the credential': ['service', 'key', 'n8n key'],
	'Start the first robot': ['robots', 'versions', 'clock'],
	'Run the first job': ['jobs'],
	'Wait for it': ['callbacks'],
	'See a failure': ['dead letters'],
	'Plan it': ['schedules'],
	'Send a file along': ['files', 'disk'],
	'When a job waits': ['queue', 'drain'],
	'Before it matters': ['backup', 'retention', 'doors'],
} as const satisfies Record<string, readonly string[]>;

const minuteMs = 60_000;
/** A job that has been in line this long is worth a look. */
const longMs = 10 * minuteMs;
/** A schedule this late is not running. */
const lateMs = 5 * minuteMs;
/** The first few tries of a poke may find n8n busy; after this many it must be away. */
const manyTries = 6;
/** Scopes that the credential in n8n needs. */
const n8nScopes = ['submit', 'read', 'cancel'];

export function n8nFinding(folder: string): Finding {
	const check = 'n8n';
	if (isOfN8n(folder)) {
		const version = readFileSync(join(folder, 'autostart'), 'utf8').trim();
		return {
			check,
			ok: true,
			text: `the package ${version} in n8n starts the service of ${folder}`,
		};
	}
	return {
		check,
		ok: true,
		text: `no n8n has started a service of ${folder}`,
		next: 'robot-fleet doctor --data ~/.n8n/robot-fleet (where a service inside n8n is; else none is needed)',
	};
}

/** `clientOf` makes a client with another key for the same service. */
export async function n8nKeyFinding(
	folder: string,
	clientOf: (key: string) => FleetClient,
): Promise<Finding> {
	const check = 'n8n key';
	const make = `robot-fleet key create --name n8n ${n8nScopes.map((scope) => `--scope ${scope}`).join(' ')}`;
	const mend = isOfN8n(folder) ? 'n8n start (it makes a new key at its start)' : make;
	const file = join(folder, 'n8n.key');
	if (!existsSync(file)) {
		return { check, ok: true, text: `there is none in ${folder}`, next: make };
	}
	try {
		const { scopes } = await clientOf(readFileSync(file, 'utf8').trim()).me();
		const missing = scopes.includes('admin')
			? []
			: n8nScopes.filter((scope) => !(scopes as string[]).includes(scope));
		return {
			check,
			ok: missing.length === 0,
			text:
				missing.length === 0
					? `${file} may ${scopes.join(', ')}`
					: `${file} lacks ${missing.join(', ')}`,
			mend,
		};
	} catch (error) {
		return { check, ok: false, text: `${file}: ${(error as Error).message}`, mend };
	}
}

const join3 = (names: string[]) =>
	`${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}`;

export function robotsFound(robots: Robot[]): Found {
	const connected = robots.filter((robot) => robot.connected);
	const open = connected.filter(({ status }) => status === 'online' || status === 'busy');
	const closed = connected.filter((robot) => !open.includes(robot));
	const text = `${connected.length} of ${robots.length} connected, ${open.length} may get jobs`;
	if (open.length > 0) return { ok: true, text };
	const [first] = closed;
	if (first) {
		return {
			ok: false,
			text: `${text}; ${join3(closed.map(({ name, status }) => `${name} is ${status}`))}`,
			mend: `robot-fleet robots resume ${first.name}`,
		};
	}
	return {
		ok: false,
		text,
		mend: 'robot-fleet token create, then on the robot: robot-fleet-agent --server URL --token TOKEN',
	};
}

/** `1.4.2` → `1.4`: versions that share this understand each other. */
const minorOf = (version: string) => version.split('.').slice(0, 2).join('.');

export function versionsFound(robots: Robot[], service: string): Found {
	const other = robots.filter(
		({ connected, agentVersion }) =>
			connected && agentVersion !== null && minorOf(agentVersion) !== minorOf(service),
	);
	const [first] = other;
	if (!first) return { ok: true, text: `service and connected agents are of ${minorOf(service)}` };
	return {
		ok: false,
		text: `the service is ${service}, ${join3(other.map(({ name, agentVersion }) => `${name} has ${agentVersion}`))}`,
		mend: `on ${first.name}: put the agent of ${service} in place of the old one and start it again; jobs that run there go on`,
	};
}

/** `last` = the newest job that completed. */
export function jobsFound(last: Job | undefined, now: number): Found {
	if (!last) {
		return {
			ok: true,
			text: 'none has completed yet',
			next: 'robot-fleet submit --wait -- uname -a (or the example uname-on-a-click in n8n)',
		};
	}
	const minutes = Math.floor((now - last.endedAt!) / minuteMs);
	const ago = minutes <= 60 ? 'within the last hour' : `on ${when(last.endedAt)}`;
	return { ok: true, text: `job ${last.jobId} completed ${ago}` };
}

export type WaitFacts = Pick<Wait, 'waitId' | 'state' | 'executionId' | 'tries' | 'lastError'>;

/** `waits` = those that are due or dead; undefined = this service does not list them. */
export function callbacksFound(waits: WaitFacts[] | undefined): Found {
	if (!waits) return { ok: true, text: 'this service does not list them' };
	const dead = waits.filter(({ state }) => state === 'dead');
	const stuck = waits.filter(({ state, tries }) => state === 'due' && tries >= manyTries);
	const told = ({ waitId, executionId, lastError }: WaitFacts) =>
		`${waitId}${executionId === null ? '' : ` of execution ${executionId}`} (${lastError ?? 'no answer'})`;
	if (stuck.length > 0) {
		return {
			ok: false,
			text: `n8n cannot be told that jobs have ended: ${join3(stuck.map(told))}`,
			mend: 'set ROBOT_FLEET_N8N_URL of the service (or "URL of This n8n" in the credential) to where n8n answers; deliveries go on by themselves',
		};
	}
	if (dead.length > 0) {
		return {
			ok: true,
			text: `all delivered except ${plural(dead.length, 'wait')} that nobody took: ${join3(dead.map(told))}`,
			next: `in n8n: Robot Fleet → Job → Retry Delivery, with the wait ID ${dead[0]!.waitId}`,
		};
	}
	return { ok: true, text: 'all parked executions were told what they wait for' };
}

export function deadLettersFound(groups: DeadLetterGroup[]): Found {
	const count = groups.reduce((sum, group) => sum + group.count, 0);
	const [first] = groups;
	if (!first) return { ok: true, text: 'no failure is waiting for anybody' };
	return {
		ok: true,
		text: `${plural(count, 'job')} failed for good, most of them: ${first.message || first.cause}`,
		next: `robot-fleet dead show ${first.fingerprint} (then replay or dismiss)`,
	};
}

export function schedulesFound(schedules: Schedule[], now: number): Found {
	const active = schedules.filter(({ state }) => state === 'active');
	const late = active.filter(({ nextRunAt }) => nextRunAt !== null && nextRunAt < now - lateMs);
	const paused = schedules.filter(({ state }) => state === 'paused');
	if (late.length > 0) {
		return {
			ok: false,
			text: `${join3(late.map(({ name, nextRunAt }) => `${name} was due ${when(nextRunAt)}`))}`,
			mend: `robot-fleet schedules show ${late[0]!.scheduleId} (and the log of the service)`,
		};
	}
	const held = active.find(({ reason }) => reason !== null);
	if (held) {
		return {
			ok: false,
			text: `${held.name}: ${held.reason}`,
			mend: `robot-fleet schedules update ${held.scheduleId} --zone ZONE (or a newer Node for the service)`,
		};
	}
	if (schedules.length === 0) {
		return {
			ok: true,
			text: 'there is none yet',
			next: 'robot-fleet schedules add nightly --daily 02:30 -- uname -a (or Fleet Schedule Trigger in n8n)',
		};
	}
	const upcoming = active.map(({ nextRunAt }) => nextRunAt).filter((at) => at !== null);
	const text = `${active.length} of ${schedules.length} active${
		upcoming.length > 0 ? `, the next run is ${when(Math.min(...upcoming))}` : ''
	}`;
	const [first] = paused;
	if (!first) return { ok: true, text };
	const why = first.reason === null ? '' : ` (${first.reason})`;
	return {
		ok: true,
		text: `${text}; ${first.name} is paused${why}`,
		next: `robot-fleet schedules resume ${first.scheduleId}`,
	};
}

export function filesFound(page: Page<FileRecord>, level: ServiceStatus['disk']['level']): Found {
	if (level !== 'ample') {
		return {
			ok: false,
			text: 'no new ones are taken: the disk is too full',
			mend: 'robot-fleet purge --dry-run (or free space beside the data folder)',
		};
	}
	const { items, cursor } = page;
	if (items.length === 0) {
		return {
			ok: true,
			text: 'there is none yet',
			next: 'robot-fleet submit --file FILE --collect "out/**" --wait -- COMMAND',
		};
	}
	const open = items.filter(({ state }) => state === 'open').length;
	return {
		ok: true,
		text: `${items.length}${cursor === undefined ? '' : ' and more'} kept, ${open} still on their way`,
	};
}

/** `sample` = one job that is queued. */
export function queueFound({ byState, oldestQueuedMs, lanes }: QueueStats, sample?: Job): Found {
	const command = `robot-fleet why ${sample?.jobId ?? 'JOB'} --robots`;
	const nowhere = lanes.filter(({ queued, robots }) => queued > 0 && robots === 0);
	if (nowhere.length > 0) {
		const what = nowhere.map(({ queued, target }) => `${plural(queued, 'job')} for ${target}`);
		return { ok: false, text: `no robot fits ${join3(what)}`, mend: command };
	}
	const waiting = `${plural(byState.queued, 'job')} in line`;
	if (oldestQueuedMs !== null && oldestQueuedMs > longMs) {
		const minutes = Math.floor(oldestQueuedMs / minuteMs);
		return { ok: true, text: `${waiting}, the first for ${minutes} minutes`, next: command };
	}
	return { ok: true, text: waiting };
}

/** A service older than this list answers 404. */
async function waitsOf(send: Send): Promise<WaitFacts[] | undefined> {
	const found: WaitFacts[] = [];
	for (const state of ['due', 'dead']) {
		const path = `${paths.api}/waits?state=${state}&limit=100`;
		const { status, body } = await send({ method: 'GET', path });
		if (status === 404) return undefined;
		if (status !== 200) throw Problem.fromBody(body) ?? new Error(`HTTP ${status}`);
		found.push(...(body as { items: WaitFacts[] }).items);
	}
	return found;
}

/** What is asked of a service that answers, in the order of the guide. */
export function guideQuestions(
	client: FleetClient,
	send: Send,
	now: () => number,
): [check: string, mend: string, deed: () => Promise<Found>][] {
	return [
		['robots', 'robot-fleet robots list', async () => robotsFound(await client.robots())],
		[
			'versions',
			'robot-fleet robots list',
			async () => versionsFound(await client.robots(), (await client.service()).version),
		],
		[
			'jobs',
			'robot-fleet jobs list',
			async () => jobsFound((await client.jobs({ state: 'completed', limit: 1 })).items[0], now()),
		],
		['callbacks', 'robot-fleet doctor', async () => callbacksFound(await waitsOf(send))],
		[
			'dead letters',
			'robot-fleet dead list',
			async () => deadLettersFound((await client.deadLetters({ limit: 100 })).items),
		],
		[
			'schedules',
			'robot-fleet schedules list',
			async () => schedulesFound(await client.schedules(), now()),
		],
		[
			'files',
			'robot-fleet files list',
			async () =>
				filesFound(await client.files({ limit: 100 }), (await client.service()).disk.level),
		],
		[
			'queue',
			'robot-fleet jobs list --state queued',
			async () => {
				const stats = await client.queueStats();
				const queued = stats.byState.queued > 0;
				const [sample] = queued ? (await client.jobs({ state: 'queued', limit: 1 })).items : [];
				return queueFound(stats, sample);
			},
		],
	];
}

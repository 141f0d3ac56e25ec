/** `robot-fleet doctor`: checks everything that trips people up on day one; each ✗ carries the command that mends it. */
import { existsSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Command } from 'commander';
import { FleetClient } from '../../client';
import { type Doors, type Robot, Problem, type Scope, type ServiceStatus } from '../../protocol';
import { guideQuestions, n8nFinding, n8nKeyFinding } from './doctor-guide';
import type { Finding } from './finding';
import {
	addressOf,
	dataFolderOf,
	isOfN8n,
	json,
	printable,
	startOf,
	type Terminal,
	urlIn,
	when,
} from './terminal';
import { type Address, headersOf, httpSend } from './transport';

export function addDoctor(
	program: Command,
	terminal: Terminal,
	exit: (code: number) => void,
): void {
	program
		.command('doctor')
		.summary('check this machine, the service and its robots')
		.description(
			'Checks this machine, the service and its robots, and each step of docs/first-hour.md: ✓ = fine, ○ = fine, but not used yet or waiting for somebody, ✗ = to be mended. Exits with 1 when there is a ✗.',
		)
		.option('--json', 'print JSON')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText('after', '\nExample:\n  $ robot-fleet doctor')
		.action(async (flags: { json?: boolean; data?: string }) => {
			const findings = await examine(terminal, flags.data);
			if (flags.json) terminal.out(json(findings));
			else for (const finding of findings) terminal.out(line(finding));
			exit(findings.every((finding) => finding.ok) ? 0 : 1);
		});
}

function line({ ok, check, text, mend, next }: Finding): string {
	const mark = !ok ? '✗' : next === undefined ? '✓' : '○';
	const more = [
		...(ok || mend === undefined ? [] : [`    mend it with: ${printable(mend)}\n`]),
		...(!ok || next === undefined ? [] : [`    go on with: ${printable(next)}\n`]),
	];
	return `${mark} ${check}: ${printable(text)}\n${more.join('')}`;
}

async function examine(terminal: Terminal, data: string | undefined): Promise<Finding[]> {
	const folder = dataFolderOf(terminal.env, data);
	const findings = [
		nodeFinding(terminal, folder),
		sqliteFinding(terminal, folder),
		folderFinding(folder),
		n8nFinding(folder),
	];
	let address: Address | undefined;
	try {
		address = addressOf(terminal, data);
	} catch (error) {
		findings.push({
			check: 'service',
			ok: false,
			text: (error as Error).message,
			mend: startOf(folder),
		});
	}
	const reached = address !== undefined && (await askService(terminal, address, folder, findings));
	if (!reached && urlIn(folder) === undefined) {
		findings.push(await portFinding(terminal.env, folder));
	}
	return findings;
}

/** Starts the service of this folder with a newer Node. */
const newerNode = (folder: string) =>
	isOfN8n(folder)
		? 'npx --package node@24 --package n8n n8n start'
		: 'npx --package node@24 --package robot-fleet robot-fleet serve';

function nodeFinding({ nodeIsTooOld }: Terminal, folder: string): Finding {
	const { node } = process.versions;
	return { check: 'Node', ok: !nodeIsTooOld(node), text: node, mend: newerNode(folder) };
}

function sqliteFinding({ sqliteIsSafe }: Terminal, folder: string): Finding {
	const { sqlite } = process.versions;
	return {
		check: 'SQLite',
		ok: sqlite !== undefined && sqliteIsSafe(sqlite),
		text: sqlite ?? 'this Node carries none',
		mend: newerNode(folder),
	};
}

function folderFinding(folder: string): Finding {
	const check = 'data folder';
	if (!existsSync(folder))
		return { check, ok: true, text: `${folder} does not exist yet; serve makes it` };
	const { mode } = statSync(folder);
	const key = join(folder, 'admin.key');
	const open = [
		[folder, mode, '700'] as const,
		...(existsSync(key) ? [[key, statSync(key).mode, '600'] as const] : []),
	].filter(([, bits]) => process.platform !== 'win32' && (bits & 0o077) !== 0);
	return {
		check,
		ok: open.length === 0,
		text:
			open.length === 0
				? `${folder}, for this user only`
				: `others may read ${open.map(([path]) => path).join(' and ')}`,
		mend: open.map(([path, , right]) => `chmod ${right} ${JSON.stringify(path)}`).join(' && '),
	};
}

/** Adds what the service says; false when it does not answer at all. */
async function askService(
	terminal: Terminal,
	address: Address,
	folder: string,
	findings: Finding[],
): Promise<boolean> {
	const send = httpSend(address);
	const client = new FleetClient(send);
	const before = terminal.now();
	try {
		const ready = await send({ method: 'GET', path: '/readyz' });
		const ok = ready.status === 200;
		findings.push({
			check: 'service',
			ok,
			text: ok
				? `${address.url} is ready`
				: `${address.url} answers, but: ${Problem.fromBody(ready.body)?.message ?? ready.status}`,
			mend: `curl -s ${address.url}/readyz`,
		});
	} catch (error) {
		findings.push({
			check: 'service',
			ok: false,
			text: (error as Error).message,
			mend: startOf(folder),
		});
		return false;
	}
	const ask = async (check: string, mend: string, deed: () => Promise<Omit<Finding, 'check'>>) => {
		try {
			findings.push({ check, mend, ...(await deed()) });
		} catch (error) {
			findings.push({ check, ok: false, text: (error as Error).message, mend });
		}
	};
	await ask(
		'key',
		'export ROBOT_FLEET_KEY=… (robot-fleet key create --name NAME --scope SCOPE makes one)',
		async () => {
			const { name, scopes } = await client.me();
			return { ok: true, text: `${name}, may ${(scopes as Scope[]).join(', ')}` };
		},
	);
	findings.push(
		urlIn(folder) === address.url
			? await n8nKeyFinding(folder, (key) => new FleetClient(httpSend({ ...address, key })))
			: { check: 'n8n key', ok: true, text: 'it lies with the service, not on this machine' },
	);
	for (const question of guideQuestions(client, send, terminal.now)) await ask(...question);
	try {
		const status = await client.service();
		const robots = await client.robots();
		findings.push(...dialFindings(robots));
		const oldest = Math.min(...robots.map((robot) => robot.createdAt), terminal.now());
		findings.push(...serviceFindings(status, oldest, terminal.now()));
	} catch (error) {
		findings.push({ check: 'service status', ok: false, text: (error as Error).message });
	}
	await ask('clock', 'timedatectl set-ntp true', async () => {
		const there = await serviceTime(address);
		const apart = there === undefined ? 0 : Math.abs(there - (before + terminal.now()) / 2);
		return {
			ok: apart < 5_000,
			text:
				apart < 5_000
					? 'agrees with the service'
					: `differs from the service by ${Math.round(apart / 1000)} s`,
		};
	});
	return true;
}

/** Robots that the service dials: who cannot be reached, and why. */
export function dialFindings(robots: Robot[]): Finding[] {
	const dialled = robots.filter(({ device }) => device?.dial);
	if (dialled.length === 0) return [];
	const away = dialled.filter(
		({ connected, device }) => !connected && device!.dial!.state !== 'off',
	);
	const [first] = away;
	return [
		{
			check: 'dialled robots',
			ok: away.length === 0,
			text: `${dialled.length - away.length} of ${dialled.length} as they should be${
				first ? `; ${first.name}: ${first.device!.dial!.reason ?? 'it is being dialled'}` : ''
			}`,
			mend: `robot-fleet robots connect ${first?.name ?? 'NAME'} (robot-fleet robots show says more)`,
		},
	];
}

const dayMs = 86_400_000;
/** A backup older than this is a risk. */
const staleMs = 7 * dayMs;
/** The service looks for what is old every ten minutes. */
const lateMs = dayMs;

/** What the service says of itself. `since` = when its fleet began, as far as one can tell. */
export function serviceFindings(status: ServiceStatus, since: number, now: number): Finding[] {
	const { disk, lastBackup, restored, retention, readiness, schema, startedAt, version } = status;
	const mib = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`;
	const days = (ms: number) => `${Math.floor(ms / dayMs)} days`;
	const findings: Finding[] = [
		{
			check: 'disk',
			ok: disk.level === 'ample',
			text: `${mib(disk.freeBytes)} free, ${mib(disk.minFreeBytes)} wanted, the store has ${mib(disk.storeBytes)}`,
			mend: 'robot-fleet purge --dry-run (or free space beside the data folder, or set ROBOT_FLEET_MIN_FREE=SIZE for the service)',
		},
		{
			check: 'store',
			ok: true,
			text: `schema ${schema}, served by version ${version}`,
		},
		{
			check: 'backup',
			ok: now - (lastBackup?.at ?? since) < staleMs,
			text: lastBackup
				? `the last one is of ${when(lastBackup.at)}, ${mib(lastBackup.bytes)}`
				: `none was taken yet${now - since < staleMs ? '' : `, and the fleet is ${days(now - since)} old`}`,
			mend: 'robot-fleet backup FILE',
		},
		{
			check: 'retention',
			ok: now - (retention.lastAt ?? startedAt) < lateMs,
			text:
				retention.lastAt === null
					? 'old records have not been looked for yet'
					: `${retention.purged} old records forgotten, ${retention.backlog} waiting, last look ${when(retention.lastAt)}`,
			mend: 'robot-fleet purge',
		},
	];
	findings.push({
		check: 'hub key',
		ok: true,
		text: `agents that listen are told --hub ${status.hubFingerprint}`,
	});
	findings.push(...doorFindings(status.doors, now));
	if (restored) {
		findings.push({
			check: 'restored',
			ok: restored.waiting === 0,
			text: `from the backup of ${when(restored.backupAt)}; ${restored.waiting} jobs wait to be released`,
			mend: 'robot-fleet jobs release --all',
		});
	}
	findings.push({
		check: 'drain',
		ok: readiness !== 'draining',
		text: readiness === 'draining' ? 'no new jobs are taken' : 'new jobs are taken',
		mend: 'robot-fleet drain --undo',
	});
	return findings;
}

/** A certificate that ends within this time wants somebody's attention. */
const endsSoonMs = 14 * dayMs;

/** Where robots come in, and how they know that it is us. */
function doorFindings(
	{ api, robots, dial, inTheOpen, certificate }: Doors,
	now: number,
): Finding[] {
	const own = isLoopbackUrl(robots ?? api) && isLoopbackUrl(dial);
	const behindTls = dial.startsWith('https:');
	const findings: Finding[] = [
		{
			check: 'doors',
			ok: !inTheOpen || behindTls,
			text: `the API is at ${api}, robots dial ${dial}${own ? ' (from this machine only)' : ''}${
				inTheOpen ? `, other machines without TLS${behindTls ? ' except for that' : ''}` : ''
			}`,
			mend: 'robot-fleet serve --robots-listen 0.0.0.0:8766 (without --insecure; inside n8n: ROBOT_FLEET_ROBOTS_LISTEN=0.0.0.0:8766)',
		},
	];
	if (certificate) {
		const { file, selfMade, fingerprint, expiresAt } = certificate;
		const left = Math.floor((expiresAt - now) / dayMs);
		findings.push({
			check: 'certificate',
			ok: expiresAt - now > endsSoonMs,
			text: `${selfMade ? 'made by the service' : file}, ${
				left < 0 ? `expired ${when(expiresAt)}` : `good for ${left} days`
			}, SHA-256 ${fingerprint}`,
			mend: selfMade
				? `rm ${JSON.stringify(file)}, restart the service, and give each robot a new token`
				: `renew ${file}; the service reads it by itself`,
		});
	}
	return findings;
}

function isLoopbackUrl(url: string): boolean {
	const { hostname } = new URL(url);
	return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}

async function serviceTime(address: Address): Promise<number | undefined> {
	const date = Date.parse((await headersOf(address, '/healthz')).date ?? '');
	return Number.isNaN(date) ? undefined : date;
}

/** Only asked when no service of ours runs here: then its port should be free. */
function portFinding(env: Terminal['env'], folder: string): Promise<Finding> {
	const variable = env.ROBOT_FLEET_PORT ? 'ROBOT_FLEET_PORT' : 'ORCHESTRATOR_PORT';
	const named = env[variable] || '8765';
	const port = Number(named);
	const host = env.ROBOT_FLEET_HOST || env.ORCHESTRATOR_HOST || '127.0.0.1';
	if (!/^\d+$/.test(named) || port > 65_535) {
		const text = `${variable} is "${named}", it must be a port, 0 to 65535`;
		return Promise.resolve({ check: 'port', ok: false, text, mend: `unset ${variable}` });
	}
	const mend = isOfN8n(folder)
		? `ROBOT_FLEET_PORT=${port + 1} n8n start`
		: `robot-fleet serve --port ${port + 1}`;
	return new Promise((resolve) => {
		const probe = createServer();
		probe.once('error', (error: NodeJS.ErrnoException) =>
			resolve({
				check: 'port',
				ok: false,
				text: `${host}:${port} cannot be used (${error.code})`,
				mend,
			}),
		);
		probe.listen({ host, port }, () =>
			probe.close(() => resolve({ check: 'port', ok: true, text: `${host}:${port} is free` })),
		);
	});
}

/**
 * What an installation does, as a list of steps: made without touching anything, shown by `--dry-run`,
 * carried out by apply.ts. The same order gives the same steps, and repeating them does no harm.
 */
import { posix, win32 } from 'node:path';
import { exitTimeOutS, launchdFile, launchdLabel } from './launchd';
import type { Rights } from './machine';
import { systemdUnit, unitName } from './systemd';
import { taskFile, taskName } from './windows-task';

export type Manager = 'systemd' | 'launchd' | 'task-scheduler';
/** `system` = starts with the machine, needs an administrator; `user` = belongs to one person. */
export type Scope = 'system' | 'user';

/** Where everything is. */
export interface Places {
	/** What the service manager reads. */
	service: string;
	/** Settings; read by the agent. */
	settings: string;
	/** The enrollment token, for systemd only: elsewhere it is in the settings. */
	secrets: string | undefined;
	/** Identity, journal and output, unless somebody chose another folder. */
	data: string;
}

export interface Account {
	name: string;
	/** False = it will be made. */
	exists: boolean;
}

export interface InstallOrder {
	manager: Manager;
	scope: Scope;
	places: Places;
	/** Node and the agent, absolute. */
	program: readonly [node: string, script: string];
	/** Who the agent and its jobs run as; undefined = whoever installs it. */
	account: Account | undefined;
	/** As in a --config file, without token and data folder. */
	settings: Readonly<Record<string, unknown>>;
	token: string | undefined;
	data: string;
	stopGraceMs: number;
	/** For launchd: how soon the one installed before will have ended; absent = there is none. */
	beforeEndsWithinS?: number | undefined;
	/** Take rights away from jobs, too. */
	harden: boolean;
	/** For launchd, which addresses a person by number. */
	uid: number;
	/** For the Task Scheduler: whoever installs, as Windows calls them. */
	person?: string | undefined;
}

export type Step =
	| { do: 'make-user'; name: string; home: string }
	| { do: 'folder'; path: string; mode: number; owner?: string }
	| { do: 'write'; path: string; text: string; mode: number; owner?: string; encoding?: 'utf16le' }
	/** A file; `folder` = and the folder it is in, when nothing else is. */
	| { do: 'remove'; path: string; folder?: boolean }
	/** A data folder with all that is in it, with the rights of `as`. */
	| { do: 'purge'; path: string; as?: Rights | undefined }
	| {
			do: 'run';
			command: readonly string[];
			why: string;
			/** Said when it fails, instead of giving up. Empty = failing means that there was nothing to do. */
			orElse?: string;
			/** Only when a file was changed by an earlier step. */
			ifChanged?: boolean;
			/** While it answers with one of these it is called again, for up to this long: ending takes its time. */
			again?: { codes: readonly number[]; forMs: number };
	  };

const whoOwns = (order: InstallOrder) =>
	order.scope === 'system' && order.account !== undefined ? { owner: order.account.name } : {};

export function installPlan(order: InstallOrder): Step[] {
	const { manager, scope, places, account, data, token } = order;
	const owner = whoOwns(order);
	const folderOf = manager === 'task-scheduler' ? win32.dirname : posix.dirname;
	const steps: Step[] = [];
	// Where jobs that name no folder begin: what they leave there must not mix with the agent's files.
	const home = posix.join(data, 'home');
	if (account !== undefined && !account.exists) {
		steps.push({ do: 'make-user', name: account.name, home });
	}
	steps.push({ do: 'folder', path: data, mode: 0o700, ...owner });
	const isOwn = account?.name === defaultAccount;
	if (isOwn) steps.push({ do: 'folder', path: home, mode: 0o700, ...owner });
	steps.push({ do: 'folder', path: folderOf(places.settings), mode: 0o755 });
	if (manager === 'task-scheduler' && scope === 'system') {
		for (const path of new Set([folderOf(places.settings), data])) steps.push(closed(path));
	}
	const inSettings = places.secrets === undefined ? token : undefined;
	const settings = {
		...order.settings,
		data,
		...(inSettings === undefined ? {} : { token: inSettings }),
	};
	steps.push({
		do: 'write',
		path: places.settings,
		text: `${JSON.stringify(settings, undefined, '\t')}\n`,
		mode: 0o600,
		...owner,
	});
	// Without a new token the old file stays: whoever installs again need not have it any more.
	if (places.secrets !== undefined && token !== undefined) {
		steps.push({ do: 'write', path: places.secrets, text: `API_KEY=${token}\n`, mode: 0o600 });
	}
	const folder = folderOf(places.service);
	if (folder !== folderOf(places.settings)) steps.push({ do: 'folder', path: folder, mode: 0o755 });
	switch (manager) {
		case 'systemd': {
			const systemctl = scope === 'user' ? ['systemctl', '--user'] : ['systemctl'];
			steps.push(
				{
					do: 'write',
					path: places.service,
					// The user may be from an earlier installation, with another home.
					text: systemdUnit(order, isOwn ? home : undefined),
					mode: 0o644,
				},
				{ do: 'run', command: [...systemctl, 'daemon-reload'], why: 'let systemd read the unit' },
				{
					do: 'run',
					command: [...systemctl, 'enable', unitName],
					why: 'start it with the machine',
				},
				{
					do: 'run',
					command: [...systemctl, 'restart', unitName],
					why: 'restart it with the changes',
					ifChanged: true,
				},
				{ do: 'run', command: [...systemctl, 'start', unitName], why: 'make sure it runs' },
			);
			if (scope === 'user') {
				steps.push({
					do: 'run',
					command: ['loginctl', 'enable-linger'],
					why: 'let it run while you are logged out',
					orElse:
						'It will run only while you are logged in; to change that, an administrator runs: loginctl enable-linger YOU.',
				});
			}
			break;
		}
		case 'launchd': {
			const domain = scope === 'system' ? 'system' : `gui/${order.uid}`;
			const endsWithinS = order.beforeEndsWithinS ?? exitTimeOutS(order);
			steps.push(
				{ do: 'write', path: places.service, text: launchdFile(order), mode: 0o644 },
				{
					do: 'run',
					command: ['launchctl', 'bootout', `${domain}/${launchdLabel}`],
					why: 'end the one that runs, if any',
					orElse: '',
				},
				{
					do: 'run',
					command: ['launchctl', 'bootstrap', domain, places.service],
					why: 'start it, now and with the machine',
					// EIO and EALREADY: bootout does not wait for the one before, which may still have jobs to stop.
					again: { codes: [5, 37], forMs: endsWithinS * 1_000 },
				},
			);
			break;
		}
		case 'task-scheduler':
			steps.push(
				{
					do: 'write',
					path: places.service,
					text: taskFile(order),
					mode: 0o644,
					// schtasks reads nothing else.
					encoding: 'utf16le',
				},
				{
					do: 'run',
					command: ['schtasks', '/End', '/TN', taskName],
					why: 'end the one that runs, if any',
					orElse: '',
				},
				{
					do: 'run',
					command: ['schtasks', '/Create', '/TN', taskName, '/XML', places.service, '/F'],
					why: 'start it with the machine',
				},
				{ do: 'run', command: ['schtasks', '/Run', '/TN', taskName], why: 'start it now' },
			);
	}
	return steps;
}

/** Windows has no modes: administrators, the system and the task itself may read what is there. */
function closed(path: string): Step {
	const rights = ['*S-1-5-18:(OI)(CI)F', '*S-1-5-32-544:(OI)(CI)F', '*S-1-5-19:(OI)(CI)M'];
	return {
		do: 'run',
		command: ['icacls', path, '/inheritance:r', '/grant:r', ...rights],
		why: 'keep it from other users',
	};
}

export interface UninstallOrder {
	manager: Manager;
	scope: Scope;
	places: Places;
	data: string;
	/** The data folder and the user that was made for it go, too. */
	purge: boolean;
	/** Who the agent and its jobs ran as. */
	owner?: Rights | undefined;
	/** Set when a user was made by the installation. */
	madeUser: string | undefined;
	uid: number;
}

const killedWithinMs = 10_000;

export function uninstallPlan(order: UninstallOrder): Step[] {
	const { manager, scope, places } = order;
	const steps: Step[] = [];
	const ends = (command: readonly string[], why = 'stop it and keep it stopped', orElse = '') =>
		steps.push({ do: 'run', command, why, orElse });
	const systemctl = scope === 'user' ? ['systemctl', '--user'] : ['systemctl'];
	switch (manager) {
		case 'systemd':
			if (order.purge) {
				// A stop alone leaves them to the next agent, and there will be none.
				const end = ['kill', '--kill-who=main', '--signal=SIGINT', unitName];
				ends([...systemctl, ...end], 'end the jobs that run');
			}
			ends([...systemctl, 'disable', '--now', unitName]);
			// Their folder goes, and a user who still runs something cannot be removed. Jobs of an agent that was
			// stopped earlier count, too.
			if (order.purge) {
				const kill = ['kill', '--signal=SIGKILL', unitName];
				ends([...systemctl, ...kill], 'end the jobs that still run');
			}
			break;
		case 'launchd':
			ends([
				'launchctl',
				'bootout',
				`${scope === 'system' ? 'system' : `gui/${order.uid}`}/${launchdLabel}`,
			]);
			break;
		case 'task-scheduler':
			ends(['schtasks', '/End', '/TN', taskName]);
			ends(['schtasks', '/Delete', '/TN', taskName, '/F'], 'keep it from starting');
	}
	for (const path of [places.settings, places.secrets]) {
		if (path !== undefined) steps.push({ do: 'remove', path, folder: true });
	}
	// Last: while it is there, another try can go on with the rest.
	steps.push({ do: 'remove', path: places.service });
	if (manager === 'systemd') ends([...systemctl, 'daemon-reload'], 'let systemd forget the unit');
	if (order.purge) {
		if (order.madeUser !== undefined) {
			const userdel = ['userdel', order.madeUser];
			steps.push({
				do: 'run',
				command: userdel,
				why: 'remove the user that was made for it',
				// Still in use: what was killed a moment ago may not be gone yet.
				again: { codes: [8], forMs: killedWithinMs },
				orElse: `The user ${order.madeUser} could not be removed; see what it still runs, then run: ${userdel.join(' ')}`,
			});
		}
		// After everything else: nobody writes there any more, and if others have put something there, nothing
		// else is held up.
		steps.push({ do: 'purge', path: order.data, as: order.owner });
	}
	return steps;
}

/** The user that is made when nobody names one. One of its own, so that jobs have nobody else's rights. */
export const defaultAccount = 'robot-fleet-agent';

const name = 'robot-fleet-agent';

export function placesOf(
	manager: Manager,
	scope: Scope,
	{ home, env }: { home: string; env: Readonly<Record<string, string | undefined>> },
): Places {
	switch (manager) {
		case 'systemd': {
			const system = scope === 'system';
			const config = env.XDG_CONFIG_HOME || posix.join(home, '.config');
			const own = system ? `/etc/${name}` : posix.join(config, name);
			return {
				service: system
					? `/etc/systemd/system/${unitName}`
					: posix.join(config, 'systemd/user', unitName),
				settings: posix.join(own, 'agent.json'),
				secrets: posix.join(own, 'environment'),
				data: system ? `/var/lib/${name}` : posix.join(home, `.${name}`),
			};
		}
		case 'launchd': {
			const system = scope === 'system';
			const library = system ? '/Library' : posix.join(home, 'Library');
			const own = posix.join(library, 'Application Support', name);
			return {
				service: posix.join(
					library,
					system ? 'LaunchDaemons' : 'LaunchAgents',
					`${launchdLabel}.plist`,
				),
				settings: posix.join(own, 'agent.json'),
				secrets: undefined,
				data: system ? posix.join(own, 'data') : posix.join(home, `.${name}`),
			};
		}
		case 'task-scheduler': {
			const system = scope === 'system';
			const own = system
				? win32.join(env.ProgramData || 'C:\\ProgramData', name)
				: win32.join(env.LOCALAPPDATA || win32.join(home, 'AppData\\Local'), name);
			return {
				service: win32.join(own, 'task.xml'),
				settings: win32.join(own, 'agent.json'),
				secrets: undefined,
				data: system ? win32.join(own, 'data') : win32.join(home, `.${name}`),
			};
		}
	}
}

/** One line for people, without secrets. */
export function sentenceOf(step: Step): string {
	switch (step.do) {
		case 'make-user':
			return `make the system user ${step.name} (no login, home ${step.home})`;
		case 'folder':
			return `make the folder ${step.path}${ownedBy(step)}`;
		case 'write':
			return `write ${step.path}${ownedBy(step)}`;
		case 'remove':
			return `remove ${step.path}`;
		case 'purge':
			return `remove ${step.path} with everything in it: identity, journal, output not yet delivered`;
		case 'run':
			return `${step.why}: ${step.command.map(quoted).join(' ')}`;
	}
}

function ownedBy({ mode, owner }: { mode: number; owner?: string }): string {
	const rights = `mode ${mode.toString(8).padStart(4, '0')}`;
	return owner === undefined ? ` (${rights})` : ` (${rights}, owner ${owner})`;
}

function quoted(word: string): string {
	return /^[\w@%+=:,./\\*()-]+$/.test(word) ? word : JSON.stringify(word);
}

/**
 * `robot-fleet-agent install`, `uninstall` and `status`: decides what is to be done on this machine, shows
 * it or does it, and says so. Answers with the exit code.
 */
import { resolve } from 'node:path';
import { type Condition, isAlive, readCondition } from '../condition';
import type { AgentConfig } from '../config';
import { apply, StepFailed } from './apply';
import { exitTimeOutIn } from './launchd';
import type { Machine } from './machine';
import {
	defaultAccount,
	type InstallOrder,
	installPlan,
	type Manager,
	type Places,
	placesOf,
	type Scope,
	sentenceOf,
	type Step,
	uninstallPlan,
} from './plan';

export interface Terminal {
	out(text: string): void;
	err(text: string): void;
}

export interface InstallFlags {
	user?: boolean;
	runAs?: string;
	harden?: boolean;
	dryRun?: boolean;
}

export interface UninstallFlags {
	user?: boolean;
	purge?: boolean;
	yes?: boolean;
	dryRun?: boolean;
}

export interface Installing {
	flags: InstallFlags;
	config: AgentConfig;
	/** What was said in flags, environment and file, as a file would hold it. */
	said: Readonly<Record<string, unknown>>;
	/** Node and this program, absolute and without links. */
	program: readonly [node: string, script: string];
	machine: Machine;
	terminal: Terminal;
}

const exit = { done: 0, failed: 1, wrong: 2 } as const;

/** It cannot be done here; the message is one sentence for the owner. */
class NotHere extends Error {}

export function install(order: Installing): number {
	return told(order.terminal, () => {
		const { flags, machine, terminal } = order;
		const plan = installPlan(orderOf(order));
		if (flags.dryRun) return preview(plan, terminal);
		const { remarks } = apply(plan, machine);
		for (const step of plan) if (step.do !== 'run') terminal.out(`${sentenceOf(step)}\n`);
		for (const remark of remarks) terminal.err(`${remark}\n`);
		terminal.out(
			`installed; the agent runs, and starts with ${flags.user ? 'your session' : 'the machine'}. Check on it with: robot-fleet-agent status\n`,
		);
		return exit.done;
	});
}

function orderOf({ flags, config, said, program, machine }: Installing): InstallOrder {
	const scope: Scope = flags.user ? 'user' : 'system';
	const manager = managerOf(machine);
	const places = placesOf(manager, scope, machine);
	checkScope(machine, manager, scope, 'install', flags.dryRun ?? false);
	const { token: saidToken, data: saidData, ...settings } = said;
	const { ca } = settings;
	const data = saidData === undefined ? places.data : config.data;
	const token = typeof saidToken === 'string' ? saidToken : tokenIn(machine, places);
	const needsToken = config.listen === undefined;
	if (
		needsToken &&
		token === undefined &&
		!machine.isDataFolder(data) &&
		!isInstalled(machine, places)
	) {
		throw new NotHere(
			'A new robot needs a token: add --token TOKEN, made by: robot-fleet token create.',
		);
	}
	const account = scope === 'system' ? accountOf(flags, machine, manager) : undefined;
	// Where npm puts what is installed with -g on Windows; only its owner, administrators and the system may read it.
	const profile = `${machine.env.USERPROFILE}\\`.toLowerCase();
	const own = program.find((file) => file.toLowerCase().startsWith(profile));
	if (manager === 'task-scheduler' && scope === 'system' && own !== undefined) {
		throw new NotHere(
			`The agent would run as Local Service, which may not read ${own} in your profile; install Node and the agent where all users can (npm install -g --prefix "C:\\Program Files\\robot-fleet-agent" robot-fleet-agent), or add --user.`,
		);
	}
	if (account !== undefined) {
		for (const file of program) {
			const closed = machine.closedTo(machine.account(account.name), file);
			if (closed === undefined) continue;
			const or = flags.runAs === undefined ? ', or add --run-as USER' : '';
			throw new NotHere(
				`The user ${account.name} may not read ${closed}, and so cannot run ${file}; install Node and the agent where all users can (e.g. below /usr)${or}.`,
			);
		}
	}
	return {
		manager,
		scope,
		places,
		program: [machine.lasting(program[0]), machine.lasting(program[1])],
		account,
		// The service runs in another folder.
		settings: typeof ca === 'string' ? { ...settings, ca: resolve(ca) } : settings,
		token,
		data,
		stopGraceMs: config.stopGraceMs,
		beforeEndsWithinS:
			manager === 'launchd' ? exitTimeOutIn(machine.read(places.service)) : undefined,
		harden: flags.harden ?? false,
		uid: machine.uid,
		person: personOf(machine),
	};
}

function personOf({ env: { USERDOMAIN, USERNAME } }: Machine): string | undefined {
	return USERNAME && [USERDOMAIN, USERNAME].filter(Boolean).join('\\');
}

function managerOf(machine: Machine): Manager {
	switch (machine.platform) {
		case 'darwin':
			return 'launchd';
		case 'win32':
			return 'task-scheduler';
		case 'linux':
			return 'systemd';
		default:
			throw new NotHere(
				`install knows systemd, launchd and the Windows Task Scheduler, but this is ${machine.platform}; start the agent with whatever starts programs here.`,
			);
	}
}

function checkScope(
	machine: Machine,
	manager: Manager,
	scope: Scope,
	verb: string,
	dryRun: boolean,
): void {
	if (dryRun) return;
	if (manager === 'systemd' && !machine.hasSystemd(scope)) {
		throw new NotHere(
			scope === 'user'
				? 'No systemd serves your session here; install for the whole machine as root (without --user), or start robot-fleet-agent with whatever starts programs here.'
				: 'This machine is not run by systemd (a container, perhaps), so there is nothing to install into; start robot-fleet-agent with whatever starts programs here.',
		);
	}
	if (scope === 'system' && !machine.isAdministrator) {
		throw new NotHere(
			machine.platform === 'win32'
				? `To ${verb} for the whole machine, open the terminal as administrator; to ${verb} for yourself, add --user.`
				: `To ${verb} for the whole machine, run it with sudo; to ${verb} for yourself, add --user.`,
		);
	}
}

function accountOf(
	{ runAs }: InstallFlags,
	machine: Machine,
	manager: Manager,
): InstallOrder['account'] {
	if (manager === 'task-scheduler') {
		if (runAs === undefined) return undefined;
		throw new NotHere('On Windows the agent runs as Local Service; --run-as is not for Windows.');
	}
	if (runAs !== undefined) {
		if (machine.account(runAs) !== undefined) return { name: runAs, exists: true };
		throw new NotHere(`There is no user ${runAs} on this machine; make it, or leave out --run-as.`);
	}
	if (manager === 'launchd') {
		const name = machine.env.SUDO_USER;
		if (name !== undefined && name !== 'root') return { name, exists: true };
		throw new NotHere('Say which user the agent and its jobs run as: --run-as USER.');
	}
	return { name: defaultAccount, exists: machine.account(defaultAccount) !== undefined };
}

export interface Uninstalling {
	flags: UninstallFlags;
	machine: Machine;
	terminal: Terminal;
}

export function uninstall({ flags, machine, terminal }: Uninstalling): number {
	return told(terminal, () => {
		const scope: Scope = flags.user ? 'user' : 'system';
		const manager = managerOf(machine);
		const places = placesOf(manager, scope, machine);
		const data = dataOf(machine, places) ?? places.data;
		const purge = flags.purge === true && machine.has(data);
		if (!isInstalled(machine, places) && !purge) {
			terminal.out('not installed; there is nothing to remove\n');
			return exit.done;
		}
		checkScope(machine, manager, scope, 'uninstall', flags.dryRun ?? false);
		if (purge && !machine.isDataFolder(data)) {
			throw new NotHere(
				`${data} does not look like the data folder of an agent, so it is not removed; leave out --purge, and look at it yourself.`,
			);
		}
		// Jobs may write into settings that their own user owns: the folder named there may be anybody's.
		const writer = machine.ownerOf(places.settings);
		const isOfJobs = writer !== undefined && writer.uid !== 0;
		const owner = purge ? machine.ownerOf(data) : undefined;
		if (purge && isOfJobs && owner?.uid !== writer.uid) {
			throw new NotHere(
				`${data} does not belong to the user that the agent runs as, so it is not removed; leave out --purge, and look at it yourself.`,
			);
		}
		const made = manager === 'systemd' && scope === 'system' && machine.account(defaultAccount);
		const plan = uninstallPlan({
			manager,
			scope,
			places,
			data,
			purge,
			owner,
			madeUser: made ? defaultAccount : undefined,
			uid: machine.uid,
		});
		if (flags.dryRun) return preview(plan, terminal);
		if (purge && !flags.yes) {
			preview(plan, terminal);
			throw new NotHere(
				'Nothing was done: --purge cannot be undone, and the robot would have to be enrolled again. Add --yes if you mean it.',
			);
		}
		const agent = purge ? undefined : livingIn(data);
		const { remarks } = apply(plan, machine);
		for (const remark of remarks) terminal.err(`${remark}\n`);
		// Its last word names those that it has left behind.
		const left = agent && (conditionIn(data) ?? agent).jobs;
		if (left && left.length > 0) {
			terminal.err(
				`Still running without the agent: ${left.join(', ')}. Their results are kept, and will be delivered when it is installed again.\n`,
			);
		}
		terminal.out(
			purge
				? `uninstalled, and ${data} removed; take the robot from the fleet with: robot-fleet robots remove NAME\n`
				: `uninstalled; the robot’s identity and results stay in ${data} (removed by --purge)\n`,
		);
		return exit.done;
	});
}

/** What an agent that runs there says about itself. */
function livingIn(data: string): Condition | undefined {
	const agent = conditionIn(data);
	return agent !== undefined && isAlive(agent) ? agent : undefined;
}

function conditionIn(data: string): Condition | undefined {
	try {
		return readCondition(data);
	} catch {
		return undefined; // not ours to read, or damaged
	}
}

/** Where an installation on this machine is; one for the whole machine comes first. */
export function findInstalled(
	machine: Machine,
): { scope: Scope; places: Places; data: string | undefined } | undefined {
	let manager: Manager;
	try {
		manager = managerOf(machine);
	} catch {
		return undefined; // nothing could have been installed
	}
	for (const scope of ['system', 'user'] as const) {
		const places = placesOf(manager, scope, machine);
		if (isInstalled(machine, places)) return { scope, places, data: dataOf(machine, places) };
	}
	return undefined;
}

function isInstalled(machine: Machine, places: Places): boolean {
	return machine.has(places.service);
}

/** As the settings of the installation have it. */
function dataOf(machine: Machine, places: Places): string | undefined {
	try {
		const { data } = JSON.parse(machine.read(places.settings) ?? '{}') as { data?: unknown };
		return typeof data === 'string' ? data : places.data;
	} catch {
		return places.data; // not ours to read, or damaged: where it is by default
	}
}

/** A token that is kept in the settings is carried over into the new ones: the robot may not have used it yet. */
function tokenIn(machine: Machine, places: Places): string | undefined {
	if (places.secrets !== undefined) return undefined;
	try {
		const { token } = JSON.parse(machine.read(places.settings) ?? '{}') as { token?: unknown };
		return typeof token === 'string' ? token : undefined;
	} catch {
		return undefined; // not ours to read, or damaged
	}
}

function preview(plan: readonly Step[], { out }: Terminal): number {
	out('This would be done:\n');
	for (const step of plan) {
		out(`  ${sentenceOf(step)}\n`);
		if (step.do === 'write' && !step.path.endsWith('environment')) {
			const shown = step.text
				.replace(/("token": ")[^"]*/, '$1…')
				.replace(/("proxy": "\w+:\/\/)[^"]*@/, '$1…@');
			out(`${shown.replace(/^(?=.)/gm, '    | ')}`);
		}
	}
	return exit.done;
}

/** What cannot be done becomes one sentence on stderr and an exit code. */
function told(terminal: Terminal, deed: () => number): number {
	try {
		return deed();
	} catch (error) {
		if (!(error instanceof NotHere) && !(error instanceof StepFailed)) throw error;
		terminal.err(`${error.message}\n`);
		return error instanceof NotHere ? exit.wrong : exit.failed;
	}
}

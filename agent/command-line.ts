/** What can be said on the command line, and its help; what it means is decided elsewhere. */
import { Command, CommanderError, Option } from 'commander';
import type { Flags } from './config';
import { agentVersion, forAgentFlag } from './facts';
import type { InstallFlags, UninstallFlags } from './install/verbs';

export type Asked =
	| { verb: 'run'; flags: Flags }
	| { verb: 'install'; flags: Flags & InstallFlags }
	/** `forAgent`: it ends with whoever holds its standard input. */
	| { verb: 'facts'; forAgent: boolean }
	| { verb: 'uninstall'; flags: UninstallFlags }
	| { verb: 'status'; flags: { data?: string; json?: boolean } }
	/** Commander has said what there was to say. */
	| { verb: 'nothing'; code: number };

const gather = (value: string, before: string[] = []): string[] => [...before, value];

const withSettings = (command: Command): Command =>
	command
		.option('--server <url>', 'address of the service (SERVER_URL)')
		.option('--listen <host:port>', 'wait to be dialled by the service, instead of --server')
		.option(
			'--hub <sha256>',
			'fingerprint of the service that may dial it, as robot-fleet doctor shows it',
		)
		.option('--token <token>', 'enrollment token, needed once (API_KEY)')
		.option('--name <name>', 'name to ask for; default: the host name')
		.option('--label <key=value>', 'label of this robot; may be repeated', gather)
		.option('--capability <name>', 'capability of this robot; may be repeated', gather)
		.option('--client <name>', 'profile, session or emulator for one job; may be repeated', gather)
		.option('--slots <number>', 'jobs at the same time (default: 1, or as many as clients)')
		.option('--data <folder>', 'identity, journal and output (default: ~/.robot-fleet-agent)')
		.option('--config <file>', 'settings as JSON')
		.option('--fingerprint <sha256>', 'certificate of the service to trust from now on, or "none"')
		.option('--ca <file>', 'certificate of the authority that vouches for the service')
		.option(
			'--proxy <url>',
			'proxy on the way to the service, or "none" (default: HTTPS_PROXY and NO_PROXY)',
		)
		.option('--insecure', 'allow plain http to another machine')
		.option(
			'--transport <way>',
			'auto, websocket, or poll: plain requests where no WebSocket comes through (default: auto)',
		)
		.option('--stop-grace <seconds>', 'how long running jobs may go on after SIGTERM (default: 10)')
		.option('--leave-jobs', 'SIGTERM ends the agent at once; running jobs go on without it')
		.option('--max-output <MiB>', 'output kept of one job, its beginning and end (default: 64)')
		.option('--reserve <MiB>', 'free disk space that output leaves alone (default: 16)')
		.option('--facts-interval <minutes>', 'how often to look at the machine again (default: 60)')
		.option('--log-level <level>', 'fatal, error, warn, info, debug, trace, silent (LOG_LEVEL)');

const sources = `
A setting is taken from its flag, else from the environment (SERVER_URL, API_KEY,
HEARTBEAT_INTERVAL, LOG_LEVEL, ROBOT_FLEET_TRANSPORT, and ROBOT_FLEET_AGENT_NAME, _LABELS, _CAPABILITIES, _SLOTS,
_DATA, _CONFIG, _FINGERPRINT, _CA, _PROXY, _INSECURE, _STOP_GRACE, _LEAVE_JOBS, _MAX_OUTPUT, _RESERVE, _FACTS_INTERVAL;
ROBOT_FLEET_LISTEN, ROBOT_FLEET_HUB, ROBOT_FLEET_CLIENTS),
else from the --config file, where a client can have an environment of its own:
  "clients": [{"name": "phone", "env": {"ANDROID_SERIAL": "emulator-5554"}}, "tablet"]

A small process of its own keeps the jobs, so they outlive the agent: started again, even after
a crash, it takes them up. To restart it for an update, use --leave-jobs, or send SIGUSR2 to the
process that "robot-fleet-agent status" names:
  $ kill -USR2 PROCESS`;

export function readCommandLine(argv: readonly string[]): Asked {
	let asked: Asked = { verb: 'nothing', code: 0 };
	const program = withSettings(new Command('robot-fleet-agent'))
		.description('Connects this machine to a Robot Fleet service and runs the jobs it is given.')
		.version(agentVersion)
		.addHelpText(
			'after',
			`
Example:
  $ robot-fleet-agent --server http://127.0.0.1:8765 --token rf1.… --label os=linux --slots 2
  $ robot-fleet-agent --server https://fleet.example.com:8766 --token rf1.…
  $ robot-fleet-agent --listen 0.0.0.0:9765 --hub 4f0c…

With --listen the service dials: it must be told where, and the fingerprint that the agent prints.
The agent must be told the fingerprint of the service, once. No token is needed.
A token carries the fingerprint of the service's certificate where no authority vouches for it; the
robot trusts that one, and no other, until --fingerprint or a new token says otherwise.
HTTPS_PROXY and NO_PROXY are honoured, and kept by install.
${sources}`,
		)
		.enablePositionalOptions()
		.allowExcessArguments(false)
		.exitOverride()
		.action((flags: Flags) => void (asked = { verb: 'run', flags }));
	withSettings(program.command('install'))
		.summary('start the agent with the machine, as a service of this system')
		.description(
			`Makes the agent a service of systemd, launchd or the Windows Task Scheduler, with the settings given here. Safe to repeat: that is also how settings are changed.`,
		)
		.option('--user', 'for yourself only, without administrator rights')
		.option('--run-as <user>', 'who the agent and its jobs run as (default: a user made for it)')
		.option('--harden', 'take rights away from jobs as well: no sudo, system folders read-only')
		.option('--dry-run', 'only show what would be done')
		.addHelpText(
			'after',
			`
Examples:
  $ sudo robot-fleet-agent install --server https://fleet.example:8765 --token rf1.…
  $ robot-fleet-agent install --user --server http://127.0.0.1:8765 --token rf1.… --dry-run
${sources}`,
		)
		.action((flags: Flags & InstallFlags) => void (asked = { verb: 'install', flags }));
	program
		.command('uninstall')
		.summary('remove the service; the data folder stays')
		.description(
			'Stops and removes what install made. The data folder (identity, journal, results) stays unless --purge says otherwise.',
		)
		.option('--user', 'the one that was installed with --user')
		.option('--purge', 'also remove the data folder and the user made for it')
		.option('--yes', 'yes, I mean --purge')
		.option('--dry-run', 'only show what would be done')
		.addHelpText('after', '\nExample:\n  $ sudo robot-fleet-agent uninstall --dry-run')
		.action((flags: UninstallFlags) => void (asked = { verb: 'uninstall', flags }));
	program
		.command('facts')
		.summary('show what the service is told about this machine and what it can do')
		.description(
			'Looks at this machine and prints what it found as JSON: system, disks, shells, runtimes, browsers and tools with their versions, and the capabilities that follow.',
		)
		.addHelpText('after', '\nExample:\n  $ robot-fleet-agent facts')
		.addOption(new Option(forAgentFlag, 'ends with its standard input').hideHelp())
		.action(({ forAgent = false }: { forAgent?: boolean }) => {
			asked = { verb: 'facts', forAgent };
		});
	program
		.command('status')
		.summary('show how the agent on this machine is doing')
		.description(
			'Says whether the agent is installed, running and connected, what it runs, and what went wrong last.',
		)
		.option('--data <folder>', 'data folder of the agent (default: that of the installation)')
		.option('--json', 'print JSON')
		.addHelpText(
			'after',
			`
Exit code: 0 running and connected, 1 running but not connected, 2 cannot be read, 3 not running

Example:
  $ robot-fleet-agent status --json`,
		)
		.action((flags: { data?: string; json?: boolean }) => void (asked = { verb: 'status', flags }));
	for (const command of program.commands) command.allowExcessArguments(false).exitOverride();
	try {
		program.parse(argv, { from: 'user' });
	} catch (error) {
		if (!(error instanceof CommanderError)) throw error;
		return { verb: 'nothing', code: error.exitCode === 0 ? 0 : 2 };
	}
	return asked;
}

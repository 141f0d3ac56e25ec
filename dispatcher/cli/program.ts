/**
 * The command line: which commands there are, and how every one of them ends. Exit codes: 0 done,
 * 1 refused or failed, 2 used wrongly; `submit --wait` gives the command's own.
 */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { Problem } from '../../protocol';
import { addAttach } from './attach';
import { addConstellation } from './constellation';
import { addDoctor } from './doctor';
import { addFiles } from './files';
import { addFleet } from './fleet';
import { addHook } from './hook';
import { addSimulate } from './simulate/command';
import type { Stage } from './simulate/stage';
import { addSubmit } from './submit';
import { addWatch } from './watch';
import { addUpkeep, type Upkeep } from './upkeep';
import { printable, type Terminal, UsageMistake } from './terminal';

export interface ServeFlags {
	host?: string;
	port?: string;
	robotsListen?: string;
	tlsCert?: string;
	tlsKey?: string;
	insecure?: boolean;
	publicUrl?: string;
	metricsOpen?: boolean;
	rateLimit?: string;
	data?: string;
	config?: string;
	n8nUrl?: string;
	minFree?: string;
	keepJobs?: string;
	maxJobs?: string;
	keepOccurrences?: string;
	keepEvents?: string;
	onStop?: string;
	stopGrace?: string;
	logLevel?: string;
	defaultJobTimeout?: string;
	dispatchInterval?: string;
	strategy?: string;
	quarantineAfter?: string;
	maxOutput?: string;
	keepOutputDays?: string;
	keepOutput?: string;
	maxFile?: string;
	maxFiles?: string;
	heartbeatInterval?: string;
}

export interface ProgramWorld extends Terminal {
	/** What works on a data folder whose service is stopped. */
	upkeep: Upkeep;
	/** Runs the service until it is told to stop. */
	serve(flags: ServeFlags): Promise<number>;
	/** For simulations. */
	stage?: Stage;
}

export async function runProgram(args: string[], world: ProgramWorld): Promise<number> {
	let code = 0;
	const exit = (wanted: number) => {
		code = wanted;
	};
	try {
		await programOf(world, exit).parseAsync(args, { from: 'user' });
		return code;
	} catch (error) {
		// From a word that a command parsed itself: commander has said nothing yet.
		if (error instanceof InvalidArgumentError) {
			world.err(`${error.message}\n`);
			return 2;
		}
		// Help and version come this way too, with exit code 0; commander has printed what it had to say.
		if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
		if (error instanceof UsageMistake) {
			world.err(`${error.message}\n`);
			return 2;
		}
		if (error instanceof Problem) {
			world.err(`${printable(error.message)} [${error.code}]\n`);
			return 1;
		}
		world.err(`${printable((error as Error).message)} [internal]\n`);
		return 1;
	}
}

export function programOf(world: ProgramWorld, exit: (code: number) => void): Command {
	const program = new Command('robot-fleet')
		.description('Run work on a fleet of robots.')
		.version(world.version)
		.showSuggestionAfterError()
		// What follows a command belongs to it, even where its parent has options.
		.enablePositionalOptions()
		.exitOverride()
		.configureOutput({ writeOut: (text) => world.out(text), writeErr: (text) => world.err(text) })
		.addHelpText(
			'after',
			'\nROBOT_FLEET_URL and ROBOT_FLEET_KEY say where the service is; without them it is found in the data folder.\n\nExample:\n  $ robot-fleet serve\n  $ robot-fleet submit --wait -- uname -a',
		);
	program
		.command('serve')
		.summary('run the service')
		.description('Runs the service. The last line when it is ready: "ready http://host:port".')
		.option('--host <host>', 'address to listen on (default 127.0.0.1)')
		.option('--port <port>', 'port to listen on, 0 = any free one (default 8765)')
		.option('--robots-listen <host:port>', 'a second door that only robots can use')
		.option(
			'--tls-cert <file>',
			'certificate for other addresses than loopback, read anew when it changes',
		)
		.option('--tls-key <file>', 'private key of that certificate')
		.option('--insecure', 'allow other addresses than loopback without TLS')
		.option('--public-url <url>', 'how others reach the service')
		.option(
			'--rate-limit <calls>',
			'calls a minute of one key, 0 = no limit (default 6000, for other machines only)',
		)
		.option('--metrics-open', 'answer /metrics without a key')
		.option('--data <folder>', 'data folder (default ~/.robot-fleet)')
		.option(
			'--config <file>',
			'settings and devices as one JSON object; see: robot-fleet config sample',
		)
		.option('--n8n-url <url>', 'the n8n that may be called back')
		.option(
			'--default-job-timeout <seconds>',
			'longest run of a job that sets no limit (default 3600)',
		)
		.option(
			'--strategy <name>',
			'least_loaded (default), round_robin, random or affinity: for jobs that do not say',
		)
		.option(
			'--quarantine-after <jobs>',
			'keep jobs from a robot after this many in a row failed because of it, 0 = never (default 3)',
		)
		.option('--dispatch-interval <seconds>', 'safety sweep (default 5)')
		.option(
			'--heartbeat-interval <seconds>',
			'how often robots say that they are alive (default 15)',
		)
		.option(
			'--on-stop <way>',
			'leave (robots carry on), wait (for what runs), cancel (all); default leave',
		)
		.option('--stop-grace <seconds>', 'how long wait and cancel may take (default 30)')
		.option('--keep-jobs <age>', 'how long ended jobs are kept (default 30d)')
		.option('--max-jobs <count>', 'at most this many ended jobs (default 1000000)')
		.option('--keep-occurrences <age>', 'how long runs of schedules are kept (default 90d)')
		.option('--keep-events <age>', 'how long events for consumers are kept (default 30d)')
		.option('--min-free <size>', 'take no new jobs with less free disk space (default 1GiB)')
		.option('--max-output <MiB>', 'output kept of one job, its beginning and end (default 64)')
		.option('--keep-output-days <days>', 'how long outputs are kept (default 7)')
		.option('--keep-output <GiB>', 'outputs kept in all, the latest ones (default 10)')
		.option('--max-file <size>', 'largest file that is taken (default 1GiB)')
		.option('--max-files <size>', 'files kept in all (default 10GiB)')
		.option('--log-level <level>', 'debug, info, warn, error (default info)')
		.addHelpText(
			'after',
			'\nWithout --tls-cert the robots’ door makes a certificate for itself; tokens carry its fingerprint.\n\nExample:\n  $ robot-fleet serve --port 8765 --data /var/lib/robot-fleet\n  $ robot-fleet serve --robots-listen 0.0.0.0:8766',
		)
		.action(async (flags: ServeFlags) => exit(await world.serve(flags)));
	addSubmit(program, world, exit);
	addAttach(program, world, exit);
	addFleet(program, world, exit);
	addFiles(program, world);
	addWatch(program, world);
	addSimulate(program, world);
	addConstellation(program, world, exit);
	addUpkeep(program, world);
	addDoctor(program, world, exit);
	addHook(program, world);
	// Subcommands copy the settings of their parent when they are made, but not these two.
	inherit(program, program);
	return program;
}

function inherit(parent: Command, root: Command): void {
	for (const child of parent.commands) {
		child.copyInheritedSettings(root);
		inherit(child, root);
	}
}

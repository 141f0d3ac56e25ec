/**
 * robot-fleet-agent: the program on each robot. Wires the rooms, reads argv and environment, and is
 * the only file that exits.
 *
 *   0 stopped as asked · 1 unexpected · 2 used or set up wrongly · 3 the service refuses this robot
 */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';

const oldestNode = [22, 16] as const;

class Quit extends Error {
	readonly code: number;

	constructor(code: number, message: string) {
		super(message);
		this.code = code;
	}
}

/** Everything else is loaded after this: an old Node would fail on it with a riddle. */
function checkNode(version: string): void {
	const [major = 0, minor = 0] = version.split('.').map(Number);
	if (major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1])) return;
	throw new Quit(
		2,
		`Node ${version} is too old; robot-fleet-agent needs Node ${oldestNode.join('.')} or newer.`,
	);
}

async function readFlags(argv: readonly string[]): Promise<import('./config').Flags> {
	const { Command, CommanderError } = await import('commander');
	const { agentVersion } = await import('./facts');
	const gather = (value: string, before: string[] = []): string[] => [...before, value];
	const program = new Command('robot-fleet-agent')
		.description('Connects this machine to a Robot Fleet service and runs the jobs it is given.')
		.version(agentVersion)
		.option('--server <url>', 'address of the service (SERVER_URL)')
		.option('--token <token>', 'enrollment token, needed once (API_KEY)')
		.option('--name <name>', 'name to ask for; default: the host name')
		.option('--label <key=value>', 'label of this robot; may be repeated', gather)
		.option('--capability <name>', 'capability of this robot; may be repeated', gather)
		.option('--slots <number>', 'jobs at the same time (default: 1)')
		.option('--data <folder>', 'identity, journal and output (default: ~/.robot-fleet-agent)')
		.option('--config <file>', 'settings as JSON')
		.option('--fingerprint <sha256>', 'certificate of the service to trust from now on, or "none"')
		.option('--ca <file>', 'certificate of the authority that vouches for the service')
		.option('--insecure', 'allow plain http to another machine')
		.option('--stop-grace <seconds>', 'how long running jobs may go on after SIGTERM (default: 10)')
		.option('--max-output <MiB>', 'output kept of one job, its beginning and end (default: 64)')
		.option('--reserve <MiB>', 'free disk that output leaves alone (default: 16)')
		.option('--log-level <level>', 'fatal, error, warn, info, debug, trace, silent (LOG_LEVEL)')
		.addHelpText(
			'after',
			`
Example:
  $ robot-fleet-agent --server http://127.0.0.1:8765 --token rf1.… --label os=linux --slots 2
  $ robot-fleet-agent --server https://fleet.example.com:8766 --token rf1.…

A token carries the fingerprint of the service's certificate where no authority vouches for it; the
robot trusts that one, and no other, until --fingerprint or a new token says otherwise.
HTTPS_PROXY and NO_PROXY are honoured.

A setting is taken from its flag, else from the environment (SERVER_URL, API_KEY,
HEARTBEAT_INTERVAL, LOG_LEVEL, and ROBOT_FLEET_AGENT_NAME, _LABELS, _CAPABILITIES, _SLOTS,
_DATA, _CONFIG, _FINGERPRINT, _CA, _INSECURE, _STOP_GRACE, _MAX_OUTPUT, _RESERVE), else from the --config file.`,
		)
		.allowExcessArguments(false)
		.exitOverride();
	try {
		program.parse(argv, { from: 'user' });
	} catch (error) {
		// commander has said what it had to say.
		if (error instanceof CommanderError) throw new Quit(error.exitCode === 0 ? 0 : 2, '');
		throw error;
	}
	return program.opts();
}

async function main(): Promise<number> {
	checkNode(process.versions.node);
	// What a flooding job prints passes in short-lived buffers, whose memory is given back when the young
	// generation is collected: kept small, it is collected often, and a collection is short.
	setFlagsFromString('--semi-space-growth-factor=1');
	const flags = await readFlags(process.argv.slice(2));
	const { readConfig, secretEnvNames } = await import('./config');
	const configured = readConfig(flags, process.env, (path) => readFileSync(path, 'utf8'));
	if (!configured.ok) throw new Quit(2, configured.mistakes.join('\n'));
	const { config } = configured;

	const [{ pino }, { systemClock: clock }, { openFolder }] = await Promise.all([
		import('pino'),
		import('./clock'),
		import('./data-folder'),
	]);
	const log = pino(
		{ level: config.logLevel, base: { pid: process.pid } },
		pino.destination({ dest: 2, sync: true }),
	);

	const folder = openFolder(config.data, clock, {
		maxBytes: config.maxOutputBytes,
		reserveBytes: config.reserveBytes,
	});
	if (!folder.ok) throw new Quit(2, folder.sentence);
	const { journal, identity, spool, ballast } = folder;
	for (const sentence of journal.damage)
		log.error({ copy: `${config.data}/journal.db.damaged` }, sentence);
	if (identity.membership === undefined && config.token === undefined) {
		throw new Quit(
			2,
			`This robot is not enrolled yet (nothing in ${config.data}); start it once with --token TOKEN, made by: robot-fleet token create.`,
		);
	}

	const { randomUUID } = await import('node:crypto');
	const { hostname } = await import('node:os');
	const { agentVersion, machineInfo, VitalSigns } = await import('./facts');
	const { commandExecutor } = await import('./executors/command');
	const { enrol, EnrolRefused } = await import('./enrol');
	const { Link, LinkRefused } = await import('./link');
	const { Runner } = await import('./runner');
	const { machineId } = await import('./machine');
	const { latestWord } = await import('./trust');
	const { wireFeatures } = await import('../protocol');
	const { Window } = await import('./window');

	const executors = new Map<string, import('./executors/executor').Executor>();
	executors.set(
		'command',
		commandExecutor({
			env: process.env,
			secretEnvNames,
		}) as import('./executors/executor').Executor,
	);

	const stopping = new AbortController();
	const runner = new Runner({
		journal,
		spool,
		ballast,
		window: new Window(),
		clock,
		log,
		executors,
		slots: config.slots,
		onShutdown: () => stop('the service asked for it'),
	});
	const bootId = randomUUID();
	const { vouched, isNew: tokenIsNew } = latestWord(config, identity.vouched);
	const trust = { pin: vouched.pin, ca: config.ca, proxy: config.proxy };
	let sentence = '';
	const newLink = (): InstanceType<typeof Link> =>
		new Link({
			server: config.server,
			identity,
			trust,
			self: {
				version: agentVersion,
				journal_id: journal.id,
				boot_id: bootId,
				machine_id: machineId(),
				features: [...wireFeatures, ...[...executors.keys()].map((kind) => `kind:${kind}`)],
				slots: config.slots,
				labels: { ...config.labels },
				capabilities: [...config.capabilities],
			},
			info: machineInfo,
			vitals: new VitalSigns(config.data),
			heartbeatMs: config.heartbeatMs,
			crew: runner,
			clock,
			log,
			canRejoin,
			onRefused(said) {
				// The log repeats it; a person reads it once.
				if (said !== sentence) process.stderr.write(`${said}\n`);
				sentence = said;
			},
			onLive(name, robotId) {
				everLive = true;
				identity.trusts(vouched);
				log.info({ name, robotId, server: config.server }, 'connected');
				process.stdout.write(`connected as ${name} (${robotId})\n`);
			},
		});
	let link: InstanceType<typeof Link> | undefined;
	let everLive = false;
	let rejoined = false;
	// A robot removed while it was here stays removed, whatever token is still lying around.
	const canRejoin = (why: 'refused' | 'elsewhere'): boolean =>
		(why === 'refused' ? config.token !== undefined : tokenIsNew) && !everLive && !rejoined;

	const stop = (why: string): void => {
		if (stopping.signal.aborted) {
			log.warn({ why }, 'asked again, stopping at once');
			runner.hurry();
			return;
		}
		log.info({ why, graceMs: config.stopGraceMs }, 'stopping');
		stopping.abort();
		void (async () => {
			await runner.drain(config.stopGraceMs);
			await runner.delivered(2_000);
			await link?.close();
			drained.resolve();
		})();
	};
	const drained = Promise.withResolvers<void>();
	for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, () => stop(name));
	// Whoever read our one line may be gone; that must not end the agent.
	process.stdout.on('error', () => undefined);

	runner.resume();
	const join = async (token: string): Promise<void> => {
		const { server } = config;
		const name = config.name ?? hostname();
		await enrol({ server, token, name, identity, trust, clock, log, signal: stopping.signal });
	};

	try {
		if (identity.membership === undefined) await join(config.token!);
		while (!stopping.signal.aborted) {
			link = newLink();
			try {
				await link.run();
			} catch (error) {
				if (!(error instanceof LinkRefused) || !canRejoin('refused')) throw error;
				log.warn({ reason: error.message }, 'identity refused, enrolling anew with the token');
				rejoined = true;
				identity.startAfresh();
				await join(config.token!);
			}
		}
	} catch (error) {
		if (stopping.signal.aborted) {
			// Enrolment was cut short by the stop.
		} else if (error instanceof EnrolRefused || error instanceof LinkRefused) {
			process.stderr.write(`${error.message}\n`);
			// Nobody will ever take the results, but nothing shall run without an owner either.
			await runner.drain(0);
			journal.close();
			return 3;
		} else throw error;
	}
	await drained.promise;
	journal.close();
	return 0;
}

main().then(
	(code) => process.exit(code),
	(error: unknown) => {
		if (error instanceof Quit) {
			if (error.message !== '') process.stderr.write(`${error.message}\n`);
			process.exit(error.code);
		}
		process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
		process.exit(1);
	},
);

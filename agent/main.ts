/**
 * robot-fleet-agent: the program on each robot. Wires the rooms, reads argv and environment, and is
 * the only file that exits.
 *
 *   0 stopped as asked · 1 unexpected · 2 used or set up wrongly · 3 the service refuses this robot
 *
 * `status` has codes of its own (install/status.ts).
 */
import { readFileSync, realpathSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';

const oldestNode = [22, 16] as const;

/** How much log waits while it can be written nowhere. */
const waitingLogBytes = 64 * 1024;

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

const terminal = {
	out: (text: string) => void process.stdout.write(text),
	err: (text: string) => void process.stderr.write(text),
};

async function main(): Promise<number> {
	// What a flooding job prints passes through short-lived buffers, whose memory is given back when the
	// young generation is collected: kept small, it is collected often, and each collection is short. Done
	// first, since what grows while the modules are loaded stays large.
	setFlagsFromString('--semi-space-growth-factor=1');
	// What only a start calls often is not worth an optimizing compiler: that is megabytes of code, which a waiting
	// agent never needs again. What goes on being called still gets there.
	setFlagsFromString('--invocation-count-for-maglev=4000');
	setFlagsFromString('--invocation-count-for-turbofan=30000');
	setFlagsFromString('--invocation-count-for-osr=5000');
	checkNode(process.versions.node);
	const { readCommandLine } = await import('./command-line');
	const asked = readCommandLine(process.argv.slice(2));
	switch (asked.verb) {
		case 'nothing':
			return asked.code;
		case 'run':
			return await run(asked.flags);
		case 'facts': {
			const { survey } = await import('./survey');
			const { capabilitiesOf } = await import('./facts');
			const { setPriority } = await import('node:os');
			// Whatever else this machine does is more urgent.
			setPriority(10);
			const unwanted = new AbortController();
			if (asked.forAgent) {
				// Nobody ever writes there; it ends when the agent does.
				process.stdin.resume().once('close', () => unwanted.abort());
			}
			const found = await survey(process.env, await import('systeminformation'), unwanted.signal);
			if (unwanted.signal.aborted) return 1;
			terminal.out(
				`${JSON.stringify({ survey: found, capabilities: capabilitiesOf(found, []) }, undefined, '\t')}\n`,
			);
			return 0;
		}
		case 'install': {
			const { install } = await import('./install/verbs');
			const { Machine } = await import('./install/machine');
			const { config, said } = await configure(asked.flags);
			const program = [realpathSync(process.execPath), realpathSync(process.argv[1]!)] as const;
			return install({
				flags: asked.flags,
				config,
				said,
				program,
				machine: new Machine(),
				terminal,
			});
		}
		case 'uninstall': {
			const { uninstall } = await import('./install/verbs');
			const { Machine } = await import('./install/machine');
			return uninstall({ flags: asked.flags, machine: new Machine(), terminal });
		}
		case 'status': {
			const { status } = await import('./install/status');
			const { Machine } = await import('./install/machine');
			const { systemClock } = await import('./clock');
			const { defaultData } = await import('./config');
			const { resolve } = await import('node:path');
			const data = asked.flags.data ?? process.env.ROBOT_FLEET_AGENT_DATA;
			return status({
				data: data === undefined ? undefined : resolve(data),
				fallback: defaultData(),
				json: asked.flags.json ?? false,
				machine: new Machine(),
				terminal,
				now: systemClock.now(),
			});
		}
	}
}

async function configure(flags: import('./config').Flags) {
	const { readConfig } = await import('./config');
	const configured = readConfig(flags, process.env, (path) => readFileSync(path, 'utf8'));
	if (!configured.ok) throw new Quit(2, configured.mistakes.join('\n'));
	return configured;
}

async function run(flags: import('./config').Flags): Promise<number> {
	const { secretEnvNames } = await import('./config');
	const { config } = await configure(flags);

	const [{ pino }, { systemClock: clock }, { openFolder }] = await Promise.all([
		import('pino'),
		import('./clock'),
		import('./data-folder'),
	]);
	// A disk that has no room for what we say must not end us: some of it waits, the rest is left out.
	const said = pino.destination({ dest: 2, sync: true, maxLength: waitingLogBytes });
	for (const stream of [said, process.stderr]) stream.on('error', () => undefined);
	// With that much waiting it stops trying, and would be silent for ever: an empty write makes it try again.
	said.on('drop', () => said.write(''));
	const log = pino({ level: config.logLevel, base: { pid: process.pid } }, said);

	const folder = openFolder(config.data, clock, {
		maxBytes: config.maxOutputBytes,
		reserveBytes: config.reserveBytes,
	});
	if (!folder.ok) throw new Quit(2, folder.sentence);
	const { journal, identity, spool, workspaces, ballast } = folder;
	journal.onBroken = ({ message }) => {
		// Programs have their keeper, and the next start reads from the disk what is really there.
		log.fatal({ reason: message }, 'the journal cannot be trusted any more');
		process.stderr.write(
			`The agent ends, because ${message}; look at the disk of ${config.data}, and start it again.\n`,
		);
		process.exit(1);
	};
	for (const sentence of journal.damage)
		log.error({ copy: `${config.data}/journal.db.damaged` }, sentence);
	const { listen } = config;
	const hub = config.hub ?? identity.hub;
	if (listen && hub === undefined) {
		const { deviceLines } = await import('./device-lines');
		terminal.out(deviceLines(config, identity.fingerprint, listen.port));
		throw new Quit(
			2,
			`No service is trusted here yet; start this agent once with --hub FINGERPRINT, which "robot-fleet doctor" says on the service’s machine.`,
		);
	}
	if (!listen && identity.membership === undefined && config.token === undefined) {
		throw new Quit(
			2,
			`This robot is not enrolled yet (nothing in ${config.data}); start it once with --token TOKEN, made by: robot-fleet token create.`,
		);
	}

	const { randomUUID } = await import('node:crypto');
	const { hostname } = await import('node:os');
	const { agentVersion, FactsBook, lookByChild, VitalSigns } = await import('./facts');
	const { commandExecutor } = await import('./executors/command');
	const { probeExecutor } = await import('./executors/probe');
	const { enrol, EnrolRefused } = await import('./enrol');
	const { Link, LinkRefused } = await import('./link');
	const { Runner } = await import('./runner');
	const { machineId } = await import('./machine');
	const { latestWord } = await import('./trust');
	const { wireFeatures } = await import('../protocol');
	const { Window } = await import('./window');
	const { Keeper } = await import('./keeper/keeper');
	const { currentBoot } = await import('./drivers/process');
	const { signOf } = await import('./survey');

	const keeper = new Keeper({
		folder: `${config.data}/keeper`,
		// Named pipes on Windows have other owners and rights, so there jobs are children of the agent.
		program: process.platform === 'win32' ? undefined : `${__dirname}/keeper.js`,
		spool: {
			folder: `${config.data}/spool`,
			maxBytes: config.maxOutputBytes,
			reserveBytes: config.reserveBytes,
		},
		clock,
		log,
	});
	const { Watching } = await import('./watcher/watching');
	const { ConditionFile } = await import('./condition');
	const { Rest } = await import('./rest');

	const executors = new Map<string, import('./executors/executor').Executor>();
	const command = commandExecutor({
		// As it is now: each look into `process.env` itself is a call into the system.
		env: { ...process.env },
		secretEnvNames,
		keeper,
	});
	for (const executor of [command, probeExecutor(command, process.execPath)]) {
		executors.set(executor.kind, executor as import('./executors/executor').Executor);
	}

	const stopping = new AbortController();
	const runner = new Runner({
		journal,
		spool,
		workspaces,
		ballast,
		window: new Window(),
		watching: new Watching(clock),
		clock,
		log,
		executors,
		slots: config.slots,
		clients: config.clients,
		boot: currentBoot(),
		onChange: () => {
			condition.touch();
			if (runner.status.active_jobs.length > 0) rest.stir();
		},
		onShutdown: (atOnce) => {
			stop('the service asked for it');
			if (atOnce) runner.hurry();
		},
	});
	const rest = new Rest(clock, () => runner.status.active_jobs.length === 0);
	const condition = new ConditionFile(
		config.data,
		clock,
		{
			version: agentVersion,
			server: listen ? `listens on ${listen.host}:${listen.port}` : config.server,
			robotId: identity.membership?.robotId ?? null,
			name: identity.membership?.name ?? null,
		},
		() => runner.status,
	);
	const { [secretEnvNames[0]!]: _, ...withoutToken } = process.env;
	const facts = new FactsBook(
		config.data,
		config.capabilities,
		lookByChild([process.execPath, process.argv[1]!], withoutToken),
		// Another version may look for more.
		async () => `${agentVersion} ${await signOf(withoutToken)}`,
		log,
	);
	facts.onChange = () => link?.tellFacts();
	const bootId = randomUUID();
	const { vouched } = latestWord(config, identity.vouched);
	const trust = { pin: vouched.pin, ca: config.ca, proxy: config.proxy };
	let sentence = '';
	const parts = {
		identity,
		self: {
			version: agentVersion,
			journal_id: journal.id,
			boot_id: bootId,
			machine_id: machineId(),
			features: [...wireFeatures, ...[...executors.keys()].map((kind) => `kind:${kind}`)],
			slots: config.slots,
			...(config.clients.length === 0 ? {} : { clients: config.clients.map(({ name }) => name) }),
			labels: { ...config.labels },
		},
		facts,
		vitals: new VitalSigns(config.data, clock, () => keeper.isMissing),
		heartbeatMs: config.heartbeatMs,
		crew: runner,
		clock,
		log,
		onRefused(said: string) {
			// The log repeats it; a person reads it once.
			if (said !== sentence) process.stderr.write(`${said}\n`);
			sentence = said;
		},
		onLive(name: string, robotId: string, transport: import('../protocol').Transport) {
			everLive = true;
			try {
				if (!listen) identity.trusts(vouched);
			} catch (error) {
				// The disk is full, perhaps. What was said is still in the settings, and counts at the next start, too.
				log.warn({ reason: (error as Error).message }, 'which service to trust could not be saved');
			}
			condition.connected(name, robotId, transport);
			rest.stir();
			log.info(
				{ name, robotId, ...(!listen && { server: config.server }), transport },
				'connected',
			);
			if (transport === 'poll' && config.transport === 'auto')
				log.warn('no WebSocket comes through to the service, so this line uses polling');
			process.stdout.write(`connected as ${name} (${robotId})\n`);
		},
		onLost: (reason: string) => condition.disconnected(reason),
	};
	const newLink = () =>
		new Link({ ...parts, server: config.server, trust, canRejoin, transport: config.transport });
	let link:
		InstanceType<typeof Link> | InstanceType<typeof import('./listen').Listening> | undefined;
	let everLive = false;
	let rejoined = false;
	// A robot removed while it was here stays removed, whatever token is still lying around. Looked up each time: a
	// token that it has joined with since the start is no longer new.
	const canRejoin = (why: 'refused' | 'elsewhere'): boolean => {
		const { isNew } = latestWord(config, identity.vouched);
		return (why === 'refused' ? config.token !== undefined : isNew) && !everLive && !rejoined;
	};

	let leaves = false;
	const stop = (why: string, leaveJobs = false): void => {
		// What was left to go on must not be stopped because somebody is impatient with us.
		if (leaves) return;
		if (stopping.signal.aborted) {
			log.warn({ why }, 'asked again, stopping at once');
			runner.hurry();
			return;
		}
		leaves = leaveJobs && keeper.outlivesUs;
		log.info({ why, leave: leaves, graceMs: config.stopGraceMs }, 'stopping');
		stopping.abort();
		void (async () => {
			if (leaves) runner.leave();
			else {
				await runner.drain(config.stopGraceMs);
				await runner.delivered(2_000);
			}
			await link?.close();
			drained.resolve();
		})();
	};
	const drained = Promise.withResolvers<void>();
	for (const name of ['SIGINT', 'SIGHUP'] as const) process.on(name, () => stop(name));
	process.on('SIGTERM', () => stop('SIGTERM', config.leaveJobs));
	if (process.platform !== 'win32') {
		process.on('SIGUSR2', () => stop('SIGUSR2', true));
		// Unhandled, it opens Node's debugger to every user of this machine.
		process.on('SIGUSR1', () => log.info({}, 'SIGUSR1 means nothing here'));
	}
	// Whoever read our one line may be gone; that must not end the agent.
	process.stdout.on('error', () => undefined);

	runner.resume();
	keeper.sweep(
		journal.held().map(({ assignment: { job_id, epoch } }) => ({ jobId: job_id, epoch })),
	);
	condition.touch();
	void facts.keepFresh(config.factsEveryMs, clock, stopping.signal);
	const join = async (token: string): Promise<void> => {
		const { server } = config;
		const name = config.name ?? hostname();
		await enrol({ server, token, name, identity, trust, clock, log, signal: stopping.signal });
	};

	try {
		if (listen) {
			const { Listening } = await import('./listen');
			const { deviceLines } = await import('./device-lines');
			const listening = new Listening({ ...parts, ...listen, hub: hub! });
			link = listening;
			let url: string;
			try {
				url = await listening.open();
			} catch (error) {
				const { code } = error as NodeJS.ErrnoException;
				throw new Quit(
					// After a boot the address may come later (DHCP, a VPN): whatever looks after the agent
					// starts it again.
					code === 'EACCES' ? 2 : 1,
					`Cannot listen on ${listen.host}:${listen.port} (${(error as Error).message}); choose another address with --listen.`,
				);
			}
			process.stdout.write(deviceLines(config, identity.fingerprint, Number(new URL(url).port)));
			process.stdout.write(`listening on ${url}\n`);
			// It may have been asked to stop before there was anything to close.
			if (!stopping.signal.aborted) await listening.run();
		} else if (identity.membership === undefined) await join(config.token!);
		while (!listen && !stopping.signal.aborted) {
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
			condition.disconnected(error.message);
			// Nobody will ever take the results, but nothing may run without an owner either.
			await runner.drain(0);
			await keeper.close();
			journal.close();
			return 3;
		} else throw error;
	}
	await drained.promise;
	await keeper.close();
	condition.ended();
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

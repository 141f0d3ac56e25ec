/**
 * The doors of the service: HTTP and the robots' sockets, on one listener, and on wish a second
 * listener with nothing but what robots need. It knows headers, sockets and keys; it knows no rule
 * of a job and no SQL.
 */
import type { FastifyInstance } from 'fastify';
import type { AddressInfo } from 'node:net';
import { type CallName, calls, Problem } from '../../protocol';
import type { Engine } from '../engine';
import type { Clock } from '../engine/clock';
import type { Log } from '../engine/context';
import { createApp, type HostGate } from './app';
import { type Backup, type Door, door, type House } from './door';
import { facadeDoors } from './facade-doors';
import { fleetDoors } from './fleet-doors';
import { hostGateOf, isLoopback, robotsGate } from './host-gate';
import { bulkDoors } from './bulk-doors';
import { jobDoors } from './job-doors';
import { openapiOf } from './openapi';
import { operationsDoors } from './operations-doors';
import { RobotsDoor } from './robots';
import { serviceDoors } from './service-doors';
import { Type } from 'typebox';

export interface ServerOptions {
	engine: Engine;
	clock: Clock;
	log: Log;
	version: string;
	host: string;
	/** 0 = any free port. */
	port: number;
	/** `HOST:PORT` of a second listener that serves only robots. */
	robotsListen?: string;
	/** Allows plain HTTP for robots on other machines: for a TLS proxy or a tunnel in front. */
	insecure?: boolean;
	/** What others call us; its host is accepted in the Host header. */
	publicUrl?: string;
	heartbeatMs?: number;
	takeBackup(): Promise<Backup>;
	/** For `GET /config`; secrets already masked. */
	settings: Record<string, unknown>;
	/** Which setting to name when the port is taken. */
	portVariable?: string;
}

export interface Server {
	readonly url: string;
	/** Of the second listener, when there is one. */
	readonly robotsUrl: string | undefined;
	/** Ends what waits, says goodbye to robots, closes all sockets. Harmless when called twice. */
	close(): Promise<void>;
}

const robotsCalls = ['robotEnrol', 'robotLink', 'healthz'] as const satisfies CallName[];
/** How long answers that are under way may take. */
const politeMs = 1_000;
/**
 * Connections the kernel keeps for us until we take them (and at most net.core.somaxconn). Those beyond
 * it are dropped silently, and knock again after 1, 3, 7, 15 s: a fleet that comes back at once would
 * need longer for that than for all the rest.
 */
const backlog = 4_096;
/** How long robots get to answer the goodbye. */
const goodbyeMs = 500;

export async function startServer(options: ServerOptions): Promise<Server> {
	refuseInTheOpen('--host', options.host, options.insecure);
	const robotsAt = options.robotsListen === undefined ? undefined : robotsListenOf(options);
	const { engine, clock, log, settings, version } = options;
	const takeBackup = () => options.takeBackup();
	const house: House = { engine, clock, log, settings, version, takeBackup, waiting: new Set() };
	const doors = allDoors(options.version);
	const door = new RobotsDoor(house, options.heartbeatMs);
	const apps: FastifyInstance[] = [];

	const open = async (
		names: readonly CallName[],
		gate: HostGate,
		at: { host: string; port: number; variable: string },
	) => {
		const some = Object.fromEntries(names.map((name) => [name, doors[name]]));
		const app = createApp({ house, doors: some, hostGate: gate });
		apps.push(app);
		door.attach(app.server, gate);
		return listen(app, at);
	};
	const shut = async () => {
		for (const waiting of house.waiting) waiting.abort();
		door.close();
		const until = clock.monotonic() + goodbyeMs;
		while (door.open > 0 && clock.monotonic() < until) await clock.sleep(10);
		door.terminate();
		const closed = new AbortController();
		void clock.sleep(politeMs, closed.signal).then(() => {
			for (const app of apps) app.server.closeAllConnections();
		});
		await Promise.all(apps.map((app) => app.close()));
		closed.abort();
	};

	try {
		const gate = hostGateOf(options);
		const url = await open(Object.keys(calls) as CallName[], gate, {
			host: options.host,
			port: options.port,
			variable: options.portVariable ?? 'ROBOT_FLEET_PORT',
		});
		const robotsUrl = robotsAt && (await open(robotsCalls, robotsGate, robotsAt));
		let closing: Promise<void> | undefined;
		return { url, robotsUrl, close: () => (closing ??= shut()) };
	} catch (error) {
		await shut();
		throw error;
	}
}

function allDoors(version: string): Record<CallName, Door> {
	const doors: Record<CallName, Door> = {
		...jobDoors,
		...bulkDoors,
		...fleetDoors,
		...facadeDoors,
		...operationsDoors,
		...serviceDoors,
		openapi: door({ answer: Type.Object({}), run: () => document }),
	};
	// Made once: it never changes while the service runs.
	const document = openapiOf(doors, version);
	return doors;
}

function robotsListenOf({ robotsListen, insecure }: ServerOptions) {
	const match = /^(.+):(\d{1,5})$/.exec(robotsListen!);
	const host = match?.[1]?.replace(/^\[|\]$/g, '');
	if (host === undefined || Number(match![2]) > 65_535) {
		throw new Problem('bad-config', {
			mistakes: `ROBOT_FLEET_ROBOTS_LISTEN is "${robotsListen}", it must be HOST:PORT`,
		});
	}
	refuseInTheOpen('--robots-listen', host, insecure);
	return { host, port: Number(match![2]), variable: 'ROBOT_FLEET_ROBOTS_LISTEN' };
}

/** Keys and commands must not cross a network in the clear. */
function refuseInTheOpen(flag: string, host: string, insecure = false): void {
	if (isLoopback(host) || insecure) return;
	throw new Problem('bad-config', {
		mistakes: `${flag} ${host} would talk to other machines without encryption, and TLS comes with a later version; listen on 127.0.0.1 behind a TLS proxy or a tunnel, or add --insecure on a network you trust`,
	});
}

async function listen(
	app: FastifyInstance,
	{ host, port, variable }: { host: string; port: number; variable: string },
): Promise<string> {
	try {
		await app.listen({ host, port, backlog });
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === 'EADDRINUSE') throw new Problem('port-taken', { port, host, variable }, error);
		if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EACCES') {
			const reason =
				code === 'EACCES' ? 'this user may not use that port' : 'this machine has no such address';
			throw new Problem(
				'bad-config',
				{ mistakes: `cannot listen on ${host}:${port}, ${reason}` },
				error,
			);
		}
		throw error;
	}
	const bound = (app.server.address() as AddressInfo).port;
	const name =
		host === '0.0.0.0'
			? '127.0.0.1'
			: host === '::'
				? '[::1]'
				: host.includes(':')
					? `[${host}]`
					: host;
	return `http://${name}:${bound}`;
}

/**
 * The doors of the service: HTTP and the robots' sockets on one listener and, if wanted, a second
 * listener with only what robots need. On loopback they speak plain HTTP, elsewhere TLS. They know
 * headers, sockets, certificates and keys, but no rules of jobs and no SQL.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import type { Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { type CallName, calls, type Doors, Problem } from '../../protocol';
import type { Engine } from '../engine';
import type { Clock } from '../engine/clock';
import type { Log } from '../engine/context';
import { bringsOthers } from './address';
import { createApp, type HostGate } from './app';
import { Certificate, type CertificateFiles } from './certificate';
import { Dialler, type DiallerSettings } from './dialler';
import { type Backup, type Door, door, type House } from './door';
import { facadeDoors } from './facade-doors';
import type { Relay } from './front';
import { fileDoors } from './file-doors';
import { fleetDoors } from './fleet-doors';
import { gateDoors } from './gate-doors';
import { placementDoors } from './placement-doors';
import { scheduleDoors } from './schedule-doors';
import { hostGateOf, isLoopback, relayGate, robotsGate } from './host-gate';
import { bulkDoors } from './bulk-doors';
import { jobDoors } from './job-doors';
import { LiveDoor } from './live';
import { metricsDoors } from './metrics-doors';
import { openapiOf } from './openapi';
import { operationsDoors } from './operations-doors';
import { Rates, type RateSettings } from './rates';
import { RobotsDoor } from './robots';
import { serviceDoors } from './service-doors';
import { Traffic } from './traffic';
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
	/** Allows plain HTTP for other machines: for a TLS proxy or a tunnel in front. */
	insecure?: boolean;
	/** For the doors that speak TLS: the operator's certificate, else one made and kept in `folder`. */
	tls: { files?: CertificateFiles; folder: string };
	/** The API is for this process alone; other machines may use the robots' door. */
	private?: boolean;
	/** Called when another certificate has taken the place of the old one. */
	onCertificate?: () => void;
	/** What others call us; its host is accepted in the Host header. */
	publicUrl?: string;
	heartbeatMs?: number;
	/** How robots that listen are dialled; absent = none are. */
	dialling?: DiallerSettings;
	/** How often callers may ask; absent = as often as they like. */
	rates?: RateSettings;
	/** `/metrics` needs no key. */
	metricsOpen?: boolean;
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
	/** PEM of what the API shows; absent when it speaks plain HTTP. */
	readonly certificate: string | undefined;
	/** Rereads the operator's certificate. */
	reload(): void;
	/** A second robots' door, for a listener of our own process that others reach; opened when first asked for. */
	relay(): Promise<Relay>;
	/** Ends what waits, says goodbye to robots, closes all sockets. Harmless when called twice. */
	close(): Promise<void>;
}

const robotsCalls = ['robotEnrol', 'robotLink', 'robotPoll'] as const satisfies CallName[];
const relayedCalls = [...robotsCalls, 'healthz'] as const satisfies CallName[];
/** How long answers that are under way may take. */
const politeMs = 1_000;
/**
 * Connections the kernel keeps for us until we take them (and at most net.core.somaxconn). Those beyond
 * it are dropped silently, and retry after 1, 3, 7, 15 s: a fleet that comes back all at once would
 * spend more time on that than on everything else.
 */
const backlog = 4_096;
/** How long robots get to answer the goodbye. */
const goodbyeMs = 500;

export async function startServer(options: ServerOptions): Promise<Server> {
	const { engine, clock, log, settings, version, publicUrl } = options;
	const api: Listen = {
		host: options.host,
		port: options.port,
		variable: options.portVariable ?? 'ROBOT_FLEET_PORT',
		tls: !options.private && needsTls(options.host, options),
	};
	const robots = options.robotsListen === undefined ? undefined : robotsListenOf(options);
	refuseInTheOpen(options);
	const certificate =
		api.tls || robots?.tls
			? await Certificate.open({ ...options.tls, clock, log, onChange: options.onCertificate })
			: undefined;
	let url = '';
	let robotsUrl: string | undefined;
	const doorsNow = (): Doors => ({
		api: url,
		robots: robotsUrl ?? null,
		dial: publicUrl ?? dialled(robotsUrl ?? url, robots ?? api, certificate),
		inTheOpen: [api, robots].some((at) => at && !at.tls && !isLoopback(at.host)),
		certificate: certificate?.facts ?? null,
	});
	const pinNow = () =>
		(robots ?? api).tls && !publicUrl?.startsWith('http:') ? certificate?.pin : undefined;
	const house: House = {
		engine,
		clock,
		log,
		settings,
		version,
		takeBackup: () => options.takeBackup(),
		doors: doorsNow,
		pin: pinNow,
		waiting: new Map(),
		traffic: new Traffic(clock.now()),
		...(options.rates && { rates: new Rates(clock, options.rates) }),
		...(options.metricsOpen && { opened: new Set<CallName>(['metricsText']) }),
	};
	const door = new RobotsDoor(house, options.heartbeatMs);
	const doors = allDoors(options.version, door.polls.door);
	const dialler = options.dialling && new Dialler(house, door, options.dialling);
	const live = new LiveDoor(house);
	const apps: FastifyInstance[] = [];
	/** Whatever they have become: requests, robots' sockets, or nothing yet. */
	const connections = new Set<Socket>();
	const gone = function (this: Socket): void {
		connections.delete(this);
	};

	const open = async (names: readonly CallName[], gate: HostGate, at: Listen) => {
		const some = Object.fromEntries(names.map((name) => [name, doors[name]]));
		const tls = at.tls ? certificate!.context : undefined;
		const app = createApp({ house, doors: some, hostGate: gate, tls });
		apps.push(app);
		app.server.on('connection', (socket) => connections.add(socket.on('close', gone)));
		if (at.relayed) bringsOthers(app.server);
		if (tls) certificate!.serve(app.server as unknown as TlsServer);
		// Viewers come in by the door of the API.
		door.attach(app.server, gate, at === api ? live : undefined);
		return listen(app, at);
	};
	let relay: Promise<Relay> | undefined;
	const openRelay = async (): Promise<Relay> => {
		if (closing) throw new Problem('not-ready', { state: 'stopping' });
		const secret = randomBytes(32).toString('hex');
		const at: Listen = { host: '127.0.0.1', port: 0, variable: '', tls: false, relayed: true };
		const { port } = new URL(await open(relayedCalls, relayGate(secret), at));
		return { port: Number(port), secret };
	};
	let closing: Promise<void> | undefined;
	const shut = async () => {
		certificate?.close();
		house.traffic?.close();
		for (const waiting of house.waiting.keys()) waiting.abort();
		dialler?.close();
		door.close();
		live.close();
		const until = clock.monotonic() + goodbyeMs;
		while (door.open > 0 && clock.monotonic() < until) await clock.sleep(10);
		door.terminate();
		live.terminate();
		const closed = new AbortController();
		void clock.sleep(politeMs, closed.signal).then(() => {
			for (const socket of connections) socket.destroy();
		});
		await Promise.all(apps.map((app) => app.close()));
		closed.abort();
	};

	try {
		const covers = api.tls ? (name: string) => certificate!.covers(name) : undefined;
		const gate = hostGateOf({ host: api.host, publicUrl, covers });
		url = await open(Object.keys(calls) as CallName[], gate, api);
		robotsUrl = robots && (await open(robotsCalls, robotsGate, robots));
		dialler?.start();
		return {
			url,
			robotsUrl,
			relay: () =>
				(relay ??= openRelay().catch((error: unknown) => {
					relay = undefined;
					throw error;
				})),
			get certificate() {
				return api.tls ? certificate!.shown : undefined;
			},
			reload: () => certificate?.reload(),
			close: () => (closing ??= shut()),
		};
	} catch (error) {
		await shut();
		throw error;
	}
}

function allDoors(version: string, robotPoll: Door): Record<CallName, Door> {
	const doors: Record<CallName, Door> = {
		...jobDoors,
		...bulkDoors,
		...fleetDoors,
		...scheduleDoors,
		...placementDoors,
		...gateDoors,
		...facadeDoors,
		...fileDoors,
		...operationsDoors,
		...metricsDoors,
		...serviceDoors,
		robotPoll,
		openapi: door({
			answer: Type.Object({}),
			run: ({ reply }) => reply.type('application/json; charset=utf-8').send(document),
		}),
	};
	// Made once: it never changes while the service runs, and asking for it takes no key.
	const document = Buffer.from(JSON.stringify(openapiOf(doors, version)));
	return doors;
}

interface Listen {
	host: string;
	port: number;
	/** The setting to name when the address is taken. */
	variable: string;
	tls: boolean;
	/** Our own process connects here, with other people's requests. */
	relayed?: boolean;
}

function robotsListenOf(options: ServerOptions): Listen {
	const match = /^(.+):(\d{1,5})$/.exec(options.robotsListen!);
	const host = match?.[1]?.replace(/^\[|\]$/g, '');
	if (host === undefined || Number(match![2]) > 65_535) {
		throw new Problem('bad-config', {
			mistakes: `ROBOT_FLEET_ROBOTS_LISTEN is "${options.robotsListen}", it must be HOST:PORT`,
		});
	}
	return {
		host,
		port: Number(match![2]),
		variable: 'ROBOT_FLEET_ROBOTS_LISTEN',
		tls: needsTls(host, options),
	};
}

/** What never leaves this machine needs none; elsewhere only an operator who said so goes without. */
function needsTls(host: string, { insecure, tls }: ServerOptions): boolean {
	return !isLoopback(host) && (tls.files !== undefined || !insecure);
}

/**
 * Keys must not cross a network in the clear. Our own certificate does not help here: a caller of the API
 * has no token to know it by, and would have to switch checking off.
 */
function refuseInTheOpen(options: ServerOptions): void {
	const { host, insecure, tls, private: forThisProcess } = options;
	if (isLoopback(host) || insecure) return;
	const robotsAlone = 'leave it on 127.0.0.1 and open the robots’ door alone with';
	if (forThisProcess) {
		throw new Problem('needs-tls', {
			setting: 'ROBOT_FLEET_HOST',
			host,
			instead: `${robotsAlone} ROBOT_FLEET_ROBOTS_LISTEN=${host}:8766, run robot-fleet serve with a certificate beside n8n`,
		});
	}
	if (tls.files !== undefined) return;
	throw new Problem('needs-tls', {
		setting: '--host',
		host,
		instead: `give it a certificate with --tls-cert FILE --tls-key FILE, ${robotsAlone} --robots-listen ${host}:8766`,
	});
}

/** How another machine would call a door that listens on all addresses of this one. */
function dialled(url: string, { host, tls }: Listen, certificate: Certificate | undefined): string {
	if (host !== '0.0.0.0' && host !== '::') return url;
	const named = tls && certificate?.pin === undefined ? certificate?.name : undefined;
	const address = Object.values(networkInterfaces())
		.flatMap((entries) => entries ?? [])
		.find(({ internal, family }) => !internal && family === 'IPv4')?.address;
	const { protocol, port } = new URL(url);
	return `${protocol}//${named ?? address ?? hostname()}:${port}`;
}

async function listen(
	app: FastifyInstance,
	{ host, port, variable, tls }: Listen,
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
	return `${tls ? 'https' : 'http'}://${name}:${bound}`;
}

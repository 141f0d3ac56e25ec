/**
 * One simulated robot: a real key, real enrolment, a real socket, real frames. Its work is nothing, and
 * nothing is journalled (peers' workers keep no journal either); what it holds it holds in memory, and
 * tells in its next hello as an agent would.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Duplex } from 'node:stream';
import WebSocket from 'ws';
import { backoffMs } from '../../../agent/clock';
import {
	type AttemptRef,
	type EnrolAnswer,
	enrolProof,
	helloProof,
	type HubMessages,
	limits,
	paths,
	type RobotMessages,
} from '../../../protocol';

/** What the robots of one host do with their work, and whom they tell. */
export interface Crew {
	assigned(robot: SimulatedRobot, job: HubMessages['job_assignment']): void;
	acknowledged(robot: SimulatedRobot): void;
	registered(robot: SimulatedRobot): void;
	/** The socket is gone. `true`: come back, with an agent's pauses between tries. */
	comesBack(): boolean;
}

/** Nobody reads it; making one for each message would be our time, not the service's. */
const timestamp = '2026-01-01T00:00:00.000Z';
/** An agent waits 10 s; here thousands share one process, and the timer would measure that. */
const handshakeTimeout = 60_000;
/** More connections than this from one address to one port are more than the kernel has numbers for. */
const perAddress = 20_000;
let lastId = 0;

export class SimulatedRobot {
	readonly held = new Map<string, AttemptRef>();
	readonly #number: number;
	readonly #crew: Crew;
	readonly #labels: Record<string, string>;
	readonly #publicKey: string;
	readonly #privateKey: KeyObject;
	#robotId = '';
	#hubId = '';
	#url = '';
	#socket: WebSocket | undefined;
	#wire: Duplex | undefined;
	#failures = 0;
	isRegistered = false;
	/** When its last result left, in milliseconds of this process; 0 before the first. */
	freeSince = 0;

	constructor(
		number: number,
		crew: Crew,
		labels: Record<string, string> = { rack: `r${number % 40}`, os: 'linux' },
	) {
		this.#number = number;
		this.#crew = crew;
		this.#labels = labels;
		const { publicKey, privateKey } = generateKeyPairSync('ed25519');
		this.#privateKey = privateKey;
		this.#publicKey = publicKey.export({ type: 'spki', format: 'der' }).toString('base64url');
	}

	async enrol(url: string, token: string): Promise<void> {
		this.#url = url;
		const response = await fetch(url + paths.robotEnrol, {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify({
				token,
				publicKey: this.#publicKey,
				signature: this.#proof(enrolProof(token, this.#publicKey)),
				name: `bench-${this.#number}`,
			}),
		});
		if (!response.ok) throw new Error(`enrolment: ${response.status} ${await response.text()}`);
		const { robotId, hubId } = (await response.json()) as EnrolAnswer;
		this.#robotId = robotId;
		this.#hubId = hubId;
	}

	dial(): void {
		const socket = new WebSocket(this.#url.replace('http', 'ws') + paths.robotLink, {
			perMessageDeflate: false,
			handshakeTimeout,
			localAddress: localAddressOf(this.#number),
		});
		this.#socket = socket;
		socket.on('upgrade', (response) => (this.#wire = response.socket));
		// Every error is followed by the close.
		socket.on('error', () => undefined);
		socket.on('message', (data: Buffer) => {
			const { type, payload } = JSON.parse(data.toString()) as { type: string; payload: never };
			this.#hear(type, payload);
		});
		socket.on('close', () => this.#closed(socket));
	}

	/** Without goodbye, as when the network goes. */
	cut(): void {
		this.#socket?.terminate();
	}

	heartbeat(): void {
		this.#say('heartbeat', { status: 'online', active_jobs: [...this.held.keys()] });
	}

	accept(job: AttemptRef): void {
		this.#say('job_accepted', { ...refOf(job), started_at: timestamp });
	}

	/** `last`: takes no more. */
	finish(job: AttemptRef, last = false): void {
		if (last) this.#say('control', { action: 'pause' });
		this.#say('job_result', { ...refOf(job), ...doneNothing });
		this.freeSince = performance.now();
	}

	/** What is said meanwhile leaves as one packet. */
	together(say: () => void): void {
		this.#wire?.cork();
		say();
		this.#wire?.uncork();
	}

	#hear<T extends keyof HubMessages>(type: string, payload: HubMessages[T]): void {
		if (type === 'job_assignment') {
			this.#crew.assigned(this, payload as HubMessages['job_assignment']);
		} else if (type === 'result_ack') {
			this.held.delete((payload as HubMessages['result_ack']).job_id);
			this.#crew.acknowledged(this);
		} else if (type === 'connected') {
			this.#hello((payload as HubMessages['connected']).nonce);
		} else if (type === 'robot_registered') {
			this.#failures = 0;
			this.isRegistered = true;
			this.#crew.registered(this);
		}
	}

	#hello(nonce: string): void {
		this.#say('hello', {
			robot_id: this.#robotId,
			protocol: limits.protocolVersion,
			features: [],
			version: 'bench',
			journal_id: `journal-${this.#number}`,
			boot_id: `boot-${this.#number}`,
			signature: this.#proof(helloProof(this.#hubId, this.#robotId, nonce)),
			slots: 1,
			labels: this.#labels,
			capabilities: ['command'],
			info: { hostname: `bench-${this.#number}`, platform: 'linux', arch: 'x64', cpus: 2 },
			attempts: [...this.held.values()].map((ref) => ({
				...ref,
				state: 'running',
				output: { stdout: 0, stderr: 0 },
			})),
		});
	}

	#closed(socket: WebSocket): void {
		if (this.#socket !== socket) return;
		this.#socket = this.#wire = undefined;
		this.isRegistered = false;
		if (!this.#crew.comesBack()) return;
		const { reconnectMinMs, reconnectMaxMs } = limits;
		const pause = backoffMs(this.#failures++, reconnectMinMs, reconnectMaxMs, Math.random());
		setTimeout(() => this.dial(), pause);
	}

	#say<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T]): void {
		if (this.#socket?.readyState !== WebSocket.OPEN) return;
		this.#socket.send(JSON.stringify({ type, id: String(++lastId), timestamp, payload }));
	}

	#proof(text: string): string {
		return sign(null, Buffer.from(text), this.#privateKey).toString('base64url');
	}
}

/** The first ones leave it to the kernel, which finds a free number faster when it may choose late. */
export function localAddressOf(number: number): string | undefined {
	const address = Math.floor(number / perAddress);
	return address === 0 ? undefined : `127.0.0.${1 + address}`;
}

export function refOf({ job_id, attempt, epoch, token }: AttemptRef): AttemptRef {
	return { job_id, attempt, epoch, token };
}

const doneNothing: Omit<RobotMessages['job_result'], keyof AttemptRef> = {
	state: 'completed',
	cause: null,
	output: { stdout: 0, stderr: 0 },
	result: {
		exit_code: 0,
		signal: null,
		stdout: '',
		stderr: '',
		truncated: false,
		outputs: {},
		duration_ms: 0,
		error: null,
		process_gone: true,
	},
};

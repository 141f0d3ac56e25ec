/**
 * The seed's constellation client, as a thin caller of the service: it reads the same file, and registers,
 * inspects, connects and disconnects devices. The service does the dialling, and goes on when the caller is gone.
 */
import {
	type Constellation,
	type DeviceConfig,
	Problem,
	readConstellation,
	type Robot,
	type RobotRequest,
	tellMistake,
} from '../protocol';
import { FleetClient, type Send } from './calls';

export interface ConstellationOptions {
	/** Carries the calls, with address and key. */
	send: Send;
	/** The content of the file: its text, or what was parsed from it. */
	config?: string | object;
	/** Path of the file; `readFile` gives its text. */
	configFile?: string;
	readFile?(path: string): string | Promise<string>;
}

/** Reads the file; throws `bad-config` with everything that is wrong. */
export function constellationOf(config: string | object): Constellation {
	let value: unknown = config;
	if (typeof config === 'string') {
		try {
			value = JSON.parse(config);
		} catch {
			throw new Problem('bad-config', { mistakes: 'the constellation file is not valid JSON' });
		}
	}
	const { constellation, mistakes } = readConstellation(value);
	if (constellation) return constellation;
	throw new Problem('bad-config', { mistakes: mistakes.map(tellMistake).join('; ') });
}

/** Reads the file and registers its devices. */
export async function createConstellationClient({
	send,
	config,
	configFile,
	readFile,
}: ConstellationOptions): Promise<ConstellationClient> {
	const text = configFile === undefined ? config : await readFile?.(configFile);
	if (text === undefined) {
		throw new Problem('bad-config', {
			mistakes: 'give `config`, or `configFile` together with `readFile`',
		});
	}
	const client = new ConstellationClient(new FleetClient(send), constellationOf(text));
	await client.initialize();
	return client;
}

export class ConstellationClient {
	readonly constellation: Constellation;
	readonly #fleet: FleetClient;
	/** What was registered from here. */
	readonly #registered = new Set<string>();
	/** Why the service refused a device, by its name. */
	readonly refused = new Map<string, Problem>();

	constructor(fleet: FleetClient, constellation: Constellation) {
		this.#fleet = fleet;
		this.constellation = constellation;
	}

	/** Registers the devices of the file; those that were refused are in `refused`. Safe to repeat. */
	async initialize(): Promise<void> {
		for (const device of this.constellation.devices) await this.registerDevice(device);
	}

	/** False if the service refused it; `refused` says why. It need not be online. */
	async registerDevice(device: Partial<DeviceConfig> & { deviceId: string }): Promise<boolean> {
		const { deviceId } = device;
		this.refused.delete(deviceId);
		try {
			await this.#fleet.registerRobot(requestOf(device, this.constellation.constellationId));
			this.#registered.add(deviceId);
			return true;
		} catch (error) {
			if (!(error instanceof Problem) || error.retry) throw error;
			this.refused.set(deviceId, error);
			return false;
		}
	}

	/** The devices of this constellation, connected or not. */
	async devices(): Promise<Robot[]> {
		const { constellationId } = this.constellation;
		const robots = await this.#fleet.robots();
		return robots.filter(({ device }) => device?.constellationId === constellationId);
	}

	/** Idle and busy ones alike. */
	async connectedDevices(): Promise<Robot[]> {
		return (await this.devices()).filter(({ connected }) => connected);
	}

	deviceStatus(deviceId: string): Promise<Robot> {
		return this.#fleet.robot(deviceId);
	}

	/** Dials it now; answers whether it is connected after the first try. */
	async connectDevice(deviceId: string): Promise<boolean> {
		return (await this.#fleet.connectRobot(deviceId)).connected;
	}

	async disconnectDevice(deviceId: string): Promise<void> {
		await this.#fleet.disconnectRobot(deviceId);
	}

	/**
	 * Disconnects the dialled devices that were registered from here; those that have been removed need nothing more.
	 * One that cannot be disconnected does not keep the others connected: its problem is thrown at the end. Harmless
	 * when called twice.
	 */
	async shutdown(): Promise<void> {
		const failures: unknown[] = [];
		for (const deviceId of [...this.#registered]) {
			try {
				const { device } = await this.#fleet.robot(deviceId);
				if (device?.dial) await this.#fleet.disconnectRobot(deviceId);
			} catch (error) {
				if (!(error instanceof Problem && error.code === 'no-such-robot')) {
					failures.push(error);
					continue;
				}
			}
			this.#registered.delete(deviceId);
		}
		if (failures.length > 0) throw failures[0];
	}
}

function requestOf(
	device: Partial<DeviceConfig> & { deviceId: string },
	constellationId: string,
): RobotRequest {
	const { deviceId: name, serverUrl, fingerprint, ...rest } = device;
	return {
		name,
		constellationId,
		...rest,
		...(serverUrl == null ? {} : { serverUrl }),
		...(fingerprint == null ? {} : { fingerprint }),
	};
}

/**
 * Robots that somebody registered before their agents came: *devices*. One with a `serverUrl` is dialled by the
 * service, and its agent listens; one without is expected to dial the service like any other robot.
 */

/**
 * - `off`        not wanted: not to be connected automatically, or disconnected by a person
 * - `dialling`   a try is under way
 * - `connected`
 * - `waiting`    for the next try
 * - `failed`     given up; a person connects it again
 */
export const dialStates = ['off', 'dialling', 'connected', 'waiting', 'failed'] as const;
export type DialState = (typeof dialStates)[number];

/** What is known of a robot because it was registered. */
export interface Device {
	/** The constellation it belongs to; null = none. */
	constellationId: string | null;
	/** Where its agent listens; null = it dials the service. */
	serverUrl: string | null;
	/** SHA-256 of its robot's public key; null = whoever enrolls under its name with a token becomes it. */
	fingerprint: string | null;
	clientIds: string[];
	metadata: Record<string, unknown>;
	autoConnect: boolean;
	maxRetries: number;
	/** How dialling it is going; null = it is not dialled. */
	dial: Dial | null;
}

export interface Dial {
	state: DialState;
	/** What went wrong in the last try; null = nothing did. */
	reason: string | null;
	/** Failed tries in a row. */
	failures: number;
	nextTryAt: number | null;
}

/** Registers a device, or changes the given fields of the one with this name. */
export interface RobotRequest {
	name: string;
	/** Where its agent listens (ws:// or wss://), by host and port; absent = it dials the service. */
	serverUrl?: string;
	/** SHA-256 of its robot's public key, as its agent prints it. */
	fingerprint?: string;
	constellationId?: string;
	clientIds?: string[];
	capabilities?: string[];
	metadata?: Record<string, unknown>;
	/** Default true. */
	autoConnect?: boolean;
	/** Default 5. */
	maxRetries?: number;
}

/**
 * What a job may use. Its robot looks at the whole process tree once a second and stops what is over; what comes
 * and goes between two looks is not seen. A robot offers a capability for each cap it can enforce, and a job with
 * caps is given to no other.
 */
export interface Caps {
	/** Resident memory of all its processes together; what they share counts once. */
	memoryBytes?: number;
	/** Processor time of all its processes together, including those that have ended. */
	cpuSeconds?: number;
	/** How many at the same time. */
	processes?: number;
	/** Output kept, both streams together: the beginning and the end. Printing more ends nothing. */
	outputBytes?: number;
}

/** The same, as sent to a robot. */
export interface WireCaps {
	memory_bytes?: number;
	cpu_seconds?: number;
	processes?: number;
	output_bytes?: number;
}

/** What each is called on the wire, and the capability of robots that can enforce it. */
export const capNames = {
	memoryBytes: { wire: 'memory_bytes', capability: 'cap:memory' },
	cpuSeconds: { wire: 'cpu_seconds', capability: 'cap:cpu' },
	processes: { wire: 'processes', capability: 'cap:processes' },
	outputBytes: { wire: 'output_bytes', capability: 'cap:output' },
} as const satisfies Record<keyof Caps, { wire: keyof WireCaps; capability: string }>;

const named = (caps: Caps) => Object.entries(caps) as [keyof Caps, number | undefined][];

export function capsOnWire(caps: Caps): WireCaps {
	const told: WireCaps = {};
	for (const [name, cap] of named(caps)) if (cap !== undefined) told[capNames[name].wire] = cap;
	return told;
}

/** What a robot must offer to be given a job with these. */
export function capabilitiesFor(caps: Caps = {}): string[] {
	return named(caps).flatMap(([name, cap]) => (cap === undefined ? [] : capNames[name].capability));
}

/**
 * The clients of this robot: profiles, sessions, emulators, each with a name and an environment of its own.
 * Each does one job at a time. Which ones are free is derived from the attempts, never counted separately.
 */

/** As its owner set it up. */
export interface ClientProfile {
	readonly name: string;
	/** Added to the environment of what runs there. */
	readonly env: Readonly<Record<string, string>>;
}

/** What the service accepts as one: see `clientName` of the protocol. */
const nameOfClient = /^[A-Za-z0-9][A-Za-z0-9 ._:/@=+-]{0,127}$/;
const nameOfVariable = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const maxClients = 256;

/** What somebody configured: names separated by commas, a list of names, or a list of `{name, env}`. */
export function readClients(
	value: unknown,
	source: string,
	mistakes: string[],
): readonly ClientProfile[] {
	if (value === undefined) return [];
	const said: unknown[] = Array.isArray(value) ? value : String(value).split(',');
	const clients = new Map<string, ClientProfile>();
	for (const one of said) {
		const client = profileOf(one);
		if (typeof client === 'string') mistakes.push(`${source}: ${client}`);
		else if (clients.has(client.name)) mistakes.push(`${source}: "${client.name}" is there twice.`);
		else clients.set(client.name, client);
	}
	if (clients.size > maxClients) {
		mistakes.push(`${source} names ${clients.size} clients; a robot has at most ${maxClients}.`);
	}
	return [...clients.values()];
}

/** The profile, or what is wrong with it. */
function profileOf(said: unknown): ClientProfile | string {
	const shown = JSON.stringify(said)?.slice(0, 80);
	const {
		name,
		env = {},
		...rest
	} = typeof said === 'string'
		? { name: said.trim() }
		: isRecord(said)
			? said
			: { name: undefined };
	if (typeof name !== 'string' || !nameOfClient.test(name)) {
		return `${shown} must be a name of 1 to 128 letters, digits, spaces and . _ : / @ = + -, beginning with a letter or digit, or {"name": …, "env": {…}}.`;
	}
	const [other] = Object.keys(rest);
	if (other !== undefined) return `client "${name}" has "${other}"; known are name and env.`;
	const pairs = isRecord(env) ? Object.entries(env) : undefined;
	const wrong = pairs?.find(([key, held]) => !nameOfVariable.test(key) || typeof held !== 'string');
	if (pairs === undefined || wrong) {
		return `env of client "${name}" must hold variables and their texts${wrong ? `, which "${wrong[0]}" is not` : ''}.`;
	}
	return { name, env: Object.fromEntries(pairs) as Record<string, string> };
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The one that is asked for, or any that is free; or why there is none now. */
export function clientFor(
	wanted: string | undefined,
	clients: readonly ClientProfile[],
	taken: ReadonlySet<string>,
): { client?: string } | { none: string } {
	if (wanted === undefined) {
		const free = clients.find(({ name }) => !taken.has(name));
		if (free) return { client: free.name };
		return clients.length === 0 ? {} : { none: 'Every client of the robot is taken.' };
	}
	if (!clients.some(({ name }) => name === wanted)) {
		return { none: `The robot has no client ${wanted} any more.` };
	}
	return taken.has(wanted)
		? { none: `Client ${wanted} of the robot is taken.` }
		: { client: wanted };
}

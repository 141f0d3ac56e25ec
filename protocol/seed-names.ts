/**
 * One table between our camelCase and the snake_case of the seeds, for the facade
 * (`/server/{kind}/…`), exports with `?names=seed` and results on the robots' socket.
 * A name that is not listed follows the rule (`exitCode` ↔ `exit_code`).
 */
export const seedNames = {
	jobId: 'job_id',
	robotId: 'robot_id',
	client: 'target_client_id',
	cause: 'reason',
	createdAt: 'created_at',
	startedAt: 'started_at',
	endedAt: 'completed_at',
	exitCode: 'exit_code',
	durationMs: 'execution_time',
	slots: 'max_concurrent_jobs',
	lastSeenAt: 'last_seen',
	state: 'status',
	cron: 'cron_expression',
	nextRunAt: 'next_run',
	lastRunAt: 'last_run',
} as const;

/** Job states as the seed's poll view says them: running, completed, error. */
export function pollStatus(state: string): 'running' | 'completed' | 'error' {
	if (state === 'completed') return 'completed';
	return state === 'failed' || state === 'timeout' || state === 'cancelled' ? 'error' : 'running';
}

const instants = /At$/;
/** Their keys are the user's words. */
const notOurs = new Set(['outputs', 'spec', 'variables', 'labels', 'env']);

/** Renames keys to the seed's and instants to ISO-8601, deeply; what holds the user's own keys stays as it is. */
export function toSeedNames(value: unknown, key = ''): unknown {
	if (Array.isArray(value)) return value.map((entry) => toSeedNames(entry));
	if (instants.test(key) && typeof value === 'number') return new Date(value).toISOString();
	if (value === null || typeof value !== 'object') return value;
	return Object.fromEntries(
		Object.entries(value).map(([name, entry]) => [
			seedName(name),
			notOurs.has(name) ? entry : toSeedNames(entry, name),
		]),
	);
}

export function seedName(name: string): string {
	return (
		(seedNames as Record<string, string>)[name] ??
		name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
	);
}

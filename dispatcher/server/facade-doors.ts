/**
 * The seeds' way to run one thing and poll it: `/server/{kind}/execute`, then
 * `/server/{kind}/execution/{id}/status`. Speaks snake_case, seconds and ISO-8601.
 */
import { type Job, pollStatus, Problem, type Submit, toSeedNames } from '../../protocol';
import {
	facadeExecute,
	facadeExecuted,
	facadeQuery,
	facadeStatus,
	validatorOf,
} from '../../protocol/schemas';
import { Type, type Static } from 'typebox';
import { type Door, door } from './door';
import { specMistake } from './job-doors';

const beside = validatorOf(facadeExecute);
const besideNames = Object.keys(facadeExecute.properties);

export const facadeDoors = {
	facadeExecute: door({
		query: facadeQuery,
		body: Type.Record(Type.String(), Type.Unknown()),
		bodyShown: {
			type: 'object',
			description: 'The spec of the kind at the top level, and beside it the fields named here.',
			properties: facadeExecute.properties,
			additionalProperties: true,
		},
		answer: facadeExecuted,
		status: 202,
		async run({ kind, query, body, caller }, { engine }) {
			const rest = pick(body, (name) => besideNames.includes(name));
			const spec = pick(body, (name) => !besideNames.includes(name));
			const mistake = beside.mistake(rest) ?? inPlace(specMistake(kind, spec, ''));
			if (mistake) throw mistake;
			const job = jobOf(kind, spec, rest as Static<typeof facadeExecute>, query);
			const [answer] = await engine.submit([job], caller);
			if (answer instanceof Problem) throw answer;
			return { execution_id: answer!.jobId, status: pollStatus(answer!.state), message: starting };
		},
	}),
	facadeStatus: door({
		answer: facadeStatus,
		async run({ id, kind }, { engine, clock }) {
			const job = await engine.job(id);
			if (job.kind !== kind) throw new Problem('no-such-job', { id });
			return statusOf(job, clock.now());
		},
	}),
} as const satisfies Record<string, Door>;

const starting = 'Starting...';

function jobOf(
	kind: string,
	spec: unknown,
	rest: Static<typeof facadeExecute>,
	query: Static<typeof facadeQuery>,
): Submit {
	const robot = rest.target?.robot ?? rest.host_name ?? query.host_name;
	const client = rest.target?.client ?? rest.device_id ?? query.device_id;
	const target = {
		...rest.target,
		...(robot !== undefined && { robot }),
		...(client !== undefined && { client }),
	};
	return {
		kind,
		spec,
		...(Object.keys(target).length > 0 && { target }),
		...(rest.variables && { variables: rest.variables }),
		...(rest.priority !== undefined && { priority: rest.priority }),
		...(rest.timeout !== undefined && { timeouts: { runMs: Math.round(rest.timeout * 1000) } }),
		...(rest.idempotency_key !== undefined && { idempotencyKey: rest.idempotency_key }),
	};
}

export function statusOf(job: Job, now: number) {
	const status = pollStatus(job.state);
	const startedAt = job.startedAt ?? job.createdAt;
	return {
		execution_id: job.jobId,
		status,
		progress: status === 'completed' ? 100 : job.progress,
		message: job.message ?? messageOf(job, status),
		result: toSeedNames(job.result),
		error: status === 'error' ? (job.error?.message ?? job.cause ?? job.state) : null,
		start_time: new Date(startedAt).toISOString(),
		elapsed_ms: Math.max(0, (job.endedAt ?? now) - startedAt),
	};
}

function messageOf(job: Job, status: string): string {
	if (status === 'completed') return 'Completed';
	if (status === 'error') return job.error?.message ?? `Ended: ${job.state}`;
	return job.state === 'running' ? 'Running...' : starting;
}

/** The caller sees spec fields beside the others, so "known fields" names both. */
function inPlace(mistake: Problem | undefined): Problem | undefined {
	if (mistake?.code !== 'unknown-field' || String(mistake.details.path).includes('.'))
		return mistake;
	const known = [mistake.details.known, ...besideNames].join(', ');
	return new Problem('unknown-field', { ...mistake.details, known });
}

function pick(body: Record<string, unknown>, wanted: (name: string) => boolean) {
	return Object.fromEntries(Object.entries(body).filter(([name]) => wanted(name)));
}

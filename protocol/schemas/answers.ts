/**
 * What the service answers, as schemas: for the OpenAPI document, never for checking our own
 * answers. The compiler holds them equal to the plain types.
 */
import { type Static, type TSchema, Type } from 'typebox';
import type { BulkResult, DeadLetterGroup } from '../bulk';
import { type CollectedFile, type FileRecord, fileStates } from '../files';
import {
	type Attempt,
	healthLevels,
	type Job,
	type JobError,
	type JobResult,
	type QueueStats,
	type Robot,
	robotStatuses,
	type TimelineEntry,
	transports,
} from '../job';
import {
	type CollectAnswer,
	type EnrolAnswer,
	type FleetEvent,
	type KeyRecord,
	type PingAnswer,
	type SubscriptionAnswer,
	type TokenCreated,
	type TokenRecord,
	type Wait,
	waitCounts,
	type WaitRecord,
} from '../services';
import { holeReasons } from '../output';
import { strategies } from '../placement';
import { causes, finalStates } from '../states';
import { jobEnded, robotPresence, scheduleGone } from './events';
import { caps } from './caps';
import { closed, quarantine, robotClosed, robotOpened } from './control';
import { device } from './devices';
import { takes } from './gates';
import { jobAsks, jobOffline } from './offline';
import { away, children, rollout, rolloutRecord } from './rollout';
import { watch } from './watch';
import { choice } from './why';
import { nullable, type Same } from './words';

export { robotsBulkResult } from './control';
export { inputAnswer } from './input';
export {
	backfillAnswer,
	calendar,
	forecast,
	occurrence,
	preview,
	schedule,
	schedulesChanged,
	upcomingRun,
} from './schedules';
export { breakdownRow, metricsRecord, seriesAnswer } from './metrics';
export { purgeAnswer, releaseAnswer, serviceStatus } from './operations';
export { cells } from './rollout';

const jobState = Type.Enum([
	'pending',
	'queued',
	'dispatched',
	'running',
	'completed',
	'failed',
	'timeout',
	'cancelled',
]);
const priority = Type.Enum(['critical', 'high', 'normal', 'low']);
const cause = Type.Enum(Object.keys(causes) as (keyof typeof causes)[]);
const promptKind = Type.Enum(['password', 'confirmation', 'question']);
const at = Type.Integer({ description: 'Epoch milliseconds' });
const text = Type.String();
const whole = Type.Integer();
const labels = Type.Record(Type.String(), Type.String());
const anything = Type.Record(Type.String(), Type.Unknown());
const variables = Type.Record(
	Type.String(),
	Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()]),
);

const holes = Type.Optional(
	Type.Array(Type.Object({ from: whole, to: whole, reason: Type.Enum([...holeReasons]) }), {
		description: 'Bytes that are not there: from ≤ offset < to',
	}),
);
const byState = {
	pending: whole,
	queued: whole,
	dispatched: whole,
	running: whole,
	completed: whole,
	failed: whole,
	timeout: whole,
	cancelled: whole,
};

export const jobError = Type.Object({ type: text, message: text });
true satisfies Same<Static<typeof jobError>, JobError>;

const collectedFile = Type.Object({
	path: text,
	bytes: whole,
	sha256: nullable(text),
	fileId: Type.Optional(Type.String({ description: 'Read it at GET /files/{id}/content' })),
	error: Type.Optional(Type.String({ description: 'Why it is not here' })),
});
true satisfies Same<Static<typeof collectedFile>, CollectedFile>;

export const file = Type.Object({
	fileId: text,
	name: text,
	bytes: whole,
	sha256: nullable(text),
	state: Type.Enum([...fileStates]),
	have: Type.Integer({ description: 'Bytes that are here; the next ones are sent from there' }),
	createdAt: at,
	createdBy: text,
	usedAt: at,
	jobId: nullable(Type.String({ description: 'The job that it was collected from' })),
	path: nullable(text),
	mode: nullable(text),
});
true satisfies Same<Static<typeof file>, FileRecord>;

export const jobResult = Type.Object({
	exitCode: nullable(whole),
	signal: nullable(text),
	stdout: Type.String({
		description: 'The last bytes as text; all of it is at GET /jobs/{id}/output',
	}),
	stderr: text,
	truncated: Type.Boolean(),
	sha256: Type.Optional(
		Type.Object(
			{ stdout: Type.Optional(text), stderr: Type.Optional(text) },
			{ description: 'Of each stream that is not empty, without its holes' },
		),
	),
	outputs: anything,
	durationMs: whole,
	error: nullable(jobError),
	processGone: Type.Boolean({
		description: 'False when a process may still be alive on the robot',
	}),
	logs: Type.Optional(Type.Array(text)),
	files: Type.Optional(Type.Array(collectedFile, { description: 'What spec.collect found' })),
});
true satisfies Same<Static<typeof jobResult>, JobResult>;

const waitedJob = {
	jobId: text,
	kind: text,
	state: jobState,
	cause: nullable(cause),
	attempt: whole,
	robotId: nullable(text),
	client: nullable(text),
	priority,
	progress: whole,
	message: nullable(text),
	waitingFor: nullable(
		Type.Object(
			{
				kind: promptKind,
				text,
				hidden: Type.Boolean({ description: 'The answer looks like a secret' }),
				askedAt: at,
				offset: Type.Integer({ description: 'Where the answer begins; send it as `from`' }),
			},
			{ description: 'The program waits for an answer: POST /jobs/{id}/input' },
		),
	),
	result: nullable(jobResult),
	error: nullable(jobError),
	createdAt: at,
	startedAt: nullable(at),
	endedAt: nullable(at),
	cancelRequestedAt: nullable(at),
	retryOf: nullable(text),
	retriedAs: nullable(text),
	parentId: nullable(text),
	cell: nullable(text),
	children: nullable(children),
	batch: Type.Optional(whole),
	rollout: Type.Optional(rollout),
	rolledOut: Type.Optional(rolloutRecord),
	shareKey: nullable(text),
	hold: nullable(text),
	dead: nullable(text),
	health: Type.Optional(
		Type.Array(
			Type.Object({
				at,
				state: Type.Enum([
					'starting',
					'healthy',
					'idle',
					'hanging',
					'waiting_for_input',
					'error_loop',
				]),
				cpuPercent: nullable(Type.Number()),
				memoryBytes: nullable(whole),
				processes: nullable(whole),
				quietMs: whole,
				outputBytes: whole,
				commandClass: nullable(text),
				overdue: nullable(Type.Enum(['no_output', 'total'])),
			}),
			{ description: 'How its last attempt looked from outside, oldest first; at most 20' },
		),
	),
	target: Type.Object({
		robot: Type.Optional(text),
		labels: Type.Optional(labels),
		capabilities: Type.Optional(Type.Array(text)),
		client: Type.Optional(text),
		group: Type.Optional(text),
		pool: Type.Optional(text),
		tags: Type.Optional(Type.Array(text)),
		environment: Type.Optional(text),
		exclude: Type.Optional(Type.Array(text)),
		prefer: Type.Optional(
			Type.Array(
				Type.Object({
					robot: Type.Optional(text),
					labels: Type.Optional(labels),
					weight: Type.Optional(whole),
				}),
			),
		),
		mode: Type.Optional(
			Type.Union([
				Type.Enum(['one', 'all']),
				Type.Object({ count: whole }),
				Type.Object({ perLabel: text }),
				Type.Object({ perGroup: text }),
				Type.Object({ robots: Type.Array(text) }),
			]),
		),
		away: Type.Optional(away),
	}),
	timeouts: Type.Object({
		queueMs: Type.Optional(whole),
		startMs: Type.Optional(whole),
		runMs: Type.Optional(whole),
		silenceMs: Type.Optional(whole),
		inputMs: Type.Optional(whole),
		deadlineAt: Type.Optional(at),
	}),
	offline: Type.Optional(jobOffline),
	watch: Type.Optional(watch),
	caps: Type.Optional(caps),
	strategy: Type.Optional(Type.Enum([...strategies])),
	preferWaitMs: Type.Optional(whole),
	affinityKey: Type.Optional(text),
	...takes,
	notBefore: nullable(at),
	output: Type.Object({
		stdout: whole,
		stderr: whole,
		complete: Type.Boolean(),
		holes: Type.Optional(Type.Object({ stdout: holes, stderr: holes })),
	}),
	createdBy: text,
};

export const job = Type.Object({ ...waitedJob, spec: Type.Unknown(), variables });
true satisfies Same<Static<typeof job>, Job>;

export const attempt = Type.Object({
	number: whole,
	robotId: text,
	client: nullable(text),
	epoch: whole,
	state: Type.Enum(['dispatched', 'running', 'ended']),
	outcome: nullable(text),
	cause: nullable(cause),
	assignedAt: at,
	startedAt: nullable(at),
	endedAt: nullable(at),
	result: nullable(jobResult),
	lateResult: nullable(jobResult),
	choice: Type.Optional(choice),
});
true satisfies Same<Static<typeof attempt>, Attempt>;

export const timelineEntry = Type.Object({
	at,
	from: nullable(jobState),
	to: jobState,
	reason: text,
	by: text,
	attempt: nullable(whole),
});
true satisfies Same<Static<typeof timelineEntry>, TimelineEntry>;

export const robot = Type.Object({
	robotId: text,
	name: text,
	status: Type.Enum([...robotStatuses]),
	connected: Type.Boolean(),
	closed: nullable(closed),
	quarantine: nullable(quarantine),
	labels,
	capabilities: Type.Array(text),
	slots: whole,
	clients: Type.Array(Type.Object({ name: text, jobId: nullable(text) }), {
		description: 'Each does one job at a time; empty = it has none',
	}),
	held: whole,
	slotsUsed: Type.Optional(whole),
	currentJobs: Type.Array(text),
	lastSeenAt: nullable(at),
	createdAt: at,
	info: anything,
	metrics: nullable(
		Type.Object({
			cpuPercent: nullable(Type.Number()),
			memoryPercent: nullable(Type.Number()),
			diskPercent: nullable(Type.Number()),
			roundTripMs: nullable(Type.Number()),
			agentBusyPercent: nullable(Type.Number()),
			keeperMissing: nullable(Type.Boolean()),
		}),
	),
	health: nullable(Type.Object({ level: Type.Enum([...healthLevels]), reasons: Type.Array(text) })),
	record: Type.Object(
		{ completed: whole, failed: whole, lost: whole, successPercent: nullable(Type.Number()) },
		{ description: 'How its last tries ended: at most 50 that came to an end of their own' },
	),
	agentVersion: nullable(text),
	transport: nullable(Type.Enum([...transports])),
	clone: nullable(
		Type.Object(
			{
				how: Type.Enum(['moved', 'twin']),
				address: text,
				firstAt: at,
				lastAt: at,
				times: whole,
			},
			{ description: 'Somebody else came with the key of this robot, and was turned away' },
		),
	),
	device: Type.Optional(device),
});
true satisfies Same<Static<typeof robot>, Robot>;

export const ping = Type.Object({ robotId: text, name: text, ms: Type.Number() });
true satisfies Same<Static<typeof ping>, PingAnswer>;

export const broadcast = Type.Object({ told: whole });

export const queueStats = Type.Object({
	total: whole,
	byState: Type.Object(byState),
	byPriority: Type.Object({ critical: whole, high: whole, normal: whole, low: whole }),
	oldestQueuedMs: nullable(whole),
	lanes: Type.Array(
		Type.Object({ target: text, robotId: nullable(text), queued: whole, robots: whole }),
	),
});
true satisfies Same<Static<typeof queueStats>, QueueStats>;

const waitState = Type.Enum(['open', 'due', 'closed', 'dead']);

const waitFacts = {
	waitId: text,
	state: waitState,
	timedOut: Type.Boolean(),
	until: Type.Union([Type.Enum(['all', 'any']), Type.Object({ count: whole })]),
	counts: Type.Enum([...waitCounts]),
	cancelRest: Type.Boolean(),
	executionId: nullable(text),
	nodeId: nullable(text),
	tries: whole,
	lastError: nullable(text),
	createdAt: at,
	deadlineAt: nullable(at),
};

export const wait = Type.Object({
	...waitFacts,
	met: Type.Boolean(),
	jobs: Type.Array(Type.Object(waitedJob)),
});
true satisfies Same<Static<typeof wait>, Wait>;

export const waitRecord = Type.Object({ ...waitFacts, jobIds: Type.Array(text) });
true satisfies Same<Static<typeof waitRecord>, WaitRecord>;

export const collectAnswer = Type.Object({
	pokes: Type.Array(
		Type.Object({ resumeUrl: text, poke: Type.Object({ waitId: text, nonce: text }) }),
	),
	open: whole,
});
true satisfies Same<Static<typeof collectAnswer>, CollectAnswer>;

export const waitCreated = Type.Object({ waitId: text, state: waitState });

export const subscriptionAnswer = Type.Object({ epoch: whole, cursor: whole });
true satisfies Same<Static<typeof subscriptionAnswer>, SubscriptionAnswer>;

export const fleetEvent = Type.Union([
	Type.Object({
		cursor: whole,
		at,
		type: Type.Literal('schedule.due'),
		data: Type.Object({
			scheduleId: text,
			plannedAt: at,
			origin: Type.Enum(['planned', 'manual', 'backfill']),
			late: Type.Boolean(),
			jobId: Type.Optional(text),
		}),
	}),
	Type.Object({
		cursor: whole,
		at,
		type: Type.Enum(['schedule.paused', 'schedule.recovered']),
		data: Type.Object({
			scheduleId: text,
			name: Type.Optional(text),
			failures: whole,
			jobId: nullable(text),
		}),
	}),
	Type.Object({
		cursor: whole,
		at,
		type: Type.Literal('job.late-result'),
		data: Type.Object({
			jobId: text,
			attempt: whole,
			robotId: text,
			state: Type.Enum([...finalStates]),
			cause: nullable(cause),
		}),
	}),
	Type.Object({
		cursor: whole,
		at,
		type: Type.Literal('job.prompt'),
		data: Type.Object({
			jobId: text,
			attempt: whole,
			robotId: text,
			kind: promptKind,
			text,
			hidden: Type.Boolean(),
			offset: whole,
		}),
	}),
	Type.Object({ cursor: whole, at, type: Type.Literal('job.ended'), data: jobEnded }),
	Type.Object({
		cursor: whole,
		at,
		type: Type.Enum(['robot.connected', 'robot.lost', 'robot.back']),
		data: robotPresence,
	}),
	Type.Object({
		cursor: whole,
		at,
		type: Type.Enum(['schedule.missed', 'schedule.skipped']),
		data: scheduleGone,
	}),
	Type.Object({ cursor: whole, at, type: Type.Literal('job.asks'), data: jobAsks }),
	Type.Object({ cursor: whole, at, type: Type.Literal('robot.closed'), data: robotClosed }),
	Type.Object({ cursor: whole, at, type: Type.Literal('robot.opened'), data: robotOpened }),
]);
true satisfies Same<Static<typeof fleetEvent>, FleetEvent>;

const tokenFields = {
	tokenId: text,
	uses: whole,
	used: whole,
	expiresAt: at,
	labels,
	createdAt: at,
	revokedAt: nullable(at),
};
export const token = Type.Object(tokenFields);
true satisfies Same<Static<typeof token>, TokenRecord>;
export const tokenCreated = Type.Object({
	...tokenFields,
	token: Type.String({ description: 'Shown once' }),
	dial: Type.String({ description: 'The address that robots dial' }),
});
true satisfies Same<Static<typeof tokenCreated>, TokenCreated>;

const keyFields = {
	keyId: text,
	name: text,
	scopes: Type.Array(Type.Enum(['submit', 'read', 'cancel', 'operate', 'admin'])),
	createdAt: at,
	expiresAt: nullable(at),
	revokedAt: nullable(at),
	lastUsedAt: nullable(at),
};
export const key = Type.Object(keyFields);
true satisfies Same<Static<typeof key>, KeyRecord>;
export const keyCreated = Type.Object({
	...keyFields,
	key: Type.String({ description: 'Shown once' }),
});

export const enrolAnswer = Type.Object({ robotId: text, name: text, hubId: text });
true satisfies Same<Static<typeof enrolAnswer>, EnrolAnswer>;

export const problem = Type.Object({
	error: Type.Object({
		code: Type.String({ description: 'For programs; the list is in docs/problems.md' }),
		text: Type.String({ description: 'For people: one sentence, with what to do' }),
		retry: Type.Boolean({ description: 'Whether the same request is worth another try as it is' }),
		details: anything,
	}),
});

const submitFields = {
	jobId: text,
	state: jobState,
	duplicate: Type.Optional(Type.Literal(true)),
	unmatched: Type.Optional(Type.Literal(true)),
};
export const submitAnswer = Type.Object(submitFields);
export const retryAnswer = Type.Object({ ...submitFields, retryOf: text });
export const bulkAnswer = Type.Object({ jobs: Type.Array(Type.Union([submitAnswer, problem])) });

export const bulkResult = Type.Object({
	dryRun: Type.Boolean(),
	matched: whole,
	changed: whole,
	skipped: whole,
	reasons: Type.Array(Type.Object({ reason: text, count: whole })),
	jobIds: Type.Array(text),
	retries: Type.Optional(Type.Array(Type.Object({ jobId: text, retryOf: text }))),
	cursor: Type.Optional(text),
});
true satisfies Same<Static<typeof bulkResult>, BulkResult>;

export const deadLetterGroup = Type.Object({
	fingerprint: text,
	kind: text,
	cause: nullable(cause),
	message: text,
	count: whole,
	firstAt: at,
	lastAt: at,
	jobIds: Type.Array(text),
});
true satisfies Same<Static<typeof deadLetterGroup>, DeadLetterGroup>;

export const me = Type.Object({ name: text, scopes: keyFields.scopes });
export const listOf = <S extends TSchema>(items: S) => Type.Object({ items: Type.Array(items) });
export const pageOf = <S extends TSchema>(items: S) =>
	Type.Object({ items: Type.Array(items), cursor: Type.Optional(text) });

export { gate, limit } from './gates';
export { group, pool } from './placement';
export { jobPreview, why } from './why';

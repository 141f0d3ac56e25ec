/** What lies in the store, as outsiders see it. One function a table; nothing is decided here. */
import type {
	Attempt,
	Children,
	Choice,
	Hole,
	HoleReason,
	Job,
	JobHealth,
	JobError,
	JobResult,
	Robot,
	RobotMetrics,
	RobotStatus,
	RolloutRecord,
	Stream,
	Target,
	TimelineEntry,
	Variables,
	WaitedJob,
} from '../../protocol';
import { isFinal, streams } from '../../protocol';
import { closedOf, quarantineOf } from '../core/control';
import { childrenOf, type Counted, progressOf } from '../core/parents';
import { takesOf } from '../core/needs';
import type { Patience } from '../core/patience';
import { recordOf } from '../core/record';
import { resultOf } from '../core/result';
import { policyOf } from '../core/retry';
import type {
	FanOutState,
	StoredAttempt,
	StoredJob,
	StoredMove,
	StoredOutcome,
} from '../store/store';
import { healthOf } from '../core/health';
import { cloneOf } from './clones';
import { deviceView } from './devices';
import { holderOf, isFull, type Live, type RobotEntry } from './fleet';

/** With the live attempt of the job, where it may have one. */
export function jobView(job: StoredJob, live?: Live): Job {
	return {
		...outcomeView(job, live),
		spec: JSON.parse(job.spec),
		variables: JSON.parse(job.variables) as Variables,
	};
}

export function outcomeView(job: StoredOutcome, live?: Live): WaitedJob {
	const children = childrenView(job);
	const rolledOut = rolloutView(job);
	const policy = policyOf(job.policy);
	const { timeouts, offline, watch, caps, strategy, preferWaitMs, rollout } = policy;
	return {
		jobId: job.id,
		kind: job.kind,
		state: job.state,
		cause: job.cause,
		attempt: job.attempt,
		robotId: job.robotId,
		client: job.client,
		priority: job.priority,
		progress: children ? progressOf(children) : job.progress,
		message: job.message,
		waitingFor: (live?.epoch === job.epoch ? live.waitingFor : undefined) ?? null,
		result: resultOfJob(job),
		error: parse<JobError>(job.error),
		createdAt: job.createdAt,
		startedAt: job.startedAt,
		endedAt: job.endedAt,
		cancelRequestedAt: job.cancelRequestedAt,
		retryOf: job.retryOf,
		retriedAs: job.retriedAs,
		parentId: job.parentId,
		cell: job.cell,
		children,
		...(job.batch === null ? {} : { batch: job.batch }),
		...(rollout === undefined ? {} : { rollout }),
		...(rolledOut ? { rolledOut } : {}),
		shareKey: job.shareKey || null,
		hold: job.hold,
		dead: job.dead,
		...(job.health === null ? {} : { health: JSON.parse(job.health) as JobHealth[] }),
		target: JSON.parse(job.target) as Target,
		timeouts,
		...(offline === undefined ? {} : { offline: offlineView(offline) }),
		...(watch === undefined ? {} : { watch }),
		...(caps === undefined ? {} : { caps }),
		...(strategy === undefined ? {} : { strategy }),
		...(preferWaitMs === undefined ? {} : { preferWaitMs }),
		...(job.affinity === null ? {} : { affinityKey: job.affinity }),
		...takesOf(policy),
		notBefore: job.readyAt > job.createdAt ? job.readyAt : null,
		output: {
			stdout: job.stdoutHave ?? 0,
			stderr: job.stderrHave ?? 0,
			complete: job.outputDone === 1,
			...(job.outputHoles === '[]' ? {} : { holes: holesOf(job.outputHoles) }),
		},
		createdBy: job.createdBy,
	};
}

function offlineView({ until, then, asked }: Patience): Job['offline'] {
	return { until, then, ...(asked && { asked }) };
}

/** How the children of a parent stand; null for every other job. */
export function childrenView({ family }: Pick<StoredJob, 'family'>): Children | null {
	return family === null ? null : childrenOf(JSON.parse(family) as Counted);
}

/** How far a parent that goes out in batches is; `undefined` for every other job, and before it starts. */
export function rolloutView({
	fanOut,
	state,
}: Pick<StoredJob, 'fanOut' | 'state'>): RolloutRecord | undefined {
	if (fanOut === null) return undefined;
	const { plan, state: now, batch, reason } = JSON.parse(fanOut) as FanOutState;
	if (plan === null) return undefined;
	const over = isFinal(state);
	const { batches, maxFailures } = plan;
	return {
		state: over ? 'over' : now,
		batches,
		batch,
		maxFailures,
		reason: over ? null : reason,
	};
}

export function attemptView(attempt: StoredAttempt, choice?: Choice): Attempt {
	return {
		number: attempt.number,
		robotId: attempt.robotId,
		client: attempt.client,
		epoch: attempt.epoch,
		state: attempt.state,
		outcome: attempt.outcome,
		cause: attempt.cause,
		assignedAt: attempt.assignedAt,
		startedAt: attempt.startedAt,
		endedAt: attempt.endedAt,
		result: result(attempt.result),
		lateResult: result(attempt.lateResult),
		...(choice === undefined ? {} : { choice }),
	};
}

export function moveView(move: StoredMove): TimelineEntry {
	return { ...move };
}

export function holesOf(json: string): Partial<Record<Stream, Hole[]>> {
	const holes: Partial<Record<Stream, Hole[]>> = {};
	for (const [stream, from, to, reason] of JSON.parse(json) as HoleRow[]) {
		(holes[streams[stream]!] ??= []).push({ from, to, reason });
	}
	return holes;
}
type HoleRow = [stream: number, from: number, to: number, reason: HoleReason];

/** Silent for two heartbeats, but not yet given up. */
const suspectMs = 30_000;

export function statusOf(entry: RobotEntry, monotonic: number): RobotStatus {
	const { session, stored } = entry;
	if (!session) return 'offline';
	if (stored.closed !== null) {
		return closedOf(stored.closed)!.as === 'maintenance' ? 'maintenance' : 'paused';
	}
	if (stored.quarantine !== null) return 'quarantined';
	if (session.stopping) return 'paused';
	if (monotonic - session.seenAt > suspectMs) return 'suspect';
	return isFull(entry) ? 'busy' : 'online';
}

export function robotView(entry: RobotEntry, monotonic: number, now: number): Robot {
	const { stored, session, held } = entry;
	const metrics = session ? metricsOf(session.metrics) : null;
	const record = recordOf(entry.recent);
	const silentMs = session ? monotonic - session.seenAt : Infinity;
	return {
		robotId: stored.id,
		name: stored.name,
		status: statusOf(entry, monotonic),
		connected: session !== undefined,
		closed: closedOf(stored.closed),
		quarantine: quarantineOf(stored.quarantine),
		labels: entry.labels,
		capabilities: entry.capabilities,
		slots: stored.slots,
		clients: entry.clients.map((name) => ({
			name,
			jobId: holderOf(entry, name)?.jobId ?? null,
		})),
		held: held.size,
		...(entry.extra === 0 ? {} : { slotsUsed: held.size + entry.extra }),
		currentJobs: [...held.keys()],
		lastSeenAt: session ? Math.round(now - silentMs) : stored.lastSeenAt,
		createdAt: stored.createdAt,
		info: JSON.parse(stored.info) as Record<string, unknown>,
		metrics,
		health:
			metrics &&
			healthOf({
				metrics,
				silentMs,
				record,
				jobs: held.size,
				hanging: [...held.values()].filter(({ hangs }) => hangs).length,
			}),
		record,
		agentVersion: stored.agentVersion,
		transport: session?.sink.transport ?? null,
		clone: cloneView(stored.clone),
		...(entry.device && { device: deviceView(entry.device) }),
	};
}

function cloneView(stored: string | null): Robot['clone'] {
	const clone = cloneOf(stored);
	if (!clone) return null;
	const { machine: _, ...shown } = clone;
	return shown;
}

function metricsOf(said: Record<string, number>): RobotMetrics {
	const share = (name: string) => said[name] ?? null;
	return {
		cpuPercent: share('cpu_percent'),
		memoryPercent: share('memory_percent'),
		diskPercent: share('disk_percent'),
		roundTripMs: share('round_trip_ms'),
		agentBusyPercent: share('agent_busy_percent'),
		keeperMissing: said['keeper_missing'] === undefined ? null : said['keeper_missing'] === 1,
	};
}

/** A job that was cancelled and given up has no result from its robot; that its process may live on must be said. */
function resultOfJob({ state, outcome, result: told }: StoredOutcome): JobResult | null {
	if (state !== 'cancelled' || outcome !== 'lost') return result(told);
	return { ...resultOf('{}'), exitCode: null, processGone: false };
}

function result(text: string | null): JobResult | null {
	return text === null ? null : resultOf(text);
}

function parse<T>(json: string | null): T | null {
	return json === null ? null : (JSON.parse(json) as T);
}

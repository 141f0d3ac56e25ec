/** The questions in SQLite. One SELECT per table, below, turns rows into what store.ts names. */
import type { SQLInputValue } from 'node:sqlite';
import { fileReadsOn } from './files';
import { gateReadsOn } from './gates';
import { earlierJob } from './new-job';
import type { Ended } from '../core/record';
import { metricReadsOn } from './metrics';
import type { Outputs } from './output';
import { batchesOf, cellsOf, countedFamily, decidedFanOut, openChildren } from './parents';
import { placementReadsOn } from './placement';
import { purgeOn } from './purge';
import { isDue, isEnded, isLive, scansOn } from './scans';
import { scheduleReadsOn } from './schedules';
import { camel, type Statements } from './statements';
import { maxAskedLength } from './store';
import { choicesOf, movesOf } from './timeline';
import type {
	Asked,
	Head,
	Queue,
	ReadName,
	Reads,
	StoredAttempt,
	StoredEvent,
	StoredJob,
	StoredKey,
	StoredDevice,
	StoredOutcome,
	StoredRobot,
	StoredSubscription,
	StoredToken,
	StoredWait,
} from './store';

export type ReadsOfStore = { [N in ReadName]: (args: Reads[N]['in']) => Reads[N]['out'] };

export function readsOn(sql: Statements, outputs: Outputs): ReadsOfStore {
	const purge = purgeOn(sql);
	const reads: ReadsOfStore = {
		...scansOn(sql),
		...fileReadsOn(sql),
		...metricReadsOn(sql),

		heads: ({ lane, shareKey, needs, limit }) =>
			sql
				.all<HeadRow>(
					`SELECT id, rank, priority, bars, affinity, attempt, kind, tries, losses, created_at AS createdAt,
					 started_at AS startedAt, spec, variables, policy, parent_id AS parentId, created_by AS owner, octet_length(spec) + octet_length(variables) AS bytes
					 FROM jobs JOIN requests ON job_id = id
					 WHERE state = 'queued' AND lane = ? AND share_key = ? AND needs = ? ORDER BY rank, id LIMIT +?`,
					lane,
					shareKey,
					needs,
					limit,
				)
				.map(headOf),

		// Walks from queue to queue on the index: the cost is the number of queues, not of jobs.
		queues: () => {
			const found: Queue[] = [];
			for (let last: Queue = { lane: '', shareKey: '', needs: '' }; ;) {
				const next = sql.get(
					`SELECT lane, share_key AS shareKey, needs FROM jobs WHERE state = 'queued' AND (lane, share_key, needs) > (?, ?, ?)
					 ORDER BY lane, share_key, needs LIMIT 1`,
					last.lane,
					last.shareKey,
					last.needs,
				) as unknown as Queue | undefined;
				if (!next) return found;
				found.push((last = next));
			}
		},

		due: ({ at, limit }) => {
			const jobs = sql.all<StoredJob>(
				`${selectJob} WHERE due_at <= ? AND due_at IS NOT NULL AND state IN ('pending','queued') ORDER BY due_at LIMIT +?`,
				at,
				limit,
			);
			const next = sql.get(
				`SELECT min(due_at) AS at FROM jobs WHERE due_at > ? AND due_at IS NOT NULL AND state IN ('pending','queued')`,
				at,
			);
			return { jobs, nextAt: (next?.['at'] as number | null) ?? null };
		},

		job: ({ id }) => sql.all<StoredJob>(`${selectJob} WHERE id = ?`, id)[0],

		jobsById: ({ ids }) => ids.flatMap((id) => sql.all<StoredJob>(`${selectJob} WHERE id = ?`, id)),

		outcomes: ({ ids }) =>
			ids.flatMap((id) => sql.all<StoredOutcome>(`${selectOutcome} WHERE id = ?`, id)),

		jobs: ({ state, kind, robotId, parentId, limit, before }) => {
			const where: string[] = [];
			const values: SQLInputValue[] = [];
			// The partial indexes are found only by their own words.
			if (state === 'dispatched' || state === 'running') where.push(isLive);
			else if (state === 'pending') where.push('due_at IS NOT NULL');
			else if (state !== undefined && state !== 'queued') where.push(isEnded);
			for (const [column, value] of [
				['state =', state],
				['kind =', kind],
				["state NOT IN ('pending','queued') AND robot_id =", robotId],
				['parent_id =', parentId],
				['id <', before],
			] as const) {
				if (value === undefined) continue;
				where.push(`${column} ?`);
				values.push(value);
			}
			const page = `${where.length > 0 ? `WHERE ${where.join(' AND ')}` : ''} ORDER BY id DESC LIMIT +?`;
			// The children of one parent do not lie in the order of ids: bare ids are sorted, not whole rows.
			const wanted =
				parentId === undefined
					? page
					: `WHERE id IN (SELECT id FROM jobs ${page}) ORDER BY id DESC`;
			return sql.all<StoredJob>(`${selectJob} ${wanted}`, ...values, limit);
		},

		restoredJobs: () => {
			const row = sql.get(
				`SELECT count(*) AS count FROM jobs WHERE ${isDue} AND state = 'pending' AND cause = 'restored'`,
			)!;
			return row['count'] as number;
		},

		openChildren: ({ parentId }) => openChildren(sql, parentId),
		cells: (page) => cellsOf(sql, page),
		batches: (of) => batchesOf(sql, of),

		cancelledParents: () =>
			sql
				.all<{ id: string }>(
					`SELECT id FROM jobs WHERE ${isLive} AND children IS NOT NULL AND cancel_requested_at IS NOT NULL`,
				)
				.map(({ id }) => id),

		keyed: (idempotency) => earlierJob(sql, idempotency),
		duplicate: ({ scope, hash, at }) =>
			sql.get(
				'SELECT job_id FROM duplicates WHERE scope = ? AND hash = ? AND until > ?',
				scope,
				hash,
				at,
			)?.['job_id'] as string | undefined,

		// A parent runs without an attempt.
		held: () => {
			const attempts = sql.all<StoredAttempt>(
				`${selectLastAttempt} WHERE ${isLive} AND attempt > 0`,
			);
			return attempts.map((attempt) => ({ job: reads.job({ id: attempt.jobId })!, attempt }));
		},

		attempt: ({ jobId, epoch }) =>
			reads.attempts({ jobId }).find((attempt) => attempt.epoch === epoch),

		attempts: ({ jobId }) => [
			...sql.all<StoredAttempt>(`${selectAttempt} WHERE job_id = ? ORDER BY number`, jobId),
			...sql.all<StoredAttempt>(`${selectLastAttempt} WHERE id = ? AND attempt > 0`, jobId),
		],

		choices: ({ jobId }) => {
			const job = sql.get('SELECT timeline FROM jobs WHERE id = ?', jobId);
			return job ? choicesOf(job['timeline'] as string) : [];
		},

		timeline: ({ jobId }) => {
			const job = sql.get(
				`SELECT timeline, created_at AS createdAt, created_by AS createdBy
				 FROM jobs JOIN requests ON job_id = id WHERE id = ?`,
				jobId,
			) as { timeline: string; createdAt: number; createdBy: string } | undefined;
			if (!job) return [];
			const robots = new Map(
				reads.attempts({ jobId }).map(({ number, robotId }) => [number, robotId]),
			);
			return movesOf(job.timeline, job, (attempt) => robots.get(attempt));
		},

		output: (ask) => outputs.read(ask),

		ended: ({ state, limit }) =>
			sql.all<Ended>(
				`SELECT id, robot_id AS robotId, outcome, outcome_cause AS cause FROM jobs
				 WHERE state = ? AND ${isEnded} ORDER BY id DESC LIMIT +?`,
				state,
				limit,
			),

		robots: () => sql.all<StoredRobot>(selectAll('robots')),
		isRobot: ({ id }) => sql.get('SELECT 1 FROM robots WHERE id = ?', id) !== undefined,
		devices: () => sql.all<StoredDevice>(selectAll('devices')),
		keys: () => sql.all<StoredKey>(selectAll('keys')),
		tokens: () => sql.all<StoredToken>(selectAll('tokens')),
		wait: ({ id }) => sql.all<StoredWait>(`${selectAll('waits')} WHERE id = ?`, id)[0],
		liveWaits: () => sql.all<StoredWait>(`${selectAll('waits')} WHERE state IN ('open','due')`),
		waits: ({ state, limit, before = '~' }) =>
			state === undefined
				? sql.all<StoredWait>(
						`${selectAll('waits')} WHERE id < ? ORDER BY id DESC LIMIT +?`,
						before,
						limit,
					)
				: sql.all<StoredWait>(
						`${selectAll('waits')} WHERE state = ? AND id < ? ORDER BY id DESC LIMIT +?`,
						state,
						before,
						limit,
					),
		...scheduleReadsOn(sql),
		...placementReadsOn(sql),
		...gateReadsOn(sql),
		subscription: ({ key }) =>
			sql.all<StoredSubscription>(`${selectAll('subscriptions')} WHERE key = ?`, key)[0],
		subscriptionsOf: ({ createdBy }) =>
			Number(
				sql.get('SELECT count(*) AS n FROM subscriptions WHERE created_by = ?', createdBy)!['n'],
			),
		isFollowed: ({ scheduleId }) =>
			sql.get(
				`SELECT 1 FROM subscriptions WHERE json_extract(filter, '$.scheduleId') = ? LIMIT 1`,
				scheduleId,
			) !== undefined,
		// Subject by subject: an index has each in order, while sorting all that follows could mean a million rows.
		events: ({ subjects, after, limit }) =>
			subjects
				.flatMap((subject) =>
					sql.all<StoredEvent>(
						'SELECT cursor, at, type, subject, data FROM events WHERE subject = ? AND cursor > ? ORDER BY cursor LIMIT +?',
						subject,
						after,
						limit,
					),
				)
				.sort((a, b) => a.cursor - b.cursor)
				.slice(0, limit),
		old: purge.old,
		finals: purge.finals,
		meta: ({ key }) =>
			sql.get('SELECT value FROM meta WHERE key = ?', key)?.['value'] as string | undefined,
	};
	return reads;
}

const columns = {
	robots:
		'id name public_key token_id locked_labels labels capabilities slots info agent_version journal_id closed quarantine strikes presence created_at last_seen_at removed_at machine clone clients',
	devices:
		'robot_id constellation origin server_url fingerprint client_ids capabilities metadata auto_connect max_retries inside',
	keys: 'id hash name scopes created_at expires_at revoked_at last_used_at',
	tokens: 'id hash uses used labels created_at expires_at revoked_at',
	waits:
		'id job_ids until counts each_robot cancel_rest cancel_on_stop collector deadline_at resume_url execution_id node_id nonce state timed_out tries next_try_at last_error created_by created_at due_at ended_at',
	subscriptions: 'key filter epoch cursor created_by used_at',
} as const;

function selectAll(table: keyof typeof columns): string {
	return `SELECT ${camel(columns[table])} FROM ${table}`;
}

const jobColumns = `${camel(
	`id kind state cause lane share_key needs rank priority attempt epoch tries losses created_at started_at ended_at due_at
	 ready_at cancel_requested_at progress message bars error result output_done stdout_have stderr_have parent_id cell children dead
	 retried_as hold affinity batch shut outcome created_by retry_of target policy`,
)}, CASE WHEN state IN ('pending','queued') THEN NULL ELSE robot_id END AS robotId,
 CASE WHEN state IN ('pending','queued') THEN NULL ELSE client END AS client,
 CASE WHEN children IS NULL THEN NULL ELSE ${countedFamily} END AS family,
 CASE WHEN children IS NULL THEN NULL ELSE ${decidedFanOut} END AS fanOut,
 (SELECT json_group_array(json_array(stream, start, stop, reason)) FROM output_holes h WHERE h.job_id = id AND h.number = attempt)
 AS outputHoles, (SELECT entries FROM health WHERE health.job_id = id AND health.epoch = jobs.epoch) AS health`;
const fromJobs = 'FROM jobs JOIN requests ON job_id = id';
const selectOutcome = `SELECT ${jobColumns} ${fromJobs}`;
const selectJob = `SELECT ${jobColumns}, spec, variables ${fromJobs}`;

const attemptColumns = camel(
	`epoch token robot_id client outcome assigned_at stdout_have stderr_have stdout_length stderr_length result late_result`,
);
const renamed = 'outcome_cause AS cause, accepted_at AS startedAt, settled_at AS endedAt';

const selectAttempt = `SELECT job_id AS jobId, number, 'ended' AS state, 1 AS outputDone, ${attemptColumns}, ${renamed} FROM attempts`;

/** The last attempt of a job lies in the job's row. */
const selectLastAttempt = `SELECT id AS jobId, attempt AS number,
 CASE WHEN outcome IS NULL THEN state ELSE 'ended' END AS state, (ended_at IS NULL OR output_done) AS outputDone, ${attemptColumns}, ${renamed} FROM jobs`;

function headOf({
	id,
	rank,
	priority,
	bars,
	affinity,
	attempt,
	owner,
	bytes,
	...asked
}: HeadRow): Head {
	const head = { id, rank, priority, bars, affinity, attempt, owner, bytes };
	return asked.spec.length + asked.variables.length > maxAskedLength ? head : { ...head, asked };
}

type HeadRow = Omit<Head, 'asked'> & Asked;

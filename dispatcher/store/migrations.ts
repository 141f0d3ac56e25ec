/**
 * The shape of the SQLite store, step by step. Forward only; each step is one transaction. A step
 * that has shipped is never edited.
 *
 * The state rules are written into the schema too: a bug above this room ends in a refused
 * transaction, not in a lie on disk.
 */
import {
	finalStates,
	jobStates,
	moves,
	occurrenceStates,
	origins,
	priorities,
	scheduleStates,
	waitCounts,
} from '../../protocol';

const list = (values: readonly string[]) => values.map((value) => `'${value}'`).join(',');
const illegal = Object.entries(moves)
	.map(([from, to]) => `(OLD.state='${from}' AND NEW.state NOT IN (${list([from, ...to])}))`)
	.join(' OR ');
/** Compared one by one: for a list of more than two, SQLite builds a table anew for every row it checks. */
const among = (column: string, values: readonly string[]) =>
	values.length === 0 ? '0' : `(${values.map((value) => `${column} = '${value}'`).join(' OR ')})`;
const legal = Object.entries(moves)
	.map(([from, to]) => `WHEN '${from}' THEN state IN (${list(to)})`)
	.join(' ');

const legalMoves = Object.entries(moves)
	.map(([from, to]) => `WHEN '${from}' THEN ${among('state', to)}`)
	.join(' ');

/** What an occurrence adds to the totals of its schedule; `row` is NEW or OLD. */
const shareOf = (row: 'NEW' | 'OLD', sign: '' | '-') =>
	[
		`${row}.state IN ('ran','made_up')`,
		`${row}.outcome IS 'completed'`,
		`coalesce(${row}.outcome IN ('failed','timeout'), 0)`,
		`${row}.job_id IS NOT NULL AND ${row}.outcome IS NULL`,
		`${row}.state = 'waiting'`,
		`${row}.state = 'skipped'`,
		`${row}.state = 'missed'`,
		`${row}.origin = 'planned' AND ${row}.state IN ('ran','made_up','waiting')`,
	]
		.map((is) => `${sign}(${is})`)
		.join(', ');
const addShare = (
	row: 'NEW' | 'OLD',
	sign: '' | '-',
	isOwn = `${row}.at >= (SELECT created_at FROM schedules WHERE id = ${row}.schedule_id)`,
) =>
	`WHEN ${isOwn} BEGIN
		INSERT INTO occurrence_totals VALUES (${row}.schedule_id, ${shareOf(row, sign)})
		 ON CONFLICT (schedule_id) DO UPDATE SET runs = runs + excluded.runs, succeeded = succeeded + excluded.succeeded,
		 failed = failed + excluded.failed, running = running + excluded.running, waiting = waiting + excluded.waiting,
		 skipped = skipped + excluded.skipped, missed = missed + excluded.missed, planned = planned + excluded.planned;
	END`;
/** The same, for a schedule that a number tells from others of its id, because clocks can be set back. */
const addOwnShare = (row: 'NEW' | 'OLD', sign: '' | '-') =>
	addShare(
		row,
		sign,
		`${row}.generation = (SELECT generation FROM schedules WHERE id = ${row}.schedule_id)`,
	);

export const migrations: readonly string[] = [
	`
	CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

	-- What changes while a job lives. Kept narrow: a batch then touches few pages.
	CREATE TABLE jobs (
		id TEXT PRIMARY KEY,
		kind TEXT NOT NULL,
		state TEXT NOT NULL CHECK (state IN (${list(jobStates)})),
		cause TEXT,
		lane TEXT NOT NULL,
		rank REAL NOT NULL,
		priority TEXT NOT NULL CHECK (priority IN (${list(priorities)})),
		attempt INTEGER NOT NULL DEFAULT 0,
		epoch INTEGER NOT NULL DEFAULT 0,
		robot_id TEXT,
		tries INTEGER NOT NULL DEFAULT 0,
		losses INTEGER NOT NULL DEFAULT 0,
		moves INTEGER NOT NULL DEFAULT 0,
		created_at INTEGER NOT NULL,
		started_at INTEGER,
		ended_at INTEGER,
		due_at INTEGER,
		ready_at INTEGER NOT NULL,
		cancel_requested_at INTEGER,
		progress INTEGER NOT NULL DEFAULT 0,
		message TEXT,
		bars TEXT,
		error TEXT,
		output_done INTEGER NOT NULL DEFAULT 0
	) WITHOUT ROWID;

	-- What was asked for. Written once.
	CREATE TABLE requests (
		job_id TEXT PRIMARY KEY,
		created_by TEXT NOT NULL,
		retry_of TEXT,
		parent_id TEXT,
		spec TEXT NOT NULL,
		variables TEXT NOT NULL,
		target TEXT NOT NULL,
		policy TEXT NOT NULL
	) WITHOUT ROWID;

	CREATE INDEX jobs_queue ON jobs (lane, rank, id) WHERE state = 'queued';
	CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL AND state IN ('pending','queued');
	CREATE INDEX jobs_ended ON jobs (state, id) WHERE state IN (${list(finalStates)});
	CREATE TRIGGER jobs_moves BEFORE UPDATE OF state ON jobs WHEN ${illegal}
	BEGIN SELECT RAISE(ABORT, 'illegal move of a job'); END;

	CREATE TABLE attempts (
		job_id TEXT NOT NULL,
		number INTEGER NOT NULL,
		epoch INTEGER NOT NULL,
		token TEXT NOT NULL,
		robot_id TEXT NOT NULL,
		state TEXT NOT NULL CHECK (state IN ('dispatched','running','ended')),
		hold INTEGER NOT NULL,
		outcome TEXT,
		cause TEXT,
		assigned_at INTEGER NOT NULL,
		started_at INTEGER,
		ended_at INTEGER,
		stdout_have INTEGER NOT NULL DEFAULT 0,
		stderr_have INTEGER NOT NULL DEFAULT 0,
		stdout_length INTEGER,
		stderr_length INTEGER,
		result TEXT,
		-- Came after the attempt was over.
		late_result TEXT,
		PRIMARY KEY (job_id, number)
	) WITHOUT ROWID;
	CREATE INDEX attempts_held ON attempts (robot_id) WHERE hold = 1;

	CREATE TABLE moves (
		job_id TEXT NOT NULL,
		n INTEGER NOT NULL,
		at INTEGER NOT NULL,
		from_state TEXT,
		to_state TEXT NOT NULL,
		reason TEXT NOT NULL,
		by TEXT NOT NULL,
		attempt INTEGER,
		PRIMARY KEY (job_id, n)
	) WITHOUT ROWID;

	CREATE TABLE output (
		job_id TEXT NOT NULL,
		number INTEGER NOT NULL,
		stream INTEGER NOT NULL,
		start INTEGER NOT NULL,
		data BLOB NOT NULL,
		PRIMARY KEY (job_id, number, stream, start)
	) WITHOUT ROWID;

	CREATE TABLE idempotency (
		scope TEXT NOT NULL,
		key TEXT NOT NULL,
		hash TEXT NOT NULL,
		job_id TEXT NOT NULL,
		PRIMARY KEY (scope, key)
	) WITHOUT ROWID;

	CREATE TABLE robots (
		id TEXT PRIMARY KEY,
		name TEXT NOT NULL,
		public_key TEXT NOT NULL,
		token_id TEXT,
		locked_labels TEXT NOT NULL,
		labels TEXT NOT NULL,
		capabilities TEXT NOT NULL,
		slots INTEGER NOT NULL,
		info TEXT NOT NULL,
		agent_version TEXT,
		journal_id TEXT,
		paused INTEGER NOT NULL DEFAULT 0,
		created_at INTEGER NOT NULL,
		last_seen_at INTEGER,
		removed_at INTEGER
	) WITHOUT ROWID;
	CREATE INDEX robots_key ON robots (public_key);

	CREATE TABLE keys (
		id TEXT PRIMARY KEY,
		hash TEXT NOT NULL,
		name TEXT NOT NULL,
		scopes TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		expires_at INTEGER,
		revoked_at INTEGER,
		last_used_at INTEGER
	) WITHOUT ROWID;

	CREATE TABLE tokens (
		id TEXT PRIMARY KEY,
		hash TEXT NOT NULL,
		uses INTEGER NOT NULL,
		used INTEGER NOT NULL DEFAULT 0,
		labels TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		expires_at INTEGER NOT NULL,
		revoked_at INTEGER
	) WITHOUT ROWID;

	CREATE TABLE waits (
		id TEXT PRIMARY KEY,
		job_ids TEXT NOT NULL,
		until TEXT NOT NULL,
		deadline_at INTEGER,
		resume_url TEXT,
		execution_id TEXT,
		node_id TEXT,
		nonce TEXT NOT NULL,
		state TEXT NOT NULL CHECK (state IN ('open','due','closed','dead')),
		timed_out INTEGER NOT NULL DEFAULT 0,
		tries INTEGER NOT NULL DEFAULT 0,
		next_try_at INTEGER,
		last_error TEXT,
		created_by TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		ended_at INTEGER
	) WITHOUT ROWID;
	CREATE INDEX waits_live ON waits (id) WHERE state IN ('open','due');

	CREATE TABLE schedules (
		id TEXT PRIMARY KEY,
		name TEXT NOT NULL,
		cron TEXT NOT NULL,
		timezone TEXT NOT NULL,
		enabled INTEGER NOT NULL,
		catch_up_ms INTEGER NOT NULL,
		next_run_at INTEGER,
		last_run_at INTEGER,
		created_by TEXT NOT NULL,
		created_at INTEGER NOT NULL
	) WITHOUT ROWID;

	CREATE TABLE occurrences (
		schedule_id TEXT NOT NULL,
		origin TEXT NOT NULL,
		planned_at INTEGER NOT NULL,
		at INTEGER NOT NULL,
		state TEXT NOT NULL,
		PRIMARY KEY (schedule_id, origin, planned_at)
	) WITHOUT ROWID;

	CREATE TABLE events (
		cursor INTEGER PRIMARY KEY AUTOINCREMENT,
		at INTEGER NOT NULL,
		type TEXT NOT NULL,
		subject TEXT NOT NULL,
		data TEXT NOT NULL
	);
	CREATE INDEX events_subject ON events (subject, cursor);

	CREATE TABLE subscriptions (
		key TEXT PRIMARY KEY,
		filter TEXT NOT NULL,
		epoch INTEGER NOT NULL,
		cursor INTEGER NOT NULL,
		created_by TEXT NOT NULL
	) WITHOUT ROWID;
	`,

	// A job and its live attempt are one row: giving it away and ending it are one statement each. Earlier
	// attempts keep their table. The timeline travels with the row too (timeline.ts).
	`
	DROP INDEX jobs_queue;
	DROP INDEX jobs_due;
	DROP INDEX jobs_ended;
	DROP TRIGGER jobs_moves;
	DROP INDEX attempts_held;
	ALTER TABLE jobs RENAME TO jobs_1;
	ALTER TABLE attempts RENAME TO attempts_1;

	CREATE TABLE jobs (
		id TEXT PRIMARY KEY,
		kind TEXT NOT NULL,
		state TEXT NOT NULL CHECK (state IN (${list(jobStates)})),
		-- The state before. Every deed that moves a job sets both, and the table of moves is checked here; a
		-- trigger would cost each move as much as the move itself.
		was TEXT CHECK (was IS NULL OR CASE was ${legal} END),
		cause TEXT,
		lane TEXT NOT NULL,
		share_key TEXT NOT NULL,
		rank REAL NOT NULL,
		priority TEXT NOT NULL CHECK (priority IN (${list(priorities)})),
		tries INTEGER NOT NULL DEFAULT 0,
		losses INTEGER NOT NULL DEFAULT 0,
		created_at INTEGER NOT NULL,
		started_at INTEGER,
		ended_at INTEGER,
		due_at INTEGER,
		ready_at INTEGER NOT NULL,
		cancel_requested_at INTEGER,
		progress INTEGER NOT NULL DEFAULT 0,
		output_done INTEGER NOT NULL DEFAULT 0,
		message TEXT,
		bars TEXT,
		error TEXT,
		timeline TEXT NOT NULL,
		parent_id TEXT,
		-- What a child is among its siblings.
		cell TEXT,
		-- A parent has children and never an attempt; only a parent runs without being dispatched.
		children INTEGER CHECK (children IS NULL OR attempt = 0),
		-- A dead letter has the fingerprint of its error until somebody has dealt with it.
		dead TEXT,
		-- The last job that repeats this one.
		retried_as TEXT,
		-- Who or what keeps a pending job back until somebody releases it.
		hold TEXT,

		-- The last attempt.
		attempt INTEGER NOT NULL DEFAULT 0,
		epoch INTEGER NOT NULL DEFAULT 0,
		token TEXT,
		robot_id TEXT,
		assigned_at INTEGER,
		accepted_at INTEGER,
		settled_at INTEGER,
		outcome TEXT,
		outcome_cause TEXT,
		stdout_have INTEGER NOT NULL DEFAULT 0,
		stderr_have INTEGER NOT NULL DEFAULT 0,
		stdout_length INTEGER,
		stderr_length INTEGER,
		result TEXT,
		-- Came after the attempt was over.
		late_result TEXT,
		CHECK (was <> 'queued' OR state <> 'running' OR children IS NOT NULL)
	) WITHOUT ROWID;

	CREATE TABLE attempts (
		job_id TEXT NOT NULL,
		number INTEGER NOT NULL,
		epoch INTEGER NOT NULL,
		token TEXT NOT NULL,
		robot_id TEXT NOT NULL,
		assigned_at INTEGER NOT NULL,
		accepted_at INTEGER,
		settled_at INTEGER NOT NULL,
		outcome TEXT NOT NULL,
		outcome_cause TEXT,
		stdout_have INTEGER NOT NULL,
		stderr_have INTEGER NOT NULL,
		stdout_length INTEGER,
		stderr_length INTEGER,
		result TEXT,
		late_result TEXT,
		PRIMARY KEY (job_id, number)
	) WITHOUT ROWID;

	INSERT INTO jobs SELECT j.id, j.kind, j.state, NULL, j.cause, j.lane, '', j.rank, j.priority, j.tries, j.losses, j.created_at,
		j.started_at, j.ended_at, j.due_at, j.ready_at, j.cancel_requested_at, j.progress, j.output_done, j.message, j.bars, j.error,
		(SELECT group_concat(json_array(at, to_state, reason, by, attempt), ',' ORDER BY n) FROM moves m WHERE m.job_id = j.id),
		r.parent_id, NULL, NULL, NULL, NULL, NULL,
		j.attempt, j.epoch, a.token, a.robot_id, a.assigned_at, a.started_at, a.ended_at, a.outcome, a.cause,
		coalesce(a.stdout_have, 0), coalesce(a.stderr_have, 0), a.stdout_length, a.stderr_length, a.result, a.late_result
		FROM jobs_1 j JOIN requests r ON r.job_id = j.id LEFT JOIN attempts_1 a ON a.job_id = j.id AND a.number = j.attempt;
	INSERT INTO attempts SELECT a.job_id, a.number, a.epoch, a.token, a.robot_id, a.assigned_at, a.started_at, coalesce(a.ended_at, 0),
		coalesce(a.outcome, 'lost'), a.cause, a.stdout_have, a.stderr_have, a.stdout_length, a.stderr_length, a.result, a.late_result
		FROM attempts_1 a JOIN jobs_1 j ON j.id = a.job_id WHERE a.number < j.attempt;

	DROP TABLE jobs_1;
	DROP TABLE attempts_1;
	DROP TABLE moves;
	ALTER TABLE requests DROP COLUMN parent_id;

	-- What was submitted a short time ago, for those who ask that the same is not submitted twice.
	CREATE TABLE duplicates (
		scope TEXT NOT NULL,
		hash TEXT NOT NULL,
		job_id TEXT NOT NULL,
		until INTEGER NOT NULL,
		PRIMARY KEY (scope, hash)
	) WITHOUT ROWID;
	CREATE INDEX duplicates_until ON duplicates (until);

	CREATE INDEX jobs_queue ON jobs (lane, share_key, rank, id) WHERE state = 'queued';
	CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL AND state IN ('pending','queued');
	CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('dispatched','running');
	CREATE INDEX jobs_ended ON jobs (state, id) WHERE state IN (${list(finalStates)});
	CREATE UNIQUE INDEX jobs_children ON jobs (parent_id, cell) WHERE parent_id IS NOT NULL;
	-- Is a child still open, and how do they stand: read at every end of a child.
	CREATE INDEX jobs_family ON jobs (parent_id, state, cause) WHERE parent_id IS NOT NULL;
	-- With the end, so that a group is counted on the index alone.
	CREATE INDEX jobs_dead ON jobs (dead, id, ended_at) WHERE dead IS NOT NULL;
	`,
	`
	-- Output: small pieces are rows of table output; large ones lie in segment files, and here is where.
	CREATE TABLE segments (
		id INTEGER PRIMARY KEY,
		-- So far the file counts, and so many bytes of it are wanted.
		size INTEGER NOT NULL,
		live INTEGER NOT NULL
	);
	CREATE TABLE output_records (
		job_id TEXT NOT NULL,
		number INTEGER NOT NULL,
		stream INTEGER NOT NULL,
		start INTEGER NOT NULL,
		length INTEGER NOT NULL,
		segment INTEGER NOT NULL,
		position INTEGER NOT NULL,
		size INTEGER NOT NULL,
		crc INTEGER NOT NULL,
		PRIMARY KEY (job_id, number, stream, start)
	) WITHOUT ROWID;
	CREATE INDEX output_records_segment ON output_records (segment, position);
	CREATE TABLE output_holes (
		job_id TEXT NOT NULL,
		number INTEGER NOT NULL,
		stream INTEGER NOT NULL,
		start INTEGER NOT NULL,
		stop INTEGER NOT NULL,
		reason TEXT NOT NULL,
		PRIMARY KEY (job_id, number, stream, start)
	) WITHOUT ROWID;
	`,

	// The same table with rules that cost half as much to keep: 40 µs of a job's 140 went into building lists.
	`
	DROP INDEX jobs_queue;
	DROP INDEX jobs_due;
	DROP INDEX jobs_live;
	DROP INDEX jobs_ended;
	DROP INDEX jobs_children;
	DROP INDEX jobs_family;
	DROP INDEX jobs_dead;
	UPDATE jobs SET ended_at = coalesce(ended_at, settled_at, created_at) WHERE ${among('state', finalStates)} AND ended_at IS NULL;
	ALTER TABLE jobs RENAME TO jobs_3;

	CREATE TABLE jobs (
		id TEXT PRIMARY KEY,
		kind TEXT NOT NULL,
		state TEXT NOT NULL CHECK ${among('state', jobStates)},
		-- The state before. Every deed that moves a job sets both, and the table of moves is checked here; a
		-- trigger would cost each move as much as the move itself.
		was TEXT CHECK (was IS NULL OR CASE was ${legalMoves} END),
		cause TEXT,
		lane TEXT NOT NULL,
		share_key TEXT NOT NULL,
		rank REAL NOT NULL,
		priority TEXT NOT NULL CHECK ${among('priority', priorities)},
		tries INTEGER NOT NULL DEFAULT 0,
		losses INTEGER NOT NULL DEFAULT 0,
		created_at INTEGER NOT NULL,
		started_at INTEGER,
		ended_at INTEGER,
		due_at INTEGER,
		ready_at INTEGER NOT NULL,
		cancel_requested_at INTEGER,
		progress INTEGER NOT NULL DEFAULT 0,
		output_done INTEGER NOT NULL DEFAULT 0,
		message TEXT,
		bars TEXT,
		error TEXT,
		timeline TEXT NOT NULL,
		parent_id TEXT,
		-- What a child is among its siblings.
		cell TEXT,
		-- A parent has children and never an attempt; only a parent runs without being dispatched.
		children INTEGER CHECK (children IS NULL OR attempt = 0),
		-- A dead letter has the fingerprint of its error until somebody has dealt with it.
		dead TEXT,
		-- The last job that repeats this one.
		retried_as TEXT,
		-- Who or what keeps a pending job back until somebody releases it.
		hold TEXT,

		-- The last attempt.
		attempt INTEGER NOT NULL DEFAULT 0,
		epoch INTEGER NOT NULL DEFAULT 0,
		token TEXT,
		robot_id TEXT,
		assigned_at INTEGER,
		accepted_at INTEGER,
		settled_at INTEGER,
		outcome TEXT,
		outcome_cause TEXT,
		stdout_have INTEGER NOT NULL DEFAULT 0,
		stderr_have INTEGER NOT NULL DEFAULT 0,
		stdout_length INTEGER,
		stderr_length INTEGER,
		result TEXT,
		-- Came after the attempt was over.
		late_result TEXT,
		CHECK (was <> 'queued' OR state <> 'running' OR children IS NOT NULL),
		CHECK ((ended_at IS NOT NULL) = ${among('state', finalStates)})
	) WITHOUT ROWID;

	INSERT INTO jobs SELECT * FROM jobs_3;
	DROP TABLE jobs_3;

	CREATE INDEX jobs_queue ON jobs (lane, share_key, rank, id) WHERE state = 'queued';
	CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL AND state IN ('pending','queued');
	CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('dispatched','running');
	CREATE INDEX jobs_ended ON jobs (state, id) WHERE ended_at IS NOT NULL;
	CREATE UNIQUE INDEX jobs_children ON jobs (parent_id, cell) WHERE parent_id IS NOT NULL;
	CREATE INDEX jobs_family ON jobs (parent_id, state, cause) WHERE parent_id IS NOT NULL;
	CREATE INDEX jobs_dead ON jobs (dead, id, ended_at) WHERE dead IS NOT NULL;
	`,

	`
	-- To which machine an identity belongs, and who else came with it.
	ALTER TABLE robots ADD COLUMN machine TEXT;
	ALTER TABLE robots ADD COLUMN clone TEXT;
	`,

	`
	-- How the last attempt of a job looked from outside: a JSON array, the oldest first.
	CREATE TABLE health (job_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, entries TEXT NOT NULL) WITHOUT ROWID;
	`,

	`
	-- Robots that were registered before their agents came. Until one came its robot has no public key ('').
	CREATE TABLE devices (
		robot_id TEXT PRIMARY KEY,
		constellation TEXT,
		-- 'file' = the settings of the service name it; 'api' = a caller did.
		origin TEXT NOT NULL,
		server_url TEXT,
		fingerprint TEXT,
		client_ids TEXT NOT NULL,
		capabilities TEXT NOT NULL,
		metadata TEXT NOT NULL,
		auto_connect INTEGER NOT NULL,
		max_retries INTEGER NOT NULL,
		-- Its address may lie inside a private network.
		inside INTEGER NOT NULL
	) WITHOUT ROWID;
	`,

	`
	-- The named clients of a robot, and which of them an attempt has.
	ALTER TABLE robots ADD COLUMN clients TEXT NOT NULL DEFAULT '[]';
	ALTER TABLE jobs ADD COLUMN client TEXT;
	ALTER TABLE attempts ADD COLUMN client TEXT;
	`,

	// A schedule is one definition; an occurrence knows its job and how that ended.
	`
	ALTER TABLE schedules RENAME TO schedules_1;
	ALTER TABLE occurrences RENAME TO occurrences_1;

	CREATE TABLE schedules (
		id TEXT PRIMARY KEY,
		name TEXT NOT NULL,
		definition TEXT NOT NULL,
		state TEXT NOT NULL CHECK ${among('state', scheduleStates)},
		reason TEXT,
		anchor_at INTEGER NOT NULL,
		resumed_at INTEGER NOT NULL,
		next_run_at INTEGER,
		last_run_at INTEGER,
		created_by TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		CHECK (state = 'active' OR next_run_at IS NULL)
	) WITHOUT ROWID;
	INSERT INTO schedules SELECT id, name, json_object('when', json_object('frequency', 'cron', 'cron', cron), 'timezone', timezone,
		'catchUpMs', catch_up_ms), CASE WHEN enabled THEN 'active' ELSE 'paused' END, NULL, created_at, created_at,
		CASE WHEN enabled THEN next_run_at END, last_run_at, created_by, created_at FROM schedules_1;
	DROP TABLE schedules_1;

	CREATE TABLE occurrences (
		schedule_id TEXT NOT NULL,
		origin TEXT NOT NULL CHECK ${among('origin', origins)},
		planned_at INTEGER NOT NULL,
		at INTEGER NOT NULL,
		state TEXT NOT NULL CHECK ${among('state', occurrenceStates)},
		reason TEXT,
		job_id TEXT,
		outcome TEXT,
		ended_at INTEGER,
		ran_ms INTEGER,
		PRIMARY KEY (schedule_id, origin, planned_at)
	) WITHOUT ROWID;
	INSERT INTO occurrences SELECT schedule_id, origin, planned_at, at, CASE state WHEN 'fired' THEN 'ran' ELSE 'missed' END,
		NULL, NULL, NULL, NULL, NULL FROM occurrences_1;
	DROP TABLE occurrences_1;

	CREATE INDEX occurrences_planned ON occurrences (schedule_id, planned_at);
	CREATE INDEX occurrences_open ON occurrences (schedule_id) WHERE job_id IS NOT NULL AND outcome IS NULL;
	CREATE INDEX occurrences_waiting ON occurrences (schedule_id, at, planned_at) WHERE state = 'waiting';
	CREATE INDEX occurrences_ended ON occurrences (schedule_id, ended_at) WHERE outcome IS NOT NULL;

	CREATE TABLE calendars (
		name TEXT PRIMARY KEY,
		entries TEXT NOT NULL,
		created_by TEXT NOT NULL,
		updated_at INTEGER NOT NULL
	) WITHOUT ROWID;
	`,

	`
	-- Files: what they are; their bytes lie in files/ beside the database.
	CREATE TABLE files (
		id TEXT PRIMARY KEY,
		name TEXT NOT NULL,
		-- Announced; none when they were lost.
		bytes INTEGER NOT NULL,
		sha256 TEXT CHECK (sha256 IS NOT NULL OR state = 'open'),
		state TEXT NOT NULL CHECK (state IN ('open','ready','lost')),
		created_at INTEGER NOT NULL,
		created_by TEXT NOT NULL,
		used_at INTEGER NOT NULL,
		-- Of one that was collected from an attempt; null = somebody sent it.
		job_id TEXT,
		epoch INTEGER,
		path TEXT,
		mode INTEGER
	) WITHOUT ROWID;
	CREATE INDEX files_digest ON files (sha256);
	CREATE INDEX files_age ON files (used_at) WHERE state <> 'open';
	CREATE INDEX files_open ON files (used_at) WHERE state = 'open';
	CREATE INDEX files_job ON files (job_id, id) WHERE job_id IS NOT NULL;
	CREATE INDEX files_attempt ON files (job_id, epoch) WHERE job_id IS NOT NULL;

	-- How many, and how long together: asked before each new one.
	CREATE TABLE files_total (files INTEGER NOT NULL, bytes INTEGER NOT NULL);
	INSERT INTO files_total VALUES (0, 0);
	CREATE TRIGGER files_come AFTER INSERT ON files BEGIN
		UPDATE files_total SET files = files + 1, bytes = bytes + NEW.bytes;
	END;
	CREATE TRIGGER files_change AFTER UPDATE OF bytes ON files BEGIN
		UPDATE files_total SET bytes = bytes - OLD.bytes + NEW.bytes;
	END;
	CREATE TRIGGER files_go AFTER DELETE ON files BEGIN
		UPDATE files_total SET files = files - 1, bytes = bytes - OLD.bytes;
	END;

	-- Which files a job was submitted with. Until it has ended they stay.
	CREATE TABLE job_files (file_id TEXT NOT NULL, job_id TEXT NOT NULL, PRIMARY KEY (file_id, job_id)) WITHOUT ROWID;
	CREATE INDEX job_files_job ON job_files (job_id);
	`,

	// What a schedule has on record, without looking at all of it. By triggers, so that the totals match the rows
	// whoever writes an occurrence.
	`
	CREATE TABLE occurrence_totals (
		schedule_id TEXT PRIMARY KEY,
		runs INTEGER NOT NULL,
		succeeded INTEGER NOT NULL,
		failed INTEGER NOT NULL,
		running INTEGER NOT NULL,
		waiting INTEGER NOT NULL,
		skipped INTEGER NOT NULL,
		missed INTEGER NOT NULL,
		-- Planned ones that ran or wait: of so many runs.
		planned INTEGER NOT NULL
	) WITHOUT ROWID;
	INSERT INTO occurrence_totals SELECT o.schedule_id, sum(o.state IN ('ran','made_up')), sum(o.outcome IS 'completed'),
		sum(coalesce(o.outcome IN ('failed','timeout'), 0)), sum(o.job_id IS NOT NULL AND o.outcome IS NULL), sum(o.state = 'waiting'),
		sum(o.state = 'skipped'), sum(o.state = 'missed'), sum(o.origin = 'planned' AND o.state IN ('ran','made_up','waiting'))
		FROM occurrences o JOIN schedules s ON s.id = o.schedule_id WHERE o.at >= s.created_at GROUP BY o.schedule_id;
	CREATE TRIGGER occurrences_totals_in AFTER INSERT ON occurrences ${addShare('NEW', '')};
	CREATE TRIGGER occurrences_totals_was AFTER UPDATE ON occurrences ${addShare('OLD', '-')};
	CREATE TRIGGER occurrences_totals_is AFTER UPDATE ON occurrences ${addShare('NEW', '')};
	CREATE TRIGGER occurrences_totals_out AFTER DELETE ON occurrences ${addShare('OLD', '-')};
	`,

	// How the fleet was, minute by minute: `series` of protocol/metrics.ts. About 40 bytes a row.
	`
	CREATE TABLE samples (
		at INTEGER PRIMARY KEY,
		submitted INTEGER NOT NULL,
		completed INTEGER NOT NULL,
		failed INTEGER NOT NULL,
		timeout INTEGER NOT NULL,
		cancelled INTEGER NOT NULL,
		assigned INTEGER NOT NULL,
		lost INTEGER NOT NULL,
		runs INTEGER NOT NULL,
		missed INTEGER NOT NULL,
		waiting INTEGER NOT NULL,
		running INTEGER NOT NULL,
		robots INTEGER NOT NULL,
		slots INTEGER NOT NULL,
		slots_used INTEGER NOT NULL,
		oldest_ms INTEGER NOT NULL,
		dispatch_ms REAL NOT NULL
	);
	`,

	// How robots are grouped and chosen: groups, pools, whose turn it was last, and where jobs of one key went well.
	`
	ALTER TABLE jobs ADD COLUMN affinity TEXT;
	CREATE TABLE turns (robot_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
	CREATE TABLE affinities (
		key TEXT NOT NULL,
		robot_id TEXT NOT NULL,
		successes INTEGER NOT NULL,
		at INTEGER NOT NULL,
		PRIMARY KEY (key, robot_id)
	) WITHOUT ROWID;
	CREATE INDEX affinities_at ON affinities (at);
	CREATE TABLE robot_groups (
		name TEXT PRIMARY KEY,
		parent TEXT,
		robots TEXT NOT NULL,
		created_by TEXT NOT NULL,
		updated_at INTEGER NOT NULL
	) WITHOUT ROWID;
	CREATE TABLE pools (
		name TEXT PRIMARY KEY,
		definition TEXT NOT NULL,
		created_by TEXT NOT NULL,
		updated_at INTEGER NOT NULL
	) WITHOUT ROWID;
	`,

	// Why a robot gets no jobs: closed by people, or in quarantine for what happened there. It was a bare flag before.
	`
	ALTER TABLE robots ADD COLUMN closed TEXT;
	ALTER TABLE robots ADD COLUMN quarantine TEXT;
	ALTER TABLE robots ADD COLUMN strikes TEXT;
	UPDATE robots SET closed = json_object('as', 'paused', 'reason', NULL, 'by', NULL, 'since', NULL, 'until', NULL) WHERE paused <> 0;
	ALTER TABLE robots DROP COLUMN paused;
	`,

	// Jobs for several robots that go out in batches. Here, too, a job whose batch was not let go cannot be in line.
	`
	ALTER TABLE jobs ADD COLUMN batch INTEGER;
	ALTER TABLE jobs ADD COLUMN shut INTEGER CHECK (shut IS NULL OR shut = 0 OR state = 'pending' OR ended_at IS NOT NULL);
	CREATE INDEX jobs_batches ON jobs (parent_id, batch, shut, state) WHERE batch IS NOT NULL;
	CREATE TABLE fan_outs (
		parent_id TEXT PRIMARY KEY,
		-- Ids of robots that match and got no child, because they were away.
		skipped TEXT NOT NULL,
		-- Of one that goes out in batches; the rest is for those only.
		plan TEXT,
		state TEXT NOT NULL CHECK ${among('state', ['running', 'paused', 'stopped'])},
		-- The last one that was let go.
		batch INTEGER NOT NULL DEFAULT 0,
		-- Failures that a person has seen when letting it go on.
		forgiven INTEGER NOT NULL DEFAULT 0,
		reason TEXT
	) WITHOUT ROWID;
	`,

	// Which occurrences belong to a schedule, whatever the clock said at the time; and minutes in which nothing was measured.
	`
	DROP TRIGGER occurrences_totals_in;
	DROP TRIGGER occurrences_totals_was;
	DROP TRIGGER occurrences_totals_is;
	DROP TRIGGER occurrences_totals_out;
	ALTER TABLE schedules ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE occurrences ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
	UPDATE occurrences SET generation = -1 WHERE at < (SELECT created_at FROM schedules WHERE id = schedule_id);
	CREATE TRIGGER occurrences_totals_in AFTER INSERT ON occurrences ${addOwnShare('NEW', '')};
	CREATE TRIGGER occurrences_totals_was AFTER UPDATE ON occurrences ${addOwnShare('OLD', '-')};
	CREATE TRIGGER occurrences_totals_is AFTER UPDATE ON occurrences ${addOwnShare('NEW', '')};
	CREATE TRIGGER occurrences_totals_out AFTER DELETE ON occurrences ${addOwnShare('OLD', '-')};

	ALTER TABLE samples RENAME COLUMN dispatch_ms TO dispatch_ms_1;
	ALTER TABLE samples ADD COLUMN dispatch_ms REAL;
	UPDATE samples SET dispatch_ms = dispatch_ms_1 WHERE assigned > 0;
	ALTER TABLE samples DROP COLUMN dispatch_ms_1;
	`,

	// What jobs share besides robots: part of the name of their queue; limits that operators set, and starts that count
	// for a rate. Jobs that need nothing are in none of it.
	`
	ALTER TABLE jobs ADD COLUMN needs TEXT NOT NULL DEFAULT '';
	DROP INDEX jobs_queue;
	CREATE INDEX jobs_queue ON jobs (lane, share_key, needs, rank, id) WHERE state = 'queued';
	CREATE INDEX jobs_needs ON jobs (needs, rank, id) WHERE state = 'queued' AND needs <> '';
	CREATE TABLE limits (
		name TEXT PRIMARY KEY,
		max INTEGER NOT NULL,
		created_by TEXT NOT NULL,
		updated_at INTEGER NOT NULL
	) WITHOUT ROWID;
	CREATE TABLE starts (
		epoch INTEGER PRIMARY KEY,
		key TEXT NOT NULL,
		at INTEGER NOT NULL,
		until INTEGER NOT NULL
	);
	CREATE INDEX starts_until ON starts (until);
	`,

	// Waits for some of their jobs; waits whose pokes are fetched; and since when one is due, which is no earlier than it began.
	`
	ALTER TABLE waits ADD COLUMN counts TEXT NOT NULL DEFAULT 'ended' CHECK ${among('counts', waitCounts)};
	ALTER TABLE waits ADD COLUMN each_robot INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE waits ADD COLUMN cancel_rest INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE waits ADD COLUMN cancel_on_stop INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE waits ADD COLUMN collector TEXT;
	ALTER TABLE waits ADD COLUMN due_at INTEGER;
	UPDATE waits SET due_at = coalesce(next_try_at, created_at) WHERE state <> 'open';
	CREATE INDEX waits_state ON waits (state, id);
	`,

	// Consumers that nobody asks for are forgotten; and what was told about robots coming and going. Robots already known
	// are told of when that changes: one that was seen lately is assumed to be here, the others to be lost.
	`
	ALTER TABLE subscriptions ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;
	UPDATE subscriptions SET used_at = unixepoch() * 1000;
	ALTER TABLE robots ADD COLUMN presence TEXT;
	UPDATE robots SET presence = json_object(
	 'is', CASE WHEN last_seen_at < (unixepoch() - 600) * 1000 THEN 'lost' ELSE 'here' END, 'since', last_seen_at)
	 WHERE last_seen_at IS NOT NULL;
	`,
];

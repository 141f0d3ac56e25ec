import fs, {
	copyFileSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { migrations } from '../../dispatcher/store/migrations';
import { openStore } from '../../dispatcher/store/open';
import { sqliteIsSafe, SqliteStore } from '../../dispatcher/store/sqlite';
import { purgeables } from '../../protocol';
import { job, storeSuite } from './suite';

const makeFolder = () => mkdtempSync(join(tmpdir(), 'rf-store-'));

storeSuite('SQLite', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	const store = await openStore({ file });
	return {
		store,
		async reopen() {
			// The lock goes with the connection, as it goes with a killed process.
			await store.close();
			return openStore({ file });
		},
		remove: async () => rmSync(folder, { recursive: true }),
	};
});

test('a second owner of the file is refused while the first lives', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	const first = await openStore({ file });
	await expect(openStore({ file })).rejects.toThrow('locked');
	await first.close();
	await (await openStore({ file })).close();
	rmSync(folder, { recursive: true });
});

test('a log that was damaged after it was written is refused with the place, not cut short in silence', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	const store = await openStore({ file });
	for (let n = 0; n < 5; n++) {
		await store.commit([{ do: 'setMeta', with: { key: `key-${n}`, value: 'x' } }]);
	}
	const wal = `${file}-wal`;
	const copy = join(folder, 'copy.db');
	copyFileSync(file, copy);
	const bytes = readFileSync(wal);
	await store.close();
	// In the third commit from the end, in the middle of a page.
	bytes[bytes.length - 2 * 4_120 - 2_000]! ^= 1;
	writeFileSync(`${copy}-wal`, bytes);
	const offset = bytes.length - 3 * 4_120;
	for (const _ of ['once', 'and again']) {
		await expect(openStore({ file: copy })).rejects.toMatchObject({
			code: 'store-damaged',
			details: { wal: `${copy}-wal`, offset, commits: 2 },
		});
		expect(readFileSync(`${copy}-wal`)).toEqual(bytes);
	}
	// What the sentence says helps: everything before the damage is there.
	truncateSync(`${copy}-wal`, offset);
	const mended = await openStore({ file: copy });
	const found = await Promise.all([1, 2, 3].map((n) => mended.read('meta', { key: `key-${n}` })));
	expect(found).toEqual(['x', undefined, undefined]);
	await mended.close();
	rmSync(folder, { recursive: true });
});

test('a log that is longer than a buffer can be keeps no service from its store', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	const store = await openStore({ file });
	await store.commit([{ do: 'setMeta', with: { key: 'key', value: 'x' } }]);
	const copy = join(folder, 'copy.db');
	copyFileSync(file, copy);
	copyFileSync(`${file}-wal`, `${copy}-wal`);
	await store.close();
	// As an upgrade leaves it that rewrites a large store; nothing but its length is real.
	truncateSync(`${copy}-wal`, 2 ** 31 + 4_120);
	const again = await openStore({ file: copy });
	expect(await again.read('meta', { key: 'key' })).toBe('x');
	await again.close();
	rmSync(folder, { recursive: true });
});

test('who waits for a service that upgrades its store goes on waiting when the log becomes short', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	const wal = `${file}-wal`;
	const owner = await openStore({ file });
	for (let n = 0; n < 40; n++) {
		await owner.commit([{ do: 'setMeta', with: { key: `key-${n}`, value: 'x'.repeat(40_000) } }]);
	}
	const { readSync } = fs;
	const reading = jest.spyOn(fs, 'readSync').mockImplementationOnce(((...asked: unknown[]) => {
		// As the end of an upgrade does, or the owner's own end.
		truncateSync(wal, 0);
		return (readSync as (...asked: unknown[]) => number)(...asked);
	}) as typeof readSync);
	expect(() => new SqliteStore({ file })).toThrow('locked');
	expect(reading).toHaveBeenCalled();
	reading.mockRestore();
	await owner.close();
	rmSync(folder, { recursive: true });
});

test('a store of a newer version is refused with both versions named', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	await (await openStore({ file })).close();
	const db = new DatabaseSync(file);
	db.exec('PRAGMA user_version = 999');
	db.close();
	await expect(openStore({ file })).rejects.toMatchObject({
		code: 'store-newer',
		details: { theirs: 999 },
	});
	rmSync(folder, { recursive: true });
});

test('a robot that was paused before stays so, as closed by nobody that is known', () => {
	const db = new DatabaseSync(':memory:');
	const before = migrations.findIndex((step) => step.includes('DROP COLUMN paused'));
	for (const step of migrations.slice(0, before)) db.exec(step);
	const robot = `public_key, slots, labels, locked_labels, capabilities, info, created_at, paused`;
	db.exec(`PRAGMA user_version = ${before};
		INSERT INTO robots (id, name, ${robot}) VALUES ('a', 'a', '', 1, '{}', '{}', '[]', '{}', 0, 1),
			('b', 'b', '', 1, '{}', '{}', '[]', '{}', 0, 0)`);
	const store = new SqliteStore({ file: ':memory:', db });
	const [a, b] = store.read('robots', null) as { closed: string | null }[];
	expect(JSON.parse(a!.closed!)).toEqual({
		as: 'paused',
		reason: null,
		by: null,
		since: null,
		until: null,
	});
	expect(b).toMatchObject({ closed: null, quarantine: null, strikes: null });
	store.close();
});

test('cron schedules of before go on with their next time, and what has fired stays on record', () => {
	const db = new DatabaseSync(':memory:');
	const before = migrations.findIndex((step) => step.includes('schedules_1'));
	for (const step of migrations.slice(0, before)) db.exec(step);
	db.exec(`PRAGMA user_version = ${before};
		INSERT INTO schedules VALUES ('s', 'nightly', '0 6 * * *', 'Europe/Berlin', 1, 0, 500, 400, 'key:me', 100);
		INSERT INTO schedules VALUES ('p', 'p', '* * * * *', 'UTC', 0, 3600000, NULL, NULL, 'key:me', 100);
		INSERT INTO occurrences VALUES ('s', 'planned', 400, 401, 'fired'), ('s', 'planned', 300, 301, 'missed')`);
	const store = new SqliteStore({ file: ':memory:', db });
	expect(store.read('schedules', null)).toMatchObject([
		{ id: 'p', state: 'paused', nextRunAt: null },
		{ id: 's', name: 'nightly', state: 'active', nextRunAt: 500, lastRunAt: 400, anchorAt: 100 },
	]);
	const [, { definition }] = store.read('schedules', null) as [object, { definition: string }];
	expect(JSON.parse(definition)).toEqual({
		when: { frequency: 'cron', cron: '0 6 * * *' },
		timezone: 'Europe/Berlin',
		catchUpMs: 0,
	});
	expect(store.read('occurrences', { scheduleId: 's', limit: 9 })).toMatchObject([
		{ plannedAt: 400, state: 'ran', jobId: null },
		{ plannedAt: 300, state: 'missed' },
	]);
	store.close();
});

test('totals of schedules go on behind an upgrade, and minutes without a dispatch lose their 0', () => {
	const db = new DatabaseSync(':memory:');
	const before = migrations.findIndex((step) => step.includes('ADD COLUMN generation'));
	for (const step of migrations.slice(0, before)) db.exec(step);
	const sample = (at: number, assigned: number, dispatchMs: number) =>
		`INSERT INTO samples (at, submitted, completed, failed, timeout, cancelled, assigned, lost, runs, missed, waiting, running,
		 robots, slots, slots_used, oldest_ms, dispatch_ms) VALUES (${at}, 0, 0, 0, 0, 0, ${assigned}, 0, 0, 0, 0, 0, 0, 0, 0, 0, ${dispatchMs})`;
	db.exec(`PRAGMA user_version = ${before};
		INSERT INTO occurrences (schedule_id, origin, planned_at, at, state) VALUES ('s', 'planned', 1, 1, 'ran');
		INSERT INTO schedules VALUES ('s', 's', '{}', 'active', NULL, 100, 100, 900, NULL, 'key:me', 100);
		INSERT INTO occurrences (schedule_id, origin, planned_at, at, state) VALUES ('s', 'planned', 200, 200, 'ran');
		${sample(60_000, 0, 0)}; ${sample(120_000, 3, 8)}`);
	const store = new SqliteStore({ file: ':memory:', db });
	const totals = () => {
		const counted = store.read('countedOccurrences', { scheduleId: 's' });
		expect(store.read('occurrenceTotals', { scheduleId: 's' })).toEqual(counted);
		return counted;
	};
	expect(totals()).toMatchObject({ runs: 1 });
	// The clock was set back behind the making of the schedule.
	const next = { scheduleId: 's', origin: 'planned', plannedAt: 50, at: 50, reason: null } as const;
	store.commit([{ do: 'fire', with: { ...next, state: 'missed', jobId: null } }]);
	expect(totals()).toMatchObject({ runs: 1, missed: 1 });
	const minutes = { from: 0, to: 1_000_000, stepMs: 60_000 };
	expect(store.read('series', { metric: 'dispatchMs', ...minutes })).toEqual([[120_000, 8]]);
	expect(store.read('series', { metric: 'waiting', ...minutes })).toHaveLength(2);
	store.close();
});

test('nothing of a job that was forgotten stays, not even that its output was let go of before', () => {
	const db = new DatabaseSync(':memory:');
	const store = new SqliteStore({ file: ':memory:', db });
	const given = { number: 1, epoch: 11, token: 't', robotId: 'r', at: 100 };
	const piece = { stream: 'stdout', offset: 0, data: Buffer.from('abc') } as const;
	store.commit([
		{ do: 'insertJob', with: { job: job('a'), attempt: given } },
		{ do: 'appendOutput', with: { jobId: 'a', epoch: 11, robotId: 'r', ...piece } },
		{
			do: 'settle',
			with: {
				jobId: 'a',
				number: 1,
				epoch: 11,
				from: 'dispatched',
				at: 100,
				by: 'robot',
				outcome: 'completed',
				cause: null,
				result: null,
				reason: 'completed',
				next: { to: 'completed', cause: null, error: null },
				countTry: true,
				countLoss: false,
			},
		},
		{ do: 'purgeOutput', with: { endedBefore: 200, maxBytes: 1e9, maxJobs: 10 } },
		{ do: 'purge', with: { what: 'jobs', keys: ['a'], before: 200 } },
	]);
	const left = db
		.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
		.all()
		.map(({ name }) => name as string)
		.filter((name) => db.prepare(`SELECT 1 FROM ${name} LIMIT 1`).get());
	expect(left.sort()).toEqual(['files_total', 'meta']);
	store.close();
});

test('what is looked at often is found by an index, in the order of the index', () => {
	const db = new DatabaseSync(':memory:');
	const store = new SqliteStore({ file: ':memory:', db });
	const prepare = jest.spyOn(db, 'prepare');
	const page = { before: 1, limit: 10, cursor: null };
	for (const what of purgeables) store.read('old', { ...page, what });
	store.read('finals', { limit: 10, cursor: null });
	store.read('restoredJobs', null);
	store.read('plannedCounts', { from: 1, to: 2 });
	store.read('due', { at: 1, limit: 10 });
	store.commit([
		{ do: 'shiftBackOffs', with: { by: 1 } },
		{ do: 'settleBackOffs', with: { at: -1 } },
	]);
	const asked = prepare.mock.calls.map(([sql]) => sql);
	prepare.mockRestore();
	expect(asked.length).toBeGreaterThan(10);
	const slow = asked.filter((sql) => {
		const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all();
		// A scan of an index of its own, or of what ends at its first row, is none.
		const isSlow =
			/^SCAN (jobs|i|idempotency|events)$|^SCAN (o|occurrences)\b|TEMP B-TREE FOR .*ORDER BY/;
		return plan.some(({ detail }) => isSlow.test(detail as string)) && !/LIMIT 1\)/.test(sql);
	});
	expect(slow).toEqual([]);
	store.close();
});

test('SQLite versions that can lose pages are told from those that cannot', () => {
	const verdicts = ['3.50.4', '3.51.2', '3.51.3', '3.52.0', '3.53.0', '3.53.4', '3.60.0'].map(
		sqliteIsSafe,
	);
	expect(verdicts).toEqual([false, false, true, false, true, true, true]);
});

test('a store of the first version opens with every job, attempt and move it had', async () => {
	const folder = makeFolder();
	const file = join(folder, 'store.db');
	const db = new DatabaseSync(file);
	db.exec(`${migrations[0]}; PRAGMA user_version = 1;
		INSERT INTO jobs (id, kind, state, lane, rank, priority, attempt, epoch, robot_id, tries, moves, created_at, started_at, ready_at) VALUES
			('a', 'command', 'running', '["",{},[]]', 5, 'high', 2, 22, 'r2', 1, 6, 100, 110, 100),
			('b', 'command', 'queued', '["",{},[]]', 5, 'normal', 0, 0, NULL, 0, 1, 100, NULL, 100);
		INSERT INTO requests VALUES ('a', 'key:ana', NULL, NULL, '{"command":"true"}', '{}', '{}', '{}'),
			('b', 'key:ana', 'a', NULL, '{"command":"true"}', '{}', '{}', '{}');
		INSERT INTO attempts (job_id, number, epoch, token, robot_id, state, hold, outcome, cause, assigned_at, started_at, ended_at, result) VALUES
			('a', 1, 11, 't1', 'r1', 'ended', 0, 'failed', 'exit_code', 101, 102, 103, '{"exitCode":75}'),
			('a', 2, 22, 't2', 'r2', 'running', 1, NULL, NULL, 104, 105, NULL, NULL);
		INSERT INTO moves VALUES ('a', 0, 100, NULL, 'queued', 'submitted', 'key:ana', NULL),
			('a', 1, 101, 'queued', 'dispatched', 'assigned', 'dispatcher', 1), ('a', 2, 102, 'dispatched', 'running', 'accepted', 'robot:r1', 1),
			('b', 0, 100, NULL, 'queued', 'submitted', 'key:ana', NULL);`);
	db.close();
	const store = await openStore({ file });
	const [held] = await store.read('held', null);
	expect(held).toMatchObject({
		job: { id: 'a', state: 'running', priority: 'high', tries: 1, robotId: 'r2' },
		attempt: { number: 2, epoch: 22, token: 't2', state: 'running', outcome: null },
	});
	expect(await store.read('attempts', { jobId: 'a' })).toMatchObject([
		{ number: 1, state: 'ended', cause: 'exit_code', startedAt: 102, result: '{"exitCode":75}' },
		{ number: 2, state: 'running' },
	]);
	expect(await store.read('timeline', { jobId: 'a' })).toEqual([
		{ at: 100, from: null, to: 'queued', reason: 'submitted', by: 'key:ana', attempt: null },
		{ at: 101, from: 'queued', to: 'dispatched', reason: 'assigned', by: 'dispatcher', attempt: 1 },
		{ at: 102, from: 'dispatched', to: 'running', reason: 'accepted', by: 'robot:r1', attempt: 1 },
	]);
	expect(await store.read('job', { id: 'b' })).toMatchObject({ state: 'queued', retryOf: 'a' });
	expect(await store.read('queues', null)).toEqual([
		{ lane: '["",{},[]]', shareKey: '', needs: '' },
	]);
	await store.close();
	rmSync(folder, { recursive: true });
});

describe('an upgrade', () => {
	const step = (n: number) => `CREATE TABLE step_${n} (x INTEGER)`;
	const steps = (n: number) => Array.from({ length: n }, (_, i) => step(i + 1));
	const base = migrations;
	const first = migrations.length;
	let folder: string;
	const open = (n: number) => {
		const store = new SqliteStore({
			file: join(folder, 'robot-fleet.db'),
			steps: [...base, ...steps(n)],
		});
		const { schema, migratedFrom } = store;
		store.close();
		return { schema, migratedFrom };
	};
	const copies = () =>
		readdirSync(folder)
			.filter((name) => name.includes('before'))
			.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
	beforeEach(() => (folder = makeFolder()));
	afterEach(() => rmSync(folder, { recursive: true }));

	test('puts a copy of the store beside it first, and keeps the last two', () => {
		expect(open(0)).toEqual({ schema: first, migratedFrom: null });
		expect(copies()).toEqual([]);
		expect(open(1)).toEqual({ schema: first + 1, migratedFrom: first });
		expect(copies()).toEqual([`robot-fleet.before-${first + 1}-was-${first}.sqlite`]);
		expect(open(1)).toEqual({ schema: first + 1, migratedFrom: null });
		open(2);
		open(4);
		expect(copies()).toEqual([
			`robot-fleet.before-${first + 2}-was-${first + 1}.sqlite`,
			`robot-fleet.before-${first + 4}-was-${first + 2}.sqlite`,
		]);
		const copy = new DatabaseSync(
			join(folder, `robot-fleet.before-${first + 4}-was-${first + 2}.sqlite`),
		);
		expect(copy.prepare('PRAGMA user_version').get()).toEqual({ user_version: first + 2 });
		copy.close();
	});

	test('makes files that nobody else may read, as are the log and a copy', async () => {
		open(0);
		const file = join(folder, 'robot-fleet.db');
		const store = new SqliteStore({ file, steps: [...base, ...steps(1)] });
		await store.snapshot(join(folder, 'copy'));
		const files = readdirSync(folder).filter((name) => name !== 'output');
		expect(files.length).toBeGreaterThanOrEqual(4);
		const isOpen = (name: string) => (statSync(join(folder, name)).mode & 0o077) !== 0;
		expect(files.filter(isOpen)).toEqual([]);
		store.close();
	});

	test('leaves no log behind that is as long as all it wrote', () => {
		open(0);
		const much = `CREATE TABLE much (x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
			INSERT INTO much SELECT randomblob(4000) FROM n`;
		const file = join(folder, 'robot-fleet.db');
		const store = new SqliteStore({ file, steps: [...base, much] });
		expect(statSync(`${file}-wal`).size).toBeLessThan(100_000);
		store.close();
	});

	test('that fails changes nothing, and the step before it stays', () => {
		open(1);
		const bad = () =>
			new SqliteStore({
				file: join(folder, 'robot-fleet.db'),
				steps: [...base, step(1), step(2), 'CREATE TABLE half (x); SELECT nonsense'],
			});
		expect(bad).toThrow('nonsense');
		expect(open(2)).toEqual({ schema: first + 2, migratedFrom: null });
	});
});

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { systemClock } from '../../../agent/clock';
import { type ExitRecord, Journal, JournalUnusable } from '../../../agent/journal';
import type { JobAssignment } from '../../../protocol';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
let opened: Journal[] = [];

function open(): Journal {
	const journal = Journal.open(join(folder(), 'journal.db'), systemClock);
	opened.push(journal);
	return journal;
}

afterEach(() => {
	for (const journal of opened) journal.close();
	opened = [];
});

function assignment(epoch = 1): JobAssignment {
	return {
		job_id: '01890000-0000-7000-8000-000000000001',
		attempt: epoch,
		epoch,
		token: 't',
		kind: 'command',
		spec: { command: 'true' },
		variables: {},
		timeouts: { grace_ms: 1 },
		on_disconnect: 'continue',
	};
}

const exit: ExitRecord = {
	state: 'completed',
	cause: null,
	output: { stdout: 1, stderr: 0 },
	result: {
		exit_code: 0,
		signal: null,
		stdout: 'x',
		stderr: '',
		truncated: false,
		outputs: {},
		duration_ms: 1,
		error: null,
		process_gone: true,
	},
};

test('what was started is held after a restart, with all that is needed to find it', async () => {
	const before = open();
	await before.start(assignment(), 'mark', 5);
	before.noteProcess(assignment().job_id, 1, 77, 'boot:1');
	before.close();
	const after = open();
	expect(after.id).toBe(before.id);
	expect(after.held()).toEqual([
		{
			assignment: assignment(),
			startedAt: 5,
			trace: { mark: 'mark', pid: 77, birth: 'boot:1' },
			exit: null,
			files: null,
		},
	]);
});

test('an exit record is held until it is forgotten; then only the name is left', async () => {
	const journal = open();
	const { job_id } = assignment();
	await journal.start(assignment(), 'mark', 5);
	await journal.end(job_id, 1, exit);
	expect(journal.held()[0]!.exit).toEqual(exit);
	journal.forget(job_id, 1);
	expect(journal.held()).toEqual([]);
	expect(journal.fate(job_id, 1)).toBe('over');
});

test('how far files are is held until the end, and what is damaged of it is no proof', async () => {
	const before = open();
	const { job_id } = assignment();
	await before.start(assignment(), 'mark', 5, null, { stage: 'fetching' });
	expect(before.held()[0]!.files).toEqual({ stage: 'fetching' });
	await before.noteFiles(job_id, 1, { stage: 'sending', exit, found: [] });
	before.close();
	const after = open();
	expect(after.held()[0]).toMatchObject({ exit: null, files: { stage: 'sending', exit } });
	after.close();
	const db = new DatabaseSync(join(folder(), 'journal.db'));
	db.exec(`update attempts set files = '{"stage":"fetching"}'`);
	db.close();
	expect(open().held()[0]!.files).toBeNull();
});

test('never is remembered over a restart, also for an attempt that was journalled but not started', async () => {
	const before = open();
	const { job_id } = assignment();
	await before.start(assignment(1), 'mark', 5);
	await before.never(job_id, 1);
	await before.never(job_id, 2);
	await before.never(job_id, 2);
	before.close();
	const after = open();
	expect(after.held()).toEqual([]);
	expect([1, 2, 3].map((epoch) => after.fate(job_id, epoch))).toEqual([
		'never',
		'never',
		undefined,
	]);
});

test('an end cannot be undone by never', async () => {
	const journal = open();
	const { job_id } = assignment();
	await journal.start(assignment(), 'mark', 5);
	await journal.end(job_id, 1, exit);
	await journal.never(job_id, 1);
	expect(journal.fate(job_id, 1)).toBe('ended');
});

test('writes of one turn are all kept, and one that fails takes only itself back', async () => {
	const journal = open();
	const { job_id } = assignment();
	const writes = await Promise.allSettled([
		journal.start(assignment(1), 'a', 1),
		journal.start(assignment(1), 'again', 1),
		journal.start(assignment(2), 'b', 1),
	]);
	expect(writes.map((write) => write.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
	journal.close();
	expect(
		open()
			.held()
			.map((held) => held.trace.mark),
	).toEqual(['a', 'b']);
	expect(job_id).toBeTruthy();
});

test('a file that is no journal is one sentence for the owner', () => {
	writeFileSync(
		join(folder(), 'journal.db'),
		'this is not a database, whatever its name says. '.repeat(40),
	);
	expect(() => open()).toThrow(JournalUnusable);
	expect(() => open()).toThrow(/cannot be used .*--data\.$/);
});

test('a journal of a newer agent is refused with both versions named', async () => {
	open().close();
	const { DatabaseSync } = await import('node:sqlite');
	const db = new DatabaseSync(join(folder(), 'journal.db'));
	db.exec('pragma user_version = 99');
	db.close();
	expect(() => open()).toThrow(/schema 99, this one knows 3/);
});

/** Changes what lies in the file, as a disk does that forgets. */
function corrupt(sql: string): void {
	const db = new DatabaseSync(join(folder(), 'journal.db'));
	db.exec(sql);
	db.close();
}

test('an end that is not what was written is not told: the attempt ran, and nobody can know', async () => {
	const before = open();
	await before.start(assignment(1), 'mark', 5);
	await before.start(assignment(2), 'other', 6);
	await before.end(assignment().job_id, 1, exit);
	await before.end(assignment().job_id, 2, exit);
	before.close();
	corrupt(
		`update attempts set exit_record = replace(exit_record, '"exit_code":0', '"exit_code":1') where epoch = 1`,
	);
	const after = open();
	expect(after.damage).toEqual([expect.stringMatching(/end of job 01890000.* is damaged/)]);
	expect(after.held().map((held) => held.exit)).toEqual([null, exit]);
	expect(existsSync(join(folder(), 'journal.db.damaged'))).toBe(true);
	// It can be ended again, and is not found again.
	await after.end(assignment().job_id, 1, { ...exit, state: 'failed', cause: 'unknown' });
	after.close();
	const last = open();
	expect(last.damage).toEqual([]);
	expect(last.held().map((held) => held.exit?.cause)).toEqual(['unknown', null]);
	expect(last.id).toBe(after.id);
});

test('a journal that was found damaged is locked like any other: no other agent gets its folder', async () => {
	const before = open();
	await before.start(assignment(1), 'mark', 5);
	before.close();
	corrupt(`update attempts set mark = 'nark' where epoch = 1`);
	expect(open().damage).toHaveLength(1);
	// In a process of its own: within one, SQLite knows its own files.
	const asks = `
		const db = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
		db.exec('pragma locking_mode = exclusive; pragma journal_mode = wal; begin immediate; commit;');
	`;
	const path = join(folder(), 'journal.db');
	const other = spawnSync(process.execPath, ['-e', asks, path], { encoding: 'utf8' });
	expect(other.stderr).toMatch(/database is locked/);
	expect(other.status).not.toBe(0);
	const copy = new DatabaseSync(`${path}.damaged`);
	expect(copy.prepare('select mark from attempts').all()).toMatchObject([{ mark: 'nark' }]);
	copy.close();
});

test('a start that is not what was written is forgotten, and the robot no longer claims to remember all', async () => {
	const before = open();
	await before.start(assignment(1), 'mark', 5);
	await before.start(assignment(2), 'other', 6);
	before.close();
	corrupt(`update attempts set mark = 'nark' where epoch = 1`);
	const after = open();
	expect(after.damage).toEqual([expect.stringMatching(/start of job 01890000.* is damaged/)]);
	expect(after.held().map((held) => held.assignment.epoch)).toEqual([2]);
	expect(after.id).not.toBe(before.id);
});

test('a log that lost what was synced means a robot that no longer claims to remember all', async () => {
	const before = open();
	for (const epoch of [1, 2, 3]) await before.start(assignment(epoch), 'mark', 5);
	const path = join(folder(), 'journal.db');
	const [file, log] = [readFileSync(path), readFileSync(`${path}-wal`)];
	before.close();
	// In the middle of it, with commits behind.
	log[log.length >> 1]! ^= 1;
	writeFileSync(path, file);
	writeFileSync(`${path}-wal`, log);
	const after = open();
	expect(after.damage).toEqual([expect.stringMatching(/log of the journal .* is damaged at byte/)]);
	expect(after.held().length).toBeLessThan(3);
	expect(after.id).not.toBe(before.id);
	expect(readFileSync(`${path}-wal.damaged`)).toEqual(log);
});

(process.platform === 'win32' ? test.skip : test)(
	'it is its owner’s alone, in a folder that others may enter too, and one of an older agent from now on',
	async () => {
		chmodSync(folder(), 0o755);
		const rights = () =>
			['', '-wal'].map((end) => statSync(join(folder(), `journal.db${end}`)).mode & 0o777);
		const before = open();
		await before.start(assignment(), 'mark', 5);
		expect(rights()).toEqual([0o600, 0o600]);
		before.close();
		chmodSync(join(folder(), 'journal.db'), 0o644);
		await open().start(assignment(2), 'mark', 5);
		expect(rights()).toEqual([0o600, 0o600]);
	},
);

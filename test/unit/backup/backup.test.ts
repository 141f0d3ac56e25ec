/** From a living store to a file, and from the file to a store that gives nothing away unasked. */
import fs, {
	copyFileSync,
	existsSync,
	mkdirSync,
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
import sqlite, { DatabaseSync } from 'node:sqlite';
import { preview, restore, termOfTime } from '../../../dispatcher/backup/restore';
import { backupOfRunning, backupOfStopped, sweepCopies } from '../../../dispatcher/backup/take';
import type { JobAssignment } from '../../../protocol';
import { admin, house, type House, ref, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let folder: string;
let h: House;
const data = () => join(folder, 'data');
const store = () => join(data(), 'robot-fleet.db');
const backupFile = () => join(folder, 'backup.tar');

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-backup-'));
	mkdirSync(data());
	h = await house({ file: store() });
	writeFileSync(join(data(), 'admin.key'), 'rfk_admin\n');
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true });
});

async function takeBackup(): Promise<void> {
	const backup = await backupOfRunning(h.store, {
		dataFolder: data(),
		version: '1.0.0',
		now: h.clock.now(),
	});
	const pieces: Uint8Array[] = [];
	for await (const piece of backup.bytes()) pieces.push(Buffer.from(piece));
	backup.discard();
	writeFileSync(backupFile(), Buffer.concat(pieces));
}

/** The service is stopped, restored, and started again over the same folder. */
async function restoreHere(): Promise<void> {
	await h.close();
	await restore({ file: backupFile(), dataFolder: data(), force: true, now: h.clock.now() });
	h = await house({ file: store(), clock: h.clock });
}

const job = (jobId: string) => h.engine.job(jobId);
const release = (again?: boolean) => h.engine.release(again ? { again } : {}, admin);

describe('a backup', () => {
	test('of a running service holds every commit that was answered before it, and nothing half', async () => {
		const ids: string[] = [];
		for (let i = 0; i < 300; i++) ids.push(await h.submit());
		// Commits go on while the copy is made.
		const taking = takeBackup();
		const later: string[] = [];
		for (let i = 0; i < 100; i++) later.push(await h.submit());
		await taking;
		expect(later).toHaveLength(100);
		const { store: contents } = preview(backupFile());
		expect(contents.jobs.queued).toBeGreaterThanOrEqual(300);
		await restoreHere();
		for (const id of ids) expect((await job(id)).state).toBe('pending');
	});

	test('is begun anew when a commit is under way as it begins, and fails by name when it cannot be made', async () => {
		const id = await h.submit();
		const errorOf = (errcode: number, message: string) =>
			Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR', errcode });
		const copy = jest.spyOn(sqlite, 'backup').mockRejectedValueOnce(errorOf(0, 'not an error'));
		await takeBackup();
		expect(copy).toHaveBeenCalledTimes(2);
		copy.mockRejectedValueOnce(errorOf(10, 'disk I/O error'));
		await expect(takeBackup()).rejects.toThrow('disk I/O error');
		copy.mockRestore();
		await restoreHere();
		expect((await job(id)).state).toBe('pending');
	});

	test('holds large output too, as far as the copy speaks of it, and a restore brings it back', async () => {
		const robot = await h.robot('r1');
		const id = await h.submit();
		await settled();
		await robot.accept();
		const { job_id: jobId, epoch } = robot.last;
		const piece = (offset: number) => ({
			jobId,
			epoch,
			stream: 'stdout' as const,
			offset,
			data: Buffer.alloc(100_000, `piece ${offset}\n`),
		});
		const have = async () => (await job(id)).output.stdout;
		robot.session.output(piece(0));
		await settled();
		expect(await have()).toBe(100_000);
		await takeBackup();
		expect(preview(backupFile()).files.map(({ name }) => name)).toContain('output/0000000001.seg');
		robot.session.output(piece(100_000));
		await settled();
		expect(await have()).toBe(200_000);
		await restoreHere();
		expect(await have()).toBe(100_000);
		const { data: bytes } = await h.engine.output(id, 'stdout', 0, 1e6);
		expect(Buffer.from(bytes).equals(piece(0).data)).toBe(true);
		// The robot goes on from there, as if nothing had been sent since.
		const same = robot.reconnectable(() => h.engine);
		const { verdicts } = await same.connect({ attempts: [held(robot.last, 'running')] });
		expect(verdicts).toMatchObject([{ act: 'continue', output: { stdout: 100_000 } }]);
		expect(readdirSync(data()).filter((name) => name.startsWith('backup-'))).toEqual([]);
	});

	test('says what is in it, and leaves no copy behind', async () => {
		const robot = await h.robot('r1');
		await h.submit();
		await settled();
		await robot.end();
		await h.submit({ notBefore: h.clock.now() + 60_000 });
		await takeBackup();
		expect(preview(backupFile())).toMatchObject({
			format: 1,
			at: h.clock.now(),
			version: '1.0.0',
			store: { jobs: { completed: 1, pending: 1, running: 0 }, robots: 1 },
			files: [{ name: 'robot-fleet.db' }, { name: 'admin.key', bytes: 10 }],
		});
		expect(readdirSync(data()).filter((name) => name.startsWith('backup-'))).toEqual([]);
	});

	test('that a killed service left half-made goes at the next start, and none that people keep there', async () => {
		const backup = await backupOfRunning(h.store, {
			dataFolder: data(),
			version: '1.0.0',
			now: h.clock.now(),
		});
		const ours = readdirSync(data()).filter((name) => name.startsWith('backup-'));
		expect(ours.length).toBeGreaterThan(0);
		const theirs = ['backup-2026-11-30.tar', 'backup-monday.tar.4711.tmp', 'backup-of-files'];
		for (const name of theirs) writeFileSync(join(data(), name), 'kept');
		sweepCopies(data());
		expect(
			readdirSync(data())
				.filter((name) => name.startsWith('backup-'))
				.sort(),
		).toEqual(theirs);
		backup.discard();
	});

	test('is a tar file that every other program reads', async () => {
		await takeBackup();
		const { execFileSync } = await import('node:child_process');
		const names = execFileSync('tar', ['-tf', backupFile()], { encoding: 'utf8' });
		expect(names.trim().split('\n')).toEqual(['robot-fleet.db', 'admin.key', 'manifest.json']);
	});

	test('of a stopped service is the same, and is refused while the service runs', async () => {
		const id = await h.submit();
		const options = { dataFolder: data(), version: '1.0.0', now: h.clock.now() };
		await expect(backupOfStopped(options)).rejects.toMatchObject({ code: 'data-taken' });
		await h.close();
		const backup = await backupOfStopped(options);
		const pieces: Uint8Array[] = [];
		for await (const piece of backup.bytes()) pieces.push(Buffer.from(piece));
		backup.discard();
		writeFileSync(backupFile(), Buffer.concat(pieces));
		h = await house({ file: store(), clock: h.clock });
		await restoreHere();
		expect((await job(id)).state).toBe('pending');
	});

	test('of a stopped service whose log is damaged is refused, and leaves the log as it is', async () => {
		for (let i = 0; i < 5; i++) await h.submit();
		// As a kill leaves it: to close a store brings its log home.
		const [db, log] = [readFileSync(store()), readFileSync(`${store()}-wal`)];
		await h.close();
		const bad = join(folder, 'bad');
		mkdirSync(bad);
		writeFileSync(join(bad, 'robot-fleet.db'), db);
		log[Math.floor(log.length / 2)]! ^= 1;
		writeFileSync(join(bad, 'robot-fleet.db-wal'), log);
		const options = { dataFolder: bad, version: '1.0.0', now: h.clock.now() };
		await expect(backupOfStopped(options)).rejects.toMatchObject({ code: 'store-damaged' });
		expect(readFileSync(join(bad, 'robot-fleet.db-wal')).equals(log)).toBe(true);
		h = await house({ file: store(), clock: h.clock });
	});

	test('that was changed in any one byte, or cut short anywhere, is refused and restores nothing', async () => {
		await h.submit();
		await takeBackup();
		await h.close();
		const before = readFileSync(store());
		const { size } = statSync(backupFile());
		const spoilt = join(folder, 'spoilt.tar');
		const refused = async () => {
			await expect(
				restore({ file: spoilt, dataFolder: data(), force: true, now: 0 }),
			).rejects.toMatchObject({ code: 'bad-backup' });
		};
		// The last blocks are padding without meaning.
		const meaningful = size - 2 * 512;
		for (let i = 0; i < 60; i++) {
			copyFileSync(backupFile(), spoilt);
			const bytes = readFileSync(spoilt);
			const at = Math.floor((i / 60) * meaningful);
			// Padding behind a file's end belongs to nobody.
			if (bytes[at] === 0 && at % 512 > 300 && i % 2) continue;
			bytes[at] = bytes[at]! ^ 0x55;
			writeFileSync(spoilt, bytes);
			let ok = true;
			try {
				preview(spoilt);
			} catch {
				ok = false;
			}
			if (!ok) await refused();
			// Only a byte that nobody reads may go unseen.
			else expect(isPadding(backupFile(), at)).toBe(true);
		}
		for (let i = 0; i < 20; i++) {
			copyFileSync(backupFile(), spoilt);
			truncateSync(spoilt, Math.floor((i / 20) * meaningful));
			await refused();
		}
		writeFileSync(spoilt, 'hello');
		await refused();
		await expect(
			restore({ file: join(folder, 'none.tar'), dataFolder: data(), force: true, now: 0 }),
		).rejects.toMatchObject({ code: 'bad-backup' });
		expect(readFileSync(store()).equals(before)).toBe(true);
		expect(readdirSync(data()).sort()).toEqual(['admin.key', 'output', 'robot-fleet.db']);
		h = await house({ file: store(), clock: h.clock });
	});

	test('of a newer version is refused with both versions named', async () => {
		await h.close();
		const db = new DatabaseSync(store());
		db.exec('PRAGMA user_version = 999');
		db.close();
		const options = { dataFolder: data(), version: '9.0.0', now: 0 };
		await expect(backupOfStopped(options)).rejects.toMatchObject({
			code: 'store-newer',
			details: { theirs: 999 },
		});
		rmSync(store());
		h = await house({ file: store(), clock: h.clock });
	});
});

/** Bytes of a tar file between the end of one file and the next header. */
function isPadding(file: string, at: number): boolean {
	const bytes = readFileSync(file);
	for (let i = 0; i < bytes.length;) {
		const size = Number.parseInt(bytes.toString('latin1', i + 124, i + 135), 8);
		if (Number.isNaN(size)) return true;
		const end = i + 512 + size;
		const next = Math.ceil(end / 512) * 512;
		if (at < next) return at >= end;
		i = next;
	}
	return true;
}

describe('a restore', () => {
	test('holds every job that was not final back, and says why', async () => {
		const robot = await h.robot('r1', { slots: 3 });
		const done = await h.submit();
		await settled();
		await robot.end();
		const running = await h.submit();
		await settled();
		await robot.accept();
		const dispatched = await h.submit();
		await settled();
		await robot.vanish();
		const queued = await h.submit({ target: { robot: 'r1' } });
		const later = await h.submit({ notBefore: h.clock.now() + 1_000 });
		await takeBackup();
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		await same.connect({ attempts: [] });
		await h.clock.advance(120_000);
		for (const id of [running, dispatched, queued, later]) {
			expect(await job(id)).toMatchObject({ state: 'pending', cause: 'restored', robotId: null });
			expect((await h.engine.why(id)).text).toContain('robot-fleet jobs release');
		}
		expect((await job(done)).state).toBe('completed');
		expect(same.assigned).toEqual([]);
		expect((await h.engine.timeline(running)).at(-1)).toMatchObject({
			from: 'running',
			to: 'pending',
			reason: 'restored from a backup',
		});
		expect(await h.engine.attempts(running)).toMatchObject([
			{ outcome: 'restored', cause: 'restored' },
		]);
		expect((await h.engine.service()).restored).toMatchObject({ waiting: 4 });
	});

	const data100k = Buffer.alloc(100_000, 'printed\n');

	/** A job prints as much again after the backup was taken. */
	async function printedSince(): Promise<string> {
		const robot = await h.robot('r1');
		const id = await h.submit();
		await settled();
		await robot.accept();
		const { job_id: jobId, epoch } = robot.last;
		const print = async (offset: number) => {
			robot.session.output({ jobId, epoch, stream: 'stdout', offset, data: data100k });
			await settled();
		};
		await print(0);
		await takeBackup();
		await print(data100k.length);
		await h.close();
		return id;
	}

	/** A restore that gets as far as `step`, and no further. */
	async function restoreUntil(step: 'linkSync' | 'renameSync', to?: string): Promise<void> {
		const real = fs[step];
		const broken = jest.spyOn(fs, step).mockImplementation((from, at) => {
			if (to === undefined || at === to) throw new Error('killed here');
			real(from, at);
		});
		const options = { file: backupFile(), dataFolder: data(), force: true, now: h.clock.now() };
		try {
			await expect(restore(options)).rejects.toThrow('killed here');
		} finally {
			broken.mockRestore();
		}
	}

	const steps: [when: string, step: 'linkSync' | 'renameSync', to: () => string | undefined][] = [
		['before its first step', 'linkSync', () => undefined],
		['before output is put aside', 'renameSync', () => join(data(), 'output.before-restore')],
		['before restored output is in its place', 'renameSync', () => join(data(), 'output')],
		['before its last step', 'renameSync', () => store()],
	];
	test.each(steps)(
		'that ends %s leaves the store of before with all its output',
		async (_when, step, to) => {
			const id = await printedSince();
			await restoreUntil(step, to());
			h = await house({ file: store(), clock: h.clock });
			const { data: bytes } = await h.engine.output(id, 'stdout', 0, 1e6);
			expect(Buffer.from(bytes).equals(Buffer.concat([data100k, data100k]))).toBe(true);
		},
	);

	test('that is run again after it was killed keeps the output of the store of before', async () => {
		await printedSince();
		await restoreUntil('renameSync', store());
		await restore({ file: backupFile(), dataFolder: data(), force: true, now: h.clock.now() });
		const kept = join(data(), 'output.before-restore');
		const bytes = fs.readdirSync(kept).map((name) => fs.statSync(join(kept, name)).size);
		expect(bytes.reduce((sum, of) => sum + of, 0)).toBeGreaterThanOrEqual(2 * data100k.length);
		h = await house({ file: store(), clock: h.clock });
		expect((await h.engine.service()).restored).toMatchObject({ waiting: 1 });
	});

	test('is looked through in stretches for jobs to be released, so that nobody waits for all that has ended', async () => {
		const id = await h.submit();
		await takeBackup();
		await restoreHere();
		const read = jest.spyOn(h.store, 'read');
		expect(await release(true)).toMatchObject({ released: 1 });
		const asked = read.mock.calls.map(([name]) => name);
		expect(asked).toContain('scan');
		expect(asked).not.toContain('jobs');
		await h.clock.advance(1_000);
		expect(await h.state(id)).toBe('queued');
	});

	test('gives out epochs above all that were given out before it, however often the lost store was opened', async () => {
		const robot = await h.robot('r1');
		await takeBackup();
		let highest = 0;
		for (let i = 0; i < 5; i++) {
			await h.restart();
			await robot.connect();
			await h.submit();
			await settled();
			highest = Math.max(highest, robot.last.epoch);
			await robot.end();
		}
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		await same.connect();
		await h.submit();
		await settled();
		expect(same.last.epoch).toBeGreaterThan(highest);

		// Once more on another machine, which has nothing to compare with but the time.
		const first = same.last.epoch;
		h.clock.jump(24 * 3_600_000);
		await h.close();
		rmSync(data(), { recursive: true });
		await restore({ file: backupFile(), dataFolder: data(), force: false, now: h.clock.now() });
		h = await house({ file: store(), clock: h.clock });
		const again = robot.reconnectable(() => h.engine);
		await again.connect();
		await h.submit();
		await settled();
		expect(again.last.epoch).toBeGreaterThan(first);
		expect(Number.isSafeInteger(again.last.epoch)).toBe(true);
		// Room for the numbers to come.
		expect((termOfTime(Date.UTC(2055, 0, 1)) + 1) * 2 ** 32).toBeLessThan(Number.MAX_SAFE_INTEGER);
	});

	test('keeps the result of an attempt of before beside the job, and does not run it again unasked', async () => {
		const robot = await h.robot('r1');
		const id = await h.submit();
		await settled();
		await robot.accept();
		const of = robot.last;
		await takeBackup();
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		const { verdicts } = await same.connect({ attempts: [held(of, 'running')] });
		expect(verdicts).toMatchObject([{ job_id: id, act: 'continue' }]);
		expect(await release()).toMatchObject({
			released: 0,
			kept: [{ jobId: id, reason: 'robot r1 is still running it' }],
		});
		await same.end({ result: { stdout: 'of before\n' } }, of);
		expect(same.acks).toHaveLength(1);
		expect(await h.engine.attempts(id)).toMatchObject([
			{ outcome: 'restored', lateResult: { stdout: 'of before\n' } },
		]);
		expect((await release()).kept[0]!.reason).toContain('has reported its result');
		expect(await job(id)).toMatchObject({ state: 'pending', cause: 'restored' });
		// A person may say that twice is fine.
		expect(await release(true)).toMatchObject({ released: 1, kept: [] });
		await h.clock.advance(1_000);
		expect(same.last).toMatchObject({ job_id: id, attempt: 2 });
		await same.end();
		expect((await job(id)).state).toBe('completed');
	});

	test('lets an attempt it never heard of go on: hold, and its result stays with the robot', async () => {
		const robot = await h.robot('r1');
		const id = await h.submit({ notBefore: h.clock.now() + 1_000 });
		await takeBackup();
		await h.clock.advance(2_000);
		const unknown = robot.last;
		expect(unknown.job_id).toBe(id);
		await robot.accept();
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		const { verdicts } = await same.connect({ attempts: [held(unknown, 'running')] });
		expect(verdicts).toMatchObject([{ job_id: id, act: 'hold' }]);
		expect((await release()).kept).toEqual([
			{
				jobId: id,
				reason: 'robot r1 is running an attempt of it that was started after the backup',
			},
		]);
		// Should it say so all the same, nothing is believed and nothing is lost: it is not acknowledged.
		same.session.result(resultOf(unknown));
		await settled();
		expect(same.acks).toEqual([]);
		expect(await job(id)).toMatchObject({ state: 'pending', cause: 'restored' });
	});

	test('gives out epochs above every one that a robot still holds, whatever the clock said', async () => {
		const robot = await h.robot('r1', { slots: 2 });
		await h.submit({ notBefore: h.clock.now() + 500 });
		await takeBackup();
		// Opened far more often than time has passed.
		for (let i = 0; i < 10; i++) await h.restart();
		await robot.connect();
		await h.clock.advance(1_000);
		const lost = robot.last;
		await h.close();
		rmSync(data(), { recursive: true });
		await restore({ file: backupFile(), dataFolder: data(), force: false, now: h.clock.now() });
		h = await house({ file: store(), clock: h.clock });
		const same = robot.reconnectable(() => h.engine);
		await same.connect({ attempts: [held(lost, 'running')] });
		await h.submit();
		await settled();
		expect(same.last.epoch).toBeGreaterThan(lost.epoch);
	});

	test('an attempt of before and a released one of the same job are told apart', async () => {
		const robot = await h.robot('r1', { slots: 2 });
		const id = await h.submit();
		await settled();
		await robot.accept();
		const before = robot.last;
		await takeBackup();
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		await same.connect({ attempts: [held(before, 'running')] });
		await release(true);
		await h.clock.advance(1_000);
		const now = same.last;
		expect(now.epoch).toBeGreaterThan(before.epoch);
		await same.accept();
		// An old word changes nothing: not its refusal, not its result.
		same.session.rejected({ ...ref(before), reason: 'not-started', message: '', permanent: false });
		await same.end({ state: 'failed', cause: 'exit_code', result: { exit_code: 9 } }, before);
		expect((await job(id)).state).toBe('running');
		await same.vanish();
		const { verdicts } = await same.connect({
			attempts: [held(now, 'running'), held(before, 'running')],
		});
		expect(verdicts.map(({ act }) => act)).toEqual(['continue', 'forget']);
		await same.end({ result: { stdout: 'now\n' } }, now);
		expect(await job(id)).toMatchObject({ state: 'completed', result: { stdout: 'now\n' } });
	});

	test('runs no planned time again: schedules with a job are paused until somebody lets them go on', async () => {
		const robot = await h.robot('r1');
		const command = { kind: 'command', spec: { command: 'true' } };
		const schedule = { cron: '* * * * *', job: command, overlap: 'queue-one' as const };
		for (const id of ['a', 'b', 'c']) await h.engine.putSchedule(id, schedule, admin);
		await h.engine.putSchedule('told', { cron: '* * * * *' }, admin);
		await h.engine.pauseSchedule('c', admin);
		await h.clock.advance(121_000);
		// Of a, b or both a run waits for its robot.
		const counts = async (id: string) => (await h.engine.schedule(id)).counts;
		expect((await counts('a')).waiting).toBe(1);
		await takeBackup();
		await h.clock.advance(120_000);
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		await same.connect({ attempts: [] });
		await h.clock.advance(61_000);
		for (const id of ['a', 'b']) {
			expect(await h.engine.schedule(id)).toMatchObject({
				state: 'paused',
				reason: 'the store was restored',
				nextRunAt: null,
				counts: { runs: 1, waiting: 0, skipped: 1 },
			});
		}
		expect(await h.engine.schedule('c')).toMatchObject({ reason: 'test paused it' });
		expect(await h.engine.schedule('told')).toMatchObject({ state: 'active' });
		await h.engine.resumeSchedule('a', admin);
		const now = h.clock.now();
		expect((await h.engine.schedule('a')).nextRunAt).toBe(now - (now % 60_000) + 60_000);
		expect(await release(true)).toMatchObject({ keptInAll: 0 });
		expect((await h.engine.schedules()).map(({ state }) => state)).toEqual([
			'active',
			'active',
			'paused',
			'active',
		]);
		await restoreHere();
		expect(await h.engine.resumeSchedules(admin)).toEqual({ changed: 2 });
	});

	test('releases a job only after every robot that may have run it has come back', async () => {
		const one = await h.robot('one', { labels: { site: 'a' } });
		const other = await h.robot('other', { labels: { site: 'b' } });
		await one.vanish();
		await other.vanish();
		const anywhere = await h.submit();
		const onlyA = await h.submit({ target: { labels: { site: 'a' } } });
		await takeBackup();
		await h.clock.advance(1_000);
		await restoreHere();
		expect(await release()).toMatchObject({ released: 0, keptInAll: 2 });
		const a = one.reconnectable(() => h.engine);
		await a.connect();
		expect(await release()).toEqual({
			released: 1,
			keptInAll: 1,
			kept: [
				{
					jobId: anywhere,
					reason: 'robots that may have run it have not come back since the restore: other',
				},
			],
		});
		await h.clock.advance(1_000);
		expect(a.last.job_id).toBe(onlyA);
		// That it came back is remembered, also when it is away again and the service is another one.
		const b = other.reconnectable(() => h.engine);
		await b.connect();
		await b.vanish();
		await h.restart();
		expect(await release()).toMatchObject({ released: 1, kept: [] });
	});

	test('a released job keeps its own times, and a job that waits for nothing is not touched', async () => {
		const id = await h.submit({ notBefore: h.clock.now() + 60_000 });
		const robot = await h.robot('r1');
		await takeBackup();
		await restoreHere();
		const same = robot.reconnectable(() => h.engine);
		await same.connect();
		const fresh = await h.submit();
		await settled();
		await expect(h.engine.release({ jobIds: ['nobody'] }, admin)).rejects.toMatchObject({
			code: 'no-such-job',
		});
		expect(await h.engine.release({ jobIds: [id, fresh] }, admin)).toMatchObject({
			released: 1,
			kept: [{ jobId: fresh, reason: 'it does not wait to be released, it is dispatched' }],
		});
		await same.end();
		expect(await job(id)).toMatchObject({ state: 'pending', cause: null });
		await h.clock.advance(61_000);
		expect(same.last.job_id).toBe(id);
	});

	test('a job that somebody keeps back while it is released waits for that, and is not due before its time is over', async () => {
		const id = await h.submit({ timeouts: { queueMs: 600_000 } });
		await takeBackup();
		await restoreHere();
		const [, answer] = await Promise.all([
			h.engine.change(id, { hold: true }, admin),
			release(true),
		]);
		expect(answer).toMatchObject({ released: 1, kept: [] });
		const [stored] = await h.store.read('jobsById', { ids: [id] });
		expect(stored).toMatchObject({ cause: null, hold: expect.any(String), state: 'pending' });
		expect(stored!.dueAt).toBe(stored!.createdAt + 600_000);
		await h.engine.change(id, { hold: false }, admin);
		expect(await job(id)).toMatchObject({ state: 'queued' });
	});

	test('killed while it holds jobs back, the rest is held back at the next start', async () => {
		for (let i = 0; i < 3; i++) await h.submit();
		await takeBackup();
		await h.close();
		await restore({ file: backupFile(), dataFolder: data(), force: true, now: h.clock.now() });
		// As a start that died after the first of them left it.
		const { openStore } = await import('../../../dispatcher/store/open');
		const half = await openStore({ file: store() });
		const [first] = await half.read('jobs', { state: 'queued', limit: 1 });
		await half.commit([
			{
				do: 'moveJob',
				with: {
					jobId: first!.id,
					from: ['queued'],
					to: 'pending',
					cause: 'restored',
					reason: 'restored from a backup',
					by: 'dispatcher',
					at: 0,
					dueAt: Number.MAX_SAFE_INTEGER,
				},
			},
		]);
		await half.close();
		h = await house({ file: store(), clock: h.clock });
		const robot = await h.robot('r1');
		await h.clock.advance(10_000);
		expect(robot.assigned).toEqual([]);
		expect((await h.engine.service()).restored).toMatchObject({ waiting: 3 });
		// Once each: what was held back before is not moved again.
		expect(await h.engine.timeline(first!.id)).toHaveLength(2);
	});

	test('holds the children of a parent back, which goes on to wait for them, and ends with a cancelled last one', async () => {
		const robot = await h.robot('r1', { slots: 2 });
		const other = await h.robot('r2', { slots: 2 });
		const family = await h.submit({ target: { mode: 'all' } });
		const doomed = await h.submit({ target: { mode: { count: 1 } } });
		await settled();
		const children = async (parent: string) =>
			(await h.engine.jobs({ parentId: parent, limit: 10 })).items;
		expect(await children(family)).toHaveLength(2);
		const [child] = await children(doomed);
		await h.engine.cancel(child!.jobId, admin);
		expect((await job(child!.jobId)).state).toBe('dispatched');
		await takeBackup();
		await restoreHere();
		expect((await job(family)).state).toBe('running');
		for (const one of await children(family)) {
			expect(one).toMatchObject({ state: 'pending', cause: 'restored' });
		}
		expect((await job(child!.jobId)).state).toBe('cancelled');
		expect(['cancelled', 'failed']).toContain((await job(doomed)).state);
		const robots = [robot, other].map((one) => one.reconnectable(() => h.engine));
		for (const one of robots) await one.connect();
		expect(await release()).toMatchObject({ released: 2, kept: [] });
		await h.clock.advance(1_000);
		for (const one of robots) await one.end();
		expect((await job(family)).state).toBe('completed');
	});

	test('parked executions of before go on waiting; one that has gone on meanwhile closes its wait', async () => {
		const robot = await h.robot('r1', { slots: 2 });
		const jobs = [await h.submit(), await h.submit()];
		await settled();
		const waits = await Promise.all(
			jobs.map((id, n) =>
				h.engine.createWait(
					{ jobIds: [id], resumeUrl: `http://127.0.0.1:5678/webhook-waiting/${n}/node` },
					admin,
				),
			),
		);
		await takeBackup();
		// Behind the backup the first execution was resumed, and ended.
		await robot.end({}, robot.assigned[0]);
		await h.clock.advance(1_000);
		await restoreHere();
		await h.close();
		const poked: string[] = [];
		h = await house({
			file: store(),
			clock: h.clock,
			callbacks: {
				check: () => undefined,
				post: async (url) => {
					poked.push(url);
					return url.includes('/0/')
						? { status: 409, body: { message: 'The execution "0 has finished already.' } }
						: { status: 200, body: { resumed: true } };
				},
			},
		});
		const state = async (n: number) => (await h.engine.wait(waits[n]!.waitId)).state;
		expect([await state(0), await state(1)]).toEqual(['open', 'open']);
		const other = await h.robot('r2', { slots: 2 });
		await release(true);
		await h.clock.advance(2_000);
		for (const assignment of other.assigned) await other.end({}, assignment);
		await h.clock.advance(2_000);
		expect(poked).toHaveLength(2);
		expect([await state(0), await state(1)]).toEqual(['closed', 'closed']);
	});

	test('an enrollment token of before is not good any more', async () => {
		const { token } = await h.engine.createToken({ uses: 5 }, admin);
		await takeBackup();
		await restoreHere();
		await expect(h.engine.enrol(token, 'a key', 'late')).rejects.toMatchObject({
			code: 'bad-token',
		});
	});

	test('into a folder with a store is refused, and with force keeps the store of before', async () => {
		await takeBackup();
		const after = await h.submit();
		const options = { file: backupFile(), dataFolder: data(), now: h.clock.now() };
		await expect(restore({ ...options, force: false })).rejects.toMatchObject({
			code: 'data-not-empty',
		});
		await expect(restore({ ...options, force: true })).rejects.toMatchObject({
			code: 'data-taken',
		});
		await h.close();
		const { replaced } = await restore({ ...options, force: true });
		h = await house({ file: store(), clock: h.clock });
		await expect(job(after)).rejects.toMatchObject({ code: 'no-such-job' });
		await h.close();
		h = await house({ file: replaced!, clock: h.clock });
		expect((await job(after)).state).toBe('queued');
	});

	test('over a store that is damaged works: that is what it is for', async () => {
		const id = await h.submit();
		await takeBackup();
		await h.close();
		writeFileSync(store(), Buffer.alloc(8192, 'rubbish'));
		writeFileSync(`${store()}-wal`, Buffer.alloc(100, 'rubbish'));
		await restore({ file: backupFile(), dataFolder: data(), force: true, now: h.clock.now() });
		expect(existsSync(`${store()}-wal`)).toBe(false);
		h = await house({ file: store(), clock: h.clock });
		expect((await job(id)).cause).toBe('restored');
	});
});

function held(assignment: JobAssignment, state: 'running' | 'ended') {
	return { ...ref(assignment), state, output: { stdout: 0, stderr: 0 } };
}

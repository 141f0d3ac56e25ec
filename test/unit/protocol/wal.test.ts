import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { walDamage } from '../../../protocol/wal';

const frameBytes = 24 + 4096;
const frameAt = (n: number) => 32 + (n - 1) * frameBytes;

/** A log with one page a commit, as a program that was killed leaves it. */
function written(commits: number): Buffer {
	const folder = mkdtempSync(join(tmpdir(), 'rf-wal-'));
	const file = join(folder, 'a.db');
	const db = new DatabaseSync(file);
	db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x)');
	db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
	for (let n = 0; n < commits; n++) db.exec(`INSERT INTO t VALUES (${n})`);
	const bytes = readFileSync(`${file}-wal`);
	db.close();
	rmSync(folder, { recursive: true });
	return bytes;
}

function flipped(bytes: Buffer, at: number): Buffer {
	const other = Buffer.from(bytes);
	other[at]! ^= 0x10;
	return other;
}

test('a log as it was written, or cut short, is no damage', () => {
	const whole = written(5);
	expect(whole).toHaveLength(frameAt(6));
	expect(walDamage(whole)).toBeUndefined();
	expect(walDamage(whole.subarray(0, frameAt(4) + 1_000))).toBeUndefined();
	expect(walDamage(whole.subarray(0, frameAt(3)))).toBeUndefined();
	expect(walDamage(Buffer.alloc(0))).toBeUndefined();
});

test('a bit that flipped before a later commit is found, wherever it is', () => {
	const whole = written(5);
	for (const at of [0, 9, 17, 24, 24 + 2_000, frameBytes - 1]) {
		const damage = { frame: 2, offset: frameAt(2), commits: at === 9 ? 2 : 3 };
		expect(walDamage(flipped(whole, frameAt(2) + at))).toEqual(damage);
	}
	for (const at of [0, 5, 9, 17, 25]) {
		expect(walDamage(flipped(whole, at))).toMatchObject({ frame: 0, offset: 0 });
	}
});

test('what a crash may do to the last transaction is not called damage', () => {
	const whole = written(5);
	expect(walDamage(flipped(whole, frameAt(5) + 100))).toBeUndefined();
	expect(walDamage(whole.fill(0, frameAt(5)))).toBeUndefined();
});

test('a log that began anew over an older one is judged by its own frames', () => {
	const old = written(5);
	const young = written(2);
	const both = Buffer.concat([young, old.subarray(young.length)]);
	expect(walDamage(both)).toBeUndefined();
	expect(walDamage(flipped(both, frameAt(1) + 50))).toMatchObject({ frame: 1, commits: 1 });
});

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { openStore } from '../../dispatcher/store/open';
import { sqliteIsSafe } from '../../dispatcher/store/sqlite';
import { storeSuite } from './suite';

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

test('SQLite versions that can lose pages are told from those that cannot', () => {
	const verdicts = ['3.50.4', '3.51.2', '3.51.3', '3.52.0', '3.53.0', '3.53.4', '3.60.0'].map(
		sqliteIsSafe,
	);
	expect(verdicts).toEqual([false, false, true, false, true, true, true]);
});

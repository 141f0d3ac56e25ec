/** An upgrade of the store in a process of its own, killed again and again while it is at it. */
import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import * as esbuild from 'esbuild';
import { migrations } from '../../dispatcher/store/migrations';
import { openStore } from '../../dispatcher/store/open';
import { job } from '../store/suite';
import { noSmallDisk, SmallDisk } from '../support/bad-disk';
import { howMany, say } from '../support/proof';
import { readRows } from './chaos';

const jobs = 100_000;
const kills = howMany(8, 200);
jest.setTimeout(240_000 + kills * 10_000);
const released = migrations.length;
let folder: string;
let program: string;
const file = () => join(folder, 'robot-fleet.db');

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-migrate-'));
	program = join(folder, 'open-store.js');
	await esbuild.build({
		entryPoints: [resolve(__dirname, '../support/open-store.ts')],
		outfile: program,
		bundle: true,
		platform: 'node',
		format: 'cjs',
	});
	const store = await openStore({ file: file() });
	for (let i = 0; i < jobs; i += 5_000) {
		await store.commit(
			Array.from({ length: 5_000 }, (_, n) => ({
				do: 'insertJob' as const,
				with: { job: job(`job-${String(i + n).padStart(6, '0')}`) },
			})),
		);
	}
	await store.close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Opens the store with so many steps more; kills it after `killAfterMs`. */
async function open(steps: number, killAfterMs = Infinity, path = file()) {
	const begun = performance.now();
	const child = spawn(process.execPath, [program, path, String(steps)]);
	let out = '';
	child.stdout.on('data', (text) => (out += text));
	child.stderr.on('data', (text) => (out += text));
	const timer =
		killAfterMs === Infinity ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs);
	const code = await new Promise((done) =>
		child.once('close', (code, signal) => done(code ?? signal)),
	);
	clearTimeout(timer);
	return { code, out, ms: performance.now() - begun };
}

const copies = () => readdirSync(folder).filter((name) => /\.before-.*\.sqlite$/.test(name));

test('an upgrade that is killed again and again goes on at the next start, and loses nothing', async () => {
	const before = join(folder, 'as-it-was.db');
	copyFileSync(file(), before);
	// How long a whole one takes here, so that the kills fall into it.
	const whole = await open(2);
	expect(whole).toMatchObject({ code: 0 });
	expect(whole.out).toContain(`open ${released + 2} from ${released}`);
	for (const name of copies()) rmSync(join(folder, name));
	copyFileSync(before, file());

	const found: number[] = [];
	let wholeMs = whole.ms;
	let version = released;
	for (let i = 0; found.length < kills || !found.includes(released); i++) {
		// Through the copy, the first step and the second.
		const killed = await open(2, wholeMs * (0.15 + 0.8 * ((i % kills) / kills)));
		if (killed.code !== 'SIGKILL') {
			// The kills keep to where it happens, however slow the first one was.
			if (version === released) wholeMs = Math.min(wholeMs, killed.ms);
			copyFileSync(before, file());
			version = released;
			continue;
		}
		[{ user_version: version }] = readVersion();
		found.push(version);
		const [row] = readRows<{ n: number; seen: number }>(
			file(),
			`SELECT count(*) AS n, ${version > released ? 'min(upgraded) * 100 + max(upgraded)' : '0'} AS seen FROM jobs`,
		);
		// Each step is there for all jobs, once, or for none.
		expect(row).toEqual({ n: jobs, seen: [0, 101, 1111][version - released] });
	}
	say(35, {
		kills: found.length,
		'jobs in the store': jobs,
		'in the copy': found.filter((version) => version === released).length,
		'lost or upgraded twice': 0,
	});
	expect((await open(2)).code).toBe(0);
	const [row] = readRows<{ n: number; once: number }>(
		file(),
		'SELECT count(*) AS n, sum(upgraded = 11) AS once FROM jobs',
	);
	expect(row).toEqual({ n: jobs, once: jobs });

	// The way back is there, whole, and of before the first step.
	const first = `robot-fleet.before-${released + 2}-was-${released}.sqlite`;
	expect(copies()).toContain(first);
	const back = readRows<{ n: number }>(join(folder, first), 'SELECT count(*) AS n FROM jobs');
	expect(back).toEqual([{ n: jobs }]);
	expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
	expect((await open(0)).out).toContain(`schema ${released + 2}, this one knows ${released}`);
	copyFileSync(join(folder, first), file());
	expect((await open(0)).out).toContain(`open ${released} from null`);
	expect(statSync(join(folder, first)).size).toBeGreaterThan(1_000_000);
});

function readVersion() {
	const db = new DatabaseSync(file());
	try {
		return db.prepare('PRAGMA user_version').all() as [{ user_version: number }];
	} finally {
		db.close();
	}
}

(noSmallDisk() === undefined ? test : test.skip)(
	'an upgrade on a disk without room for it is refused in one sentence, and the store stays as it was',
	async () => {
		const disk = new SmallDisk(join(folder, 'small'), 24);
		try {
			const path = join(disk.folder, 'robot-fleet.db');
			const store = await openStore({ file: path });
			for (let i = 0; i < 3; i++) {
				await store.commit(
					Array.from({ length: 2_000 }, (_, n) => ({
						do: 'insertJob' as const,
						with: { job: job(`job-${i}-${n}`) },
					})),
				);
			}
			await store.close();
			disk.fill();
			const refused = await open(1, Infinity, path);
			expect(refused.code).not.toBe(0);
			expect(refused.out).toMatch(
				/The copy before the upgrade of the store needs \d+ MiB in .*small/,
			);
			expect(readdirSync(disk.folder).filter((name) => name.includes('before'))).toEqual([]);
			disk.empty();
			expect((await open(0, Infinity, path)).out).toContain(`open ${released} from null`);
		} finally {
			disk.close();
		}
	},
);

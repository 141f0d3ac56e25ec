import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
	chmodSync,
	existsSync,
	mkdirSync,
	renameSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { collect as collectUntil, openInside } from '../../../agent/drivers/collect';
import { Workspaces } from '../../../agent/workspaces';
import { limits } from '../../../protocol';
import { robots, validatorOf } from '../../../protocol/schemas';
import { resultOf } from '../../support/engine';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const never = new AbortController().signal;
const collect = (where: string, patterns: readonly string[], signal = never) =>
	collectUntil(where, patterns, signal);
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

function put(path: string, text: string, mode = 0o644): void {
	const whole = join(folder(), path);
	mkdirSync(join(whole, '..'), { recursive: true });
	writeFileSync(whole, text);
	chmodSync(whole, mode);
}

test('what patterns find is described by length, digest and permissions, in order', async () => {
	put('out.json', '{}');
	put('report/b.html', 'bb', 0o755);
	put('report/deep/a.html', 'a');
	put('report/a.txt', 'no');
	put('.hidden', 'h');
	expect(await collect(folder(), ['report/**/*.html', 'out.json', '*'])).toEqual([
		{ path: '.hidden', bytes: 1, sha256: sha256('h'), mode: 0o644 },
		{ path: 'out.json', bytes: 2, sha256: sha256('{}'), mode: 0o644 },
		{ path: 'report/b.html', bytes: 2, sha256: sha256('bb'), mode: 0o755 },
		{ path: 'report/deep/a.html', bytes: 1, sha256: sha256('a'), mode: 0o644 },
	]);
});

test('a link is never followed: it is told, and so is what lies behind a linked folder', async () => {
	put('real/a', 'a');
	symlinkSync('/etc/passwd', join(folder(), 'passwd'));
	symlinkSync('/etc', join(folder(), 'etc'));
	symlinkSync('real/a', join(folder(), 'inside'));
	const found = await collect(folder(), ['passwd', 'etc/passwd', 'inside', 'etc/**', 'real/*']);
	expect(found.map(({ path, sha256: digest, error }) => [path, digest !== null, error])).toEqual([
		['etc', false, 'is a symbolic link, which is not followed'],
		['inside', false, 'is a symbolic link, which is not followed'],
		['passwd', false, 'is a symbolic link, which is not followed'],
		['real/a', true, undefined],
		['etc/passwd', false, 'is not there'],
	]);
});

test('a folder that became a link is noticed when the file is opened', async () => {
	put('sub/passwd', 'mine');
	const file = await openInside(folder(), 'sub/passwd');
	await file.close();
	execFileSync('mv', [join(folder(), 'sub'), join(folder(), 'was')]);
	symlinkSync('/etc', join(folder(), 'sub'));
	await expect(openInside(folder(), 'sub/passwd')).rejects.toThrow('leads out of the workspace');
});

test('a pipe, a missing file, and one that may not be read are told and keep nobody waiting', async () => {
	execFileSync('mkfifo', [join(folder(), 'pipe')]);
	put('secret', 's', 0o000);
	const found = await collect(folder(), ['pipe', 'secret', 'nowhere', 'none*']);
	const reasons = Object.fromEntries(found.map(({ path, error }) => [path, error]));
	expect(reasons).toMatchObject({
		pipe: 'is no plain file',
		nowhere: 'is not there',
		'none*': 'finds nothing',
	});
	// Who is root may read everything.
	if (process.getuid?.() !== 0) expect(reasons.secret).toBe('may not be read by the agent');
});

test('of too many files the first are taken, and that it were more is said', async () => {
	for (let i = 0; i < limits.maxCollectedFiles + 3; i += 1) put(`f/${i}`, '');
	const found = await collect(folder(), ['f/*']);
	expect(found.filter(({ error }) => error === undefined)).toHaveLength(limits.maxCollectedFiles);
	expect(found.at(-1)!.error).toMatch(/finds more than is looked at/);
});

test('whatever names a program chose, the service takes what is told of them', async () => {
	// Deeper than a path may be: built from the inside, and taken down again from the outside.
	const depth = 18;
	const long = 'x'.repeat(250);
	const level = (at: number, name: string) => join(folder(), ...Array(at).fill('d'), name);
	mkdirSync(join(folder(), ...Array(depth).fill('d')), { recursive: true });
	put('tab\tname', '');
	put(`${'y'.repeat(240)}/${'\u{1f600}'.repeat(60)}`, '');
	for (let at = depth - 1; at >= 0; at -= 1) renameSync(level(at, 'd'), level(at, long));
	try {
		const found = await collect(folder(), ['**']);
		expect(found.map(({ error }) => error)).toEqual(
			expect.arrayContaining([
				'must not hold control characters',
				`is longer than ${limits.maxPathBytes} bytes`,
				'cannot be looked into (ENAMETOOLONG)',
			]),
		);
		for (const { path } of found) {
			expect(Buffer.byteLength(path)).toBeLessThanOrEqual(limits.maxPathBytes);
		}
		const files = found.map(({ mode: _, ...told }) => told);
		const job = { job_id: 'j', attempt: 1, epoch: 1, token: 't' };
		const message = resultOf(job as Parameters<typeof resultOf>[0], { result: { files } });
		const checked = validatorOf(robots.robotMessages.job_result, 'payload');
		expect(checked.mistake(message)).toBeUndefined();
	} finally {
		for (let at = 0; at < depth; at += 1) renameSync(level(at, long), level(at, 'd'));
	}
});

test('of names that are no text it is said why they cannot be had', async () => {
	const named = (name: string) => Buffer.from(`${folder()}/${name}`, 'latin1');
	writeFileSync(named('a\xff'), 'x');
	mkdirSync(named('b\xff'));
	writeFileSync(named('b\xff/in'), 'x');
	const reason = 'has a name that is not UTF-8';
	expect(await collect(folder(), ['**'])).toMatchObject([
		{ path: 'a\ufffd', error: reason },
		{ path: 'b\ufffd', error: reason },
	]);
});

test('looking ends when nobody wants it any more: between two entries, and within a file', async () => {
	for (let i = 0; i < 100; i += 1) put(`f/${i}`, 'text');
	const stop = new AbortController();
	const looking = collect(folder(), ['f/*', 'none'], stop.signal);
	stop.abort();
	const found = await looking;
	expect(found.length).toBeLessThan(3);
	expect(found.at(-1)).toMatchObject({ path: '**', error: expect.stringMatching(/over before/) });
});

test('others have their turn while a folder with very many files is looked through', async () => {
	for (let i = 0; i < 1_000; i += 1) put(String(i), '');
	let looks = 0;
	let most = 0;
	let over = false;
	const turn = (): void => {
		most = Math.max(most, looks);
		looks = 0;
		if (!over) setImmediate(turn);
	};
	const signal = {
		get aborted() {
			looks += 1;
			return false;
		},
	} as AbortSignal;
	turn();
	await collect(folder(), ['none', '*.none'], signal);
	over = true;
	turn();
	expect(most).toBeLessThan(200);
});

test('a workspace that became a link is not looked into', async () => {
	const work = join(folder(), 'work');
	symlinkSync('/etc', work);
	expect(await collect(work, ['passwd'])).toEqual([
		expect.objectContaining({ path: 'passwd', error: 'is not there' }),
	]);
	await expect(openInside(work, 'passwd')).rejects.toThrow('leads out of the workspace');
	const before = statSync('/etc').mode;
	await new Workspaces(folder(), 0).of('work', 1).remove();
	expect(statSync('/etc').mode).toBe(before);
});

test('a file is placed whole, in new folders, with its mode, and never outside', async () => {
	const workspace = new Workspaces(join(folder(), 'work'), 0).of('job', 1);
	await workspace.make();
	const file = await workspace.incoming(0);
	await file.writeFile('text');
	await file.close();
	await workspace.place(0, 'a/b/run.sh', 0o755);
	expect(
		execFileSync('stat', ['-c', '%a', join(workspace.folder, 'a/b/run.sh')], {}).toString(),
	).toBe('755\n');
	expect([await workspace.has('a/b/run.sh'), await workspace.has('a/c')]).toEqual([true, false]);
	await expect(workspace.place(1, '../out', 0o644)).rejects.toThrow('must not lead out');
	symlinkSync(folder(), join(workspace.folder, 'link'));
	await expect(workspace.place(1, 'link/out', 0o644)).rejects.toThrow('leads out of the workspace');
});

test('a workspace goes with its attempt, whatever was made read-only in it; others stay', async () => {
	const workspaces = new Workspaces(join(folder(), 'work'), 0);
	const [gone, stays] = [workspaces.of('job', 1), workspaces.of('job', 2)];
	for (const one of [gone, stays]) {
		await one.make();
		mkdirSync(join(one.folder, 'ro'));
		writeFileSync(join(one.folder, 'ro/x'), '');
		chmodSync(join(one.folder, 'ro'), 0o555);
	}
	await gone.remove();
	expect([existsSync(gone.folder), existsSync(stays.folder)]).toEqual([false, true]);
	await stays.remove();
});

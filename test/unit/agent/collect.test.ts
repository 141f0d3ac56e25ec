import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { collect, openInside } from '../../../agent/drivers/collect';
import { Workspaces } from '../../../agent/workspaces';
import { limits } from '../../../protocol';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
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

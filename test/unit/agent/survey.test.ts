import { chmodSync, existsSync, mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { signOf, survey } from '../../../agent/survey';
import { temporaryFolder } from './temporary-folder';

const freshFolder = temporaryFolder();
const nothing = () => Promise.reject(new Error('not asked'));
const si = { osInfo: nothing, cpu: nothing, fsSize: nothing };
const real = Object.getOwnPropertyDescriptor(process, 'platform')!;

afterEach(() => void Object.defineProperty(process, 'platform', real));

test.each([
	['win32', 'chromium.exe', false],
	['linux', 'chromium', true],
])(
	'on %s the version of a browser is found, and no window opened',
	async (platform, name, called) => {
		const folder = freshFolder();
		const program = join(folder, name);
		writeFileSync(program, `#!/bin/sh\n: > "${folder}/called"\necho Chromium 131.0.6778.86\n`);
		chmodSync(program, 0o755);
		for (const version of ['131.0.6778.86', '99.0.4844.51']) mkdirSync(join(folder, version));
		Object.defineProperty(process, 'platform', { value: platform });
		const env = { PATH: folder, PATHEXT: '.EXE' };
		const { browsers } = await survey(env, si, new AbortController().signal);
		expect(browsers.chromium).toBe('131.0.6778.86');
		expect(existsSync(join(folder, 'called'))).toBe(called);
	},
);

test('the sign is another one when a program came, went or was replaced, and none is called for it', async () => {
	const folder = freshFolder();
	const program = join(folder, 'git');
	const seen = [await signOf({ PATH: folder })];
	const changed = async (env = { PATH: folder }) => {
		const sign = await signOf(env);
		const isNew = !seen.includes(sign);
		seen.push(sign);
		return isNew;
	};
	expect(await changed()).toBe(false);
	writeFileSync(program, `#!/bin/sh\n: > "${folder}/called"\n`);
	chmodSync(program, 0o755);
	expect(await changed()).toBe(true);
	expect(await changed()).toBe(false);
	utimesSync(program, 1, 1);
	expect(await changed()).toBe(true);
	writeFileSync(join(folder, 'unknown'), '');
	expect(await changed()).toBe(false);
	expect(await changed({ PATH: `/nowhere:${folder}` })).toBe(true);
	rmSync(program);
	expect(await signOf({ PATH: folder })).toBe(seen[0]);
	expect(existsSync(join(folder, 'called'))).toBe(false);
});

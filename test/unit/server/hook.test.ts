/** `robot-fleet hook`, and its file as n8n meets it: required, called, and never a reason not to start. */
import { execFileSync } from 'node:child_process';
import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';

const folders: string[] = [];
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

/** A user folder of n8n, and the command line beside it. */
function setup(name = 'robot-fleet-') {
	const user = mkdtempSync(join(tmpdir(), name));
	folders.push(user);
	const folder = join(user, '.n8n');
	mkdirSync(folder);
	const said = { out: '', err: '' };
	const world = {
		version: '1.2.3',
		env: { N8N_USER_FOLDER: user },
		out: (text: string) => void (said.out += text),
		err: (text: string) => void (said.err += text),
	} as unknown as ProgramWorld;
	return {
		user,
		folder,
		said,
		file: join(folder, 'robot-fleet-hook.js'),
		hook: (...args: string[]) => runProgram(['hook', ...args], world),
	};
}

/** A package in its place, with a hook of this text. */
function install(folder: string, hook: string) {
	const file = join(folder, 'nodes/node_modules/n8n-nodes-robot-fleet/dist/nodes/shared/hook.js');
	mkdirSync(dirname(file), { recursive: true });
	writeFileSync(join(folder, 'nodes/node_modules/n8n-nodes-robot-fleet/package.json'), '{}');
	writeFileSync(file, hook);
}

/** As n8n's external-hooks.ts does: required, then each function awaited; what is thrown ends the process. */
function asN8n(file: string) {
	const program = `
		const hooks = require(process.argv[1]);
		(async () => {
			for (const name of ['ready', 'stop'])
				for (const hook of hooks.n8n?.[name] ?? []) await hook.apply({}, [{ server: 'n8n' }, {}]);
			console.log('n8n goes on');
		})();`;
	const output = execFileSync('sh', [
		'-c',
		'"$0" -e "$1" "$2" 2>&1',
		process.execPath,
		program,
		file,
	]);
	return String(output);
}

test('install puts the file there and prints what to set; status knows', async () => {
	const { hook, said, file, folder } = setup();
	expect(await hook('install')).toBe(0);
	expect(said.out).toContain(`\nEXTERNAL_HOOK_FILES=${file}\n`);
	expect(said.out).toContain('ROBOT_FLEET_PUBLIC_URL=https://');
	expect(said.out).not.toContain('EXTERNAL_HOOK_FILES_SEPARATOR');
	expect(said.err).toContain('is not installed');
	said.out = '';
	await hook('install');
	await hook('status', '--json', '--n8n-folder', folder);
	expect(said.out.slice(said.out.indexOf('{\n'))).toContain('"hook": "installed"');
	expect(readdirSync(folder)).toEqual(['robot-fleet-hook.js']);
});

test('where the path has a ":", the line for n8n’s separator is printed, too', async () => {
	const { hook, said, file } = setup('robot:fleet-');
	await hook('install');
	expect(said.out).toContain('EXTERNAL_HOOK_FILES_SEPARATOR=;');
	expect(asN8n(file)).toContain('n8n goes on');
});

test('uninstall leaves a file that does nothing, because n8n may still name it; --delete removes it', async () => {
	const { hook, file, folder } = setup();
	install(folder, `exports.ready = () => console.log('never'); exports.stop = exports.ready;`);
	await hook('install');
	expect(await hook('uninstall')).toBe(0);
	expect(asN8n(file)).toBe('n8n goes on\n');
	expect(await hook('uninstall', '--delete')).toBe(0);
	expect(existsSync(file)).toBe(false);
	expect(await hook('uninstall')).toBe(0);
	expect(existsSync(file)).toBe(false);
});

test('somebody else’s file is left alone, and a folder that is none of n8n’s is said', async () => {
	const { hook, file, said, user } = setup();
	writeFileSync(file, 'module.exports = {};');
	expect(await hook('install')).toBe(2);
	expect(await hook('uninstall', '--delete')).toBe(2);
	expect(readFileSync(file, 'utf8')).toBe('module.exports = {};');
	expect(await hook('install', '--n8n-folder', join(user, 'elsewhere'))).toBe(2);
	expect(said.err).toContain('name its user folder with --n8n-folder DIR');
});

describe('n8n goes on', () => {
	async function installed() {
		const { hook, file, folder } = setup();
		await hook('install');
		return { file, folder };
	}

	test('with the package: it is handed n8n’s server, then told to stop', async () => {
		const { file, folder } = await installed();
		install(
			folder,
			`exports.ready = async ({ server }) => console.log('ready', server);
			exports.stop = async () => console.log('stop');`,
		);
		expect(asN8n(file)).toBe('ready n8n\nstop\nn8n goes on\n');
	});

	test('when the package is gone', async () => {
		const { file } = await installed();
		expect(asN8n(file)).toMatch(/n8n-nodes-robot-fleet is not installed[^]*n8n goes on\n$/);
	});

	test.each([
		['throws when it is loaded', `throw new Error('broken')`],
		['is no JavaScript', `exports.ready = (`],
		[
			'throws when it is called',
			`exports.ready = exports.stop = () => { throw new Error('broken'); }`,
		],
		['rejects', `exports.ready = exports.stop = () => Promise.reject(new Error('broken'))`],
		['throws what is no error', `exports.ready = exports.stop = () => { throw undefined; }`],
		['is another one', `exports.something = 1`],
	])('when the package %s', async (_what, text) => {
		const { file, folder } = await installed();
		install(folder, text);
		expect(asN8n(file)).toMatch(/the hook does nothing[^]*n8n goes on\n$/);
	});
});

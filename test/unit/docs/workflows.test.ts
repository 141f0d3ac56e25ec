/** What runs far away when somebody pushes or releases: it calls only what is here, and pins what is not. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '../../..');
const folder = join(root, '.github/workflows');
const files = readdirSync(folder);
const text = (file: string) => readFileSync(join(folder, file), 'utf8');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
	scripts: Record<string, string>;
};
const commandsOf = (file: string) =>
	[...text(file).matchAll(/^\s*(?:- )?run: (.+)$/gm)].map(([, command]) => command!.trim());

test('there are those that test and publish', () =>
	expect(files.sort()).toEqual(['ci.yml', 'publish.yml']));

describe.each(files)('%s', (file) => {
	test('runs only commands that package.json and npm have', () => {
		const strange = commandsOf(file).filter((command) => {
			const [, script] = /^npm (?:run )?(\S+)/.exec(command) ?? [];
			if (script === 'ci') return false;
			return script === undefined || scripts[script] === undefined;
		});
		expect(strange).toEqual([]);
	});

	test('the scripts behind them are here', () => {
		const missing = Object.values(scripts)
			.flatMap((command) => [...command.matchAll(/\bscripts\/\S+\.mjs/g)].map(([name]) => name))
			.filter((name) => !existsSync(join(root, name)));
		expect(missing).toEqual([]);
	});

	test('every action is pinned to a commit, and its version stands beside it', () => {
		const uses = [...text(file).matchAll(/uses: (.+)$/gm)].map(([, action]) => action!);
		expect(uses.length).toBeGreaterThan(0);
		const loose = uses.filter(
			(action) => !/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(action),
		);
		expect(loose).toEqual([]);
	});

	test('may write nothing, and keeps no credentials of the clone', () => {
		expect(text(file)).toMatch(/^permissions:\n {2}contents: read$/m);
		expect(text(file)).not.toMatch(/contents: write|secrets\./);
		expect(text(file)).toContain('persist-credentials: false');
	});
});

test('nothing is published that was not checked, tested, built and scanned before, in this order', () => {
	const commands = commandsOf('publish.yml');
	expect(commands).toEqual([
		'npm ci',
		'npm run release:check -- "$GITHUB_REF_NAME"',
		'npm run check',
		'npm test',
		'npm run build',
		'npm run scan',
		'npm run release:publish -- "$GITHUB_REF_NAME"',
	]);
	const publish = readFileSync(join(root, 'scripts/release-publish.mjs'), 'utf8');
	for (const folder of ['agent', 'dispatcher', '.']) {
		expect(publish).toContain(`'${folder}'`);
		expect(existsSync(join(root, folder, 'package.json'))).toBe(true);
	}
	expect(publish).toContain("'--provenance'");
	expect(text('publish.yml')).toContain('id-token: write');
});

describe('a release', () => {
	const check = (tag: string) => {
		try {
			execFileSync(process.execPath, [join(root, 'scripts/release-check.mjs'), tag], {
				stdio: 'pipe',
			});
			return '';
		} catch (error) {
			return String((error as { stderr: Buffer }).stderr);
		}
	};

	test('is refused under a version that the packages do not have', () => {
		const said = check('v99.0.0');
		for (const name of ['n8n-nodes-robot-fleet', 'robot-fleet', 'robot-fleet-agent']) {
			expect(said).toContain(`${name} has the version`);
		}
		expect(said).toContain('CHANGELOG.md says nothing under "## 99.0.0"');
	});

	test('is refused while lines wait under Unreleased, and for what is no tag', () => {
		const changelog = readFileSync(join(root, 'CHANGELOG.md'), 'utf8');
		const waits = /^## Unreleased\n+(?!## )\S/m.test(changelog);
		expect(check('v0.1.0').includes('lines under "## Unreleased"')).toBe(waits);
		expect(check('main')).toContain('is not a tag');
	});
});

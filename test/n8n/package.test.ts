/** What people install: the packed package, put in place as n8n does it, with no registry to be asked. */
import { execFile, execFileSync } from 'node:child_process';
import {
	existsSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { sqliteIsSafe } from '../../dispatcher/store/sqlite';
import { cacheFolder } from '../../scripts/n8n/cache.mjs';
import { installCommunityPackage } from '../../scripts/n8n/communityPackage.mjs';

jest.setTimeout(180_000);

const root = join(__dirname, '../..');
const run = promisify(execFile);
const mib = 2 ** 20;

interface Manifest {
	name: string;
	version: string;
	dependencies?: object;
	scripts?: object;
	n8n: { nodes: string[]; credentials: string[] };
}
const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;

let folder: string;
let tarball: { filename: string; size: number; unpackedSize: number; files: { path: string }[] };
/** The package, installed. */
let dir: string;
let modules: string;

beforeAll(async () => {
	if (!existsSync(join(root, 'dist/embedded/service.js'))) {
		throw new Error('There is no dist/: run "npm run build" first');
	}
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-package-'));
	const pack = ['pack', '--json', '--ignore-scripts', '--silent', '--pack-destination', folder];
	[tarball] = JSON.parse(String(execFileSync('npm', pack, { cwd: root }))) as [typeof tarball];
	// Nobody answers there: whoever asks a registry fails.
	process.env.npm_config_registry = 'http://127.0.0.1:9/';
	process.env.npm_config_fetch_retries = '0';
	const installed = await installCommunityPackage({
		tarball: join(folder, tarball.filename),
		userFolder: folder,
		node: process.execPath,
	});
	dir = installed.dir;
	const prepare = join(root, 'scripts/n8n/prepare.mjs');
	const said = String(execFileSync(process.execPath, [prepare]))
		.trim()
		.split('\n')
		.at(-1)!;
	modules = join(said, 'node_modules');
}, 300_000);
afterAll(() => {
	delete process.env.npm_config_registry;
	delete process.env.npm_config_fetch_retries;
	rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

/**
 * Those of this machine on which the package must run: ours, those on the PATH, those that came with a
 * prepared n8n, and any in ROBOT_FLEET_NODES, which is written like PATH.
 */
const nodes = (process.env.ROBOT_FLEET_NODES ?? '')
	.split(delimiter)
	.concat(
		process.execPath,
		(process.env.PATH ?? '').split(delimiter).map((place) => join(place, 'node')),
		broughtAlong(),
	)
	.filter((program) => program !== '' && existsSync(program))
	.map((program) => {
		const asked = ['-p', 'process.versions.node + " " + process.versions.sqlite'];
		const [version, sqlite] = String(execFileSync(program, asked)).trim().split(' ');
		return { program, version: version!, sqlite: sqlite! };
	})
	.filter(({ version }) => {
		const [major, minor] = version.split('.').map(Number) as [number, number];
		return major > 22 || (major === 22 && minor >= 16);
	})
	.filter(({ version }, at, all) => all.findIndex((each) => each.version === version) === at);

function broughtAlong(): string[] {
	const cache = cacheFolder();
	if (!existsSync(cache)) return [];
	return readdirSync(cache)
		.map((runtime) => join(cache, runtime, '.node/node_modules'))
		.filter((place) => existsSync(place))
		.flatMap((place) => readdirSync(place).map((name) => join(place, name, 'bin/node')));
}

const filesOf = (place: string) =>
	readdirSync(place, { recursive: true, encoding: 'utf8' }).filter((name) =>
		statSync(join(place, name)).isFile(),
	);

test('it is small, has no dependencies and no scripts, and nothing but dist and its papers', () => {
	const { size, unpackedSize, files } = tarball;
	console.log(
		`tarball ${(size / mib).toFixed(2)} MiB, unpacked ${(unpackedSize / mib).toFixed(2)} MiB, ${files.length} files`,
	);
	expect(size).toBeLessThan(5 * mib);
	expect(unpackedSize).toBeLessThan(15 * mib);
	const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as Manifest;
	expect(manifest.dependencies ?? {}).toEqual({});
	expect(
		Object.keys(manifest.scripts ?? {}).filter((name) => /install|prepare/.test(name)),
	).toEqual([]);
	const papers = /^(dist\/|package\.json$|README\.md$|LICENSE$)/;
	expect(files.map(({ path }) => path).filter((path) => !papers.test(path))).toEqual([]);
	// They would make n8n load our files only when somebody needs them: robots would not come back.
	expect(files.filter(({ path }) => /^dist\/(known|types)\//.test(path))).toEqual([]);
});

test('n8n installs it without asking a registry, and adds nothing', () => {
	expect(existsSync(join(dir, 'node_modules'))).toBe(false);
	const packed = tarball.files.map(({ path }) => path).sort();
	expect(
		filesOf(dir)
			.map((name) => relative(dir, join(dir, name)))
			.sort(),
	).toEqual(packed);
});

test.each(nodes)(
	'all nodes and credentials load in a fresh process on Node $version',
	async ({ program, version }) => {
		const { stdout } = await run(program, [join(__dirname, 'load-package.cjs'), dir, modules], {
			cwd: folder,
			env: { PATH: process.env.PATH, N8N_USER_FOLDER: folder, N8N_LOG_LEVEL: 'silent' },
		});
		const loaded = JSON.parse(stdout) as {
			node: string;
			nodes: Array<{
				name: string;
				version: number[];
				alias: string[];
				iconUrl?: object;
				needs: string[];
			}>;
			credentials: Array<{ name: string; supportedNodes?: string[] }>;
		};
		expect(loaded.node).toBe(version);
		expect(loaded.nodes).toHaveLength(own.n8n.nodes.length);
		for (const { alias, needs } of loaded.nodes) {
			expect(alias).toContain('robot fleet');
			expect(needs).toEqual(['robotFleetApi']);
		}
		const [credential] = loaded.credentials;
		expect(credential!.name).toBe('robotFleetApi');
		// What n8n's own loader adds.
		if (Number.parseInt(version, 10) < 24) return;
		expect(loaded.nodes.filter(({ iconUrl }) => iconUrl === undefined)).toEqual([]);
		expect(credential!.supportedNodes!.sort()).toEqual(loaded.nodes.map(({ name }) => name).sort());
	},
);

test.each(nodes)(
	'the service in it starts and lets go on Node $version, or says that its SQLite $sqlite is not safe',
	async ({ program, version, sqlite }) => {
		const data = join(folder, `data-${version}`);
		const starts = `
		const { startHost } = require(${JSON.stringify(join(dir, 'dist/embedded/service.js'))});
		const options = { dataFolder: ${JSON.stringify(data)}, host: '127.0.0.1', port: 0, callbackUrl: 'http://127.0.0.1:5678', log() {} };
		startHost(options).then(async (host) => {
			const answer = await fetch(host.url + '/readyz');
			await host.close();
			console.log(JSON.stringify({ status: answer.status, version: host.version }));
		}).catch((problem) => console.log(JSON.stringify({ refused: problem.message })));`;
		const { stdout } = await run(program, ['-e', starts], {
			cwd: folder,
			env: { PATH: process.env.PATH },
		});
		expect(JSON.parse(stdout)).toEqual(
			sqliteIsSafe(sqlite)
				? { status: 200, version: own.version }
				: { refused: expect.stringContaining('use the newest Node 24, or Node 22.22.3 or newer') },
		);
	},
);

describe('the rules of n8n’s package scanner', () => {
	const scan = async (place: string) => {
		// The rules of n8n are others in a test.
		const { NODE_ENV: _, ...env } = process.env;
		try {
			const script = join(root, 'scripts/scan.mjs');
			const { stdout } = await run(process.execPath, [script, place], { env });
			return { code: 0, said: stdout };
		} catch (error) {
			const { code, stderr } = error as { code: number; stderr: string };
			return { code, said: stderr };
		}
	};

	/** As it was packed: n8n takes the peer dependencies out of what it installs. */
	let unpacked: string;
	beforeAll(() => {
		execFileSync('tar', ['-xzf', join(folder, tarball.filename), '-C', folder]);
		unpacked = join(folder, 'package');
	});

	test('find nothing outside of the embedded service and the files that load it', async () => {
		const { code, said } = await scan(unpacked);
		expect([code, said]).toEqual([0, expect.stringContaining('Nothing outside')]);
	});

	test('would find what does not belong there, and no comment hides it', async () => {
		const bad = join(unpacked, 'dist/nodes/shared/bad.js');
		writeFileSync(bad, '/* eslint-disable */\nmodule.exports = process.env.HOME;\n');
		try {
			const { code, said } = await scan(unpacked);
			expect(code).toBe(1);
			expect(said).toMatch(/dist\/nodes\/shared\/bad\.js:2 .*no-restricted-globals/);
		} finally {
			rmSync(bad);
		}
	});
});

/** Our files as n8n meets them: compiled, required from a folder outside the clone, by file name. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';

const root = join(__dirname, '../../..');
const nodes = [
	'SubmitJob',
	'DispatchToRobot',
	'WaitForExecution',
	'ScheduleTrigger',
	'RobotFleet',
	'RobotFleetTrigger',
];
const files = [
	...nodes.map((name) => `nodes/${name}/${name}.node.js`),
	'credentials/RobotFleetApi.credentials.js',
];
let dist: string;

beforeAll(() => {
	dist = mkdtempSync(join(tmpdir(), 'robot-fleet-dist-'));
	const tsc = join(root, 'node_modules/typescript/bin/tsc');
	execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.nodes.json'), '--outDir', dist]);
}, 60_000);

afterAll(() => rmSync(dist, { recursive: true, force: true }));

/** As n8n does it: the class is named after the file, and `n8n-workflow` comes from its own folder. */
function load(file: string): { type: Record<string, unknown>; alive: string[] } {
	const className = basename(file).split('.')[0];
	const program = `
		const { Script, createContext } = require('node:vm');
		const script = new Script("new (require('${join(dist, file)}').${className})()");
		const type = script.runInContext(createContext({ require }));
		const alive = process.getActiveResourcesInfo().filter((what) => !/TTY|Pipe|File/.test(what));
		console.log(JSON.stringify({ type, alive }));`;
	const env = { ...process.env, NODE_PATH: join(root, 'node_modules'), N8N_USER_FOLDER: dist };
	const output = execFileSync(process.execPath, ['-e', program], { env, cwd: dist });
	return JSON.parse(String(output)) as ReturnType<typeof load>;
}

test.each(files)('%s loads as n8n loads it, and leaves nothing running', (file) => {
	const { type, alive } = load(file);
	expect(type).toHaveProperty(file.startsWith('nodes') ? 'description' : 'properties');
	expect(alive).toEqual([]);
});

test.each(nodes)('%s has its codex, and icons for light and dark', (name) => {
	const folder = join(root, 'nodes', name);
	const { type } = load(`nodes/${name}/${name}.node.js`);
	const { icon, name: typeName } = type.description as {
		icon: { light: string; dark: string };
		name: string;
	};
	for (const file of Object.values(icon)) {
		expect(existsSync(join(folder, file.replace('file:', '')))).toBe(true);
	}
	const codex = JSON.parse(readFileSync(join(folder, `${name}.node.json`), 'utf8')) as {
		node: string;
		alias: string[];
		resources: object;
	};
	expect(codex.node).toBe(`n8n-nodes-robot-fleet.${typeName}`);
	expect(codex.alias).toEqual(
		expect.arrayContaining(['robot fleet', 'fleet', 'agent', 'ssh', 'remote command']),
	);
	expect(codex.resources).toBeDefined();
});

test('nodes require n8n-workflow and their own files, and only embedded*.js more', () => {
	const strangers = filesUnder(dist)
		.filter((file) => file.endsWith('.js'))
		.flatMap((file) =>
			[...readFileSync(file, 'utf8').matchAll(/require\(["']([^"']+)["']\)/g)].map(
				([, wanted]) => [relative(dist, file), wanted!, dirname(file)] as const,
			),
		)
		.filter(([, wanted, folder]) =>
			wanted.startsWith('.')
				? !existsSync(`${join(folder, wanted)}.js`) && !existsSync(join(folder, wanted, 'index.js'))
				: wanted !== 'n8n-workflow',
		)
		.filter(([file]) => !/^nodes\/shared\/embedded(-\w+)?\.js$/.test(file!));
	expect(strangers).toEqual([]);
});

function filesUnder(folder: string): string[] {
	return readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) =>
		join(folder, name),
	);
}

/**
 * A jest environment in which the engine of the prepared n8n is at hand. It is loaded here, outside
 * jest's own module system, with the `require` that n8n itself uses: the loader of n8n clears and fills
 * the real module cache, and our nodes find `n8n-workflow` the way they do in n8n. A test gets it as
 * `n8nRuntime`; its type is in n8n-engine.ts.
 */
const { execFileSync } = require('node:child_process');
const { mkdtempSync, rmSync } = require('node:fs');
const { createRequire, Module } = require('node:module');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { TestEnvironment } = require('jest-environment-node');

const root = join(__dirname, '../..');

class N8nEnvironment extends TestEnvironment {
	async setup() {
		await super.setup();
		const prepare = join(root, 'scripts/n8n/prepare.mjs');
		const stdio = ['ignore', 'pipe', 'inherit'];
		const said = String(execFileSync(process.execPath, [prepare], { stdio })).trim();
		const modules = join(said.split('\n').at(-1), 'node_modules');
		this.folder = mkdtempSync(join(tmpdir(), 'robot-fleet-engine-'));
		this.before = { env: { ...process.env }, argv: [...process.argv] };
		// The process of these tests takes the place of n8n's main process.
		process.argv.splice(1, process.argv.length, 'n8n', 'start');
		setEnv({
			// As n8n does it, so that community packages find what n8n has.
			NODE_PATH: modules,
			N8N_USER_FOLDER: this.folder,
			N8N_ENCRYPTION_KEY: 'a key for tests',
			N8N_LOG_LEVEL: 'silent',
			N8N_DIAGNOSTICS_ENABLED: 'false',
			GENERIC_TIMEZONE: 'UTC',
			NODE_ENV: 'production',
		});
		const load = createRequire(join(modules, 'n8n/package.json'));
		load('reflect-metadata');
		const { parse, stringify } = load('flatted');
		this.global.n8nRuntime = {
			modules,
			folder: this.folder,
			core: load('n8n-core'),
			workflow: load('n8n-workflow'),
			parse,
			stringify,
			/** Objects of a test are made in another realm: n8n gets them as if it had read them. */
			own: (value) => JSON.parse(JSON.stringify(value)),
			/** Of the process; `undefined` takes a name out. */
			setEnv,
			global: globalThis,
		};
	}

	async teardown() {
		await globalThis[Symbol.for('robot-fleet.host.v1')]?.close();
		delete globalThis[Symbol.for('robot-fleet.host.v1')];
		const { env, argv } = this.before;
		const gone = Object.keys(process.env).filter((name) => !(name in env));
		setEnv({ ...Object.fromEntries(gone.map((name) => [name, undefined])), ...env });
		process.argv.splice(0, process.argv.length, ...argv);
		if (this.folder) rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
		await super.teardown();
	}
}

function setEnv(env) {
	for (const [name, value] of Object.entries(env)) {
		if (value === undefined) delete process.env[name];
		else process.env[name] = value;
	}
	Module._initPaths();
}

module.exports = N8nEnvironment;

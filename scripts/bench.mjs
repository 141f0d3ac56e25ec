/** `npm run bench [-- --help]`: builds, then measures; see test/bench/main.ts. */
import { spawn, spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as esbuild from 'esbuild';
import { root } from './steps.mjs';

const out = join(root, 'test/bench/dist');
const bench = join(root, 'test/bench');
await rm(out, { recursive: true, force: true });
await esbuild.build({
	entryPoints: [join(bench, 'main.ts'), join(bench, 'hosts/*.ts')],
	outbase: bench,
	outdir: out,
	outExtension: { '.js': '.mjs' },
	bundle: true,
	platform: 'node',
	format: 'esm',
	logLevel: 'warning',
	// The peers run as their users install them.
	external: ['bullmq', 'pg', 'pg-boss', 'graphile-worker', 'bufferutil', 'utf-8-validate'],
	banner: {
		// A name of its own: what is bundled imports the same thing under its usual name.
		js: "import{createRequire as requireOfBundle}from'node:module';const require=requireOfBundle(import.meta.url);",
	},
});
// All of it: what n8n loads of us (w10) is more than the programs.
const built = spawnSync('gulp', ['build'], {
	cwd: root,
	stdio: ['ignore', 'ignore', 'inherit'],
});
if (built.status !== 0) process.exit(1);

// A fleet of 10,000 needs as many open files, on each side.
const enoughFiles = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"';
const child = spawn(
	'bash',
	['-c', enoughFiles, 'bench', process.execPath, join(out, 'main.mjs'), ...process.argv.slice(2)],
	{
		// Out of the terminal's reach, so that Ctrl+C reaches it once, and its servers only through it.
		detached: true,
		stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
		env: { ...process.env, BENCH_ROOT: root },
	},
);
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
	process.on(signal, () => child.kill(signal));
}
child.on('exit', (code) => process.exit(code ?? 1));

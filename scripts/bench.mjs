/** `npm run bench [-- --install-peers]`: builds, then measures; see test/bench/main.ts. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as esbuild from 'esbuild';
import { root } from './steps.mjs';

const out = join(root, 'test/bench/dist');
await esbuild.build({
	entryPoints: ['main', 'robots', 'bullmq-worker'].map((name) =>
		join(root, `test/bench/${name}.ts`),
	),
	outdir: out,
	outExtension: { '.js': '.mjs' },
	bundle: true,
	platform: 'node',
	format: 'esm',
	logLevel: 'warning',
	external: ['bullmq', 'bufferutil', 'utf-8-validate'],
	banner: {
		js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);",
	},
});
const built = spawnSync('gulp', ['programs'], {
	cwd: root,
	stdio: ['ignore', 'ignore', 'inherit'],
});
if (built.status !== 0) process.exit(1);
const { status } = spawnSync(process.execPath, [join(out, 'main.mjs'), ...process.argv.slice(2)], {
	stdio: 'inherit',
	env: { ...process.env, BENCH_ROOT: root },
});
process.exitCode = status ?? 1;

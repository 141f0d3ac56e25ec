/** `npm run simulate -- [--seeds N] [--from N] [--workers 2] | --seed N [--trace]`: see docs/testing.md. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import * as esbuild from 'esbuild';
import { root } from './steps.mjs';

const outfile = join(root, 'test/sim/dist/simulate.cjs');
await esbuild.build({
	entryPoints: [join(root, 'test/sim/main.ts')],
	outfile,
	bundle: true,
	platform: 'node',
	format: 'cjs',
	sourcemap: 'inline',
	logLevel: 'warning',
	external: ['bufferutil', 'utf-8-validate'],
});
const run = spawn(process.execPath, ['--enable-source-maps', outfile, ...process.argv.slice(2)], {
	stdio: 'inherit',
});
// Whoever stops us means the run.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => run.kill('SIGTERM'));
run.on('close', (code) => (process.exitCode = code ?? 1));

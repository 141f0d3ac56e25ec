/**
 * Builds all three packages.
 *
 *   dist/                 n8n-nodes-robot-fleet: nodes and credentials by tsc, icons and codex copied
 *   dist/embedded/        the whole service as one file, for n8n to host
 *   dispatcher/dist/      robot-fleet
 *   agent/dist/           robot-fleet-agent, and the keeper of its jobs as a file of its own
 *
 * Each target is built beside and renamed into place, so that a program that runs from `dist` never
 * sees half of it.
 */
const { execFile } = require('node:child_process');
const { chmod, rm } = require('node:fs/promises');
const { dest, parallel, series, src } = require('gulp');
const esbuild = require('esbuild');

const bundle = (entry, outfile, extra = {}) =>
	esbuild.build({
		entryPoints: [entry],
		outfile,
		bundle: true,
		platform: 'node',
		target: 'node22',
		format: 'cjs',
		legalComments: 'none',
		logLevel: 'warning',
		// Optional speed-ups of `ws` that n8n could not install; it does without.
		external: ['bufferutil', 'utf-8-validate'],
		// Places at which tests kill the service: not in what people install (dispatcher/store/fail-points.ts).
		define: { FAIL_POINTS: 'false' },
		...extra,
	});

/** A program: its first line makes it runnable, and says nothing clever on an old Node. */
async function program(entry, outfile, extra = {}) {
	await bundle(entry, outfile, { banner: { js: '#!/usr/bin/env node' }, ...extra });
	await chmod(outfile, 0o755);
}

const clean = () => rm('dist', { recursive: true, force: true });

const nodes = () =>
	new Promise((resolve, reject) => {
		execFile(
			process.execPath,
			[require.resolve('typescript/bin/tsc'), '-p', 'tsconfig.nodes.json'],
			(error, stdout) => (error ? reject(new Error(stdout || error.message)) : resolve()),
		);
	});

const assets = () =>
	src(['nodes/**/*.{svg,png,json}', 'credentials/**/*.{svg,png}'], {
		base: '.',
		encoding: false,
	}).pipe(dest('dist'));

const embedded = () =>
	bundle('dispatcher/embed.ts', 'dist/embedded/service.js', { minify: true, keepNames: true });
const service = () => program('dispatcher/main.ts', 'dispatcher/dist/robot-fleet.js');
/** Its text stays in the memory of every idle agent: without what only people read, names excepted. */
const agent = () =>
	program('agent/main.ts', 'agent/dist/agent.js', { minifyWhitespace: true, minifySyntax: true });
/** Terminals are native code, which an installation may do without. */
const keeper = () =>
	bundle('agent/keeper/main.ts', 'agent/dist/keeper.js', { external: ['@lydell/node-pty'] });

/** All that runs without n8n: what the tests of whole programs need. */
exports.programs = parallel(service, agent, keeper, embedded);
exports.build = series(clean, parallel(nodes, assets, embedded, service, agent, keeper));
exports.default = exports.build;

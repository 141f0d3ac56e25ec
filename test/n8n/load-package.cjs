/**
 * Loads an installed package in a fresh process, as n8n does at its start, and prints what n8n then knows
 * of it. With n8n's own loader where this Node runs it; on an older Node the few lines that count of it.
 *
 *   node load-package.cjs PACKAGE MODULES    MODULES: where n8n and `n8n-workflow` are
 */
const { readFileSync } = require('node:fs');
const { createRequire, Module } = require('node:module');
const { basename, join } = require('node:path');
const { createContext, Script } = require('node:vm');

const [folder, modules] = process.argv.slice(2);
process.argv.splice(1, process.argv.length, 'n8n', 'start');
process.env.NODE_PATH = modules;
Module._initPaths();

/** The one that n8n 2.41 needs. */
const runsN8n = Number.parseInt(process.versions.node, 10) >= 24;

async function withLoaderOfN8n() {
	const load = createRequire(join(modules, 'n8n/package.json'));
	load('reflect-metadata');
	const { PackageDirectoryLoader } = load('n8n-core');
	const loader = new PackageDirectoryLoader(folder);
	await loader.loadAll();
	return {
		nodes: loader.types.nodes,
		credentials: loader.types.credentials.map(({ name, supportedNodes }) => ({
			name,
			supportedNodes,
		})),
	};
}

function byHand() {
	const { n8n } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
	const context = createContext({ require });
	const instance = (file) => {
		const path = join(folder, file).replaceAll('\\', '/');
		return new Script(`new (require('${path}').${basename(file).split('.')[0]})()`).runInContext(
			context,
		);
	};
	const nodes = n8n.nodes.map((file) => {
		const { description } = instance(file);
		const codex = JSON.parse(readFileSync(join(folder, `${file}on`), 'utf8'));
		return { ...description, codex };
	});
	return { nodes, credentials: n8n.credentials.map((file) => ({ name: instance(file).name })) };
}

(async () => {
	const { nodes, credentials } = runsN8n ? await withLoaderOfN8n() : byHand();
	const known = nodes.map(({ name, version, codex, iconUrl, credentials: needed }) => ({
		name,
		version: [version].flat(),
		alias: codex?.alias ?? [],
		iconUrl,
		needs: (needed ?? []).map(({ name: credential }) => credential),
	}));
	process.stdout.write(JSON.stringify({ node: process.versions.node, nodes: known, credentials }));
})();

/**
 * Whether this tree may be published as this version: the tag, all three packages and the changelog say the
 * same, and nothing waits under *Unreleased*. Reports everything that is in the way at once.
 *
 *   node scripts/release-check.mjs v1.2.3
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from './steps.mjs';

/**
 * @param {string | undefined} tag
 * @param {{ name: string, version: string }[]} packages
 * @param {string} changelog
 * @returns {string[]} what is in the way
 */
export function obstacles(tag, packages, changelog) {
	const [, version] = /^v(\d+\.\d+\.\d+(?:-[\w.]+)?)$/.exec(tag ?? '') ?? [];
	if (version === undefined) return [`"${tag ?? ''}" is not a tag like v1.2.3.`];
	const others = packages
		.filter((each) => each.version !== version)
		.map((each) => `${each.name} has the version ${each.version}, not ${version}.`);
	const sections = new Map(
		changelog
			.split(/^## /m)
			.slice(1)
			.map((text) => {
				const [title = '', ...lines] = text.split('\n');
				return [title.trim().split(/\s/)[0] ?? '', lines.join('\n').trim()];
			}),
	);
	const missing = sections.get(version)
		? []
		: [`CHANGELOG.md says nothing under "## ${version}": rename "## Unreleased".`];
	const waiting = sections.get('Unreleased')
		? ['CHANGELOG.md has lines under "## Unreleased" that no version has.']
		: [];
	return [...others, ...missing, ...waiting];
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
	const read = (/** @type {string} */ file) => readFileSync(join(root, file), 'utf8');
	const packages = ['package.json', 'dispatcher/package.json', 'agent/package.json'].map((file) =>
		JSON.parse(read(file)),
	);
	const found = obstacles(process.argv[2], packages, read('CHANGELOG.md'));
	for (const line of found) console.error(line);
	process.exitCode = found.length === 0 ? 0 : 1;
}

/**
 * Publishes the three packages with provenance. Those that the registry already has in this version are left out, so a
 * release that broke off half-way is finished by running this again. `v1.2.3-rc.1` goes out under the tag `next`.
 *
 *   node scripts/release-publish.mjs v1.2.3 [--dry-run]
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './steps.mjs';

/** The programs first: whoever reads of a new version of the nodes can get the others at once. */
const folders = ['agent', 'dispatcher', '.'];

const [tag = '', ...more] = process.argv.slice(2);
if (!/^v\d+\.\d+\.\d+/.test(tag)) {
	console.error(`"${tag}" is not a tag like v1.2.3.`);
	process.exit(2);
}
const dryRun = more.includes('--dry-run');
const distTag = tag.includes('-') ? 'next' : 'latest';

for (const folder of folders) {
	const cwd = join(root, folder);
	const { name, version } = JSON.parse(readFileSync(join(cwd, 'package.json'), 'utf8'));
	if (isThere(`${name}@${version}`)) {
		console.log(`${name} ${version} is published already`);
		continue;
	}
	const args = ['publish', '--provenance', '--access', 'public', '--ignore-scripts'];
	if (dryRun) console.log(`would publish ${name} ${version} as ${distTag}`);
	else execFileSync('npm', [...args, '--tag', distTag], { cwd, stdio: 'inherit' });
}

/** @param {string} it a package and its version */
function isThere(it) {
	try {
		const answer = execFileSync('npm', ['view', it, 'version'], {
			stdio: ['ignore', 'pipe', 'pipe'],
		});
		return String(answer).trim() !== '';
	} catch (error) {
		// That it has no such version is no fault; a registry that does not answer is one.
		if (/E404|404 Not Found/.test(String(/** @type {{ stderr?: unknown }} */ (error).stderr)))
			return false;
		throw error;
	}
}

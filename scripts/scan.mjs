/**
 * What n8n's package scanner would find: its rules on the sources of nodes and credentials and on every
 * file of the packed package, with no rule switched off in a file. The rules are those of
 * `@n8n/eslint-plugin-community-nodes`, which the scanner itself uses; it adds fetching from the registry.
 *
 * Only the service that n8n may host, and the two files that load parts of it, may touch the process and the
 * network: findings there are left out, and any elsewhere makes this exit with 1.
 *
 *   node scripts/scan.mjs [FOLDER]    FOLDER: the unpacked package; packs it itself if none is given
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { n8nCommunityNodesPlugin as community } from '@n8n/eslint-plugin-community-nodes';
import { ESLint } from 'eslint';
import base from 'eslint-plugin-n8n-nodes-base';
import ts from 'typescript-eslint';
import { root } from './steps.mjs';

/** Seen from the package, or from the clone. */
const hosting = [
	'dist/embedded/**',
	...['embedded', 'embedded-collect'].flatMap((name) => [
		`dist/nodes/shared/${name}.js`,
		`nodes/shared/${name}.ts`,
	]),
];

/** Off in the scanner too: they only know an older style, or another rule knows better. */
const off = [
	'cred-class-field-documentation-url-miscased',
	'cred-class-field-type-options-password-missing',
	'node-class-description-inputs-wrong-regular-node',
	'node-class-description-outputs-wrong',
	'node-param-type-options-max-value-present',
];

/** @param {'community' | 'credentials' | 'nodes'} set */
const rulesOf = (set) => ({
	...base.configs[set].rules,
	...Object.fromEntries(off.map((name) => [`n8n-nodes-base/${name}`, 'off'])),
});

const parsed = { parser: ts.parser };

/**
 * @param {string} folder
 * @param {string[]} patterns
 * @returns {Promise<string[]>} one line for each thing that would fail the scan
 */
async function scan(folder, patterns) {
	const eslint = new ESLint({
		cwd: folder,
		allowInlineConfig: false,
		overrideConfigFile: true,
		errorOnUnmatchedPattern: true,
		ignorePatterns: hosting,
		overrideConfig: /** @type {any} */ ([
			community.configs.recommended,
			{ rules: { 'no-console': 'error' } },
			{ plugins: { 'n8n-nodes-base': base } },
			{ files: ['package.json'], rules: rulesOf('community') },
			{ files: ['credentials/**/*.ts'], rules: rulesOf('credentials') },
			{ files: ['nodes/**/*.ts'], rules: rulesOf('nodes') },
			{ files: ['**/*.json', '**/*.ts'], languageOptions: parsed },
		]),
	});
	const results = await eslint.lintFiles(patterns);
	return results.flatMap(({ filePath, messages }) =>
		messages
			.filter(({ severity, fatal }) => severity === 2 || fatal)
			.map(({ line, ruleId, message }) => {
				const file = relative(folder, filePath).replaceAll('\\', '/');
				return `${file}:${line} ${ruleId ?? 'unreadable'}: ${message}`;
			}),
	);
}

/** @param {string} into @returns {string} the unpacked package */
function unpacked(into) {
	const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', into];
	const said = String(execFileSync('npm', pack, { cwd: root })).trim();
	const tarball = join(into, said.split('\n').at(-1) ?? '');
	execFileSync('tar', ['-xzf', tarball, '-C', into]);
	return join(into, 'package');
}

const own = mkdtempSync(join(tmpdir(), 'robot-fleet-scan-'));
try {
	const [given] = process.argv.slice(2);
	const found = [
		...(await scan(root, ['package.json', '{nodes,credentials}/**/*.{ts,json}'])),
		...(await scan(given ?? unpacked(own), ['package.json', '**/*.js'])),
	];
	for (const line of found) console.error(line);
	console.log(
		found.length === 0
			? `Nothing outside of ${hosting.join(', ')}`
			: `${found.length} findings: a scan of n8n would say the same`,
	);
	process.exitCode = found.length === 0 ? 0 : 1;
} finally {
	rmSync(own, { recursive: true, force: true });
}

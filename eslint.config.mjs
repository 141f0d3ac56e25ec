/**
 * What the compiler does not see. nodes/ and credentials/ obey n8n's rules for community packages,
 * the stricter set for n8n's cloud included; everywhere, time and chance come in from outside.
 */
import { n8nCommunityNodesPlugin as community } from '@n8n/eslint-plugin-community-nodes';
import base from 'eslint-plugin-n8n-nodes-base';
import ts from 'typescript-eslint';

const nodesAndCredentials = ['nodes/**/*.ts', 'credentials/**/*.ts'];

/** The files that are the clock, and the places that may look at one. */
const mayReadTheClock = [
	'dispatcher/engine/clock.ts',
	'agent/clock.ts',
	'nodes/shared/clock.ts',
	'test/**',
	'scripts/**',
	'*.{js,mjs,ts}',
];

const timers = ['setTimeout', 'setInterval', 'clearTimeout', 'clearInterval'].map((name) => ({
	name,
	message: 'Take a Clock through the constructor; in nodes use sleep of n8n-workflow.',
}));

const readsOfClockAndChance = [
	{
		selector: "MemberExpression[object.name='Date'][property.name='now']",
		message: 'Take a Clock through the constructor.',
	},
	{
		selector: "NewExpression[callee.name='Date'][arguments.length=0]",
		message: 'This reads the clock: take a Clock through the constructor.',
	},
	{
		selector: "CallExpression[callee.name='Date']",
		message: 'This reads the clock: take a Clock through the constructor.',
	},
	{
		selector: "MemberExpression[object.name='performance'][property.name='now']",
		message: 'Take a Clock through the constructor.',
	},
	{
		selector: "MemberExpression[object.name='Math'][property.name='random']",
		message: 'Take chance through the constructor.',
	},
];

export default ts.config(
	{
		ignores: [
			'**/dist/**',
			'**/node_modules/**',
			'coverage/**',
			'test/n8n/runtime/**',
			'.robot-fleet/**',
		],
	},
	{
		files: ['**/*.ts'],
		extends: [ts.configs.recommended],
		rules: {
			'no-console': 'error',
			'@typescript-eslint/consistent-type-imports': [
				'error',
				{ fixStyle: 'inline-type-imports', disallowTypeAnnotations: false },
			],
			'@typescript-eslint/no-unused-vars': [
				'error',
				{ argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true },
			],
			// A checked index is still `T | undefined` to the compiler.
			'@typescript-eslint/no-non-null-assertion': 'off',
		},
	},
	{
		files: ['**/*.{ts,mjs}'],
		ignores: mayReadTheClock,
		rules: {
			'no-restricted-globals': ['error', ...timers],
			'no-restricted-syntax': ['error', ...readsOfClockAndChance],
		},
	},
	{
		// The CLIs speak to people, and tests and scripts to whoever runs them.
		files: ['dispatcher/cli/**', 'dispatcher/main.ts', 'agent/main.ts', 'test/**', 'scripts/**'],
		rules: { 'no-console': 'off' },
	},
	{
		files: nodesAndCredentials,
		...community.configs.recommended,
		rules: {
			...community.configs.recommended.rules,
			'@n8n/community-nodes/icon-prefer-themed-variants': 'error',
		},
	},
	{
		files: ['credentials/**/*.ts'],
		plugins: { 'n8n-nodes-base': base },
		rules: {
			...base.configs.credentials.rules,
			// Off in n8n's own configuration too: the first wants camel case of a URL.
			'n8n-nodes-base/cred-class-field-documentation-url-miscased': 'off',
			'n8n-nodes-base/cred-class-field-type-options-password-missing': 'off',
		},
	},
	{
		files: ['nodes/**/*.ts'],
		plugins: { 'n8n-nodes-base': base },
		rules: {
			...base.configs.nodes.rules,
			// Off in n8n's own configuration too: they know only the older way to write them.
			'n8n-nodes-base/node-class-description-inputs-wrong-regular-node': 'off',
			'n8n-nodes-base/node-class-description-outputs-wrong': 'off',
			'n8n-nodes-base/node-param-type-options-max-value-present': 'off',
		},
	},
	{
		// The one door between nodes and the process they run in.
		files: ['nodes/shared/embedded.ts', 'nodes/shared/embedded-collect.ts'],
		rules: {
			'@n8n/community-nodes/no-restricted-globals': 'off',
			'@n8n/community-nodes/no-restricted-imports': 'off',
			// It knows no node to blame; connection.ts and the nodes translate.
			'@n8n/community-nodes/require-node-api-error': 'off',
			'@typescript-eslint/no-require-imports': 'off',
		},
	},
	{
		files: ['package.json'],
		...community.configs.recommended,
		plugins: { ...community.configs.recommended.plugins, 'n8n-nodes-base': base },
		languageOptions: { parser: ts.parser, parserOptions: { extraFileExtensions: ['.json'] } },
		rules: { ...community.configs.recommended.rules, ...base.configs.community.rules },
	},
);

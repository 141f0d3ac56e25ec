/**
 * One configuration for all layers; a layer is a folder under test/. `LAYER=unit npx jest` runs one.
 * Sources are TypeScript, compiled by swc; packages that are ESM only go through it too.
 */
const layer = process.env.LAYER;

/** @type {import('jest').Config} */
module.exports = {
	rootDir: __dirname,
	testMatch: [`<rootDir>/test/${layer ?? '*'}/**/*.test.ts`],
	testPathIgnorePatterns: ['/node_modules/', '/test/n8n/runtime/'],
	modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/test/n8n/runtime/'],
	transform: {
		'\\.(ts|js|mjs)$': [
			'@swc/jest',
			{
				jsc: { parser: { syntax: 'typescript' }, target: 'es2023' },
				module: { type: 'commonjs' },
				sourceMaps: 'inline',
			},
		],
	},
	transformIgnorePatterns: ['/node_modules/(?!(p-retry|is-network-error|typebox)/)'],
	moduleFileExtensions: ['ts', 'mjs', 'js', 'json', 'node'],
	extensionsToTreatAsEsm: [],
	// Two cores: more workers only make time-outs of real processes less true.
	maxWorkers: 2,
	testTimeout: 30_000,
};

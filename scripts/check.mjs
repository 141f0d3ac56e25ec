/** `npm run check`: the inner loop. Types, lint, borders, docs tables, pure tests. No network, under a minute. */
import { jestStep, runSteps } from './steps.mjs';

const quiet = true;
await runSteps(
	[
		{ name: 'types', command: ['tsc', '--noEmit', '-p', '.'], quiet },
		jestStep('unit', quiet),
		{
			name: 'lint',
			command: ['eslint', '--cache', '--cache-location', 'node_modules/.cache/eslint/', '.'],
			quiet,
		},
		jestStep('store', quiet),
		{
			name: 'format',
			command: ['prettier', '--check', '--log-level', 'warn', '--cache', '.'],
			quiet,
		},
		{
			name: 'borders',
			command: [
				'depcruise',
				'--config',
				'.dependency-cruiser.cjs',
				'protocol',
				'kinds',
				'client',
				'dispatcher',
				'agent',
				'nodes',
				'credentials',
			],
			quiet,
		},
		{ name: 'unused code', command: ['knip'], quiet },
		{ name: 'docs tables', command: ['node', 'scripts/docs.mjs'], quiet },
	],
	{ parallel: 2 },
);

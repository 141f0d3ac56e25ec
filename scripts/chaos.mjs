/** `npm run chaos`: the long kill test. CHAOS_JOBS, CHAOS_KILLS and SEED change it; a seed repeats a run. */
import { runSteps } from './steps.mjs';

await runSteps([
	{ name: 'build', command: ['gulp', 'programs'], quiet: true },
	{
		name: 'chaos',
		command: ['jest', 'kills', 'two-services'],
		env: {
			LAYER: 'fault',
			CHAOS_JOBS: process.env['CHAOS_JOBS'] ?? '1000',
			CHAOS_KILLS: process.env['CHAOS_KILLS'] ?? '250',
		},
	},
]);

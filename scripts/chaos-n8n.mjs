/**
 * `npm run chaos:n8n [-- --kills N] [--seed N]`: the real n8n, the service and robots under SIGKILL while
 * executions are parked (docs/testing.md). 300 kills take about 40 minutes on two cores.
 */
import { parseArgs } from 'node:util';
import { runSteps } from './steps.mjs';

const { values } = parseArgs({
	options: { kills: { type: 'string' }, seed: { type: 'string' } },
});
const kills = Number(values.kills ?? 300);
if (!Number.isInteger(kills) || kills < 6) {
	console.error('--kills must be a number, at least 6: each victim has to be hit.');
	process.exit(2);
}

/** @type {Record<string, string>} */
const env = { LAYER: 'chaos-n8n', CHAOS_N8N_KILLS: String(kills) };
if (values.seed !== undefined) env['SEED'] = values.seed;

await runSteps([
	{ name: 'build', command: ['gulp', 'build'], quiet: true },
	{ name: 'prepare n8n', command: ['node', 'scripts/n8n/prepare.mjs'] },
	{ name: 'chaos:n8n', command: ['jest'], env },
]);

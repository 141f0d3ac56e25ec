/**
 * `npm run chaos`: the long kill test. CHAOS_JOBS, CHAOS_KILLS and SEED change it; a seed repeats a run.
 * `npm run chaos -- --row 14 [--count N] [--seed N]`: the whole of one proof (docs/testing.md).
 */
import { parseArgs } from 'node:util';
import { runSteps } from './steps.mjs';

/** @type {Record<string, string>} */
const rows = {
	1: 'kills',
	2: 'fail-points',
	3: 'power-loss',
	4: 'disk',
	5: 'damage',
	6: 'agent-kills',
	7: 'agent-kills',
	8: '(hosts|running-through)',
	11: 'fencing',
	14: 'racing-submits',
	15: 'half-open',
	16: 'cut-lines',
	19: 'cut-lines',
	22: 'output',
	23: 'full-spool',
	24: 'input',
	25: 'poison',
	26: 'dead-letters',
	27: 'cancelled-trees',
	28: 'races',
	30: 'stop',
	35: 'migrate',
	37: 'schedules',
	38: 'schedules',
	39: 'identity',
	40: 'identity',
	42: 'identity',
};

const { values } = parseArgs({
	options: { row: { type: 'string' }, count: { type: 'string' }, seed: { type: 'string' } },
});
const proof = rows[values.row ?? ''];
if (values.row !== undefined && proof === undefined) {
	console.error(`No proof has the row ${values.row}; rows are ${Object.keys(rows).join(', ')}.`);
	process.exit(2);
}

/** @type {Record<string, string>} */
const env = { LAYER: 'fault' };
if (values.seed !== undefined) env['SEED'] = values.seed;
if (proof) {
	env['PROOF'] = 'whole';
	if (values.count !== undefined) env['PROOF_COUNT'] = values.count;
} else {
	env['CHAOS_JOBS'] = process.env['CHAOS_JOBS'] ?? '1000';
	env['CHAOS_KILLS'] = process.env['CHAOS_KILLS'] ?? '250';
}

/** These files hold several proofs; their tests begin with the number of the row. */
const severalRows = new Set(['identity', 'schedules', 'cut-lines', 'output']);
const only = severalRows.has(proof ?? '') ? ['-t', `row ${values.row}`] : [];

await runSteps([
	{ name: 'build', command: ['gulp', 'programs'], quiet: true },
	proof
		? { name: `row ${values.row}`, command: ['jest', `test/fault/${proof}.test.ts`, ...only], env }
		: { name: 'chaos', command: ['jest', 'kills', 'two-services'], env },
]);

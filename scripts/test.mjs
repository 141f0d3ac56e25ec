/**
 * `npm test`: everything a release must pass, the real n8n and a real browser included. Prints each
 * layer's minutes. `npm test -- unit fault` runs some layers.
 */
import { jestStep, root, runSteps, sayCounts } from './steps.mjs';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const layers = ['unit', 'store', 'sim', 'integration', 'fault', 'n8n', 'browser'];
const wanted = process.argv.slice(2);
const unknown = wanted.find((layer) => !layers.includes(layer));
if (unknown) {
	console.error(`No layer is called "${unknown}"; layers are ${layers.join(', ')}.`);
	process.exit(2);
}
const chosen = layers.filter(
	(layer) =>
		(wanted.length === 0 || wanted.includes(layer)) && existsSync(join(root, 'test', layer)),
);
const real = chosen.some((layer) => layer === 'n8n' || layer === 'browser');

await runSteps([
	...(wanted.length === 0 ? [{ name: 'check', command: ['node', 'scripts/check.mjs'] }] : []),
	{ name: 'build', command: ['gulp', 'build'] },
	...(real ? [{ name: 'prepare n8n', command: ['node', 'scripts/n8n/prepare.mjs'] }] : []),
	...chosen
		.filter((layer) => wanted.length > 0 || (layer !== 'unit' && layer !== 'store'))
		.map((layer) => jestStep(layer)),
]);
sayCounts(chosen);

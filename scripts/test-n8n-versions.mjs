/**
 * `npm run test:n8n-versions [-- VERSION …]`: the nodes in other versions of n8n, each installed once from its own
 * lock file in test/n8n/versions (2.5 GB and a few minutes the first time).
 */
import { otherVersions } from './n8n/prepare.mjs';
import { runSteps } from './steps.mjs';

const known = otherVersions();
const wanted = process.argv.slice(2);
const unknown = wanted.find((version) => !known.includes(version));
if (unknown !== undefined) {
	console.error(
		`No folder in test/n8n/versions is called "${unknown}"; there are ${known.join(', ')}.`,
	);
	process.exit(2);
}

await runSteps([
	{ name: 'build', command: ['gulp', 'build'], quiet: true },
	...known
		.filter((version) => wanted.length === 0 || wanted.includes(version))
		.flatMap((version) => [
			{ name: `prepare n8n ${version}`, command: ['node', 'scripts/n8n/prepare.mjs', version] },
			{
				name: `n8n ${version}`,
				command: ['jest'],
				env: { LAYER: 'n8n-versions', ROBOT_FLEET_N8N_VERSION: version },
			},
		]),
]);

/**
 * `npm run test:queue`: our nodes in n8n's queue mode, with the real PostgreSQL and Redis of this machine.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { runSteps } from './steps.mjs';

const debian = '/usr/lib/postgresql';
const missing = [
	...(spawnSync('redis-server', ['--version']).status === 0 ? [] : ['redis-server']),
	...(existsSync(debian) && readdirSync(debian).length > 0 ? [] : ['postgresql']),
];
if (missing.length > 0) {
	console.error(
		`n8n's queue mode needs ${missing.join(' and ')}: run "apt-get install ${missing.join(' ')}" ` +
			'(Debian, Ubuntu; nothing of it has to run) and this again.',
	);
	process.exit(2);
}

await runSteps([
	{ name: 'build', command: ['gulp', 'build'], quiet: true },
	{ name: 'prepare n8n', command: ['node', 'scripts/n8n/prepare.mjs'] },
	{ name: 'queue mode', command: ['jest'], env: { LAYER: 'queue' } },
]);

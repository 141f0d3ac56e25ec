/**
 * `npm run test:docker`: robots and a service in containers of the Docker of this machine.
 */
import { spawnSync } from 'node:child_process';
import { runSteps } from './steps.mjs';

const { status, error, stderr } = spawnSync('docker', ['version', '-f', '{{.Server.Os}}'], {
	encoding: 'utf8',
});
if (status !== 0) {
	console.error(
		error
			? 'This needs Docker: install it (Debian, Ubuntu: "apt-get install docker.io") and run this again.'
			: `Docker does not answer: ${stderr.trim()}. Start it, or say where it is with DOCKER_HOST, and run this again.`,
	);
	process.exit(2);
}

await runSteps([
	{ name: 'build', command: ['gulp', 'programs'], quiet: true },
	{ name: 'docker', command: ['jest'], env: { LAYER: 'docker' } },
]);

/** The floor of W8: a plain Node process that starts the command itself and tells nobody. */
import { spawn } from 'node:child_process';
import { inParallel } from '../contenders/contender';
import { serveHarness } from './harness';

function run(): Promise<void> {
	return new Promise((resolve, reject) => {
		const child = spawn('sh', ['-c', 'true'], { stdio: ['ignore', 'pipe', 'pipe'] });
		child.once('error', reject);
		// Its pipes are read to the end, as an agent must.
		child.stdout.resume();
		child.stderr.resume();
		child.once('close', () => resolve());
	});
}

serveHarness({
	/** Milliseconds for all of them, so many at a time. */
	async loop(count: number, atOnce: number): Promise<number> {
		const from = performance.now();
		await inParallel(count, run, atOnce);
		return performance.now() - from;
	},

	/** Milliseconds of each, one after the other. */
	async single(count: number): Promise<number[]> {
		const times: number[] = [];
		for (let i = 0; i < count; i += 1) {
			const from = performance.now();
			await run();
			times.push(performance.now() - from);
		}
		return times;
	},
});

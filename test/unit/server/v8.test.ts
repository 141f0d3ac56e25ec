import { Worker } from 'node:worker_threads';
import { join } from 'node:path';
import { build } from 'esbuild';

/** In a thread of its own: what is set is the thread's for ever. */
async function inAThread(code: string): Promise<unknown> {
	const { outputFiles } = await build({
		stdin: { contents: code, resolveDir: join(__dirname, '../../../dispatcher'), loader: 'ts' },
		bundle: true,
		platform: 'node',
		write: false,
	});
	const worker = new Worker(outputFiles[0]!.text, { eval: true });
	const said = await new Promise((resolve, reject) => {
		worker.once('message', resolve);
		worker.once('error', reject);
	});
	await worker.terminate();
	return said;
}

test('the young generation has four megabytes, and a burst that survives leaves it no larger', async () => {
	const bytes = await inAThread(`
		import { parentPort } from 'node:worker_threads';
		import { settleYoungGeneration, youngGenerationBytes } from './v8';
		settleYoungGeneration();
		const settled = youngGenerationBytes();
		const burst = Array.from({ length: 1_000_000 }, (_, i) => ({ i }));
		parentPort.postMessage([settled, youngGenerationBytes(), burst.length]);
	`);
	const mebi = 1024 * 1024;
	expect(bytes).toEqual([
		expect.closeTo(4 * mebi, -5.8),
		expect.closeTo(4 * mebi, -5.8),
		1_000_000,
	]);
});

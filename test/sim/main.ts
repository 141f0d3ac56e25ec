/**
 * The long run: many worlds on all cores, one line in the end, and the seed of each that broke a law.
 * `scripts/simulate.mjs` builds and starts it.
 */
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type Outcome, World } from './world';

/** Seeds that a thread takes at once. */
const batch = 200;
const shown = 20;

interface Tally {
	seeds: number;
	jobs: number;
	events: number;
	virtualMs: number;
	struck: Record<string, number>;
	failed: { seed: number; violations: Outcome['violations'] }[];
}

function newTally(): Tally {
	return { seeds: 0, jobs: 0, events: 0, virtualMs: 0, struck: {}, failed: [] };
}

async function runBatch(from: number, to: number): Promise<Tally> {
	const tally = newTally();
	for (let seed = from; seed < to; seed += 1) {
		let outcome: Outcome | undefined;
		try {
			outcome = await new World(seed).live();
		} catch (error) {
			const text = String((error as Error).stack);
			tally.failed.push({ seed, violations: [{ law: 'world', jobId: '-', text }] });
		}
		tally.seeds += 1;
		if (!outcome) continue;
		tally.jobs += outcome.jobs;
		tally.events += outcome.events;
		tally.virtualMs += outcome.tookMs;
		for (const [fault, times] of Object.entries(outcome.struck)) {
			tally.struck[fault] = (tally.struck[fault] ?? 0) + times;
		}
		const { violations } = outcome;
		if (violations.length > 0) tally.failed.push({ seed, violations });
	}
	return tally;
}

function add(sum: Tally, { struck, failed, ...counts }: Tally): void {
	for (const name of ['seeds', 'jobs', 'events', 'virtualMs'] as const) sum[name] += counts[name];
	for (const [fault, times] of Object.entries(struck)) {
		sum.struck[fault] = (sum.struck[fault] ?? 0) + times;
	}
	sum.failed.push(...failed);
}

/** Every thread takes the next batch when it is done with one. */
async function runAll(from: number, seeds: number, workers: number): Promise<Tally> {
	const sum = newTally();
	let next = from;
	const end = from + seeds;
	let saidAt = performance.now();
	const work = () =>
		new Promise<void>((resolve, reject) => {
			const worker = new Worker(__filename, { workerData: 'simulate' });
			const give = () => {
				if (next >= end) {
					void worker.terminate().then(() => resolve());
					return;
				}
				const to = Math.min(end, next + batch);
				worker.postMessage({ from: next, to });
				next = to;
			};
			worker.on('error', reject);
			worker.on('message', (tally: Tally) => {
				for (const { seed, violations } of tally.failed) {
					if (sum.failed.length > shown) break;
					console.log(`seed ${seed}: ${said(violations)}`);
				}
				add(sum, tally);
				if (performance.now() - saidAt > 30_000) {
					saidAt = performance.now();
					console.error(`… ${sum.seeds} of ${seeds} seeds, ${sum.failed.length} broke a law`);
				}
				give();
			});
			give();
		});
	await Promise.all(Array.from({ length: workers }, work));
	return sum;
}

function said(violations: Outcome['violations']): string {
	return violations
		.slice(0, 3)
		.map(({ law, jobId, text }) => `${law} ${jobId}: ${text}`)
		.join(' | ');
}

/** One world, with all that was said and done in it. */
async function trace(seed: number): Promise<boolean> {
	const { history, violations } = await new World(seed).live();
	for (const line of history) console.log(JSON.stringify(line));
	if (violations.length > 0) console.error(said(violations));
	return violations.length === 0;
}

async function main(): Promise<void> {
	const { values } = parseArgs({
		options: {
			seeds: { type: 'string', default: '10000' },
			from: { type: 'string', default: '1' },
			workers: { type: 'string', default: '2' },
			seed: { type: 'string' },
			trace: { type: 'boolean', default: false },
		},
	});
	if (values.seed !== undefined) {
		const seed = Number(values.seed);
		if (values.trace) {
			if (!(await trace(seed))) process.exitCode = 1;
			return;
		}
		const { failed } = await runBatch(seed, seed + 1);
		for (const { violations } of failed) console.log(`seed ${seed}: ${said(violations)}`);
		console.log(`seed ${seed}: ${failed.length === 0 ? 'no law is broken' : 'broken'}`);
		process.exitCode = failed.length === 0 ? 0 : 1;
		return;
	}
	const startedAt = performance.now();
	const sum = await runAll(Number(values.from), Number(values.seeds), Number(values.workers));
	const seconds = (performance.now() - startedAt) / 1_000;
	const faults = Object.entries(sum.struck)
		.sort(([, a], [, b]) => b - a)
		.map(([name, times]) => `${name} ${times}`)
		.join(', ');
	console.log(
		`${sum.seeds} seeds, ${sum.jobs} jobs, ${sum.events} events in ${Math.round(sum.virtualMs / 3_600_000)} virtual hours, ${seconds.toFixed(0)} s; faults: ${faults}; ${sum.failed.length} broke a law`,
	);
	process.exitCode = sum.failed.length === 0 ? 0 : 1;
}

// Refusals are ordinary here, and nobody reads where they were made.
if (!process.argv.includes('--trace')) Error.stackTraceLimit = 0;
if (isMainThread) void main();
else if (workerData === 'simulate') {
	parentPort!.on('message', ({ from, to }: { from: number; to: number }) => {
		void runBatch(from, to).then((tally) => parentPort!.postMessage(tally));
	});
}

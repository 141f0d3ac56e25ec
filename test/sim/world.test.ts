/**
 * Thousands of small worlds in which everything fails that may fail. A seed is a world: what breaks a
 * law is repeated with `npm run simulate -- --seed N --trace`.
 */
import { World } from './world';

jest.setTimeout(900_000);

/** The same ones every day, and some that no day repeats. */
const fixed = 1_000;
const rotating = 1_000;
const today = Math.floor(Date.now() / 86_400_000) * rotating;

async function broken(from: number, count: number): Promise<string[]> {
	const found: string[] = [];
	for (let seed = from; seed < from + count; seed += 1) {
		const { violations } = await new World(seed).live();
		for (const { law, jobId, text } of violations) {
			found.push(`seed ${seed}: ${law} ${jobId}: ${text}`);
		}
	}
	return found;
}

test('whatever dies, hangs, forgets or lies: all that was promised holds', async () => {
	expect(await broken(1, fixed)).toEqual([]);
});

test('it holds in worlds that nobody has seen before', async () => {
	expect(await broken(today, rotating)).toEqual([]);
});

test('the same seed is the same world, byte for byte', async () => {
	for (const seed of [7, 23, 98, 211, 685]) {
		const [once, twice] = [await new World(seed).live(), await new World(seed).live()];
		expect(twice.history.length).toBeGreaterThan(10);
		expect(twice.history.map((line) => JSON.stringify(line))).toEqual(
			once.history.map((line) => JSON.stringify(line)),
		);
	}
});

test('worlds differ: every harm strikes, and most jobs come to their end', async () => {
	const struck = new Set<string>();
	let completed = 0;
	for (let seed = 1; seed <= 200; seed += 1) {
		const { history, struck: faults } = await new World(seed).live();
		for (const fault of Object.keys(faults)) struck.add(fault);
		completed += history.filter((line) => (line as { to?: string }).to === 'completed').length;
	}
	expect([...struck].sort()).toEqual(everyHarm);
	expect(completed).toBeGreaterThan(200);
});

const everyHarm = [
	'agent-clock',
	'agent-disk-full',
	'agent-kill',
	'agent-pause',
	'agent-stop',
	'agent-suspend',
	'blackhole',
	'cut',
	'disk-full',
	'echo',
	'error-after',
	'error-before',
	'half-open',
	'journal-kill',
	'kill-after',
	'kill-before',
	'memory-loss',
	'power-cut',
	'refused',
	'robot-pause',
	'service-clock',
	'service-kill',
	'service-pause',
	'service-stop',
	'service-suspend',
];

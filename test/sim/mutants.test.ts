/** A simulation that finds nothing proves nothing: each of these faults must be found, and again. */
import { mutants } from './mutants';
import { World } from './world';

jest.setTimeout(900_000);

/** One run. */
const maxSeeds = 2_000;

test.each(mutants)('found: $name', async ({ install, ...mutation }) => {
	const remove = install?.();
	try {
		const world = (seed: number) => new World(seed, mutation).live();
		let found: Awaited<ReturnType<typeof world>> | undefined;
		for (let seed = 1; seed <= maxSeeds && !found; seed += 1) {
			const outcome = await world(seed);
			if (outcome.violations.length > 0) found = outcome;
		}
		expect(found?.violations.length).toBeGreaterThan(0);
		const again = await world(found!.seed);
		expect(again.violations).toEqual(found!.violations);
	} finally {
		remove?.();
	}
});

/**
 * Row 2: the service is killed at every named place of its code, not only at random ones, and a day's
 * work ends as if nothing had been. The bundle of this test has the places compiled in; what people
 * install has not.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { deedsOn } from '../../dispatcher/store/deeds';
import { failPoints } from '../../dispatcher/store/fail-points';
import { dice } from '../support/dice';
import { howMany, say, seed, thorough } from '../support/proof';
import { OneService } from './one-service';
import { WorkingDay } from './working-day';

/** Deeds that a day without damage, full disks or restores does not do, and those of a clock's minute. */
const rare = new Set([
	'rewindOutput',
	'markOutput',
	'purgeOutput',
	'compactOutput',
	'shiftBackOffs',
	'sweepDuplicates',
	'sweepStarts',
	'lookAgain',
	'sweepAffinities',
	'lateResult',
	'health',
	'waitFor',
	'purge',
	'revokeToken',
	'keysUsed',
	'robotsSeen',
	'loseFile',
	'removeFile',
	'putSample',
]);
const deeds = Object.keys(deedsOn({} as never, {} as never, {} as never)).filter(
	(name) => !rare.has(name),
);
const places = [
	...Object.keys(failPoints),
	...deeds.flatMap((name) => [`deed:${name}`, `did:${name}`]),
];
/** Deaths: 20 at each place in the long run. */
const days = howMany(6, places.length * 20);

jest.setTimeout(60_000 + days * 180_000);

let folder: string;
const given = process.env.ROBOT_FLEET_SERVICE_JS;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-points-'));
	const outfile = join(folder, 'robot-fleet.js');
	await build({
		entryPoints: [join(__dirname, '../../dispatcher/main.ts')],
		outfile,
		bundle: true,
		platform: 'node',
		external: ['bufferutil', 'utf-8-validate'],
		define: { FAIL_POINTS: 'true' },
		logLevel: 'error',
	});
	process.env.ROBOT_FLEET_SERVICE_JS = outfile;
});

afterAll(() => {
	if (given === undefined) delete process.env.ROBOT_FLEET_SERVICE_JS;
	else process.env.ROBOT_FLEET_SERVICE_JS = given;
	rmSync(folder, { recursive: true, force: true });
});

test('the service may be killed between any two steps: nothing is lost, nothing begins twice, all ends once', async () => {
	const chance = dice(seed);
	const shuffled = places
		.map((place) => ({ place, at: chance() }))
		.sort((a, b) => a.at - b.at)
		.map(({ place }) => place);
	/** How often a place is passed in a day at most, as far as that is known. */
	const passes = new Map<string, number>();
	const reached = new Set<string>();
	const never = new Set<string>();
	const wrong: string[] = [];
	let kills = 0;
	let lived = 0;
	for (let n = 0; n < days; n += 1) {
		const place = shuffled[n % shuffled.length]!;
		const round = Math.floor(n / shuffled.length);
		// A start passes its steps once, and a day much of what it does; each round may kill it one pass later.
		let upTo = Math.min(round + 1, passes.get(place) ?? Infinity);
		let died = 0;
		while (died === 0 && upTo > 0) {
			const pass = 1 + Math.floor(chance() * upTo);
			died = await oneDay(`${place}:${pass}`, wrong);
			lived += 1;
			if (died === 0) passes.set(place, (upTo = pass - 1));
		}
		kills += died;
		(died > 0 ? reached : never).add(place);
		if (thorough && n % 20 === 19)
			process.stdout.write(`… ${lived} days, ${kills} kills, ${wrong.length} wrong\n`);
	}
	say(2, {
		places: places.length,
		reached: reached.size,
		days: lived,
		kills,
		wrong: wrong.length,
		...(never.size > 0 ? { 'never passed': [...never].join(' ') } : {}),
	});
	expect(wrong).toEqual([]);
	expect(kills).toBeGreaterThan(days * 0.9);
});

test('what people install has no such places', () => {
	const bundle = readFileSync(join(__dirname, '../../dispatcher/dist/robot-fleet.js'), 'utf8');
	expect(bundle).toContain('compiledIn = false');
});

/** Answers how often the service died; what is wrong in the evening is added to `wrong`. */
async function oneDay(failAt: string, wrong: string[]): Promise<number> {
	const { url, begin } = await WorkingDay.open();
	let died = 0;
	let day: WorkingDay | undefined;
	try {
		await OneService.useMortal(
			{ ROBOT_FLEET_FAIL_AT: failAt },
			{ ROBOT_FLEET_N8N_URL: url },
			async (house) => {
				day = begin(house);
				await day.live();
				wrong.push(...(await day.check()).map((text) => `${failAt}: ${text}`));
			},
			() => (died += 1),
		);
	} catch (error) {
		throw new Error(`killed at ${failAt}: ${(error as Error).message}`, { cause: error });
	} finally {
		await day?.close();
	}
	return died;
}

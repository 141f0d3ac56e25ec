/** `robot-fleet simulate` against the real service: real enrolment, real sockets, the real command line. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import type { Submit } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';

interface Played {
	/** Until it says so on stderr; with its deadline. */
	says(pattern: RegExp): Promise<void>;
	/** Ctrl+C. */
	stop(): void;
	/** Its exit code, and what it wrote to stdout. */
	readonly ended: Promise<{ code: number; out: string; err: string }>;
}

function play(home: WholeHouse, ...words: string[]): Played {
	const over = new AbortController();
	const said = { out: '', err: '' };
	let wake = () => {};
	const world: ProgramWorld = {
		version: '0.0.0',
		env: { ROBOT_FLEET_URL: home.address.url, ROBOT_FLEET_KEY: home.address.key },
		out: (text) => void (said.out += String(text)),
		err: (text) => {
			said.err += String(text);
			wake();
		},
		now: () => Date.now(),
		sleep: (ms) => sleepFor(ms),
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		serve: async () => 0,
		upkeep: {} as ProgramWorld['upkeep'],
		stage: {
			monotonic: () => performance.now(),
			chance: () => 0.5,
			sleep: (ms, signal) => sleepFor(ms, undefined, { signal }).catch(() => undefined),
			interrupted: over.signal,
		},
	};
	const ended = runProgram(['simulate', ...words], world).then((code) => ({ code, ...said }));
	const played: Played = {
		ended,
		stop: () => over.abort(),
		async says(pattern) {
			const patience = new AbortController();
			const late = sleepFor(20_000, true, { signal: patience.signal }).catch(() => false);
			const gone = ended.then(() => {
				if (!pattern.test(said.err)) throw new Error(`it ended without ${pattern}: ${said.err}`);
			});
			try {
				while (!pattern.test(said.err)) {
					const more = new Promise<void>((resolve) => (wake = resolve));
					if (await Promise.race([gone, late, more])) {
						throw new Error(`waited 20 s for ${pattern}: ${said.err}`);
					}
				}
			} finally {
				patience.abort();
			}
		},
	};
	begun.push(played);
	return played;
}

async function once(home: WholeHouse, ...words: string[]) {
	const { code, out, err } = await play(home, ...words).ended;
	return { code, err, out };
}

async function until(what: string, is: () => Promise<boolean>): Promise<void> {
	for (const late = performance.now() + 10_000; !(await is());) {
		if (performance.now() > late) throw new Error(`waited 10 s for ${what}`);
		await sleepFor(5);
	}
}

/** A simulated fleet that is there. */
async function fleet(home: WholeHouse, ...words: string[]): Promise<Played> {
	const played = play(home, '--json', ...words);
	await played.says(/joined/);
	return played;
}

const meant = (more: Partial<Submit> = {}): Submit => ({
	kind: 'command',
	spec: { command: 'anything' },
	target: { labels: { simulated: 'true' } },
	...more,
});

const ends = async (home: WholeHouse, jobIds: string[]) =>
	Promise.all(jobIds.map(async (id) => (await home.client.job(id, 20_000)).state));

let home: WholeHouse;
const begun: Played[] = [];
beforeEach(async () => (home = await WholeHouse.open()));
afterEach(async () => {
	for (const played of begun.splice(0)) {
		played.stop();
		await played.ended;
	}
	await home[Symbol.asyncDispose]();
});

test('simulated robots join by the real door, do what asks for them, and are gone after Ctrl+C', async () => {
	const played = await fleet(home, '--robots', '5', '--seed', '7', '--duration', '1ms..5ms');
	const robots = await home.client.robots();
	expect(robots.map(({ name }) => name).sort()).toEqual(
		['01', '02', '03', '04', '05'].map((number) => `sim-${number}`),
	);
	for (const { connected, labels } of robots) {
		expect(connected).toBe(true);
		expect(labels).toMatchObject({ simulated: 'true', site: expect.any(String) });
	}
	const answers = await Promise.all(Array.from({ length: 40 }, () => home.client.submit(meant())));
	const ids = answers.map(({ jobId }) => jobId);
	expect(new Set(await ends(home, ids))).toEqual(new Set(['completed']));
	const job = await home.client.job(ids[0]!);
	expect(job).toMatchObject({ result: { exitCode: 0 }, output: { complete: true } });
	expect(String((await home.output(ids[0]!)).bytes)).toMatch(/^Simulated by sim-0\d for \d+ ms/);
	played.stop();
	const { code, out } = await played.ended;
	expect(code).toBe(0);
	expect(JSON.parse(out)).toMatchObject({
		seed: 7,
		robots: 5,
		jobs: 40,
		completed: 40,
		failed: 0,
		refused: 0,
		removed: 5,
		left: 0,
	});
	expect(await home.client.robots()).toEqual([]);
	expect((await home.client.tokens()).every(({ uses, used }) => uses === used)).toBe(true);
});

test('a job that does not ask for a simulated robot waits for a real one, and says why', async () => {
	const played = await fleet(home, '--robots', '3', '--duration', '1ms');
	const { jobId } = await home.client.submit(meant({ spec: { command: 'true' }, target: {} }));
	const other = await home.client.submit(meant());
	expect(await ends(home, [other.jobId])).toEqual(['completed']);
	expect((await home.client.job(jobId)).state).toBe('queued');
	expect((await home.client.why(jobId)).text).toContain('is simulated');
	await home.robot('real');
	const job = await home.client.job(jobId, 10_000);
	const real = await home.client.robot('real');
	expect(job).toMatchObject({ state: 'completed', robotId: real.robotId });
	// To all robots is to all real ones; one that is named is meant.
	const all = await home.client.submit(
		meant({ spec: { command: 'true' }, target: { mode: 'all' } }),
	);
	expect((await home.client.job(all.jobId, 10_000)).children).toMatchObject({ total: 1 });
	const named = await home.client.submit(meant({ target: { robot: 'sim-02' } }));
	expect(await ends(home, [named.jobId])).toEqual(['completed']);
	played.stop();
	await played.ended;
	expect((await home.client.robots()).map(({ name }) => name)).toEqual(['real']);
});

test('with --take-any they take whatever a real one would', async () => {
	const played = await fleet(home, '--robots', '2', '--duration', '1ms', '--take-any');
	const { jobId } = await home.client.submit(meant({ target: {} }));
	expect(await ends(home, [jobId])).toEqual(['completed']);
	played.stop();
	await played.ended;
});

test('the same seed plays the same robots, and the same of their jobs fail', async () => {
	const run = async () => {
		const flags = ['--robots', '2', '--seed', '11', '--failures', '50%', '--duration', '1ms'];
		const played = await fleet(home, ...flags);
		const who = (await home.client.robots()).map(({ name, labels, slots }) => ({
			name,
			labels,
			slots,
		}));
		const states: string[] = [];
		for (let i = 0; i < 12; i += 1) {
			const { jobId } = await home.client.submit(meant({ target: { robot: 'sim-01' } }));
			states.push(...(await ends(home, [jobId])));
		}
		played.stop();
		await played.ended;
		return { who: who.sort((a, b) => (a.name < b.name ? -1 : 1)), states };
	};
	const first = await run();
	expect(await run()).toEqual(first);
	expect(new Set(first.states)).toEqual(new Set(['completed', 'failed']));
});

test('through cut lines and slow words every job ends, once', async () => {
	const played = await fleet(
		home,
		...['--robots', '4', '--slots', '2', '--seed', '3', '--latency', '1ms..15ms'],
		...['--duration', '5ms..60ms', '--disconnects', '4/1s', '--away', '10ms..80ms'],
	);
	const answers = await home.client.submitMany(Array.from({ length: 120 }, () => meant()));
	const ids = answers.map((answer) => ('jobId' in answer ? answer.jobId : 'refused'));
	expect(new Set(await ends(home, ids))).toEqual(new Set(['completed']));
	played.stop();
	const { out } = await played.ended;
	const summary = JSON.parse(out) as { completed: number; cuts: number };
	// A word that was lost on the way began nothing: no job was played twice.
	expect(summary.completed).toBe(120);
	expect(summary.cuts).toBeGreaterThan(0);
});

test('what runs at Ctrl+C comes to its end before its robot is removed', async () => {
	const played = await fleet(home, '--robots', '2', '--duration', '10m');
	const { jobId } = await home.client.submit(meant());
	await until('it to run', async () => (await home.client.job(jobId)).state === 'running');
	played.stop();
	const { out } = await played.ended;
	expect(JSON.parse(out)).toMatchObject({ jobs: 1, completed: 1, removed: 2 });
	expect((await home.client.job(jobId)).state).toBe('completed');
});

test('a robot that somebody removes stays away; what a run leaves behind is cleared', async () => {
	const played = await fleet(home, '--robots', '3', '--keep');
	await home.client.removeRobot('sim-02');
	expect(await once(home, 'clear', '--json')).toMatchObject({ code: 0 });
	expect(await home.client.robots()).toHaveLength(2);
	played.stop();
	expect(JSON.parse((await played.ended).out)).toMatchObject({ removed: 0 });
	await until('both to be away', async () => {
		const robots = await home.client.robots();
		return robots.length === 2 && robots.every(({ connected }) => !connected);
	});
	await home.robot('real');
	expect((await once(home, 'clear')).out).toBe('2 robots removed\n');
	expect((await home.client.robots()).map(({ name }) => name)).toEqual(['real']);
});

test('it ends by itself after --for, and says what came of it', async () => {
	const { code, out } = await once(home, '--robots', '1', '--for', '2s');
	expect(code).toBe(0);
	expect(out).toMatch(/^1 simulated robot joined \(sim-01\), seed 5000; Ctrl\+C ends this\.\n/);
	expect(out).toContain('0 jobs in ');
	expect(out).toContain('1 robot removed\n');
});

describe('simulate load', () => {
	test('sends random work to simulated robots, and tells of each how it ended', async () => {
		const flags = ['--robots', '3', '--slots', '4', '--duration', '1ms..20ms', '--failures', '20%'];
		const played = await fleet(home, ...flags);
		await home.robot('real');
		const { code, out } = await once(
			home,
			...['load', '--rate', '400/s', '--count', '150', '--seed', '1', '--json'],
			...['--command', 'one', '--command', 'two'],
		);
		expect(code).toBe(0);
		const summary = JSON.parse(out);
		expect(summary).toMatchObject({ sent: 150, open: 0, refused: 0, refusals: {}, timeout: 0 });
		expect(summary.completed + summary.failed).toBe(150);
		expect(summary.failed).toBeGreaterThan(5);
		expect(summary.endedAfterMs.p50).toBeGreaterThan(0);
		const jobs = (await home.client.jobs({ limit: 1_000 })).items;
		expect(jobs).toHaveLength(150);
		const shells = jobs.map(({ spec }) => (spec as { shell: string }).shell);
		expect(new Set(shells)).toEqual(new Set(['one', 'two']));
		const real = await home.client.robot('real');
		expect(new Set(jobs.map(({ robotId }) => robotId)).size).toBe(3);
		expect(jobs.some(({ robotId }) => robotId === real.robotId)).toBe(false);
		played.stop();
		const played150 = JSON.parse((await played.ended).out);
		expect(played150).toMatchObject({ completed: summary.completed, failed: summary.failed });
	});

	test('replays the rows of a file as often as it is told: by name, by number, to anyone', async () => {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-rows-'));
		const file = join(folder, 'show.csv');
		writeFileSync(
			file,
			'robot,command,wait\nsim-02,first,5ms\n3,second,0.005\n,third,\nnobody,fourth,\n',
		);
		const played = await fleet(home, '--robots', '3', '--duration', '1ms');
		const { out } = await once(home, 'load', '--from', file, '--loop', '2', '--json');
		rmSync(folder, { recursive: true });
		expect(JSON.parse(out)).toMatchObject({
			sent: 6,
			completed: 6,
			refused: 2,
			refusals: { 'unknown-robot': 2 },
		});
		const names = new Map((await home.client.robots()).map(({ robotId, name }) => [robotId, name]));
		const sent = (await home.client.jobs({})).items
			.reverse()
			.map(({ spec, robotId }) => [(spec as { shell: string }).shell, names.get(robotId!)]);
		expect(sent.filter(([command]) => command !== 'third')).toEqual([
			['first', 'sim-02'],
			['second', 'sim-03'],
			['first', 'sim-02'],
			['second', 'sim-03'],
		]);
		played.stop();
		await played.ended;
	});

	test('at Ctrl+C it sends nothing more, and waits for what was sent', async () => {
		const played = await fleet(home, '--robots', '2', '--slots', '8', '--duration', '1ms..5ms');
		const loading = play(home, 'load', '--rate', '200/s', '--json', '--label', 'simulated=true');
		const sent = async () => (await home.client.jobs({ limit: 1_000 })).items.length;
		await until('20 jobs', async () => (await sent()) >= 20);
		loading.stop();
		const { code, out } = await loading.ended;
		expect(code).toBe(0);
		const summary = JSON.parse(out);
		expect(summary).toMatchObject({ open: 0, refused: 0, sent: await sent() });
		expect(summary.completed).toBe(summary.sent);
		played.stop();
		await played.ended;
	});

	test('says what to do when there is nobody, and everything that is wrong with a file', async () => {
		expect(await once(home, 'load')).toMatchObject({
			code: 2,
			err: 'No robot is simulated=true; join some with: robot-fleet simulate --robots 10.\n',
		});
		expect(await once(home, 'load', '--from', '/nowhere.csv')).toMatchObject({
			code: 2,
			err: '/nowhere.csv cannot be read (ENOENT).\n',
		});
		expect((await once(home, 'load', '--loop')).err).toContain('--loop needs --from');
		expect((await once(home, 'load', '--rate', '5')).code).toBe(2);
	});
});

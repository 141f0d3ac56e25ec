/** Real keepers, as an agent has them: more of them when many programs are to be started at once. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../../agent/clock';
import { Keeper, KeeperGone, type Ward } from '../../../agent/keeper/keeper';
import { eventually } from '../../fault/one-service';
import { agentBundle, bundleAgent, removeBundle } from './agent-process';

jest.setTimeout(60_000);
beforeAll(bundleAgent);
afterAll(removeBundle);

let data: string;
const keepers: Keeper[] = [];
beforeEach(() => {
	data = mkdtempSync(join(tmpdir(), 'robot-fleet-keepers-'));
});
afterEach(async () => {
	await Promise.all(keepers.splice(0).map((keeper) => keeper.close()));
	for (const pid of pids()) process.kill(pid, 'SIGKILL');
	await eventually('the keepers to be gone', () => pids().length === 0);
	rmSync(data, { recursive: true, force: true });
});

const folder = () => join(data, 'keeper');
const silent = { info: () => undefined, warn: () => undefined };

function agent(most: number, clock: Clock = systemClock): Keeper {
	const keeper = new Keeper({
		folder: folder(),
		program: join(agentBundle, '../keeper.js'),
		most,
		spool: { folder: join(data, 'spool'), maxBytes: 1_000_000, reserveBytes: 0 },
		clock,
		log: silent,
	});
	keepers.push(keeper);
	return keeper;
}

/** Of the keepers of this folder. */
function pids(): number[] {
	return readdirSync('/proc')
		.map(Number)
		.filter((pid) => {
			try {
				return (
					readlinkSync(`/proc/${pid}/cwd`) === folder() &&
					readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('keeper.js')
				);
			} catch {
				return false;
			}
		});
}

function parentOf(pid: number): number {
	return Number(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ')[1]);
}

let epoch = 0;
const orderOf = (shell: string) => ({
	jobId: 'job',
	epoch: ++epoch,
	program: { run: { shell }, cwd: '/', env: { PATH: process.env.PATH! }, stdin: false },
});

function attemptOf({ key }: Ward): { jobId: string; epoch: number } {
	const [jobId, number] = key.split('-') as [string, string];
	return { jobId, epoch: Number(number) };
}

/** Starts a crowd of them, so that there is one keeper more. */
async function crowd(keeper: Keeper, count: number, shell: string): Promise<Ward[]> {
	await keeper.ready();
	return await Promise.all(Array.from({ length: count }, () => keeper.start(orderOf(shell))));
}

async function letGo(keeper: Keeper, ward: Ward): Promise<void> {
	await ward.ended;
	keeper.settled(attemptOf(ward));
	keeper.forgotten(attemptOf(ward));
}

/** Programs that run, in each of two keepers. */
async function runningInBoth(keeper: Keeper): Promise<Ward[]> {
	for (const ward of await crowd(keeper, 20, 'true')) await letGo(keeper, ward);
	await eventually('a second keeper', () => pids().length === 2);
	return await eventually('programs in both', async () => {
		const wards = await crowd(keeper, 4, 'exec sleep 600');
		if (new Set(wards.map(({ pid }) => parentOf(pid))).size === 2) return wards;
		for (const ward of wards) {
			process.kill(ward.pid, 'SIGKILL');
			await letGo(keeper, ward);
		}
		return undefined;
	});
}

test('one that follows another needs one keeper; a crowd gets more, and each program runs once', async () => {
	const keeper = agent(2);
	for (let i = 0; i < 20; i++) {
		const [ward] = await crowd(keeper, 1, 'true');
		await ward!.ended;
	}
	expect(pids()).toHaveLength(1);
	const ran = join(data, 'ran');
	const wards = await crowd(keeper, 60, `echo x >> ${ran}`);
	await Promise.all(wards.map(({ ended }) => ended));
	await eventually('a second keeper', () => pids().length === 2);
	expect(readFileSync(ran, 'utf8')).toBe('x\n'.repeat(60));
	await crowd(keeper, 60, 'true');
	expect(pids()).toHaveLength(2);
});

test('no more keepers than the machine has processors', async () => {
	const keeper = agent(1);
	await Promise.all((await crowd(keeper, 60, 'true')).map(({ ended }) => ended));
	expect(pids()).toHaveLength(1);
});

test('the next agent finds what any of them holds, on a smaller machine too', async () => {
	const before = agent(2);
	const wards = await runningInBoth(before);
	await before.close();
	const after = agent(1);
	for (const ward of wards) {
		const found = await after.find(attemptOf(ward));
		expect(found).toMatchObject({ key: ward.key, pid: ward.pid });
		process.kill(ward.pid, 'SIGTERM');
		expect(await found!.ended).toMatchObject({ code: null, signal: 'SIGTERM' });
		after.settled(attemptOf(ward));
		after.forgotten(attemptOf(ward));
	}
	await eventually(
		'nothing to be kept',
		() => readdirSync(join(folder(), 'attempts')).length === 0,
	);
});

test('one that is killed takes only what it held along; the others go on', async () => {
	const keeper = agent(2);
	const wards = await runningInBoth(keeper);
	const killed = parentOf(wards[0]!.pid);
	const [lost, others] = [true, false].map((isLost) =>
		wards.filter(({ pid }) => (parentOf(pid) === killed) === isLost),
	) as [Ward[], Ward[]];
	process.kill(killed, 'SIGKILL');
	for (const { ended, pid } of lost) {
		await expect(ended).rejects.toThrow(KeeperGone);
		process.kill(pid, 'SIGKILL');
	}
	expect(keeper.isMissing).toBe(false);
	const [next] = await crowd(keeper, 1, 'exit 3');
	expect(await next!.ended).toMatchObject({ code: 3 });
	for (const { ended, pid } of others) {
		process.kill(pid, 'SIGTERM');
		expect(await ended).toMatchObject({ signal: 'SIGTERM' });
	}
});

test('one that only a crowd needed leaves while a long job runs on elsewhere', async () => {
	let skewMs = 0;
	let pass = (): void => undefined;
	const clock: Clock = {
		...systemClock,
		monotonic: () => systemClock.monotonic() + skewMs,
		async sleep(ms, signal) {
			if (ms < 30_000) return await systemClock.sleep(ms, signal);
			// A minute is over when the test says so.
			return await new Promise((resolve) => {
				pass = () => resolve(true);
				signal?.addEventListener('abort', () => resolve(false), { once: true });
			});
		},
	};
	const keeper = agent(2, clock);
	const wards = await runningInBoth(keeper);
	const parents = wards.map(({ pid }) => parentOf(pid));
	const [first] = await crowd(keeper, 1, 'exec sleep 600');
	const stays = parentOf(first!.pid);
	for (const [i, ward] of wards.entries()) {
		if (parents[i] === stays) continue;
		process.kill(ward.pid, 'SIGKILL');
		await ward.ended;
		keeper.settled(attemptOf(ward));
		keeper.forgotten(attemptOf(ward));
	}
	await eventually('the other one to leave', () => {
		skewMs += 61_000;
		pass();
		return pids().length === 1;
	});
	expect(pids()).toEqual([stays]);
	process.kill(first!.pid, 'SIGTERM');
	expect(await first!.ended).toMatchObject({ signal: 'SIGTERM' });
});

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs, { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { capBeyond, capCapabilities } from '../../../agent/caps';
import { pageBytesOf, type Pulse, pulsesOf, sharedMemoryOf } from '../../../agent/drivers/pulse';
import { isOwnProc } from '../../../agent/drivers/process';
import { excessOf, Usage } from '../../../agent/watcher/usage';
import { Watching } from '../../../agent/watcher/watching';
import { capabilitiesFor, capsOnWire } from '../../../protocol';

const MiB = 1024 * 1024;

/** Processor time by pid; those named as roots have no parent in the tree. */
function pulse(cpuMs: Record<number, number>, roots: number[] = [1], memoryBytes = MiB): Pulse {
	const byPid = new Map(Object.entries(cpuMs).map(([pid, ms]) => [Number(pid), ms]));
	return { processes: byPid.size, memoryBytes, cpuMs: byPid, roots: new Set(roots) };
}

test('processor time outlives the processes that used it, and none is counted twice', () => {
	const usage = new Usage();
	const used = (...now: Parameters<typeof pulse>) => usage.look(pulse(...now)).cpuMs;
	expect(used({ 1: 100, 2: 500 })).toBe(600);
	// 2 has ended, and 1, which waited for it, has inherited its time.
	expect(used({ 1: 700 })).toBe(700);
	// 3 lives in a session of its own, its parent is gone: nobody inherits what it used.
	expect(used({ 1: 700, 3: 400 }, [1, 3])).toBe(1_100);
	expect(used({ 1: 700 })).toBe(1_100);
	// Its number is given to another one.
	expect(used({ 1: 700, 3: 50 }, [1, 3])).toBe(1_150);
	expect(used({ 1: 700, 3: 10 }, [1, 3])).toBe(1_160);
});

test('each cap has one sentence that says how much of what', () => {
	const used = { memoryBytes: 612 * MiB, cpuMs: 61_260, processes: 25 };
	expect(excessOf({ memory_bytes: 512 * MiB }, used)).toEqual({
		text: 'The job used 612 MiB of the 512 MiB of memory it may have (caps.memoryBytes)',
		far: false,
	});
	expect(excessOf({ cpu_seconds: 60 }, used)!.text).toBe(
		'The job used 61.3 s of the 60 s of processor time it may have (caps.cpuSeconds)',
	);
	expect(excessOf({ processes: 10 }, used)).toEqual({
		text: 'The job had 25 processes of the 10 it may have (caps.processes)',
		far: true,
	});
	expect(excessOf({ memory_bytes: 612 * MiB, cpu_seconds: 62, processes: 25 }, used)).toBe(
		undefined,
	);
	expect(excessOf({}, used)).toBeUndefined();
});

test('memory that processes share counts once: only what is left after a closer look is too much', () => {
	const used = { memoryBytes: 900 * MiB, cpuMs: 0, processes: 9 };
	expect(excessOf({ memory_bytes: 512 * MiB }, used, () => 300 * MiB)).toBeUndefined();
	expect(excessOf({ memory_bytes: 512 * MiB }, used, () => 600 * MiB)!.text).toContain('600 MiB');
	const notAsked = () => {
		throw new Error('a closer look costs something');
	};
	expect(excessOf({ memory_bytes: 1_000 * MiB }, used, notAsked)).toBeUndefined();
});

test('an excess is told once, and once more when it is far', () => {
	let memoryBytes = 100 * MiB;
	const standing = {
		now: () => 0,
		monotonic: () => 0,
		chance: () => 0,
		sleep: async () => await new Promise<boolean>(() => undefined),
	};
	const watching = new Watching(
		standing,
		(trees) => trees.map(() => pulse({ 1: 0 }, [1], memoryBytes)),
		(found) => found.memoryBytes,
	);
	const told: boolean[] = [];
	const job = { kind: 'command', spec: { command: 'x' }, caps: { memory_bytes: 200 * MiB } };
	const watched = watching.begin(
		job,
		'mark',
		() => undefined,
		({ far }) => told.push(far),
	);
	for (const MiBs of [100, 201, 300, 400, 800, 100, 300]) {
		memoryBytes = MiBs * MiB;
		watching.hold();
	}
	expect(told).toEqual([false, true]);
	watched.end();
	watching.hold();
});

test('caps that a robot holds are told to the service, and others are beyond it', () => {
	const caps = { memoryBytes: MiB, cpuSeconds: 1, processes: 2, outputBytes: 4_096 };
	const wire = capsOnWire(caps);
	expect(wire).toEqual({
		memory_bytes: MiB,
		cpu_seconds: 1,
		processes: 2,
		output_bytes: 4_096,
	});
	if (process.platform === 'linux') {
		expect(capCapabilities).toEqual(capabilitiesFor(caps));
		expect(capBeyond(wire)).toBeUndefined();
	}
	expect(capabilitiesFor({ outputBytes: 1 })).toEqual(['cap:output']);
	expect(capCapabilities).toContain('cap:output');
	// Of a newer service.
	expect(capBeyond({ gpu_seconds: 1 } as object)).toBe('gpu_seconds');
});

(process.platform === 'linux' ? test : test.skip)(
	'a closer look at real processes finds no more than they have each for itself',
	async () => {
		const mark = randomBytes(8).toString('hex');
		const child = spawn('sh', ['-c', 'sleep 60 & sleep 60 & echo here; wait'], {
			detached: true,
			stdio: ['ignore', 'pipe', 'ignore'],
			env: { PATH: process.env.PATH, ROBOT_FLEET_ATTEMPT_MARK: mark },
		});
		try {
			await new Promise((here) => child.stdout.once('data', here));
			const [found] = pulsesOf([{ mark, group: child.pid! }])!;
			expect(found!.processes).toBe(3);
			expect([...found!.roots]).toEqual([child.pid]);
			const shared = sharedMemoryOf(found!);
			expect(shared).toBeGreaterThan(0);
			expect(shared).toBeLessThanOrEqual(found!.memoryBytes);
		} finally {
			process.kill(-child.pid!, 'SIGKILL');
		}
	},
);

test('the size of a page is found out, for kernels with other ones than 4 KiB', () => {
	const stat = (pages: number) => `7 (a (b) c) S ${'0 '.repeat(20)}${pages} 0 0`;
	const status = (kB: number) => `Name:\tnode\nVmRSS:\t   ${kB} kB\n`;
	expect(pageBytesOf(stat(25_000), status(100_000))).toBe(4_096);
	expect(pageBytesOf(stat(6_300), status(100_000))).toBe(16_384);
	expect(pageBytesOf(stat(1_550), status(100_000))).toBe(65_536);
	expect(pageBytesOf('', '')).toBe(4_096);
});

(process.platform === 'linux' ? test : test.skip)(
	'a look that cannot see every process is no look, and ends nothing',
	() => {
		const proc = mkdtempSync(join(tmpdir(), 'rf-proc-'));
		try {
			const stat = (pid: number) => `${pid} (x) S 1 ${pid} ${'0 '.repeat(16)}0 0 10 0`;
			mkdirSync(join(proc, '41'));
			mkdirSync(join(proc, '42'));
			mkdirSync(join(proc, '43'));
			writeFileSync(join(proc, '41', 'stat'), stat(41));
			writeFileSync(join(proc, '42', 'stat'), stat(42));
			symlinkSync(String(process.pid), join(proc, 'self'));
			// 43 has ended.
			const seen = () => pulsesOf([{ mark: 'm', group: 41 }], proc)?.[0];
			expect(seen()).toMatchObject({ processes: 1 });
			rmSync(join(proc, '42', 'stat'));
			// Not readable for another reason than that it is gone.
			mkdirSync(join(proc, '42', 'stat'));
			expect(seen()).toBeUndefined();
			rmSync(proc, { recursive: true });
			expect(seen()).toBeUndefined();
		} finally {
			rmSync(proc, { recursive: true, force: true });
		}
	},
);

(process.platform === 'linux' ? test : test.skip)(
	'where /proc is empty or a stranger’s nobody can look: what runs there is not at rest, nor gone',
	() => {
		const proc = mkdtempSync(join(tmpdir(), 'rf-proc-'));
		try {
			expect(pulsesOf([{ mark: 'm', group: 41 }], proc)).toBeUndefined();
			expect(isOwnProc(proc)).toBe(false);
			symlinkSync(String(process.pid + 1), join(proc, 'self'));
			expect(pulsesOf([{ mark: 'm', group: 41 }], proc)).toBeUndefined();
			expect(isOwnProc(proc)).toBe(false);
			expect(isOwnProc('/proc')).toBe(true);
		} finally {
			rmSync(proc, { recursive: true, force: true });
		}
	},
);

(process.platform === 'linux' ? test : test.skip)(
	'a program that calls itself again and again is looked at to its last child',
	() => {
		const pids = Array.from({ length: 10_000 }, (_, i) => 1_000 + i);
		const stat = (pid: number) =>
			`${pid} (x) S ${pid - 1} ${pid === 1_000 ? 41 : 7} ${'0 '.repeat(16)}0 0 10 0`;
		const spies = [
			jest.spyOn(fs, 'readlinkSync').mockReturnValue(String(process.pid)),
			jest.spyOn(fs, 'readdirSync').mockReturnValue(pids.map(String) as never),
			jest
				.spyOn(fs, 'readFileSync')
				.mockImplementation((path) => stat(Number(/\d+/.exec(String(path))))),
		];
		try {
			const [found] = pulsesOf([{ mark: 'm', group: 41 }], '/there-is-none')!;
			expect(found).toMatchObject({ processes: pids.length, roots: new Set([1_000]) });
		} finally {
			for (const spy of spies) spy.mockRestore();
		}
	},
);

import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { CpuMeter } from '../../../agent/cpu';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();

type Files = Record<string, string>;

function write(root: string, files: Files): void {
	for (const [name, text] of Object.entries(files)) {
		mkdirSync(dirname(join(root, name)), { recursive: true });
		writeFileSync(join(root, name), text);
	}
}

/** A machine with eight processors, half of which were busy all the time. */
function busyMachine(): void {
	let ms = 0;
	jest.spyOn(os, 'cpus').mockImplementation(() => {
		ms += 1_000;
		const times = { user: ms / 2, nice: 0, sys: 0, idle: ms / 2, irq: 0 };
		return Array.from({ length: 8 }, () => ({ model: '', speed: 0, times }));
	});
}

/** What is told 10 s after the first look. */
async function told(before: Files, after: Files = {}): Promise<number> {
	busyMachine();
	const root = folder();
	write(root, before);
	let at = 0;
	const meter = new CpuMeter({ monotonic: () => at }, root);
	// The first look has to be over: it is what the next one is compared with.
	await meter.share();
	at += 10_000;
	write(root, after);
	return await meter.share();
}

afterEach(() => jest.restoreAllMocks());

const own = 'sys/fs/cgroup/system.slice/robot.service';

test.each<[string, Files, Files]>([
	[
		'version 2, seen from a container',
		{
			'proc/self/cgroup': '0::/\n',
			'sys/fs/cgroup/cpu.max': '200000 100000\n',
			'sys/fs/cgroup/cpu.stat': 'usage_usec 5000000\nuser_usec 1\n',
		},
		{ 'sys/fs/cgroup/cpu.stat': 'usage_usec 20000000\nuser_usec 1\n' },
	],
	[
		'version 2, seen from the machine',
		{
			'proc/self/cgroup': '0::/system.slice/robot.service\n',
			[`${own}/cpu.max`]: '50000 100000\n',
			[`${own}/cpu.stat`]: 'usage_usec 5000000\n',
		},
		{ [`${own}/cpu.stat`]: 'usage_usec 8750000\n' },
	],
	[
		'version 1, whose path is that of the machine',
		{
			'proc/self/cgroup': '5:cpuset:/\n4:cpu,cpuacct:/docker/0a1b\n0::/\n',
			'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
			'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
			'sys/fs/cgroup/cpu/cpuacct.usage': '5000000000\n',
			// Of a Docker that runs in there.
			'sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us': '100000\n',
			'sys/fs/cgroup/cpu/docker/cpu.cfs_period_us': '100000\n',
			'sys/fs/cgroup/cpu/docker/cpuacct.usage': '5000000000\n',
		},
		{
			'sys/fs/cgroup/cpu/cpuacct.usage': '20000000000\n',
			'sys/fs/cgroup/cpu/docker/cpuacct.usage': '15000000000\n',
		},
	],
])('a robot with a limit tells how much of it is used: cgroups of %s', async (_, before, after) => {
	expect(await told(before, after)).toBeCloseTo(0.75);
});

test('of limits within each other the fullest counts', async () => {
	const files = (usec: number): Files => ({
		'proc/self/cgroup': '0::/system.slice/robot.service\n',
		[`${own}/cpu.max`]: '400000 100000\n',
		[`${own}/cpu.stat`]: 'usage_usec 1000000\n',
		[`${own}/../cpu.max`]: '100000 100000\n',
		[`${own}/../cpu.stat`]: `usage_usec ${usec}\n`,
	});
	expect(await told(files(0), files(9_000_000))).toBeCloseTo(0.9);
});

test.each<[string, Files]>([
	['none', { 'sys/fs/cgroup/cpu.max': 'max 100000\n' }],
	['more than the machine has', { 'sys/fs/cgroup/cpu.max': '900000 100000\n' }],
	['none that is told', {}],
])('with a limit of %s it tells how busy the machine is', async (_, limit) => {
	const used = { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.stat': 'usage_usec 7\n' };
	expect(await told({ ...used, ...limit })).toBe(0.5);
});

test('of a version 1 without a limit it tells how busy the machine is', async () => {
	const files: Files = {
		'proc/self/cgroup': '4:cpu,cpuacct:/\n',
		'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
		'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
		'sys/fs/cgroup/cpu/cpuacct.usage': '5000000000\n',
	};
	expect(await told(files)).toBe(0.5);
});

import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { droppableBytes, memoryShare } from '../../../agent/memory';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const mib = 1024 * 1024;

function rootWith(files: Record<string, string>): string {
	const root = folder();
	for (const [name, text] of Object.entries(files)) {
		mkdirSync(dirname(join(root, name)), { recursive: true });
		writeFileSync(join(root, name), text);
	}
	return root;
}

afterEach(() => jest.restoreAllMocks());

test('of a robot that has the whole machine, the memory of the machine is told', async () => {
	jest.spyOn(os, 'totalmem').mockReturnValue(1_000 * mib);
	jest.spyOn(os, 'freemem').mockReturnValue(250 * mib);
	for (const limit of [0, 2 ** 64]) {
		jest.spyOn(process, 'constrainedMemory').mockReturnValue(limit);
		expect(await memoryShare()).toBe(0.75);
	}
});

test('a robot in a container tells how full that is, however much the machine has', async () => {
	jest.spyOn(os, 'totalmem').mockReturnValue(64_000 * mib);
	jest.spyOn(os, 'freemem').mockReturnValue(60_000 * mib);
	jest.spyOn(process, 'constrainedMemory').mockReturnValue(100 * mib);
	jest.spyOn(process, 'availableMemory').mockReturnValue(5 * mib);
	expect(await memoryShare(rootWith({}))).toBeCloseTo(0.95);
	const read = {
		'proc/self/cgroup': '0::/\n',
		'sys/fs/cgroup/memory.stat': `inactive_file ${40 * mib}`,
	};
	expect(await memoryShare(rootWith(read))).toBeCloseTo(0.55);
});

test.each([
	[
		'version 2, seen from the machine',
		'0::/system.slice/robot.service\n',
		'sys/fs/cgroup/system.slice/robot.service/memory.stat',
		'anon 1\ninactive_file 4096\nactive_file 7\n',
	],
	[
		'version 2, seen from a container',
		'0::/\n',
		'sys/fs/cgroup/memory.stat',
		'inactive_file 4096\n',
	],
	[
		'version 1, whose path is that of the machine',
		'9:name=systemd:/\n4:memory:/docker/0a1b\n0::/\n',
		'sys/fs/cgroup/memory/memory.stat',
		'inactive_file 1\ntotal_inactive_file 4096\n',
	],
	[
		'version 1, two controllers in one',
		'4:cpuset,memory:/a\n',
		'sys/fs/cgroup/memory/a/memory.stat',
		'total_inactive_file 4096\n',
	],
])(
	'files that lie in memory do not count as used: cgroups of %s',
	async (_, groups, file, stat) => {
		expect(await droppableBytes(rootWith({ 'proc/self/cgroup': groups, [file]: stat }))).toBe(4096);
	},
);

test('a system without cgroups has nothing to drop', async () => {
	expect(await droppableBytes(folder())).toBe(0);
	expect(await droppableBytes(rootWith({ 'proc/self/cgroup': '0::/gone\n' }))).toBe(0);
});

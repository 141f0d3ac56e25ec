import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Spool } from '../../../agent/spool';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const jobId = '01890000-0000-7000-8000-000000000001';

test('what is appended is read back from any offset, each stream for itself', async () => {
	const spool = new Spool(folder(), 1_000).open(jobId, 1);
	await spool.append('stdout', Buffer.from('hello '));
	await spool.append('stderr', Buffer.from('oops'));
	await spool.append('stdout', Buffer.from('world'));
	expect(spool.lengths).toEqual({ stdout: 11, stderr: 4 });
	expect((await spool.read('stdout', 4, 4)).toString()).toBe('o wo');
	expect((await spool.read('stderr', 0, 99)).toString()).toBe('oops');
	expect(await spool.read('stdout', 11, 10)).toHaveLength(0);
	await spool.remove();
});

test('output survives its writer and goes on where it ended', async () => {
	const before = new Spool(folder(), 1_000).open(jobId, 1);
	await before.append('stdout', Buffer.from('one'));
	await before.close();
	const after = new Spool(folder(), 1_000).open(jobId, 1);
	expect(after.lengths.stdout).toBe(3);
	await after.append('stdout', Buffer.from('two'));
	expect((await after.read('stdout', 0, 99)).toString()).toBe('onetwo');
	await after.remove();
});

test('beyond the limit bytes are counted and dropped, without a hole', async () => {
	const spool = new Spool(folder(), 10).open(jobId, 1);
	await spool.append('stdout', Buffer.from('12345678'));
	await spool.append('stderr', Buffer.from('abcd'));
	await spool.append('stderr', Buffer.from('e'));
	await spool.append('stdout', Buffer.from('9'));
	expect(spool.lengths).toEqual({ stdout: 8, stderr: 2 });
	expect(spool.dropped).toEqual({ stdout: 1, stderr: 3 });
	expect((await spool.read('stderr', 0, 99)).toString()).toBe('ab');
	await spool.remove();
});

test('a disk that refuses drops output and blocks nobody', async () => {
	const spool = new Spool(folder(), 1_000).open(jobId, 1);
	writeFileSync(join(folder(), 'in-the-way'), '');
	const blocked = new Spool(folder(), 1_000).open('in-the-way/x', 1);
	await blocked.append('stdout', Buffer.from('lost'));
	expect(blocked.dropped.stdout).toBe(4);
	await spool.remove();
});

test('a stream without output makes no file', async () => {
	const spool = new Spool(folder(), 1_000).open(jobId, 1);
	await spool.append('stdout', Buffer.from('x'));
	await spool.sync();
	await spool.close();
	expect(readdirSync(folder())).toEqual([`${jobId}-1.stdout`]);
	await spool.remove();
	expect(readdirSync(folder())).toEqual([]);
});

test('a sweep deletes what nobody holds', async () => {
	const spool = new Spool(folder(), 1_000);
	for (const epoch of [1, 2]) {
		const one = spool.open(jobId, epoch);
		await one.append('stdout', Buffer.from('x'));
		await one.close();
	}
	spool.sweep([{ jobId, epoch: 2 }]);
	expect(readdirSync(folder())).toEqual([`${jobId}-2.stdout`]);
});

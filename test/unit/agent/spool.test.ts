import { createHash, randomBytes } from 'node:crypto';
import {
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { type AttemptSpool, Spool, type SpoolLimits } from '../../../agent/spool';
import { between, type Stream, streams, surplus } from '../../../protocol';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const jobId = '01890000-0000-7000-8000-000000000001';
const limits = (maxBytes: number, more: Partial<SpoolLimits> = {}): SpoolLimits => ({
	maxBytes,
	reserveBytes: 0,
	...more,
});
const open = (maxBytes = 1_000, more: Partial<SpoolLimits> = {}) =>
	new Spool(folder(), limits(maxBytes, more)).open(jobId, 1);
const onDisk = () =>
	readdirSync(folder()).reduce((sum, name) => sum + statSync(join(folder(), name)).size, 0);

/** Everything that can be read, as [offset, text] with what is missing left out. */
async function all(spool: AttemptSpool, stream: Stream): Promise<[number, string][]> {
	const found: [number, string][] = [];
	for (let at = 0; ;) {
		const { offset, data, gap } = await spool.read(stream, at, 1_000_000);
		if (data.length === 0) return found;
		const last = found.at(-1);
		if (last && gap === undefined) last[1] += data.toString('latin1');
		else found.push([offset, data.toString('latin1')]);
		at = offset + data.length;
	}
}

test('what is appended is read back from any offset, each stream for itself', async () => {
	const spool = open();
	await spool.append('stdout', Buffer.from('hello '));
	await spool.append('stderr', Buffer.from('oops'));
	await spool.append('stdout', Buffer.from('world'));
	expect(spool.lengths).toEqual({ stdout: 11, stderr: 4 });
	expect((await spool.read('stdout', 4, 4)).data.toString()).toBe('o wo');
	expect((await spool.read('stderr', 0, 99)).data.toString()).toBe('oops');
	expect(await spool.read('stdout', 11, 10)).toEqual({ offset: 11, data: Buffer.alloc(0) });
	await spool.remove();
});

test('an attempt may have less kept than others, and never more', async () => {
	const of = (kept: number) =>
		new Spool(folder(), limits(1_600)).open(jobId, kept, undefined, kept);
	const [less, more] = [of(800), of(3_200)];
	for (const spool of [less, more]) await spool.append('stdout', randomBytes(10_000));
	expect(less.holes('stdout')).toEqual([{ from: 100, to: 9_300, reason: 'limit' }]);
	expect(more.holes('stdout')).toEqual([{ from: 200, to: 8_600, reason: 'limit' }]);
	await less.remove();
	await more.remove();
});

test('output survives its writer and goes on where it ended', async () => {
	const before = open();
	await before.append('stdout', Buffer.from('one'));
	await before.close();
	const after = open();
	expect(after.lengths.stdout).toBe(3);
	await after.append('stdout', Buffer.from('two'));
	expect(await all(after, 'stdout')).toEqual([[0, 'onetwo']]);
	expect(await after.digest('stdout')).toBe(createHash('sha256').update('onetwo').digest('hex'));
	await after.remove();
});

test('beyond the limit the middle goes, offsets stay true, and the disk holds little more', async () => {
	const spool = open(1_600);
	const bytes = randomBytes(100_000);
	for (let at = 0; at < bytes.length; at += 333) {
		await spool.append('stdout', bytes.subarray(at, at + 333));
		expect(onDisk()).toBeLessThanOrEqual(1_600 + 2 * 100);
	}
	expect(spool.lengths).toEqual({ stdout: 100_000, stderr: 0 });
	expect(spool.holes('stdout')).toEqual([{ from: 200, to: 98_600, reason: 'limit' }]);
	const head = bytes.subarray(0, 200);
	const tail = bytes.subarray(98_600);
	expect(await all(spool, 'stdout')).toEqual([
		[0, head.toString('latin1')],
		[98_600, tail.toString('latin1')],
	]);
	expect(await spool.digest('stdout')).toBe(
		createHash('sha256').update(head).update(tail).digest('hex'),
	);
	expect(await spool.read('stdout', 5_000, 10)).toMatchObject({
		offset: 98_600,
		gap: { from: 200, reason: 'limit' },
	});
	await spool.remove();
});

test('whatever is printed in whatever chunks, exactly what the limit keeps is read back', async () => {
	const chunk = fc.record({
		stream: fc.constantFrom(...streams),
		bytes: fc.integer({ min: 1, max: 120 }),
	});
	let epoch = 1;
	await fc.assert(
		fc.asyncProperty(
			fc.array(chunk, { maxLength: 20 }),
			fc.integer({ min: 160, max: 1_600 }),
			async (chunks, max) => {
				const spool = new Spool(folder(), limits(max)).open(jobId, ++epoch);
				const printed = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
				for (const { stream, bytes } of chunks) {
					const data = randomBytes(bytes);
					printed[stream] = Buffer.concat([printed[stream], data]);
					await spool.append(stream, data);
				}
				const middle = surplus(spool.lengths, max);
				for (const stream of streams) {
					expect(spool.lengths[stream]).toBe(printed[stream].length);
					const holes = middle[stream] ? [{ ...middle[stream], reason: 'limit' as const }] : [];
					expect(spool.holes(stream)).toEqual(holes);
					const kept = between(holes, printed[stream].length);
					expect(await all(spool, stream)).toEqual(
						kept.map(({ from, to }) => [from, printed[stream].toString('latin1', from, to)]),
					);
				}
				await spool.remove();
			},
		),
		{ numRuns: 40 },
	);
});

test('an agent that comes back finds the same holes, and the same digest', async () => {
	const before = open(1_600);
	await before.append('stdout', randomBytes(9_999));
	const record = {
		output: before.lengths,
		holes: { stdout: before.holes('stdout') },
	};
	const digest = await before.digest('stdout');
	await before.close();
	for (const after of [new Spool(folder(), limits(1_600)).open(jobId, 1, record), open(1_600)]) {
		expect(after.lengths).toEqual(record.output);
		expect(after.holes('stdout')).toEqual(record.holes.stdout);
		expect(await after.digest('stdout')).toBe(digest);
	}
	await before.remove();
});

test('a file that went or became shorter is a hole, not other bytes', async () => {
	const before = open(1_600);
	await before.append('stdout', randomBytes(1_000));
	const whole = await all(before, 'stdout');
	const record = { output: before.lengths };
	await before.close();
	rmSync(join(folder(), `${jobId}-1.stdout.300`));
	truncateSync(join(folder(), `${jobId}-1.stdout.700`), 60);
	const after = new Spool(folder(), limits(1_600)).open(jobId, 1, record);
	expect(after.holes('stdout')).toEqual([
		{ from: 300, to: 400, reason: 'damaged' },
		{ from: 760, to: 800, reason: 'damaged' },
	]);
	const text = whole[0]![1];
	expect(await all(after, 'stdout')).toEqual([
		[0, text.slice(0, 300)],
		[400, text.slice(400, 760)],
		[800, text.slice(800)],
	]);
	await after.remove();
});

test('where the disk has no room output is left out and blocks nobody, and it goes on when there is', async () => {
	let free = 150;
	const spool = open(1_600, { reserveBytes: 20, freeBytes: async () => free });
	await spool.append('stdout', Buffer.alloc(60, 'a'));
	free = 110;
	await spool.append('stdout', Buffer.alloc(100, 'b'));
	await spool.append('stdout', Buffer.alloc(50, 'c'));
	expect(spool.holes('stdout')).toEqual([{ from: 100, to: 210, reason: 'disk-full' }]);
	free = 10_000;
	await spool.append('stdout', Buffer.alloc(30, 'd'));
	expect(spool.lengths.stdout).toBe(240);
	expect(await all(spool, 'stdout')).toEqual([
		[0, 'a'.repeat(60) + 'b'.repeat(40)],
		[210, 'd'.repeat(30)],
	]);
	await spool.remove();
});

test('a file that was begun while there was room does not eat up what is kept free when others fill the disk', async () => {
	const reserveBytes = 1_000_000;
	const pieceBytes = 4 * 1024 * 1024;
	let free = 100_000_000;
	const spool = open(16 * pieceBytes, { reserveBytes, freeBytes: async () => free });
	await spool.append('stdout', Buffer.from('begun\n'));
	free = reserveBytes - 1;
	const chunk = Buffer.alloc(64 * 1024, 'a');
	for (let i = 0; i < 40; i += 1) await spool.append('stdout', chunk);
	expect(onDisk()).toBeLessThan(256 * 1024);
	const [hole] = spool.holes('stdout');
	expect(hole).toMatchObject({ to: 6 + 40 * chunk.length, reason: 'disk-full' });
	await spool.remove();
});

test('a disk that refuses drops output and blocks nobody', async () => {
	writeFileSync(join(folder(), 'in-the-way'), '');
	const blocked = new Spool(folder(), limits(1_000)).open('in-the-way/x', 1);
	await blocked.append('stdout', Buffer.from('lost'));
	expect(blocked.lengths.stdout).toBe(4);
	expect(blocked.holes('stdout')).toEqual([{ from: 0, to: 4, reason: 'disk-full' }]);
	expect(await blocked.digest('stdout')).toBeUndefined();
});

test('a stream without output makes no file', async () => {
	const spool = open();
	await spool.append('stdout', Buffer.from('x'));
	await spool.sync();
	await spool.close();
	expect(readdirSync(folder())).toEqual([`${jobId}-1.stdout.0`]);
	expect(readFileSync(join(folder(), `${jobId}-1.stdout.0`), 'utf8')).toBe('x');
	await spool.remove();
	expect(readdirSync(folder())).toEqual([]);
});

test('a sweep deletes what nobody holds', async () => {
	const spool = new Spool(folder(), limits(1_000));
	for (const epoch of [1, 2]) {
		const one = spool.open(jobId, epoch);
		await one.append('stdout', Buffer.from('x'));
		await one.close();
	}
	spool.sweep([{ jobId, epoch: 2 }]);
	expect(readdirSync(folder())).toEqual([`${jobId}-2.stdout.0`]);
});

test('a file that cannot be deleted stops neither the writer nor the end of the attempt', async () => {
	const spool = open(1_600);
	await spool.append('stdout', randomBytes(500));
	// Nobody can delete a folder as if it were a file.
	const piece = join(folder(), `${jobId}-1.stdout.300`);
	rmSync(piece);
	mkdirSync(piece);
	await spool.append('stdout', randomBytes(9_500));
	expect(spool.lengths).toEqual({ stdout: 10_000, stderr: 0 });
	await spool.remove();
	expect(readdirSync(folder())).toEqual([`${jobId}-1.stdout.300`]);
});

test('a folder that cannot be looked through again leaves what is known as it is', async () => {
	const spool = open();
	await spool.append('stdout', Buffer.from('hello'));
	const before = spool.stateOf('stdout');
	const elsewhere = `${folder()}.away`;
	renameSync(folder(), elsewhere);
	try {
		expect(() => spool.recollect()).toThrow('ENOENT');
	} finally {
		renameSync(elsewhere, folder());
	}
	expect(spool.stateOf('stdout')).toEqual(before);
	await spool.remove();
});

/** Output in segments, and what a disk can do to it. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '../../dispatcher/store/open';
import { type Place, Segments } from '../../dispatcher/store/segments';
import type { Deed, Deeds, Store } from '../../dispatcher/store/store';
import type { Hole } from '../../protocol';
import { job } from './suite';

const at = 1_700_000_000_000;
let folder: string;
beforeEach(() => {
	folder = fs.mkdtempSync(join(tmpdir(), 'rf-output-'));
});
afterEach(() => {
	jest.restoreAllMocks();
	fs.rmSync(folder, { recursive: true });
});

const epochOf = (jobId: string) => 100 + jobId.charCodeAt(0);
const insert = (jobId: string): Deed => ({
	do: 'insertJob',
	with: {
		job: job(jobId),
		attempt: { number: 1, epoch: epochOf(jobId), token: 't', robotId: 'robot', at },
	},
});
const piece = (jobId: string, offset: number, data: Uint8Array): Deed => ({
	do: 'appendOutput',
	with: { jobId, epoch: epochOf(jobId), robotId: 'robot', stream: 'stdout', offset, data },
});
const end = (jobId: string): Deed => ({
	do: 'settle',
	with: {
		jobId,
		number: 1,
		epoch: epochOf(jobId),
		from: 'dispatched',
		at,
		by: 'robot',
		outcome: 'completed',
		cause: null,
		result: null,
		reason: 'completed',
		next: { to: 'completed', cause: null, error: null },
		countTry: true,
		countLoss: false,
	},
});
const segments = () => fs.readdirSync(join(folder, 'output')).sort();
const segment = (name = '0000000001.seg') => join(folder, 'output', name);

/** Everything of a stream as it can be read now. */
async function read(store: Store, jobId: string, to: number): Promise<(Buffer | Hole)[]> {
	const found: (Buffer | Hole)[] = [];
	for (let from = 0; from < to;) {
		const answer = await store.read('output', {
			jobId,
			number: 1,
			stream: 'stdout',
			from,
			to,
			maxBytes: 1_000_000,
		});
		found.push(answer.hole ?? Buffer.from(answer.data));
		from = answer.hole ? answer.hole.to : from + answer.data.length;
	}
	return found;
}

describe('a segment', () => {
	const name = (start: number) => ({ jobId: 'job-1', number: 3, stream: 'stderr' as const, start });
	const first = randomBytes(90);
	const second = randomBytes(120);
	/** Two records; the second was synced, its commit may have come or not. */
	function twoRecords() {
		const made = new Segments(folder, []);
		const one = made.append(name(0), first);
		made.flush();
		made.settle(true);
		const two = made.append(name(90), second);
		made.flush();
		made.close();
		return { one, two, bytes: fs.readFileSync(join(folder, '0000000001.seg')) };
	}
	const endOf = ({ position, size }: Place) => position + size;

	test('cut at any byte of a record that was not committed begins again where the last one ends', () => {
		const { one, two, bytes } = twoRecords();
		expect(endOf(two)).toBe(bytes.length);
		for (let length = endOf(one); length <= bytes.length; length += 1) {
			fs.writeFileSync(join(folder, '0000000001.seg'), bytes.subarray(0, length));
			const again = new Segments(folder, [{ id: 1, size: endOf(one) }]);
			expect(fs.statSync(join(folder, '0000000001.seg')).size).toBe(endOf(one));
			const place = again.append(name(90), first);
			expect(place.position).toBe(endOf(one));
			again.flush();
			again.settle(true);
			expect(again.read(name(0), 90, one)).toEqual(first);
			expect(again.read(name(90), 90, place)).toEqual(first);
			again.close();
		}
	});

	test('cut at any byte of a record that was committed loses that one and no other', () => {
		const { one, two, bytes } = twoRecords();
		for (let length = endOf(one); length < bytes.length; length += 1) {
			fs.writeFileSync(join(folder, '0000000001.seg'), bytes.subarray(0, length));
			const again = new Segments(folder, [{ id: 1, size: bytes.length }]);
			expect(again.read(name(0), 90, one)).toEqual(first);
			expect(again.read(name(90), 120, two)).toBeUndefined();
			again.close();
		}
	});

	test('an intact record is not handed out for another one', () => {
		const { one, two } = twoRecords();
		const again = new Segments(folder, [{ id: 1, size: endOf(two) }]);
		expect(again.read(name(0), 90, one)).toEqual(first);
		expect(again.read(name(90), 90, one)).toBeUndefined();
		expect(again.read({ ...name(0), jobId: 'job-2' }, 90, one)).toBeUndefined();
		expect(again.read({ ...name(0), number: 4 }, 90, one)).toBeUndefined();
		expect(again.read({ ...name(0), stream: 'stdout' }, 90, one)).toBeUndefined();
		expect(again.read(name(0), 90, { ...one, crc: two.crc })).toBeUndefined();
		expect(again.read(name(0), 90, { ...one, segment: 9 })).toBeUndefined();
		again.close();
	});

	test('what a commit that failed had appended is written over', () => {
		const made = new Segments(folder, [], 1_000);
		const one = made.append(name(0), first);
		made.flush();
		made.settle(true);
		made.append(name(90), randomBytes(2_000));
		made.flush();
		expect(made.active).toBe(2);
		made.settle(false);
		const two = made.append(name(90), second);
		expect([two.segment, two.position]).toEqual([1, endOf(one)]);
		made.flush();
		made.settle(true);
		expect(made.read(name(0), 90, one)).toEqual(first);
		expect(made.read(name(90), 120, two)).toEqual(second);
		made.close();
	});
});

test('output is on disk before the commit that refers to it, and small output has no sync of its own', async () => {
	const store = await openStore({ file: join(folder, 'store.db') });
	await store.commit([insert('a')]);
	const data = randomBytes(200_000);
	const wal = () => fs.statSync(join(folder, 'store.db-wal')).size;
	const seen: { wal: number; holds: boolean }[] = [];
	const sync = fs.fdatasyncSync;
	jest.spyOn(fs, 'fdatasyncSync').mockImplementation((file) => {
		sync(file);
		seen.push({ wal: wal(), holds: fs.readFileSync(segment()).includes(data.subarray(-1_000)) });
	});
	await store.commit([piece('a', 0, data.subarray(0, 1_000))]);
	expect(seen).toEqual([]);
	const before = wal();
	await store.commit([piece('a', 1_000, data.subarray(1_000))]);
	// At the moment of the sync nothing of the transaction was in the log yet.
	expect(seen).toEqual([{ wal: before, holds: true }]);
	expect(wal()).toBeGreaterThan(before);
	await store.close();
});

test.each([
	['EIO', 10],
	['ENOSPC', 13],
])(
	'a sync that fails with %s commits nothing, and what comes next is sound',
	async (code, errcode) => {
		const store = await openStore({ file: join(folder, 'store.db') });
		await store.commit([insert('a'), piece('a', 0, randomBytes(10))]);
		const [whole] = await read(store, 'a', 10);
		const failing = jest.spyOn(fs, 'fdatasyncSync').mockImplementationOnce(() => {
			throw Object.assign(new Error('no'), { code });
		});
		const data = randomBytes(100_000);
		const failed = store.commit([insert('b'), piece('a', 10, randomBytes(100_000))]);
		await expect(failed).rejects.toMatchObject({ errcode });
		expect(failing).toHaveBeenCalledTimes(1);
		expect(await store.read('job', { id: 'b' })).toBeUndefined();
		expect(await store.read('job', { id: 'a' })).toMatchObject({ stdoutHave: 10 });
		await store.commit([piece('a', 10, data)]);
		const found = await read(store, 'a', 100_010);
		expect(Buffer.concat(found as Buffer[]).equals(Buffer.concat([whole as Buffer, data]))).toBe(
			true,
		);
		await store.close();
	},
);

test('of 1,000 bits turned in segments not one wrong byte is handed out, and each is told', async () => {
	const store = await openStore({ file: join(folder, 'store.db') });
	const jobs = ['a', 'b', 'c', 'd'].map((jobId) => ({ jobId, data: randomBytes(200_000) }));
	for (const { jobId, data } of jobs) {
		await store.commit([
			insert(jobId),
			...[0, 40_000, 80_000, 150_000].map((from, i, all) =>
				piece(jobId, from, data.subarray(from, all[i + 1])),
			),
		]);
	}
	const { size } = fs.statSync(segment());
	const file = fs.openSync(segment(), 'r+');
	let told = 0;
	for (let round = 0; round < 1_000; round += 1) {
		const position = Math.floor(Math.random() * size);
		const byte = Buffer.alloc(1);
		fs.readSync(file, byte, 0, 1, position);
		const turned = Buffer.from([byte[0]! ^ (1 << (round % 8))]);
		fs.writeSync(file, turned, 0, 1, position);
		let holes = 0;
		for (const { jobId, data } of jobs) {
			let from = 0;
			for (const part of await read(store, jobId, data.length)) {
				if (Buffer.isBuffer(part)) {
					expect(part.equals(data.subarray(from, from + part.length))).toBe(true);
					from += part.length;
				} else {
					expect(part).toMatchObject({ from, reason: 'damaged' });
					expect([40_000, 70_000, 50_000]).toContain(part.to - part.from);
					holes += 1;
					from = part.to;
				}
			}
			expect(from).toBe(data.length);
		}
		expect([position, holes]).toEqual([position, 1]);
		told += holes;
		fs.writeSync(file, byte, 0, 1, position);
	}
	expect(told).toBe(1_000);
	fs.closeSync(file);
	await store.close();
}, 60_000);

test('what is marked as damaged is never handed out again, and its neighbours are', async () => {
	const store = await openStore({ file: join(folder, 'store.db') });
	const data = randomBytes(120_000);
	await store.commit([
		insert('a'),
		piece('a', 0, data.subarray(0, 40_000)),
		piece('a', 40_000, data.subarray(40_000, 80_000)),
		piece('a', 80_000, data.subarray(80_000)),
	]);
	const hole = { from: 40_000, to: 80_000, reason: 'damaged' as const };
	await store.commit([
		{ do: 'markOutput', with: { jobId: 'a', number: 1, stream: 'stdout', hole } },
	]);
	expect(await read(store, 'a', 120_000)).toEqual([
		data.subarray(0, 40_000),
		hole,
		data.subarray(80_000),
	]);
	await store.close();
});

test('a segment goes when nothing in it is wanted, and a crash in between leaves no file behind', async () => {
	const open = () => openStore({ file: join(folder, 'store.db'), segmentBytes: 100_000 });
	let store = await open();
	for (const jobId of ['a', 'b', 'c']) {
		await store.commit([insert(jobId), piece(jobId, 0, randomBytes(90_000)), end(jobId)]);
	}
	expect(segments()).toEqual(['0000000001.seg', '0000000002.seg', '0000000003.seg']);
	const purge = (maxBytes: number): Deed => ({
		do: 'purgeOutput',
		with: { endedBefore: at, maxBytes, maxJobs: 10 },
	});
	expect(await store.commit([purge(200_000)])).toMatchObject([{ jobs: 1 }]);
	expect(segments()).toEqual(['0000000002.seg', '0000000003.seg']);

	// The file could not be removed any more; the next start finds that nobody knows it.
	jest.spyOn(fs, 'rmSync').mockImplementationOnce(() => undefined);
	expect(await store.commit([purge(100_000)])).toMatchObject([{ jobs: 1 }]);
	expect(segments()).toEqual(['0000000002.seg', '0000000003.seg']);
	await store.close();
	store = await open();
	expect(segments()).toEqual(['0000000003.seg']);
	await store.close();
});

test('a commit that let go of a segment is done, whatever the disk says to its removal', async () => {
	const store = await openStore({ file: join(folder, 'store.db'), segmentBytes: 100_000 });
	for (const jobId of ['a', 'b']) {
		await store.commit([insert(jobId), piece(jobId, 0, randomBytes(90_000)), end(jobId)]);
	}
	const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
	const remove = jest.spyOn(fs, 'rmSync').mockImplementation(() => {
		throw full;
	});
	const purge = { endedBefore: at - 1, maxBytes: 100_000, maxJobs: 10 };
	expect(await store.commit([{ do: 'purgeOutput', with: purge }])).toMatchObject([{ jobs: 1 }]);
	remove.mockRestore();
	fs.mkdirSync(join(folder, 'output', 'lost+found'));
	await store.close();
	await (await openStore({ file: join(folder, 'store.db') })).close();
	expect(segments()).toEqual(['0000000002.seg', 'lost+found']);
});

test('a few wanted bytes among many that are not are moved, and read as before', async () => {
	const store = await openStore({ file: join(folder, 'store.db'), segmentBytes: 1_000_000 });
	const kept = randomBytes(80_000);
	await store.commit([insert('k'), piece('k', 0, kept.subarray(0, 40_000))]);
	for (const jobId of ['a', 'b', 'c', 'd', 'e']) {
		await store.commit([insert(jobId), piece(jobId, 0, randomBytes(190_000)), end(jobId)]);
	}
	await store.commit([piece('k', 40_000, kept.subarray(40_000))]);
	const compact = async () =>
		(await store.commit([
			{ do: 'compactOutput', with: { maxBytes: 50_000 } },
		])) as Deeds['compactOutput']['out'][];
	expect(await compact()).toEqual([{ moved: 0, damaged: 0 }]);
	await store.commit([
		{ do: 'purgeOutput', with: { endedBefore: at + 1, maxBytes: 0, maxJobs: 9 } },
	]);
	expect(segments()).toEqual(['0000000001.seg', '0000000002.seg']);
	expect(await compact()).toEqual([{ moved: 40_000, damaged: 0 }]);
	expect(segments()).toEqual(['0000000002.seg']);
	expect(Buffer.concat((await read(store, 'k', 80_000)) as Buffer[]).equals(kept)).toBe(true);
	expect(await compact()).toEqual([{ moved: 0, damaged: 0 }]);
	await store.close();
});

test('a record that is found damaged while it is moved becomes a hole', async () => {
	const store = await openStore({ file: join(folder, 'store.db'), segmentBytes: 500_000 });
	const data = randomBytes(40_000);
	await store.commit([
		insert('k'),
		piece('k', 0, data),
		insert('a'),
		piece('a', 0, randomBytes(450_000)),
		end('a'),
	]);
	await store.commit([insert('b'), piece('b', 0, randomBytes(450_000))]);
	const file = fs.openSync(segment(), 'r+');
	const byte = Buffer.alloc(1);
	fs.readSync(file, byte, 0, 1, 10_000);
	fs.writeSync(
		file,
		byte.map((bits) => bits ^ 1),
		0,
		1,
		10_000,
	);
	fs.closeSync(file);
	await store.commit([
		{ do: 'purgeOutput', with: { endedBefore: at + 1, maxBytes: 1e9, maxJobs: 9 } },
	]);
	expect(await store.commit([{ do: 'compactOutput', with: { maxBytes: 1e9 } }])).toEqual([
		{ moved: 0, damaged: 1 },
	]);
	expect(await read(store, 'k', 40_000)).toEqual([{ from: 0, to: 40_000, reason: 'damaged' }]);
	expect(segments()).toEqual(['0000000002.seg']);
	await store.close();
});

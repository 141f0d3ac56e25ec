import { createHash, randomBytes } from 'node:crypto';
import {
	existsSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { Incoming } from '../../../dispatcher/engine';
import { FileShelf } from '../../../dispatcher/store/shelf';
import { type FileRecord, limits, type Problem } from '../../../protocol';
import { settled } from '../../support/fake-clock';
import { admin, heldAs, house, type House, type PlayedRobot } from '../../support/engine';

const dayMs = 86_400_000;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const data = randomBytes(300_000);
const wish = { name: 'app.bin', bytes: data.length, sha256: sha256(data) };

/** A shelf on a disk with so much room. */
class SmallDisk extends FileShelf {
	free = 1e12;

	override async freeBytes(): Promise<number> {
		return this.free;
	}
}

let folder: string;
let h: House;
let disk: SmallDisk;
beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-files-'));
	disk = new SmallDisk(join(folder, 'files'));
	h = await house({
		shelf: disk,
		fileLimits: { maxFileBytes: 1_000_000, maxFilesBytes: 2_000_000 },
	});
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true });
});

/** A body that ends, or breaks off, behind these bytes. */
function bodyOf(bytes: Uint8Array, breaksOff = false): Incoming {
	async function* pieces() {
		for (let at = 0; at < bytes.length; at += 10_000) yield bytes.subarray(at, at + 10_000);
		if (breaksOff) throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
	}
	return { pieces: pieces(), cut: () => undefined };
}

const refusal = (promise: Promise<unknown>): Promise<Problem> =>
	promise.then(
		() => {
			throw new Error('it was not refused');
		},
		(problem: unknown) => problem as Problem,
	);

async function sent(bytes: Uint8Array = data, name = 'app.bin'): Promise<FileRecord> {
	const file = await h.engine.createFile(
		{ name, bytes: bytes.length, sha256: sha256(bytes) },
		admin,
	);
	return h.engine.writeFile(file.fileId, 0, bodyOf(bytes));
}

/** Waits for what the store's thread and the disk do. */
async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
	const late = performance.now() + 5_000;
	for (;;) {
		const found = look();
		if (found !== undefined && found !== false) return found;
		if (performance.now() > late) throw new Error(`waited for ${what}`);
		await turn();
	}
}

test('what came before a cut is kept and counted; the next call goes on there, over a death of the service, and whole it is ready', async () => {
	const { fileId, have, state } = await h.engine.createFile(wish, admin);
	expect([have, state]).toEqual([0, 'open']);
	await refusal(h.engine.writeFile(fileId, 0, bodyOf(data.subarray(0, 100_000), true)));
	expect(await h.engine.file(fileId)).toMatchObject({ have: 100_000, state: 'open' });
	expect(await refusal(h.engine.writeFile(fileId, 0, bodyOf(data)))).toMatchObject({
		code: 'file-offset',
		details: { have: 100_000 },
	});
	await h.restart();
	// The same file from the same caller is the same upload.
	expect(await h.engine.createFile(wish, admin)).toMatchObject({ fileId, have: 100_000 });
	const file = await h.engine.writeFile(fileId, 100_000, bodyOf(data.subarray(100_000)));
	expect(file).toMatchObject({ state: 'ready', have: data.length, sha256: wish.sha256 });
	const lies = join(folder, 'files', fileId);
	expect(readFileSync(lies).equals(data)).toBe(true);
	expect(statSync(lies).mode & 0o777).toBe(0o600);
	// Said twice, it is so already; a second file of that kind is the first one.
	expect(await h.engine.writeFile(fileId, data.length, bodyOf(new Uint8Array()))).toEqual(file);
	expect(await h.engine.createFile(wish, admin)).toMatchObject({ fileId, state: 'ready' });
});

test('bytes that are not what was announced are thrown away, and it begins at 0', async () => {
	const { fileId } = await h.engine.createFile(wish, admin);
	const wrong = Buffer.from(data);
	wrong[5]! ^= 1;
	expect(await refusal(h.engine.writeFile(fileId, 0, bodyOf(wrong)))).toMatchObject({
		code: 'file-differs',
	});
	expect(await h.engine.file(fileId)).toMatchObject({ have: 0, state: 'open' });
	expect(await h.engine.writeFile(fileId, 0, bodyOf(data))).toMatchObject({ state: 'ready' });
});

test('more than was announced is not taken, and more than fits is not announced', async () => {
	const { fileId } = await h.engine.createFile({ ...wish, bytes: 10 }, admin);
	expect(await refusal(h.engine.writeFile(fileId, 0, bodyOf(data)))).toMatchObject({
		code: 'file-too-long',
	});
	const large = { ...wish, bytes: 1_000_001 };
	expect((await refusal(h.engine.createFile(large, admin))).code).toBe('file-too-large');
	await h.engine.createFile({ ...wish, name: 'b', bytes: 1_000_000 }, admin);
	const full = await refusal(h.engine.createFile({ ...wish, name: 'c', bytes: 1_000_000 }, admin));
	expect(full.code).toBe('files-full');
});

test('near a full disk nothing new begins, what is here is answered, and what is missing is judged by what it needs', async () => {
	const least = 1_000;
	const whole = await sent();
	const { fileId } = await h.engine.createFile({ ...wish, name: 'open' }, admin);
	await refusal(h.engine.writeFile(fileId, 0, bodyOf(data.subarray(0, 200_000), true)));
	const name = (of: string, bytes = 1) => h.engine.createFile({ ...wish, name: of, bytes }, admin);
	disk.free = least + 100_000;
	expect(await h.engine.createFile(wish, admin)).toMatchObject({ fileId: whole.fileId });
	expect(await name('open', data.length)).toMatchObject({ fileId, have: 200_000 });
	// All that is left is for the rest of it, before and after a death of the service.
	expect((await refusal(name('new'))).code).toBe('store-full');
	await h.restart();
	for (let tries = 0; tries < 2_000; tries += 1) await turn();
	expect((await refusal(name('new'))).code).toBe('store-full');
	disk.free -= 1;
	expect((await refusal(name('open', data.length))).code).toBe('store-full');
	const rest = () => h.engine.writeFile(fileId, 200_000, bodyOf(data.subarray(200_000)));
	disk.free = least - 1;
	expect((await refusal(rest())).code).toBe('store-full');
	disk.free = 1e12;
	expect(await rest()).toMatchObject({ state: 'ready' });
	disk.free = least + 1;
	expect(await name('new')).toMatchObject({ state: 'open' });
});

test('a file that goes while it is announced once more holds no room', async () => {
	const big = { ...wish, bytes: 900_000 };
	const { fileId } = await h.engine.createFile(big, admin);
	let looks = 0;
	jest.spyOn(disk, 'freeBytes').mockImplementation(async () => {
		if (++looks === 2) await h.engine.removeFile(fileId, admin);
		return disk.free;
	});
	await h.engine.createFile(big, admin);
	expect(looks).toBe(2);
	disk.free = 950_000;
	await h.engine.createFile({ ...big, name: 'other.bin' }, admin);
});

test('who comes later goes on; who sent before is cut off', async () => {
	const { fileId } = await h.engine.createFile(wish, admin);
	const stuck = Promise.withResolvers<void>();
	const first = refusal(
		h.engine.writeFile(fileId, 0, {
			pieces: (async function* () {
				yield data.subarray(0, 50_000);
				await stuck.promise;
				yield data.subarray(50_000);
			})(),
			cut: () => stuck.resolve(),
		}),
	);
	const lies = join(folder, 'files', fileId);
	await until('the first bytes', () => existsSync(lies) && statSync(lies).size === 50_000);
	const second = await h.engine.writeFile(fileId, 50_000, bodyOf(data.subarray(50_000)));
	expect((await first).code).toBe('file-taken-over');
	expect(second.state).toBe('ready');
});

test('in one go a file needs no digest; one that breaks off leaves nothing', async () => {
	const file = await h.engine.uploadFile('a.bin', data.length, bodyOf(data), admin);
	expect(file).toMatchObject({ state: 'ready', sha256: wish.sha256, name: 'a.bin' });
	await refusal(h.engine.uploadFile('b.bin', 500_000, bodyOf(data), admin));
	await refusal(h.engine.uploadFile('c.bin', data.length, bodyOf(data.subarray(9), true), admin));
	expect((await h.engine.files({ limit: 10 })).items.map(({ fileId }) => fileId)).toEqual([
		file.fileId,
	]);
	expect(readdirSync(join(folder, 'files'))).toEqual([file.fileId]);
});

test('a job cannot have a file that is not whole, and holds one that is until it has ended', async () => {
	const bert = await h.robot('bert', { features: ['files'] });
	const { fileId: open } = await h.engine.createFile({ ...wish, name: 'open' }, admin);
	const spec = (file: string) => ({ command: 'true', files: [{ file, path: 'a' }] });
	for (const [file, reason] of [
		['nobody', /names the file nobody, which is not known here/],
		[open, /which is not whole yet/],
	] as const) {
		const [answer] = await h.engine.submit([{ kind: 'command', spec: spec(file) }], admin);
		expect(answer).toMatchObject({ code: 'file-unusable', status: 422 });
		expect((answer as Problem).message).toMatch(reason);
	}
	const { fileId } = await sent();
	const jobId = await h.submit({ spec: spec(fileId) });
	expect(await refusal(h.engine.removeFile(fileId, admin))).toMatchObject({
		code: 'file-in-use',
		details: { jobId },
	});
	await bert.accept();
	await bert.end();
	expect(await h.state(jobId)).toBe('completed');
	await h.engine.removeFile(fileId, admin);
	expect((await refusal(h.engine.file(fileId))).code).toBe('no-such-file');
	expect(existsSync(join(folder, 'files', fileId))).toBe(false);
	// The same job again needs it again.
	expect((await refusal(h.engine.retry(jobId, admin))).code).toBe('file-unusable');
});

test('files go a week after they were last needed, open ones after a day, those of open jobs never', async () => {
	const needed = await sent(data, 'needed');
	await sent(data, 'not needed');
	await h.engine.createFile({ ...wish, name: 'never sent' }, admin);
	await h.submit({ spec: { command: 'true', files: [{ file: needed.fileId, path: 'a' }] } });
	const names = async () =>
		(await h.engine.files({ limit: 9 })).items.map(({ name }) => name).sort();
	await h.clock.pause(1.5 * dayMs);
	expect(await eventuallyNames(names, 2)).toEqual(['needed', 'not needed']);
	await h.clock.pause(6 * dayMs);
	expect(await eventuallyNames(names, 1)).toEqual(['needed']);
	const lie = () => readdirSync(join(folder, 'files'));
	await until('the bytes to go, too', () => lie().length === 1);
	expect(lie()).toEqual([needed.fileId]);
	// Old records are looked through meanwhile, with pauses that this clock must let pass.
	await h.clock.advance(5_000);
});

/** They are looked at once a minute; the disk takes its own time. */
async function eventuallyNames(names: () => Promise<string[]>, count: number): Promise<string[]> {
	for (let minutes = 0; minutes < 60; minutes += 1) {
		const found = await names();
		if (found.length === count) return found;
		await h.clock.advance(61_000);
	}
	return names();
}

test('after a start bytes that nobody knows are swept, and a file without its bytes is told as lost', async () => {
	const file = await sent();
	writeFileSync(join(folder, 'files', 'orphan'), 'x');
	rmSync(join(folder, 'files', file.fileId));
	await h.restart();
	await until('the sweep', () => !existsSync(join(folder, 'files', 'orphan')));
	for (let tries = 0; tries < 2_000; tries += 1) {
		if ((await h.engine.file(file.fileId)).state === 'lost') break;
		await turn();
	}
	expect(await h.engine.file(file.fileId)).toMatchObject({ state: 'lost', bytes: 0 });
	expect((await refusal(h.engine.fileBytes(file.fileId, 0, 1))).code).toBe('file-lost');
});

test('a robot whose agent knows no files does not get such a job: it goes to another one, or says why it fails', async () => {
	const old = await h.robot('old');
	const jobId = await h.submit({ spec: { command: 'true', collect: ['a'] } });
	await settled();
	expect(old.assigned).toEqual([]);
	expect(await h.engine.job(jobId)).toMatchObject({ state: 'failed', cause: 'policy' });
	expect((await h.engine.job(jobId)).error!.message).toMatch(/can neither place files nor collect/);
	const plain = await h.submit({ spec: { command: 'true' } });
	expect(old.last.job_id).toBe(plain);
	const able = await h.robot('able', { features: ['files'] });
	const again = await h.submit({ spec: { command: 'true', collect: ['a'] } });
	await settled();
	expect(able.last.job_id).toBe(again);
	expect(old.assigned).toHaveLength(1);
});

describe('over the robots’ line', () => {
	let bert: PlayedRobot;
	const ref = () => {
		const { job_id, attempt, epoch, token } = bert.last;
		return { job_id, attempt, epoch, token };
	};
	const next = (at: number) => until(`word ${at} about files`, () => bert.files[at]);
	const frames = async (from: number, bytes: Uint8Array, transfer = 0) => {
		const { job_id: jobId, epoch } = bert.last;
		for (let at = 0; at < bytes.length; at += 50_000) {
			const piece = bytes.subarray(at, at + 50_000);
			bert.session.fileBytes({ jobId, epoch, transfer, offset: from + at, data: piece });
		}
	};
	beforeEach(async () => {
		bert = await h.robot('bert', { features: ['files'] });
	});

	test('a robot reads what the spec of its own attempt names, and nothing else', async () => {
		const mine = await sent();
		const other = await sent(data, 'other');
		await h.submit({ spec: { command: 'true', files: [{ file: mine.fileId, path: 'a' }] } });
		await bert.accept();
		const read = { ...ref(), transfer: 0, from: 0, length: 0 };
		bert.session.fileRead({ ...read, file_id: mine.fileId });
		expect((await next(0)).info).toMatchObject({ bytes: data.length, sha256: wish.sha256 });
		bert.session.fileRead({ ...read, file_id: mine.fileId, from: 200_000, length: 100_000 });
		const pieces = [(await next(1)).bytes!, (await next(2)).bytes!];
		expect(pieces.map(({ offset }) => offset)).toEqual([200_000, 200_000 + limits.filePieceBytes]);
		expect(Buffer.concat(pieces.map((one) => one.data)).equals(data.subarray(200_000))).toBe(true);
		bert.session.fileRead({ ...read, file_id: other.fileId });
		expect((await next(3)).refused).toMatchObject({ code: 'no-such-file' });
		bert.session.fileRead({ ...read, epoch: 1, file_id: mine.fileId });
		expect((await next(4)).refused).toMatchObject({ code: 'lease-lost' });
	});

	test('what is offered is taken from where it ends, acknowledged, and kept once, however often it is offered', async () => {
		const jobId = await h.submit({ spec: { command: 'true', collect: ['out/*'] } });
		await bert.accept();
		const offer = {
			...ref(),
			transfer: 0,
			path: 'out/a',
			bytes: data.length,
			sha256: wish.sha256,
			mode: 0o640,
		};
		bert.session.fileOffer(offer);
		expect((await next(0)).want).toMatchObject({ have: 0, again: true });
		await frames(0, data.subarray(0, 100_000));
		await until('the acknowledgement', () => bert.files.some(({ want }) => want?.have === 100_000));
		// The line is cut; what is there is not sent again.
		await bert.vanish();
		await bert.connect({ attempts: [heldAs('running', bert.last)] });
		let at = bert.files.length;
		bert.session.fileOffer(offer);
		expect((await next(at)).want).toMatchObject({ have: 100_000, again: true });
		// A piece that does not fit is let fall and asked for again.
		await frames(200_000, data.subarray(200_000, 250_000));
		await until('the question', () => bert.files.slice(at + 1).some(({ want }) => want?.again));
		await frames(100_000, data.subarray(100_000));
		const kept = await until('the id', () => bert.files.find((one) => one.kept)?.kept);
		at = bert.files.length;
		bert.session.fileOffer({ ...offer, transfer: 7 });
		expect((await next(at)).kept).toEqual({ ...kept, transfer: 7 });
		expect((await h.engine.files({ jobId, limit: 9 })).items).toEqual([
			expect.objectContaining({
				fileId: kept.file_id,
				name: 'a',
				path: 'out/a',
				mode: '0640',
				jobId,
				state: 'ready',
			}),
		]);
		expect(readFileSync(join(folder, 'files', kept.file_id)).equals(data)).toBe(true);
	});

	test('what nobody asked for, leads out, is too large or differs is refused with its reason', async () => {
		await h.submit({ spec: { command: 'true', collect: ['out/*'] } });
		await bert.accept();
		const offer = {
			...ref(),
			transfer: 0,
			path: 'out/a',
			bytes: 3,
			sha256: sha256(data),
			mode: 0o644,
		};
		bert.session.fileOffer({ ...offer, path: 'other' });
		bert.session.fileOffer({ ...offer, transfer: 1, path: 'out/../../x' });
		bert.session.fileOffer({ ...offer, transfer: 2, bytes: 1_000_001 });
		bert.session.fileOffer({ ...offer, transfer: 3 });
		await until('the answers', () => bert.files.length === 4);
		const codes = Object.fromEntries(
			bert.files.map(({ refused, want }) => [(refused ?? want)!.transfer, refused?.code]),
		);
		expect(codes).toEqual({ 0: 'bad-field', 1: 'bad-field', 2: 'file-too-large', 3: undefined });
		await frames(0, data.subarray(0, 3), 3);
		expect((await next(4)).refused).toMatchObject({ transfer: 3, code: 'file-differs' });
	});

	test('an attempt has four files under way, its bytes come from its robot only, and what it leaves half-sent goes', async () => {
		const jobId = await h.submit({ spec: { command: 'true', collect: ['*'] } });
		await bert.accept();
		const offer = (transfer: number) =>
			bert.session.fileOffer({
				...ref(),
				transfer,
				path: `f${transfer}`,
				bytes: data.length,
				sha256: wish.sha256,
				mode: 0o644,
			});
		for (let i = 0; i < 5; i += 1) offer(i);
		await until('the answers', () => bert.files.length === 5);
		const refused = bert.files.flatMap((one) => one.refused ?? []);
		expect(refused).toMatchObject([{ code: 'too-many', retry: true }]);
		await frames(0, data);
		await until('the id', () => bert.files.find((one) => one.kept)?.kept);
		const before = bert.files.length;
		offer(refused[0]!.transfer);
		expect((await next(before)).want).toMatchObject({ have: 0 });
		const { items } = await h.engine.files({ jobId, limit: 9 });
		const open = items.filter(({ state }) => state === 'open');
		expect(open).toHaveLength(4);
		expect(await refusal(h.engine.writeFile(open[0]!.fileId, 0, bodyOf(data)))).toMatchObject({
			code: 'file-of-robot',
			status: 409,
		});
		await bert.end();
		const count = async () => (await h.engine.files({ jobId, limit: 9 })).items.length;
		for (let minutes = 0; minutes < 60 && (await count()) > 1; minutes += 1) {
			await h.clock.advance(61_000);
		}
		expect((await h.engine.files({ jobId, limit: 9 })).items).toMatchObject([{ state: 'ready' }]);
		await until('the bytes to go', () => readdirSync(join(folder, 'files')).length === 1);
	});

	test('what differs is forgotten before it is offered as what it is', async () => {
		const jobId = await h.submit({ spec: { command: 'true', collect: ['*'] } });
		await bert.accept();
		const offer = { ...ref(), transfer: 0, path: 'a', bytes: 3, mode: 0o644 };
		bert.session.fileOffer({ ...offer, sha256: sha256(data) });
		await next(0);
		await frames(0, data.subarray(0, 3));
		expect((await next(1)).refused).toMatchObject({ code: 'file-differs' });
		expect((await h.engine.files({ jobId, limit: 9 })).items).toEqual([]);
		bert.session.fileOffer({ ...offer, sha256: sha256(data.subarray(0, 3)) });
		await next(2);
		await frames(0, data.subarray(0, 3));
		expect((await next(3)).kept).toBeDefined();
		await until('the bytes to go', () => readdirSync(join(folder, 'files')).length === 1);
	});

	test('a line that is lost while its file is opened leaves nobody who writes it', async () => {
		const jobId = await h.submit({ spec: { command: 'true', collect: ['*'] } });
		await bert.accept();
		const offer = {
			...ref(),
			transfer: 0,
			path: 'a',
			bytes: data.length,
			sha256: wish.sha256,
			mode: 0o644,
		};
		const opening = Promise.withResolvers<void>();
		const opened = Promise.withResolvers<void>();
		const write = disk.write.bind(disk);
		disk.write = async (id) => {
			opening.resolve();
			await opened.promise;
			return write(id);
		};
		bert.session.fileOffer(offer);
		await opening.promise;
		await bert.vanish();
		disk.write = write;
		opened.resolve();
		await bert.connect({ attempts: [heldAs('running', bert.last)] });
		const { fileId } = (await h.engine.files({ jobId, limit: 9 })).items[0]!;
		await until('its bytes', () => existsSync(join(folder, 'files', fileId)));
		expect(bert.files).toEqual([]);
		bert.session.fileOffer(offer);
		expect((await next(0)).want).toMatchObject({ have: 0 });
		await frames(0, data);
		await until('the id', () => bert.files.find((one) => one.kept)?.kept);
	});

	test('a job does not wait for a robot that floods: what is too much is let fall', async () => {
		await h.submit({ spec: { command: 'true', collect: ['a'] } });
		await bert.accept();
		const large = randomBytes(900_000);
		const offer = {
			...ref(),
			transfer: 0,
			path: 'a',
			bytes: large.length,
			sha256: sha256(large),
			mode: 0o644,
		};
		bert.session.fileOffer(offer);
		await next(0);
		await frames(0, large);
		const { have } = await until(
			'the question',
			() => bert.files.slice(1).find(({ want }) => want?.again)?.want,
		);
		expect(have).toBeLessThanOrEqual(2 * limits.fileWindowBytes);
		for (let at = have; at < large.length;) {
			const upTo = Math.min(large.length, at + 200_000);
			await frames(at, large.subarray(at, upTo));
			at = upTo;
			const reached = at;
			await until('progress', () =>
				bert.files.some(({ want, kept }) => kept || (want && want.have >= reached)),
			);
		}
		await until('the id', () => bert.files.find((one) => one.kept)?.kept);
	});
});

/** Both ways of files on the robot, with a service that is played word by word. */
import { createHash, randomBytes } from 'node:crypto';
import {
	existsSync,
	linkSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../../agent/clock';
import { amounts } from '../../../agent/amounts';
import { collect } from '../../../agent/drivers/collect';
import { FilesIn } from '../../../agent/files-in';
import { FilesOut } from '../../../agent/files-out';
import type { Line } from '../../../agent/link';
import { type Workspace, Workspaces } from '../../../agent/workspaces';
import { type FileOffer, type FileRead, limits, type RobotMessages } from '../../../protocol';
import type { FileFrame } from '../../../protocol/frames';
import { until } from '../../../scripts/n8n/until.mjs';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const jobId = '01890000-0000-7000-8000-000000000001';
const ref = { job_id: jobId, attempt: 1, epoch: 7, token: 't' };
const named = { job_id: jobId, epoch: 7, transfer: 0 };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const never = new AbortController().signal;
const workspace = (reserveBytes = 0): Workspace =>
	new Workspaces(join(folder(), 'work'), reserveBytes).of('job', 7);

class Wire implements Line {
	readonly maxOutputBytes = 1;
	readonly maxMessageBytes = limits.maxControlFrameBytes;
	features: readonly string[] = ['files'];
	readonly offers: FileOffer[] = [];
	readonly frames: FileFrame[] = [];
	answer: (read: FileRead) => void = () => undefined;
	offered: (offer: FileOffer) => void = () => undefined;
	sent: (frame: FileFrame) => void = () => undefined;

	send<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T]): void {
		// As over a socket: the answer comes later.
		setImmediate(() => {
			if (type === 'file_read') this.answer(payload as FileRead);
			if (type !== 'file_offer') return;
			this.offers.push(payload as FileOffer);
			this.offered(payload as FileOffer);
		});
	}

	sendOutput(): void {}

	sendFile(frame: FileFrame): void {
		const kept = { ...frame, data: Buffer.from(frame.data) };
		this.frames.push(kept);
		setImmediate(() => this.sent(kept));
	}
}

describe('in', () => {
	const data = randomBytes(700_000);

	function setup(space = workspace()) {
		const wire = new Wire();
		const reads: FileRead[] = [];
		const files = new FilesIn({
			ref,
			files: [{ file: 'f-1', path: 'a/in', mode: '0600' }],
			workspace: space,
			report: () => undefined,
		});
		/** A service that has these bytes, and says this of them. */
		const serve = (bytes: Buffer, digest = sha256(bytes)) => {
			wire.answer = (read) => {
				reads.push(read);
				if (read.length === 0) {
					return files.told({ ...named, bytes: bytes.length, sha256: digest });
				}
				const to = Math.min(bytes.length, read.from + read.length);
				for (let at = read.from; at < to; at += limits.filePieceBytes) {
					const piece = bytes.subarray(at, Math.min(to, at + limits.filePieceBytes));
					files.take({ jobId, epoch: 7, transfer: 0, offset: at, data: piece });
				}
			};
			files.attach(wire);
		};
		return { wire, files, reads, serve, space };
	}

	test('a file is asked for a window at a time, and placed with its mode when its digest is right', async () => {
		const { files, serve, reads, space } = setup();
		serve(data);
		expect(await files.fetch(never)).toBeUndefined();
		const placed = join(space.folder, 'a/in');
		expect(readFileSync(placed).equals(data)).toBe(true);
		expect(statSync(placed).mode & 0o777).toBe(0o600);
		expect(existsSync(`${space.folder}.in`)).toBe(false);
		expect(Math.max(...reads.map(({ length }) => length))).toBe(limits.fileWindowBytes / 2);
		expect(reads.reduce((sum, { length }) => sum + length, 0)).toBe(data.length);
		// In another life of the agent it is there already.
		const later = setup(space);
		later.serve(data);
		expect([await later.files.fetch(never), later.reads]).toEqual([undefined, []]);
	});

	test('what nobody asked for is not taken, so that it fills no memory', async () => {
		const { files, serve, reads, space, wire } = setup();
		serve(data);
		const good = wire.answer;
		const window = limits.fileWindowBytes;
		wire.answer = (read) => {
			good(read);
			// Both questions that are under way are answered by now.
			if (read.from !== window / 2) return;
			files.take({ jobId, epoch: 7, transfer: 0, offset: window, data: randomBytes(1_000) });
		};
		expect(await files.fetch(never)).toBeUndefined();
		expect(readFileSync(join(space.folder, 'a/in')).equals(data)).toBe(true);
		// It came right at once.
		expect(reads.filter(({ from, length }) => from === 0 && length > 0)).toHaveLength(1);
	});

	test('what an earlier life had fetched is not fetched again', async () => {
		const space = workspace();
		await space.make();
		const part = await space.incoming(0);
		await part.writeFile(data.subarray(0, 400_000));
		await part.close();
		const { files, serve, reads } = setup(space);
		serve(data);
		expect(await files.fetch(never)).toBeUndefined();
		expect(readFileSync(join(space.folder, 'a/in')).equals(data)).toBe(true);
		expect(reads.reduce((sum, { length }) => sum + length, 0)).toBe(300_000);
	});

	test('bytes that are not what was told are fetched once more, then the reason is said', async () => {
		const once = setup();
		let tries = 0;
		once.serve(data);
		const good = once.wire.answer;
		once.wire.answer = (read) => {
			if (read.length > 0 && read.from === 0) tries += 1;
			if (tries > 1 || read.length === 0) return good(read);
			const bytes = randomBytes(Math.min(read.length, data.length - read.from));
			once.files.take({ jobId, epoch: 7, transfer: 0, offset: read.from, data: bytes });
		};
		expect([await once.files.fetch(never), tries]).toEqual([undefined, 2]);
		await once.space.remove();
		const always = setup();
		always.serve(data, 'f'.repeat(64));
		expect(await always.files.fetch(never)).toMatch(/for a\/in came twice with other bytes/);
		expect(existsSync(join(always.space.folder, 'a/in'))).toBe(false);
	});

	test('a disk without room, a file that is refused, a service that knows none: each is one sentence', async () => {
		const full = setup(workspace(1e18));
		full.serve(data);
		expect(await full.files.fetch(never)).toMatch(
			/has no room for a\/in: 700000 bytes are needed in .*work\/job-7, 0 are free/,
		);
		const gone = setup();
		gone.wire.answer = () =>
			gone.files.refused({ ...named, code: 'no-such-file', text: 'It is gone.', retry: false });
		gone.files.attach(gone.wire);
		expect(await gone.files.fetch(never)).toBe('It is gone.');
		const old = setup();
		old.wire.features = [];
		old.files.attach(old.wire);
		expect(await old.files.fetch(never)).toMatch(/hands no files out/);
	});

	test('two files that are one name on that disk are told, and neither takes the place of the other', async () => {
		const space = workspace();
		const files = new FilesIn({
			ref,
			files: [
				{ file: 'f-1', path: 'a/In' },
				{ file: 'f-2', path: 'a/in' },
			],
			workspace: space,
			report: () => undefined,
		});
		mkdirSync(join(space.folder, 'a'), { recursive: true });
		writeFileSync(join(space.folder, 'a/In'), 'x');
		linkSync(join(space.folder, 'a/In'), join(space.folder, 'a/in'));
		expect(await files.fetch(never)).toMatch(/^a\/In and a\/in are one name on the disk/);
	});

	test('killed while a file went to its place, it goes on, whatever permissions that was to have', async () => {
		const space = workspace();
		await space.make();
		writeFileSync(`${space.folder}.in/0`, data, { mode: 0o000 });
		const { files, serve } = setup(space);
		serve(data);
		expect(await files.fetch(never)).toBeUndefined();
		expect(readFileSync(join(space.folder, 'a/in')).equals(data)).toBe(true);
	});

	test('it waits for a line, goes on after a cut where it was, and ends when it is told to', async () => {
		const { files, serve, reads, wire } = setup();
		const stop = new AbortController();
		const fetching = files.fetch(stop.signal);
		serve(data);
		const answer = wire.answer;
		const cut = Promise.withResolvers<void>();
		wire.answer = (read) => {
			if (read.from + read.length > 500_000) {
				files.detach();
				return cut.resolve();
			}
			answer(read);
		};
		await cut.promise;
		const before = reads.length;
		wire.answer = answer;
		files.attach(wire);
		expect(await fetching).toBeUndefined();
		expect(reads.slice(before)[0]!.from).toBeGreaterThan(300_000);
		const stuck = setup(new Workspaces(join(folder(), 'other'), 0).of('job', 8));
		const waits = stuck.files.fetch(stop.signal);
		stop.abort();
		expect(await waits).toBeUndefined();
	});
});

describe('out', () => {
	const data = randomBytes(500_000);

	async function setup(bytes: Uint8Array = data) {
		const work = join(folder(), 'out');
		mkdirSync(work, { recursive: true });
		writeFileSync(join(work, 'a'), bytes);
		const wire = new Wire();
		const files = new FilesOut({ ref, folder: work, clock: systemClock });
		const found = await collect(work, ['*'], never);
		return { wire, files, found, work };
	}

	/** Takes what comes, in order; answers what it got. */
	function take(wire: Wire, files: FilesOut, has = Buffer.alloc(0)): () => Buffer {
		let got = has;
		let bytes = 0;
		const told = () => {
			if (got.length < bytes) files.want({ ...named, have: got.length });
			else if (sha256(got) === wire.offers.at(-1)!.sha256) {
				files.kept({ ...named, file_id: 'id' });
			} else {
				got = Buffer.alloc(0);
				files.refused({ ...named, code: 'file-differs', text: 'It differs.', retry: false });
			}
		};
		wire.offered = (offer) => {
			bytes = offer.bytes;
			if (got.length < bytes) files.want({ ...named, have: got.length, again: true });
			else told();
		};
		wire.sent = (frame) => {
			if (frame.offset !== got.length) return;
			got = Buffer.concat([got, frame.data]);
			told();
		};
		return () => got;
	}

	test('a file goes from where the service has it, never more ahead than the window, and gets its id', async () => {
		const { wire, files, found } = await setup();
		const got = take(wire, files, Buffer.from(data.subarray(0, 200_000)));
		files.attach(wire);
		expect(await files.send(found, never)).toEqual([
			{ path: 'a', bytes: data.length, sha256: sha256(data), file_id: 'id' },
		]);
		expect(got().equals(data)).toBe(true);
		expect(wire.frames[0]!.offset).toBe(200_000);
	});

	test('without an acknowledgement no more than a window is under way', async () => {
		const { wire, files, found } = await setup();
		const stop = new AbortController();
		wire.offered = () => files.want({ ...named, have: 0, again: true });
		const full = Promise.withResolvers<void>();
		wire.sent = () => {
			if (wire.frames.length * limits.filePieceBytes >= limits.fileWindowBytes) full.resolve();
		};
		files.attach(wire);
		const sending = files.send(found, stop.signal);
		await full.promise;
		for (let i = 0; i < 20; i += 1) await new Promise((wake) => setImmediate(wake));
		expect(wire.frames).toHaveLength(limits.fileWindowBytes / limits.filePieceBytes);
		// Nothing moved for a heartbeat: offered again, and from where it was.
		files.tick();
		files.tick();
		stop.abort();
		expect(await sending).toEqual([
			expect.objectContaining({ path: 'a', error: expect.stringMatching(/over before/) }),
		]);
	});

	test('a file that changed is looked at once more; one that goes on changing is told', async () => {
		const once = await setup();
		const got = take(once.wire, once.files);
		const other = randomBytes(500_000);
		writeFileSync(join(once.work, 'a'), other);
		once.files.attach(once.wire);
		expect(await once.files.send(once.found, never)).toEqual([
			{ path: 'a', bytes: other.length, sha256: sha256(other), file_id: 'id' },
		]);
		expect(got().equals(other)).toBe(true);
		const always = await setup();
		take(always.wire, always.files);
		const offered = always.wire.offered;
		always.wire.offered = (offer) => {
			writeFileSync(join(always.work, 'a'), randomBytes(500_000));
			offered(offer);
		};
		always.files.attach(always.wire);
		expect(await always.files.send(always.found, never)).toEqual([
			expect.objectContaining({ path: 'a', error: 'changed while it was being sent' }),
		]);
	});

	test('a file that is given up while it is looked at again is closed, whenever that is', async () => {
		const opened = () =>
			readdirSync('/proc/self/fd').filter((fd) => {
				try {
					return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder());
				} catch {
					return false;
				}
			});
		const { wire, files, found } = await setup(Buffer.from('x'));
		files.attach(wire);
		for (let turns = 0; turns < 40; turns++) {
			const stop = new AbortController();
			const offered = new Promise<void>((resolve) => (wire.offered = () => resolve()));
			const sending = files.send(found, stop.signal);
			await offered;
			files.refused({ ...named, code: 'file-differs', text: 'It differs.', retry: false });
			for (let turn = 0; turn < turns; turn++) await new Promise((next) => setImmediate(next));
			stop.abort();
			await sending;
		}
		await until(() => opened().length === 0, {
			deadlineMs: 10_000,
			what: () => `files ${opened().join(', ')} to be closed`,
		});
	});

	test('what is refused is told at once, however often it could be tried; what was passing is offered again', async () => {
		const full = await setup();
		full.wire.offered = () =>
			full.files.refused({ ...named, code: 'store-full', text: 'It is full.', retry: true });
		full.files.attach(full.wire);
		expect(await full.files.send(full.found, never)).toEqual([
			expect.objectContaining({ path: 'a', error: 'It is full.' }),
		]);
		const busy = await setup();
		let refused = 0;
		take(busy.wire, busy.files);
		const offered = busy.wire.offered;
		busy.wire.offered = (offer) => {
			refused += 1;
			if (refused > 2) return offered(offer);
			busy.files.refused({ ...named, code: 'not-ready', text: 'Not yet.', retry: true });
			busy.files.tick();
			busy.files.tick();
		};
		busy.files.attach(busy.wire);
		expect(await busy.files.send(busy.found, never)).toEqual([
			expect.objectContaining({ file_id: 'id' }),
		]);
		const old = await setup();
		old.wire.features = [];
		old.files.attach(old.wire);
		expect(await old.files.send(old.found, never)).toEqual([
			expect.objectContaining({ error: expect.stringMatching(/takes no files/) }),
		]);
	});
});

test('amounts are told in a unit that shows them moving', () => {
	expect([
		amounts(0, 10),
		amounts(3_400_000, 12e6),
		amounts(999, 5_000),
		amounts(1e9, 3e9),
	]).toEqual(['0 of 10 bytes', '3 of 12 MB', '0 of 5 KB', '1 of 3 GB']);
});

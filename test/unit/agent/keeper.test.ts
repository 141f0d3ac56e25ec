/** The keeper's words, its files and its door, and what it does with one program. */
import { randomBytes } from 'node:crypto';
import fs, { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import fc from 'fast-check';
import { systemClock } from '../../../agent/clock';
import { SpawnFailure } from '../../../agent/drivers/process';
import { Desk } from '../../../agent/keeper/desk';
import { Door } from '../../../agent/keeper/door';
import { ExitFiles, StartedBefore } from '../../../agent/keeper/exits';
import { Input } from '../../../agent/keeper/input';
import { Keep } from '../../../agent/keeper/keep';
import { Keeper } from '../../../agent/keeper/keeper';
import { Voice } from '../../../agent/keeper/voice';
import { type End, type KeeperWord, Lines, type Order } from '../../../agent/keeper/words';
import { type AttemptSpool, Spool } from '../../../agent/spool';
import { limits } from '../../../protocol';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const key = 'job-1';
const none = { length: 0, pieces: [], lost: [] };
const end: End = {
	code: 3,
	signal: null,
	ranMs: 12,
	output: { stdout: none, stderr: none },
	sha256: {},
};
const orderOf = (shell: string): Order => ({
	jobId: 'job',
	epoch: 1,
	program: { run: { shell }, cwd: '/', env: { PATH: process.env.PATH! }, stdin: false },
	spool: { folder: join(folder(), 'spool'), maxBytes: 1_000_000, reserveBytes: 0 },
});

/** What is kept of a program that ran to its end. */
async function kept(keep: Keep, order: Order): Promise<End> {
	const ended = new Promise<End>((resolve) => {
		keep.listener = {
			output: () => undefined,
			exited: () => undefined,
			ended: (_, e) => resolve(e),
		};
	});
	await keep.start(order);
	return await ended;
}

describe('words', () => {
	test('however lines are cut into pieces, each is heard once and whole', () => {
		fc.assert(
			fc.property(
				fc.array(fc.string().map((text) => text.replaceAll('\n', ' '))),
				fc.array(fc.nat(40)),
				(lines, cuts) => {
					const heard: string[] = [];
					const reader = new Lines(10_000, (line) => heard.push(line));
					let text = lines.map((line) => `${line}\n`).join('');
					for (const cut of cuts) {
						expect(reader.push(text.slice(0, cut))).toBe(true);
						text = text.slice(cut);
					}
					reader.push(text);
					expect(heard).toEqual(lines);
				},
			),
		);
	});

	test('a line that never ends is not gathered for ever', () => {
		const reader = new Lines(10, () => undefined);
		expect(reader.push('12345')).toBe(true);
		expect(reader.push('678901')).toBe(false);
	});
});

describe('a voice', () => {
	const take = { say: 'take', key } as const;
	const leave = { say: 'leave' } as const;
	const line = (word: object): string => `${JSON.stringify(word)}\n`;

	test('says what nobody waits for together with the next word, in order', () => {
		const said: string[] = [];
		const voice = new Voice((text) => said.push(text) < 0, systemClock);
		expect(voice.say(take)).toBe(true);
		expect(said).toEqual([]);
		// That the line is full is told by who writes.
		expect(voice.say(leave)).toBe(false);
		expect(said).toEqual([line(take) + line(leave)]);
	});

	test('says it alone when nothing follows', async () => {
		const said = Promise.withResolvers<string>();
		const voice = new Voice((text) => {
			said.resolve(text);
			return true;
		}, systemClock);
		voice.say(take);
		voice.say(take);
		expect(await said.promise).toBe(line(take) + line(take));
	});
});

describe('input', () => {
	test('pieces said twice, late or too early are typed once and in order', async () => {
		const piece = fc.record({ from: fc.nat(30), length: fc.nat(12) });
		await fc.assert(
			fc.asyncProperty(fc.array(piece, { maxLength: 40 }), async (pieces) => {
				const typed = randomBytes(42);
				const pipe = new PassThrough();
				const input = new Input(pipe);
				let have = 0;
				for (const { from, length } of pieces) {
					const taken = await input.take(from, typed.subarray(from, from + length));
					if (from === have) have += length;
					expect(taken).toBe(have);
				}
				pipe.end();
				expect(Buffer.concat(await pipe.toArray()).equals(typed.subarray(0, have))).toBe(true);
			}),
		);
	});

	test('what a program refused to read does not count as typed', async () => {
		const broken = new Writable({ write: (_chunk, _encoding, done) => done(new Error('EPIPE')) });
		const input = new Input(broken);
		expect(await input.take(0, Buffer.from('x'))).toBe(0);
		expect(await input.take(0, Buffer.from('x'))).toBe(0);
	});

	test('nothing is typed behind the end', async () => {
		const pipe = new PassThrough();
		const input = new Input(pipe);
		await input.take(0, Buffer.from('a'));
		expect(input.end(0)).toBe(1);
		await input.take(1, Buffer.from('b'));
		expect(input.end(2)).toBe(2);
		expect(await input.take(2, Buffer.from('c'))).toBe(2);
		expect(Buffer.concat(await pipe.toArray()).toString()).toBe('ab');
	});
});

describe('files of ends', () => {
	test('an attempt begins once, whoever asks again', () => {
		new ExitFiles(folder()).begin(key);
		expect(() => new ExitFiles(folder()).begin(key)).toThrow(StartedBefore);
	});

	test('what a disk does not say is no proof that an attempt never began', () => {
		const files = new ExitFiles(folder());
		// A name that is too long for any disk stands for one that fails.
		expect([files.has(key), files.has('x'.repeat(300))]).toEqual([false, true]);
	});

	test('an end is read back by another keeper, and one that is damaged by nobody', () => {
		const files = new ExitFiles(folder());
		files.begin(key);
		expect(files.read(key)).toBeUndefined();
		expect(files.end(key, end)).toBe(true);
		expect(new ExitFiles(folder()).read(key)).toEqual(end);
		const path = join(folder(), key);
		writeFileSync(path, readFileSync(path, 'utf8').replace('"code":3', '"code":0'));
		expect(files.read(key)).toBeUndefined();
		expect(files.has(key)).toBe(true);
	});

	test('its room is taken at the start, so the disk may be full at the end', () => {
		const files = new ExitFiles(folder());
		files.begin(key);
		const before = statSync(join(folder(), key));
		files.end(key, end);
		const after = statSync(join(folder(), key));
		expect([after.size, after.blocks]).toEqual([before.size, before.blocks]);
	});

	test('on a disk that is full the end has room without the last words, which have none', () => {
		const files = new ExitFiles(folder());
		files.begin(key);
		const { size } = statSync(join(folder(), key));
		const { writeSync } = fs;
		const write = (file: number, bytes: Buffer, at: number, length: number, to: number): number => {
			if (to >= size) throw new Error('ENOSPC: no space left on device, write');
			return writeSync(file, bytes, at, Math.min(length, size - to), to);
		};
		const full = jest.spyOn(fs, 'writeSync').mockImplementation(write as never);
		try {
			const tails = { stdout: Buffer.alloc(5_000, 'x').toString('base64') };
			expect(files.end(key, { ...end, tails })).toBe(true);
		} finally {
			full.mockRestore();
		}
		expect(new ExitFiles(folder()).read(key)).toEqual(end);
	});
});

describe('a program', () => {
	test('is started once, and its end is written down before it is told', async () => {
		const files = new ExitFiles(join(folder(), 'ends'));
		const keep = new Keep(files, systemClock);
		const order = orderOf('echo out; echo err >&2; exit 3');
		const told = await kept(keep, order);
		expect(told).toMatchObject({
			code: 3,
			output: { stdout: { length: 4 }, stderr: { length: 4 } },
		});
		expect(files.read(key)).toEqual(told);
		await expect(keep.start(order)).rejects.toThrow(StartedBefore);
		keep.take(key);
		expect([keep.isEmpty, files.keys]).toEqual([true, [key]]);
	});

	test('that has ended is known until it is forgotten, whatever becomes of the end of the journal', async () => {
		const { spool, ...order } = orderOf('exit 3');
		const keeper = new Keeper({
			folder: folder(),
			program: undefined,
			spool,
			clock: systemClock,
			log: { info: () => undefined, warn: () => undefined },
		});
		const ward = await keeper.start(order);
		expect(await ward.ended).toMatchObject({ code: 3 });
		keeper.settled(order);
		expect(await keeper.find(order)).toBeUndefined();
		expect(keeper.neverStarted(order)).toBe(false);
		expect(keeper.lastEnd(order)).toMatchObject({ code: 3 });
		keeper.forgotten(order);
		await keeper.find(order);
		expect(keeper.lastEnd(order)).toBeUndefined();
		await keeper.close();
	});

	test('that could not be called leaves nothing behind', async () => {
		const files = new ExitFiles(join(folder(), 'ends'));
		const keep = new Keep(files, systemClock);
		const order = orderOf('');
		order.program.run = { command: 'no-such-program', args: [] };
		await expect(keep.start(order)).rejects.toThrow('This robot has no program');
		expect([keep.isEmpty, files.keys]).toEqual([true, []]);
	});

	test('is called in a turn of its own: what has ended is seen between two of them', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const started: number[] = [];
		const all = [1, 2, 3].map(async (epoch) => {
			await keep.start({ ...orderOf('true'), epoch });
			started.push(epoch);
		});
		const seen: number[] = [];
		while (started.length < 3) {
			seen.push(started.length);
			await new Promise((next) => setImmediate(next));
		}
		await Promise.all(all);
		expect([seen, started]).toEqual([expect.arrayContaining([1, 2]), [1, 2, 3]]);
		expect(keep.isEmpty).toBe(false);
	});

	test('waits for a slow disk instead of filling memory', async () => {
		let taken = 0;
		const gate = Promise.withResolvers<void>();
		const first = Promise.withResolvers<void>();
		const spool: Partial<AttemptSpool> = {
			async append(stream, chunk) {
				if (stream === 'stderr') return;
				taken += chunk.length;
				first.resolve();
				await gate.promise;
			},
			close: async () => undefined,
			digest: async () => undefined,
			stateOf: () => none,
		};
		const files = new ExitFiles(join(folder(), 'ends'));
		const keep = new Keep(files, systemClock, () => spool as AttemptSpool);
		const ended = kept(keep, orderOf('head -c 5000000 /dev/zero; echo finished >&2'));
		await first.promise;
		// Whole turns of the event loop: an eager reader would have taken far more by now.
		for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
		expect(taken).toBeLessThan(1_000_000);
		gate.resolve();
		expect(await ended).toMatchObject({ code: 0, signal: null });
		expect(taken).toBe(5_000_000);
	});

	test('whose output found no room still says its end and its last words', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const order = orderOf('echo last words; exit 9');
		order.spool.reserveBytes = Number.MAX_SAFE_INTEGER;
		const { code, output, tails } = await kept(keep, order);
		expect(code).toBe(9);
		expect(output.stdout.lost).toEqual([{ from: 0, to: 11, reason: 'disk-full' }]);
		expect(Buffer.from(tails!.stdout!, 'base64').toString()).toBe('last words\n');
	});
});

describe('a terminal', () => {
	const size = { columns: 91, rows: 27 };
	const told = (keep: Keep) => {
		let wake = (): void => undefined;
		const ended = Promise.withResolvers<End>();
		keep.listener = {
			output: () => wake(),
			exited: () => undefined,
			ended: (_, one) => ended.resolve(one),
		};
		/** Resolves when so much is in the spool. */
		const printed = async (pattern: RegExp): Promise<string> => {
			for (;;) {
				const text = readFileSync(join(folder(), 'spool', 'job-1.stdout.0'), {
					encoding: 'utf8',
					flag: 'a+',
				});
				if (pattern.test(text)) return text;
				await new Promise<void>((resolve) => (wake = resolve));
			}
		};
		return { printed, ended: ended.promise };
	};

	test('has a size that can change, echoes, and ends its input with Ctrl+D', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const order = {
			...orderOf('test -t 0 && test -t 1 && stty size; read x; stty size; cat; exit 4'),
			interactive: true,
			terminal: size,
		};
		mkdirSync(order.spool.folder);
		const { printed, ended } = told(keep);
		expect(await keep.start(order)).toMatchObject({ terminal: true, note: undefined });
		await printed(/27 91/);
		keep.resize(key, { columns: 132, rows: 43 });
		expect(await keep.input(key, 0, Buffer.from('one\n'), false)).toBe(4);
		expect(await keep.input(key, 0, Buffer.from('one\n'), false)).toBe(4);
		await printed(/43 132/);
		await keep.input(key, 4, Buffer.from('two\n'), false);
		await printed(/two\r\ntwo\r\n/);
		keep.endInput(key, 8);
		expect(await ended).toMatchObject({ code: 4, signal: null });
		expect(await printed(/./)).toBe('27 91\r\none\r\n43 132\r\ntwo\r\ntwo\r\n');
	});

	test('gives all that was printed when its program has ended and the disk is slow', async () => {
		const spools = join(folder(), 'spool');
		const slow = () => {
			const spool = new Spool(spools, { maxBytes: 1_000_000, reserveBytes: 0 }).open(
				'job',
				1,
				'new',
			);
			const append = spool.append.bind(spool);
			// Longer than a terminal waits after the end of its program.
			spool.append = async (stream, chunk) => {
				await systemClock.sleep(300);
				await append(stream, chunk);
			};
			return spool;
		};
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock, slow);
		const order = {
			...orderOf('head -c 145000 /dev/zero | tr "\\0" x; echo LAST'),
			interactive: true,
			terminal: size,
		};
		const { output } = await kept(keep, order);
		expect(output.stdout.length).toBe(145_006);
	});

	test('ends its input behind half a line, too', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const order = { ...orderOf('echo up; exec cat'), interactive: true, terminal: size };
		mkdirSync(order.spool.folder);
		const { printed, ended } = told(keep);
		await keep.start(order);
		await printed(/up/);
		expect(await keep.input(key, 0, Buffer.from('half'), false)).toBe(4);
		keep.endInput(key, 4);
		expect(await ended).toMatchObject({ code: 0, signal: null });
		expect(await printed(/./)).toBe('up\r\nhalfhalf');
	});

	test('is typed into at the speed of its program, and nobody else waits for that', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const go = join(folder(), 'go');
		const looks = `for i in $(seq 20); do test -e ${go} && echo went && break; sleep 0.1; done`;
		const order = {
			...orderOf(`stty -echo; echo up; ${looks}; cat | wc -c`),
			interactive: true,
			terminal: size,
		};
		mkdirSync(order.spool.folder);
		const { printed, ended } = told(keep);
		await keep.start(order);
		await printed(/up/);
		// More than a terminal holds for a program that does not read yet.
		const typed = Buffer.from('0123456789abcde\n'.repeat(4_000));
		const typing = keep.input(key, 0, typed, false);
		writeFileSync(go, '');
		expect(await typing).toBe(typed.length);
		keep.endInput(key, typed.length);
		expect(await ended).toMatchObject({ code: 0, signal: null });
		expect(await printed(/./)).toMatch(/^up\r\nwent\r\n *64000\r\n$/);
	});

	test('that has ended is typed into no more, whatever still waits to be', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const order = {
			...orderOf('stty -echo; echo up; sleep 0.5; exit 3'),
			interactive: true,
			terminal: size,
		};
		mkdirSync(order.spool.folder);
		const { printed, ended } = told(keep);
		await keep.start(order);
		await printed(/up/);
		const typing = keep.input(key, 0, Buffer.from('0123456789abcde\n'.repeat(4_000)), false);
		expect(await ended).toMatchObject({ code: 3, signal: null });
		expect(await typing).toBe(0);
	});

	test('hangs up on no program that closes it a moment before its end', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const shell = 'exec 0<&- 1>&- 2>&-; /bin/sleep 0.3; exit 5';
		const order = { ...orderOf(shell), interactive: true, terminal: size };
		expect(await kept(keep, order)).toMatchObject({ code: 5, signal: null });
	});

	test('is not open in another program that is started meanwhile', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		await keep.start({ ...orderOf('exec cat'), interactive: true, terminal: size });
		expect(await kept(keep, { ...orderOf('ls -l /proc/self/fd'), epoch: 2 })).toMatchObject({
			code: 0,
		});
		const open = readFileSync(join(folder(), 'spool', 'job-2.stdout.0'), 'utf8');
		expect(open).toMatch(/ 2 -> /);
		expect(open).not.toMatch(/ptmx/);
		const { ended } = told(keep);
		keep.endInput(key, 0);
		expect(await ended).toMatchObject({ code: 0 });
	});

	test('says what ended its program, and why one cannot be started', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		expect(
			await kept(keep, { ...orderOf('kill -SEGV $$'), interactive: true, terminal: size }),
		).toMatchObject({
			code: null,
			signal: 'SIGSEGV',
		});
		const order = { ...orderOf(''), epoch: 2, interactive: true, terminal: size };
		order.program.run = { command: 'no-such-program', args: [] };
		await expect(keep.start(order)).rejects.toThrow('no program "no-such-program"');
		order.program.cwd = '/no/such/folder';
		await expect(keep.start(order)).rejects.toThrow('The folder "/no/such/folder"');
		order.program.cwd = '/etc/passwd';
		await expect(keep.start(order)).rejects.toThrow('"/etc/passwd" is not a folder');
		order.program.cwd = `/${'long'.repeat(100)}`;
		await expect(keep.start(order)).rejects.toThrow(SpawnFailure);
		await expect(keep.start(order)).rejects.toThrow('(ENAMETOOLONG)');
	});

	const onLinux = process.platform === 'linux' ? test : test.skip;
	onLinux('says of a signal without a name what shells say of it, and no success', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const order = { ...orderOf('kill -40 $$'), interactive: true, terminal: size };
		expect(await kept(keep, order)).toMatchObject({ code: 168, signal: null });
	});

	test('that has ended has no size: who gives it one late is not told off', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const order = { ...orderOf('exit 3'), interactive: true, terminal: size };
		expect(await kept(keep, order)).toMatchObject({ code: 3 });
		expect(() => keep.resize(key, { columns: 1, rows: 1 })).not.toThrow();
	});
});

test('who prints more than is kept is read no faster than that leaves room for others, and loses no byte of its end', async () => {
	let restedMs = 0;
	const clock = {
		...systemClock,
		sleep: async (ms: number, signal?: AbortSignal) => {
			// Not a rest, but how long it waits for something.
			if (signal !== undefined) return systemClock.sleep(ms, signal);
			restedMs += ms;
			await new Promise((next) => setImmediate(next));
			return true;
		},
	};
	const keep = new Keep(new ExitFiles(join(folder(), 'ends')), clock);
	const bytes = 10_000_000;
	const flood = await kept(keep, orderOf(`head -c ${bytes} /dev/zero`));
	expect(flood.output.stdout.length).toBe(bytes);
	const freely = orderOf('').spool.maxBytes;
	const heldBackMs = ((bytes - freely) / limits.floodBytesPerS) * 1_000;
	expect(restedMs).toBeGreaterThan(heldBackMs * 0.9);
	restedMs = 0;
	await kept(keep, { ...orderOf(`head -c ${freely} /dev/zero`), epoch: 2 });
	expect(restedMs).toBe(0);
});

describe('news', () => {
	test('of a flood are told in a few words, and none while the agent does not listen', async () => {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const desk = new Desk(keep, systemClock);
		const words: KeeperWord[] = [];
		let listens = true;
		const ended = Promise.withResolvers<void>();
		desk.attach((word) => {
			words.push(word);
			if (word.say === 'output') listens = false;
			if (word.say === 'ended') ended.resolve();
			return listens;
		});
		desk.hear({ say: 'start', order: orderOf('for i in $(seq 400); do echo $i; done') });
		await ended.promise;
		expect(words.filter(({ say }) => say === 'output').length).toBeLessThanOrEqual(1);
		expect(words.at(-1)).toMatchObject({
			say: 'ended',
			end: { output: { stdout: { length: 1492 } } },
		});
	});
});

describe('a start', () => {
	/** What is answered to it. */
	async function answer(order: Order, openSpool?: () => AttemptSpool): Promise<KeeperWord> {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock, openSpool);
		const desk = new Desk(keep, systemClock);
		return await new Promise((resolve) => {
			desk.attach((word) => {
				if (word.say !== 'welcome') resolve(word);
				return true;
			});
			desk.hear({ say: 'start', order });
		});
	}

	test('that failed before its program was called is answered with the reason', async () => {
		const noRoom = () => {
			throw new Error('EMFILE: too many open files');
		};
		const marker = join(folder(), 'called');
		expect(await answer(orderOf(`touch "${marker}"`), noRoom)).toMatchObject({
			say: 'not-started',
			why: 'spawn',
			message: expect.stringContaining('EMFILE'),
		});
		expect(existsSync(marker)).toBe(false);
	});

	test('that failed for a reason nobody foresaw is answered too, and never as one that was surely not called', async () => {
		const order = { ...orderOf(''), program: undefined as never };
		expect(await answer(order)).toMatchObject({ say: 'not-started', key, why: 'again' });
		expect(new ExitFiles(join(folder(), 'ends')).has(key)).toBe(true);
	});
});

describe('the door', () => {
	const secret = 'the secret of this folder';

	async function open(): Promise<{ path: string; complaints: string[]; keep: Keep }> {
		const keep = new Keep(new ExitFiles(join(folder(), 'ends')), systemClock);
		const complaints: string[] = [];
		const desk = new Desk(keep, systemClock, (text) => complaints.push(text));
		const path = join(folder(), 'socket');
		const door = new Door({
			keep,
			desk,
			secret,
			clock: systemClock,
			onLeave: () => undefined,
			complain: (text) => complaints.push(text),
		});
		await door.listen(path);
		doors.push(door);
		return { path, complaints, keep };
	}
	const doors: Door[] = [];
	afterEach(async () => {
		for (const door of doors.splice(0)) await door.close();
	});

	/** Says lines; resolves with what was answered until the other side hung up, or the first word. */
	function visit(path: string, ...lines: string[]): { heard: Promise<string>; leave(): void } {
		const socket = connect(path).setEncoding('utf8');
		socket.on('error', () => undefined);
		socket.write(lines.map((line) => `${line}\n`).join(''));
		const heard = new Promise<string>((resolve) => {
			socket.once('data', (text: unknown) => resolve(text as string));
			socket.once('close', () => resolve(''));
		});
		return { heard, leave: () => socket.destroy() };
	}
	const hello = (said: string): string =>
		JSON.stringify({ say: 'hello', version: 1, secret: said });

	test('is open to its owner only', async () => {
		const { path } = await open();
		expect(statSync(path).mode & 0o777).toBe(0o600);
	});

	test.each([
		['a wrong secret', hello('the secret of that folder')],
		['a secret of another length', hello('x')],
		['an order before the secret', JSON.stringify({ say: 'start', order: {} })],
		['junk', '{'],
		['no end of a line', 'x'.repeat(5_000)],
	])('hangs up on %s, and starts nothing', async (_, line) => {
		const { path, complaints, keep } = await open();
		expect(await visit(path, line).heard).toBe('');
		expect(complaints).toHaveLength(1);
		expect(keep.isEmpty).toBe(true);
	});

	test('hears what is said behind a word that cannot be followed', async () => {
		const { path, complaints } = await open();
		const words = [
			{ say: 'input', key, id: 1, offset: 0 },
			{ say: 'start' },
			{ say: 'end-input', key, id: 7, offset: 0 },
		].map((word) => JSON.stringify(word));
		const socket = connect(path).setEncoding('utf8');
		const answered = new Promise<KeeperWord>((resolve) => {
			const reader = new Lines(Infinity, (line) => {
				const word = JSON.parse(line) as KeeperWord;
				if (word.say === 'welcome') socket.write(words.map((line) => `${line}\n`).join(''));
				else resolve(word);
			});
			socket.on('data', (text: unknown) => void reader.push(text as string));
		});
		socket.write(`${hello(secret)}\n`);
		expect(await answered).toEqual({ say: 'have', key, id: 7, have: 0 });
		expect(complaints).toHaveLength(2);
		socket.destroy();
	});

	test('hears one agent at a time: the next is welcomed when the line of the one before has ended', async () => {
		const { path } = await open();
		const first = visit(path, hello(secret));
		expect(JSON.parse(await first.heard)).toMatchObject({ say: 'welcome', held: [] });
		const second = visit(path, hello(secret));
		let welcomed = false;
		void second.heard.then(() => (welcomed = true));
		// Somebody who comes later and is answered shows that the door is not just slow.
		expect(await visit(path, hello('x')).heard).toBe('');
		expect(welcomed).toBe(false);
		first.leave();
		expect(JSON.parse(await second.heard)).toMatchObject({ say: 'welcome' });
		second.leave();
	});
});

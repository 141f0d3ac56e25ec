import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
	admin,
	exit,
	type House,
	house,
	type HouseOptions,
	type PlayedRobot,
	ref,
	resultOf,
} from '../../support/engine';
import { StoreFull } from '../../../dispatcher/store/open';
import type { Deed } from '../../../dispatcher/store/store';
import { settled } from '../../support/fake-clock';
import { type Hole, limits, type Stream } from '../../../protocol';

const folder = mkdtempSync(join(tmpdir(), 'rf-engine-output-'));
afterAll(() => rmSync(folder, { recursive: true }));

let home: House;
let robot: PlayedRobot;
let jobId: string;
let files = 0;
async function setup(options: HouseOptions = {}): Promise<void> {
	home = await house({ file: join(folder, `${++files}.db`), ...options });
	robot = await home.robot('anna');
	jobId = await home.submit();
	await robot.accept();
}
afterEach(() => home.close());

const sha256 = (...parts: Uint8Array[]) => {
	const hash = createHash('sha256');
	for (const part of parts) hash.update(part);
	return hash.digest('hex');
};

/** Sends one frame, of the robot's last job. */
async function send(
	offset: number,
	data: Uint8Array,
	more: { stream?: Stream; gap?: { from: number; reason: Hole['reason'] } } = {},
): Promise<void> {
	const { epoch } = robot.last;
	robot.session.output({ jobId, epoch, stream: 'stdout', offset, data, ...more });
	await settled();
}

async function sendAll(data: Uint8Array, from = 0): Promise<void> {
	for (let at = from; at < data.length; at += 200_000) {
		await send(at, data.subarray(at, at + 200_000));
	}
}

const end = (data: Uint8Array, more: Parameters<PlayedRobot['end']>[0] = {}) =>
	robot.end({
		output: { stdout: data.length, stderr: 0 },
		sha256: { stdout: sha256(data) },
		...more,
	});

/** What can be read, without its holes. */
async function stored(): Promise<Buffer> {
	const parts: Uint8Array[] = [];
	for (let at = 0; ;) {
		const { data, hole, have } = await home.engine.output(jobId, 'stdout', at, 1_000_000);
		parts.push(data);
		at = hole ? hole.to : at + data.length;
		if (at >= have) return Buffer.concat(parts);
	}
}

test('output is complete, and forgotten by its robot, when it was compared with its digest', async () => {
	await setup();
	const data = randomBytes(500_000);
	await sendAll(data.subarray(0, 400_000));
	await end(data);
	// The result is final at once; the output follows.
	expect(await home.engine.job(jobId)).toMatchObject({
		state: 'completed',
		result: { sha256: { stdout: sha256(data) } },
		output: { stdout: 400_000, complete: false },
	});
	expect(robot.acks).toEqual([expect.objectContaining({ complete: false })]);
	await sendAll(data, 400_000);
	expect(robot.acks.at(-1)).toMatchObject({ output: { stdout: 500_000 }, complete: true });
	expect((await home.engine.job(jobId)).output).toEqual({
		stdout: 500_000,
		stderr: 0,
		complete: true,
	});
	expect((await stored()).equals(data)).toBe(true);
});

test('of a robot that says its results again one stream is read back at a time', async () => {
	await setup();
	const data = randomBytes(600_000);
	const jobs = [];
	for (let n = 0; n < 3; n += 1) {
		if (n > 0) {
			jobId = await home.submit();
			await robot.accept();
		}
		await sendAll(data);
		await end(data);
		jobs.push(robot.last);
	}
	const complete = () => robot.acks.filter((ack) => ack.complete).length;
	expect(complete()).toBe(3);
	const read = home.store.read.bind(home.store);
	let open = 0;
	let most = 0;
	jest.spyOn(home.store, 'read').mockImplementation(async (name, args) => {
		if (name !== 'output') return read(name, args as never);
		open += 1;
		most = Math.max(most, open);
		try {
			return await read(name, args as never);
		} finally {
			open -= 1;
		}
	});
	for (const job of jobs) {
		const output = { stdout: data.length, stderr: 0 };
		robot.session.result(resultOf(job, { output, sha256: { stdout: sha256(data) } }));
	}
	for (let n = 0; n < 10; n += 1) await settled();
	expect(complete()).toBe(6);
	expect(most).toBe(1);
});

test('a stream that differs from its digest is sent again and then taken', async () => {
	await setup();
	const data = randomBytes(300_000);
	const wrong = Buffer.from(data);
	wrong[123_456]! ^= 1;
	await sendAll(wrong);
	await end(data);
	expect(robot.outputAcks.at(-1)).toMatchObject({ stream: 'stdout', have: 0 });
	expect((await home.engine.job(jobId)).output).toEqual({ stdout: 0, stderr: 0, complete: false });
	await sendAll(data);
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	expect((await stored()).equals(data)).toBe(true);
});

test('a stream that differs however often it comes is kept as damaged and never handed out', async () => {
	await setup();
	const data = randomBytes(100_000);
	await sendAll(data);
	await end(randomBytes(100_000));
	expect(robot.outputAcks.at(-1)).toMatchObject({ have: 0 });
	await sendAll(data);
	expect(robot.outputAcks.at(-1)).toMatchObject({ have: 0 });
	await sendAll(data);
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	expect((await home.engine.job(jobId)).output).toEqual({
		stdout: 100_000,
		stderr: 0,
		complete: true,
		holes: { stdout: [{ from: 0, to: 100_000, reason: 'damaged' }] },
	});
	expect(await stored()).toHaveLength(0);
});

test('output inside a result is complete with the result itself', async () => {
	await setup();
	const commits = jest.spyOn(home.store, 'commit');
	const data = Buffer.from('hello\n');
	await end(data, { inline: { stdout: { offset: 0, data_b64: data.toString('base64') } } });
	expect(robot.acks).toMatchObject([{ output: { stdout: 6 }, complete: true }]);
	expect((await home.engine.job(jobId)).output).toMatchObject({ stdout: 6, complete: true });
	expect(commits).toHaveBeenCalledTimes(1);
});

test('output inside a result that is not what its digest says is not stored, and asked for', async () => {
	await setup();
	const data = Buffer.from('hello\n');
	await end(data, {
		inline: { stdout: { offset: 0, data_b64: Buffer.from('jello\n').toString('base64') } },
	});
	expect(robot.acks).toMatchObject([{ output: { stdout: 0 }, complete: false }]);
	expect(await home.engine.job(jobId)).toMatchObject({
		state: 'completed',
		output: { stdout: 0, complete: false },
	});
	await sendAll(data);
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	expect((await stored()).equals(data)).toBe(true);
});

test('a service that did not see the bytes pass reads them back to compare', async () => {
	await setup();
	const data = randomBytes(700_000);
	await sendAll(data.subarray(0, 600_000));
	await home.restart();
	const held = { ...ref(robot.last), state: 'ended' as const };
	await robot.connect({ attempts: [{ ...held, output: { stdout: 700_000, stderr: 0 } }] });
	expect(robot.session.verdicts).toMatchObject([
		{ act: 'send_result', output: { stdout: 600_000 } },
	]);
	await end(data);
	await sendAll(data, 600_000);
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	expect((await home.engine.job(jobId)).output).toMatchObject({ stdout: 700_000, complete: true });
});

test('a robot is not told to forget before the comparison, whenever the service dies', async () => {
	await setup();
	const data = randomBytes(300_000);
	await sendAll(data);
	// The result is committed, and nothing after it.
	const commit = home.store.commit.bind(home.store);
	const never = new Promise<never>(() => undefined);
	jest
		.spyOn(home.store, 'commit')
		.mockImplementation((deeds) =>
			deeds.some((deed) => deed.do === 'closeOutput') ? never : commit(deeds),
		);
	await end(data);
	expect(await home.engine.job(jobId)).toMatchObject({
		state: 'completed',
		output: { stdout: 300_000, complete: false },
	});
	await home.restart();
	const held = { ...ref(robot.last), state: 'ended' as const };
	const attempts = [{ ...held, output: { stdout: 300_000, stderr: 0 } }];
	await robot.connect({ attempts });
	expect(robot.session.verdicts).toMatchObject([{ act: 'continue', output: { stdout: 300_000 } }]);
	await end(data);
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	await robot.vanish();
	await robot.connect({ attempts });
	expect(robot.session.verdicts).toMatchObject([{ act: 'forget' }]);
});

test('a result that comes again closes the output that a full disk had left open', async () => {
	await setup();
	const data = Buffer.from('hello\n');
	await send(0, data);
	const commit = home.store.commit.bind(home.store);
	home.store.commit = (deeds) =>
		deeds.some((deed) => deed.do === 'closeOutput')
			? Promise.reject(new StoreFull('database or disk is full'))
			: commit(deeds);
	await end(data);
	expect(robot.acks.at(-1)).toMatchObject({ complete: false });
	home.store.commit = commit;
	await end(data, { inline: { stdout: { offset: 0, data_b64: data.toString('base64') } } });
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	expect((await home.engine.job(jobId)).output).toMatchObject({ stdout: 6, complete: true });
});

test('output that waits when the store breaks is let go, once', async () => {
	await setup();
	const broken = Promise.withResolvers<never>();
	home.store.commit = () => broken.promise;
	await send(0, randomBytes(10));
	await send(10, randomBytes(10));
	const restarted = home.restart();
	broken.reject(new Error('disk I/O error'));
	await restarted;
	await robot.connect();
	expect((await home.engine.robots())[0]).toMatchObject({ connected: true });
});

test('with a hole the rest is compared', async () => {
	await setup();
	const data = randomBytes(100_000);
	const gap = { from: 40_000, reason: 'limit' as const };
	await send(0, data.subarray(0, 50_000));
	await send(90_000, data.subarray(90_000), { gap });
	await end(data, {
		holes: { stdout: [{ from: 40_000, to: 90_000, reason: 'limit' }] },
		sha256: { stdout: sha256(data.subarray(0, 40_000), data.subarray(90_000)) },
	});
	expect(robot.acks.at(-1)).toMatchObject({ complete: true });
	expect((await home.engine.job(jobId)).output).toEqual({
		stdout: 100_000,
		stderr: 0,
		complete: true,
		holes: { stdout: [{ from: 50_000, to: 90_000, reason: 'limit' }] },
	});
});

test('a service that keeps less than the robot cuts the same middle', async () => {
	await setup({ maxOutputBytes: 800_000 });
	const data = randomBytes(2_000_000);
	await sendAll(data);
	await end(data);
	expect(robot.acks.at(-1)).toMatchObject({ output: { stdout: 2_000_000 }, complete: true });
	expect((await home.engine.job(jobId)).output.holes).toEqual({
		stdout: [{ from: 100_000, to: 1_300_000, reason: 'limit' }],
	});
	const kept = Buffer.concat([data.subarray(0, 100_000), data.subarray(1_300_000)]);
	expect((await stored()).equals(kept)).toBe(true);
});

test('stored output that is damaged is told once, and is a hole from then on', async () => {
	await setup();
	const data = randomBytes(200_000);
	await send(0, data.subarray(0, 100_000));
	await send(100_000, data.subarray(100_000));
	await end(data);
	const broken = { from: 0, to: 100_000, reason: 'damaged' as const };
	const reading = jest.spyOn(home.store, 'read');
	const read = reading.getMockImplementation() ?? home.store.read.bind(home.store);
	reading.mockImplementationOnce(read).mockResolvedValueOnce({
		data: new Uint8Array(),
		hole: broken,
		found: true,
	} as never);
	expect(await home.engine.output(jobId, 'stdout', 0, 1_000)).toMatchObject({ hole: broken });
	reading.mockRestore();
	expect(await home.engine.output(jobId, 'stdout', 0, 1_000)).toMatchObject({
		hole: broken,
		holes: [broken],
	});
	expect((await stored()).equals(data.subarray(100_000))).toBe(true);
});

describe('a robot that floods', () => {
	/** All at once, as a robot that does not look at its window. */
	function flood(from: number, frames: number): void {
		const { epoch } = robot.last;
		for (let i = 0; i < frames; i += 1) {
			robot.session.output({
				jobId,
				epoch,
				stream: 'stdout',
				offset: from + i * 200_000,
				data: Buffer.alloc(200_000, i),
			});
		}
	}

	function expectLittleOutput(deeds: readonly Deed[]): void {
		const bytes = deeds
			.filter((deed) => deed.do === 'appendOutput')
			.reduce((sum, deed) => sum + deed.with.data.length, 0);
		expect(bytes).toBeLessThanOrEqual(1024 * 1024 + limits.maxOutputFrameBytes);
	}

	test('is told to stop, loses nothing, and is told when to go on', async () => {
		await setup();
		flood(0, 100);
		expect(robot.credits).toEqual([0]);
		await settled();
		expect(robot.credits).toEqual([0, limits.outputWindowBytes]);
		const { have } = robot.outputAcks.at(-1)!;
		expect(have).toBeGreaterThanOrEqual(1_000_000);
		expect(have).toBeLessThanOrEqual(limits.outputWindowBytes + limits.maxOutputFrameBytes);
		flood(have, 5);
		await settled();
		expect(robot.outputAcks.at(-1)!.have).toBe(have + 1_000_000);
	});

	test('and is removed is forgotten with what it sent', async () => {
		await setup();
		const commit = home.store.commit.bind(home.store);
		const flooded = Promise.withResolvers<void>();
		home.store.commit = (deeds) => flooded.promise.then(() => commit(deeds));
		const removal = home.engine.removeRobot('anna', admin);
		await settled();
		flood(0, 100);
		flooded.resolve();
		await removal;
		await settled();
		expect(robot.credits).toEqual([0]);
		expect(robot.outputAcks).toEqual([]);
	});

	test('does not keep its own result, nor the work of others, waiting', async () => {
		await setup();
		const other = await home.robot('bert');
		const commits = jest.spyOn(home.store, 'commit');
		flood(0, 6);
		robot.session.result(resultOf(robot.last, { output: { stdout: 20_000_000, stderr: 0 } }));
		const second = await home.submit();
		await settled();
		expect(await home.engine.job(jobId)).toMatchObject({ state: 'completed' });
		expect(other.assigned.map(({ job_id }) => job_id)).toEqual([second]);
		for (const [deeds] of commits.mock.calls) expectLittleOutput(deeds);
	});

	test('is one of many, and no commit carries more for that', async () => {
		await setup();
		const robots = [robot];
		for (let i = 0; i < 10; i += 1) {
			const other = await home.robot(`r${i}`);
			await home.submit();
			await other.accept();
			robots.push(other);
		}
		const commits = jest.spyOn(home.store, 'commit');
		for (const { session, last } of robots) {
			for (let i = 0; i < 5; i += 1) {
				const place = { jobId: last.job_id, epoch: last.epoch, stream: 'stdout' as const };
				session.output({ ...place, offset: i * 200_000, data: Buffer.alloc(200_000, i) });
			}
		}
		await settled();
		for (const { outputAcks } of robots) expect(outputAcks.at(-1)!.have).toBe(1_000_000);
		for (const [deeds] of commits.mock.calls) expectLittleOutput(deeds);
	});

	test('takes turns with others, and what it leaves behind when it goes is forgotten', async () => {
		await setup();
		const other = await home.robot('bert');
		const second = await home.submit();
		await other.accept();
		flood(0, 6);
		other.session.output({
			jobId: second,
			epoch: other.last.epoch,
			stream: 'stdout',
			offset: 0,
			data: Buffer.from('hello'),
		});
		const commits = jest.spyOn(home.store, 'commit');
		robot.session.closed();
		await settled();
		expect(other.outputAcks).toMatchObject([{ have: 5 }]);
		expect(commits.mock.calls[0]![0].filter((deed) => deed.do === 'appendOutput')).toHaveLength(1);
	});
});

test('output is removed a week after the end of its job, and while there is too much the oldest', async () => {
	await setup({ settings: { keepOutputBytes: 250_000 } });
	const first = jobId;
	const data = randomBytes(200_000);
	await sendAll(data);
	await end(data);
	jobId = await home.submit();
	await robot.accept();
	await sendAll(data);
	await end(data);
	const holes = async (id: string) => (await home.engine.job(id)).output.holes?.stdout;
	await home.clock.advance(61_000);
	expect(await holes(first)).toEqual([{ from: 0, to: 200_000, reason: 'purged' }]);
	expect(await holes(jobId)).toBeUndefined();
	home.clock.jump(6.9 * 86_400_000);
	await home.clock.advance(61_000);
	expect(await holes(jobId)).toBeUndefined();
	home.clock.jump(0.2 * 86_400_000);
	await home.clock.advance(61_000);
	expect(await holes(jobId)).toEqual([{ from: 0, to: 200_000, reason: 'purged' }]);
	expect((await home.engine.job(jobId)).result!.sha256).toEqual({ stdout: sha256(data) });
});

test('who follows is woken by the first bytes of a new attempt, however many those of the one before were', async () => {
	await setup();
	await send(0, Buffer.alloc(1_000));
	let woken = false;
	const { signal } = new AbortController();
	const grew = home.engine.outputGrew(jobId, 'stdout', 1_000, signal);
	void grew.then(() => (woken = true));
	await robot.end({ ...exit(75), output: { stdout: 1_000, stderr: 0 } });
	await home.clock.advance(2_000);
	await robot.accept();
	await send(0, Buffer.from('again'));
	expect(woken).toBe(true);
});

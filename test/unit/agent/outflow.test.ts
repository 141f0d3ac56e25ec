import { randomBytes } from 'node:crypto';
import { systemClock } from '../../../agent/clock';
import type { Line } from '../../../agent/link';
import { Outflow, type Remainder } from '../../../agent/outflow';
import { type AttemptSpool, Spool } from '../../../agent/spool';
import { Window } from '../../../agent/window';
import { limits } from '../../../protocol';
import { decodeOutput, encodeOutput, type OutputFrame } from '../../../protocol/frames';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const jobId = '01890000-0000-7000-8000-000000000001';
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Takes frames as they would come out of a socket. */
class Wire implements Line {
	frames: OutputFrame[] = [];
	maxOutputBytes = 100_000;
	readonly maxMessageBytes = limits.maxControlFrameBytes;
	readonly features: readonly string[] = [];
	#wake: (() => void)[] = [];

	send(): void {}

	sendOutput(frame: OutputFrame): void {
		this.frames.push(decodeOutput(encodeOutput(frame))!);
		for (const wake of this.#wake.splice(0)) wake();
	}

	sendFile(): void {}

	async untilFrames(count: number): Promise<void> {
		while (this.frames.length < count) {
			await new Promise<void>((wake) => this.#wake.push(wake));
		}
	}

	get ranges(): [number, number][] {
		return this.frames.map(({ offset, data }) => [offset, offset + data.length]);
	}
}

interface Setup {
	flow: Outflow;
	wire: Wire;
	spool: AttemptSpool;
	window: Window;
	data: Buffer;
}

let epoch = 0;

async function setup(
	bytes: number,
	{ maxBytes = limits.maxOutputBytes, window = new Window() } = {},
): Promise<Setup> {
	const spool = new Spool(folder(), { maxBytes, reserveBytes: 0 }).open(jobId, ++epoch);
	const data = randomBytes(bytes);
	await spool.append('stdout', data);
	window.open(limits.outputWindowBytes);
	const flow = new Outflow(jobId, epoch, spool, { window, clock: systemClock, log: silent });
	return { flow, wire: new Wire(), spool, window, data };
}

const nothing = { stdout: 0, stderr: 0 };

test('sending stops at the window and goes on with the acknowledgement', async () => {
	const { flow, wire, spool } = await setup(1_500_000);
	flow.attach(wire, nothing);
	flow.pump();
	await wire.untilFrames(11);
	expect(wire.ranges.at(-1)).toEqual([1_000_000, 1_048_576]);
	flow.acknowledged('stdout', 300_000);
	await wire.untilFrames(14);
	expect(wire.ranges.at(-1)![1]).toBe(1_348_576);
	await spool.remove();
});

test('an acknowledgement that does not move repeats from there, once', async () => {
	const { flow, wire, spool, data } = await setup(350_000);
	flow.attach(wire, nothing);
	flow.pump();
	await wire.untilFrames(4);
	flow.acknowledged('stdout', 100_000);
	flow.acknowledged('stdout', 100_000);
	flow.acknowledged('stdout', 100_000);
	await wire.untilFrames(7);
	expect(wire.ranges.slice(4)).toEqual([
		[100_000, 200_000],
		[200_000, 300_000],
		[300_000, 350_000],
	]);
	expect(Buffer.concat(wire.frames.slice(4).map((frame) => frame.data))).toEqual(
		data.subarray(100_000),
	);
	flow.acknowledged('stdout', 350_000);
	expect(flow.settled).toBe(true);
	await spool.remove();
});

test('a new line goes on from what the service has', async () => {
	const { flow, wire, spool } = await setup(250_000);
	flow.attach(wire, nothing);
	flow.pump();
	await wire.untilFrames(3);
	flow.detach();
	const next = new Wire();
	flow.attach(next, { stdout: 123_456, stderr: 0 });
	flow.pump();
	await next.untilFrames(2);
	expect(next.ranges).toEqual([
		[123_456, 223_456],
		[223_456, 250_000],
	]);
	await spool.remove();
});

test('a flow that stands still for a heartbeat is repeated', async () => {
	const { flow, wire, spool } = await setup(90_000);
	flow.attach(wire, nothing);
	flow.pump();
	await wire.untilFrames(1);
	flow.tick();
	await wire.untilFrames(2);
	expect(wire.ranges[1]).toEqual([0, 90_000]);
	await spool.remove();
});

test('what is not in the spool any more is said as a gap, and only that', async () => {
	const { flow, wire, spool, data } = await setup(500_000, { maxBytes: 160_000 });
	flow.attach(wire, nothing);
	flow.conclude(() => undefined);
	// The spool keeps such a job in pieces of a sixteenth of its limit; a frame is never more than one.
	await wire.untilFrames(16);
	expect(wire.frames.flatMap(({ offset, gap }) => (gap ? [[offset, gap]] : []))).toEqual([
		[360_000, { from: 20_000, reason: 'limit' }],
	]);
	expect(Buffer.concat(wire.frames.map((frame) => frame.data))).toEqual(
		Buffer.concat([data.subarray(0, 20_000), data.subarray(360_000)]),
	);
	// A gap is not under way: the window counts bytes that were sent.
	expect(flow.underWay).toBe(160_000);
	flow.acknowledged('stdout', 500_000);
	expect([flow.settled, flow.underWay]).toEqual([true, 0]);
	await spool.remove();
});

test('what lies before a gap counts like everything else when it is sent again', async () => {
	const { flow, wire, spool, window } = await setup(500_000, { maxBytes: 160_000 });
	flow.attach(wire, nothing);
	flow.conclude(() => undefined);
	await wire.untilFrames(16);
	wire.frames.splice(0);
	window.credit(0);
	window.credit(15_000);
	await wire.untilFrames(2);
	for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
	expect(wire.ranges).toEqual([
		[0, 10_000],
		[10_000, 15_000],
	]);
	expect(flow.underWay).toBe(15_000);
	await spool.remove();
});

test('attempts of one robot share its window in equal parts, and none is forgotten', async () => {
	const window = new Window();
	const one = await setup(3_000_000, { window });
	const two = await setup(3_000_000, { window });
	for (const { flow, wire } of [one, two]) flow.attach(wire, nothing);
	one.flow.pump();
	await one.wire.untilFrames(11);
	two.flow.pump();
	expect(two.wire.frames).toEqual([]);
	// The first gives way as its bytes are acknowledged.
	one.flow.acknowledged('stdout', limits.outputWindowBytes);
	await two.wire.untilFrames(6);
	await one.wire.untilFrames(17);
	const half = limits.outputWindowBytes / 2;
	expect([one.flow.underWay, two.flow.underWay]).toEqual([half, half]);
	two.flow.detach();
	await one.wire.untilFrames(23);
	expect(one.flow.underWay).toBe(limits.outputWindowBytes);
	for (const { spool } of [one, two]) await spool.remove();
});

test('what one is reading is room that no other one gets', async () => {
	const window = new Window();
	const one = await setup(200_000, { window });
	const two = await setup(200_000, { window });
	for (const { flow, wire } of [one, two]) flow.attach(wire, nothing);
	window.open(100_000);
	const disk = Promise.withResolvers<void>();
	const read = one.spool.read.bind(one.spool);
	jest.spyOn(one.spool, 'read').mockImplementation(async (...asked) => {
		await disk.promise;
		return read(...asked);
	});
	one.flow.pump();
	two.flow.pump();
	disk.resolve();
	await one.wire.untilFrames(1);
	expect([one.flow.underWay, two.flow.underWay]).toEqual([100_000, 0]);
	one.flow.acknowledged('stdout', 100_000);
	await two.wire.untilFrames(1);
	expect(one.flow.underWay + two.flow.underWay).toBe(100_000);
	for (const { spool } of [one, two]) await spool.remove();
});

test('a service that takes nothing is sent nothing, and then all of it again', async () => {
	const { flow, wire, spool, window } = await setup(250_000);
	flow.attach(wire, nothing);
	window.credit(0);
	flow.pump();
	flow.tick();
	window.credit(150_000);
	await wire.untilFrames(2);
	expect(wire.ranges).toEqual([
		[0, 100_000],
		[100_000, 150_000],
	]);
	window.credit(0);
	window.credit(200_000);
	await wire.untilFrames(4);
	expect(wire.ranges.slice(2)).toEqual([
		[0, 100_000],
		[100_000, 200_000],
	]);
	await spool.remove();
});

async function conclusion(flow: Outflow): Promise<Remainder | undefined> {
	return await new Promise((resolve) => flow.conclude((_, rest) => resolve(rest)));
}

test('a small rest travels with the result, a large one after it', async () => {
	const small = await setup(50_000);
	small.flow.attach(small.wire, { stdout: 10_000, stderr: 0 });
	const rest = await conclusion(small.flow);
	expect(rest!.stdout!.offset).toBe(10_000);
	expect(Buffer.from(rest!.stdout!.data_b64, 'base64')).toEqual(small.data.subarray(10_000));
	expect(small.wire.frames).toEqual([]);
	await small.spool.remove();

	const large = await setup(limits.maxInlineOutputBytes + 1);
	large.flow.attach(large.wire, nothing);
	expect(await conclusion(large.flow)).toBeUndefined();
	await large.wire.untilFrames(1);
	await large.spool.remove();
});

test('a rest that the service did not take from the result is sent in frames', async () => {
	const { flow, wire, spool } = await setup(5_000);
	flow.attach(wire, nothing);
	await conclusion(flow);
	flow.acknowledgedWithResult(nothing);
	await wire.untilFrames(1);
	expect(wire.ranges).toEqual([[0, 5_000]]);
	expect(flow.settled).toBe(false);
	await spool.remove();
});

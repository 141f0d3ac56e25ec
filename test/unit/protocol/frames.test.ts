import { randomBytes, randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { holeReasons, limits, streams } from '../../../protocol';
import {
	decodeFile,
	decodeOutput,
	encodeFile,
	encodeOutput,
	isFileFrame,
	type OutputFrame,
} from '../../../protocol/frames';

const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const longest = limits.maxStreamBytes - limits.maxOutputFrameBytes;
const offset = fc.integer({ min: 0, max: longest });
const frame = fc
	.record({
		epoch: whole,
		stream: fc.constantFrom(...streams),
		from: offset,
		by: fc.integer({ min: 1, max: 2 ** 40 }),
		reason: fc.option(fc.constantFrom(...holeReasons), { nil: undefined }),
		data: fc.uint8Array({ maxLength: 300 }),
		jobId: fc.uuid(),
	})
	.map(({ from, by, reason, ...rest }): OutputFrame => {
		if (reason === undefined || from + by > longest) {
			return { ...rest, offset: from };
		}
		return { ...rest, offset: from + by, gap: { from, reason } };
	});

test('a frame that ends where no stream does is none', () => {
	const sent = { jobId: randomUUID(), epoch: 1, stream: 'stdout' as const, data: Buffer.alloc(10) };
	const ends = [limits.maxStreamBytes, Number.MAX_SAFE_INTEGER];
	for (const at of ends) {
		expect(decodeOutput(encodeOutput({ ...sent, offset: at }))).toBeUndefined();
		const gap = { from: 0, reason: 'limit' as const };
		expect(decodeOutput(encodeOutput({ ...sent, offset: at, gap }))).toBeUndefined();
	}
});

test('a frame comes out of its bytes as it went in', () => {
	fc.assert(
		fc.property(frame, (sent) => {
			const { data, ...rest } = decodeOutput(encodeOutput(sent))!;
			expect({ ...rest, data: new Uint8Array(data) }).toEqual({
				...sent,
				data: new Uint8Array(sent.data),
			});
		}),
		{ numRuns: 1_000 },
	);
});

test('a frame with one bit turned, or cut anywhere, is no frame', () => {
	const frames = [undefined, { from: 3, reason: 'limit' as const }].map((gap) =>
		encodeOutput({
			jobId: randomUUID(),
			epoch: 7,
			stream: 'stderr',
			offset: 99,
			data: randomBytes(40),
			...(gap && { gap }),
		}),
	);
	for (const bytes of frames) {
		for (let bit = 0; bit < bytes.length * 8; bit += 1) {
			const turned = Buffer.from(bytes);
			turned[bit >> 3]! ^= 1 << (bit & 7);
			expect(decodeOutput(turned)).toBeUndefined();
		}
		for (let end = 0; end < bytes.length; end += 1) {
			expect(decodeOutput(bytes.subarray(0, end))).toBeUndefined();
		}
	}
});

test('whatever comes, the answer is a frame or nothing, never an exception', () => {
	fc.assert(
		fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
			// Random bytes have no right checksum.
			expect(decodeOutput(Buffer.from(bytes))).toBeUndefined();
		}),
		{ numRuns: 5_000 },
	);
});

test('a frame of a file comes out as it went in, and nothing else is one', () => {
	const frame = fc.record({
		jobId: fc.uuid(),
		epoch: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
		transfer: fc.nat({ max: 0xffff_ffff }),
		offset: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
		data: fc.uint8Array({ maxLength: 100 }),
	});
	fc.assert(
		fc.property(frame, fc.nat(), fc.integer({ min: 1, max: 255 }), (file, at, flip) => {
			const bytes = encodeFile(file);
			expect(isFileFrame(bytes)).toBe(true);
			const { data, ...rest } = decodeFile(bytes)!;
			expect({ ...rest, data: new Uint8Array(data) }).toEqual(file);
			expect(decodeOutput(bytes)).toBeUndefined();
			bytes[at % bytes.length]! ^= flip;
			expect(decodeFile(bytes)).toBeUndefined();
		}),
	);
	expect(decodeFile(Buffer.alloc(10, 3))).toBeUndefined();
});

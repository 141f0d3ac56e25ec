import * as fc from 'fast-check';
import { CarriedStream, decodePoll, encodePoll, type PollBody } from '../../../protocol/poll';

const body = (more: Partial<PollBody> = {}): PollBody => ({
	opens: false,
	ends: false,
	waitMs: 0,
	from: 0,
	have: 0,
	data: Buffer.alloc(0),
	...more,
});

/** One end of a line, with what it has read. */
class End extends CarriedStream {
	readonly pieces: Buffer[] = [];
	/** How often it had something new to say. */
	words = 0;

	constructor() {
		super();
		this.on('data', (bytes: Buffer) => this.pieces.push(bytes));
		this.on('error', () => undefined);
	}

	get heard(): string {
		return Buffer.concat(this.pieces).toString('latin1');
	}

	protected said(): void {
		this.words += 1;
	}
}

const settled = async () => {
	for (let i = 0; i < 4; i += 1) await new Promise((resolve) => setImmediate(resolve));
};

describe('a body', () => {
	test('says the same when it is read as when it was written', () => {
		fc.assert(
			fc.property(
				fc.record({
					opens: fc.boolean(),
					ends: fc.boolean(),
					waitMs: fc.nat(2 ** 32 - 1),
					from: fc.maxSafeNat(),
					have: fc.maxSafeNat(),
					data: fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
				}),
				(said) => {
					expect(decodePoll(encodePoll(said))).toEqual(said);
				},
			),
		);
	});

	test.each([
		['nothing', Buffer.alloc(0)],
		['a cut head', encodePoll(body()).subarray(0, 23)],
		['another form', Buffer.alloc(24, 2)],
		['unknown marks', encodePoll(body()).fill(4, 1, 2)],
		['an offset beyond all numbers', encodePoll(body()).fill(255, 8, 16)],
		['a page', Buffer.from('<!doctype html><title>Sign in</title>')],
	])('that is %s is none', (_, bytes) => {
		expect(decodePoll(bytes)).toBeUndefined();
	});
});

describe('a line', () => {
	test('however requests and answers are cut, lost, doubled and late, every byte arrives once and in order', async () => {
		const step = fc.oneof(
			fc.record({ do: fc.constant('write' as const), end: fc.nat(1), bytes: fc.nat(40) }),
			fc.record({ do: fc.constant('speak' as const), max: fc.integer({ min: 1, max: 16 }) }),
			fc.record({ do: fc.constant('listen' as const) }),
			fc.record({
				do: fc.constant('arrive' as const),
				which: fc.nat(),
				max: fc.integer({ min: 1, max: 16 }),
				stays: fc.boolean(),
			}),
			fc.record({ do: fc.constant('lose' as const), which: fc.nat() }),
		);
		await fc.assert(
			fc.asyncProperty(fc.array(step, { maxLength: 120 }), fc.boolean(), async (steps, closes) => {
				const [robot, hub] = [new End(), new End()];
				const said = ['', ''];
				let letter = 0;
				/** Under way, in no order; `back` = an answer. */
				const post: { bytes: Buffer; back: boolean }[] = [];
				const write = (end: number, length: number) => {
					const text = Array.from({ length }, () => String.fromCharCode(32 + (letter++ % 90))).join(
						'',
					);
					said[end] += text;
					[robot, hub][end]!.write(text, 'latin1');
				};
				const send = (waitMs: number, max: number) => {
					const piece = waitMs > 0 ? robot.silence : robot.piece(max);
					const bytes = encodePoll({ opens: false, waitMs, have: robot.have, ...piece });
					post.push({ bytes, back: false });
				};
				const arrive = ({ bytes, back }: { bytes: Buffer; back: boolean }, max: number) => {
					const heard = decodePoll(bytes)!;
					const there = back ? robot : hub;
					expect(there.arrived(heard.have)).toBe(true);
					there.receive(heard);
					if (back) return;
					const piece = heard.waitMs > 0 ? hub.piece(max) : hub.silence;
					post.push({ bytes: encodePoll(body({ have: hub.have, ...piece })), back: true });
				};
				for (const one of steps) {
					if (one.do === 'write') write(one.end, one.bytes);
					else if (one.do === 'speak') send(0, one.max);
					else if (one.do === 'listen') send(1, 1);
					else if (post.length > 0) {
						const at = one.which % post.length;
						const [taken] = one.do === 'arrive' && one.stays ? [post[at]!] : post.splice(at, 1);
						if (one.do === 'arrive') arrive(taken!, one.max);
					}
				}
				if (closes) for (const end of [robot, hub]) end.end();
				await settled();
				while (robot.hasNews || hub.hasNews) {
					send(0, 7);
					send(1, 7);
					for (const one of post.splice(0)) arrive(one, 7);
					for (const one of post.splice(0)) arrive(one, 7);
					// What waited behind the arrival of what was written before.
					await new Promise((resolve) => setImmediate(resolve));
				}
				await settled();
				expect([hub.heard, robot.heard]).toEqual(said);
				expect([hub.over, robot.over]).toEqual([closes, closes]);
				expect([hub.destroyed, robot.destroyed]).toEqual([closes, closes]);
				for (const end of [robot, hub]) end.destroy();
			}),
			{ numRuns: 300 },
		);
	});

	test('what was written counts as unsent until it has arrived', async () => {
		const end = new End();
		for (const text of ['one', 'two', 'three']) end.write(text);
		expect([end.writableLength, end.piece(100).data.toString()]).toEqual([11, 'one']);
		end.arrived(2);
		expect([end.writableLength, end.piece(100)]).toMatchObject([11, { from: 2, ends: false }]);
		end.arrived(3);
		await settled();
		// What was gathered meanwhile is one piece.
		expect([end.writableLength, end.piece(100).data.toString()]).toEqual([8, 'twothree']);
		end.destroy();
	});

	test('an acknowledgement of what was never said is not believed', () => {
		const end = new End();
		end.write('one');
		expect(end.arrived(4)).toBe(false);
		expect(end.arrived(3)).toBe(true);
		end.destroy();
	});

	test('whoever reads slowly is waited for', async () => {
		const end = new End();
		end.pause();
		end.receive({ from: 0, data: Buffer.alloc(end.readableHighWaterMark), ends: false });
		let roomy = false;
		const room = end.room().then(() => (roomy = true));
		await settled();
		expect(roomy).toBe(false);
		end.resume();
		await room;
		end.destroy();
	});
});

import { type Barrier, Transports } from '../../../agent/dial';
import type { Transport } from '../../../protocol';
import { FakeClock } from '../../support/fake-clock';

function setup(wanted: 'auto' | Transport = 'auto') {
	const clock = new FakeClock();
	const transports = new Transports(wanted, {
		now: () => clock.now(),
		monotonic: () => clock.monotonic(),
		chance: () => 0,
		sleep: async () => true,
	});
	return {
		/** One line, from the choice to its end. */
		line(end: Barrier | 'heard'): Transport {
			const transport = transports.next();
			const heard = end === 'heard';
			transports.ended(transport, { heard, barrier: heard ? 0 : end });
			return transport;
		},
		later: (ms: number) => clock.pause(ms),
	};
}

test('after two handshakes in a row that came to nothing one line polls, and then WebSockets have their turn', () => {
	const { line } = setup();
	expect([line(1), line(1), line(0), line(1), line(1), line(0)]).toEqual([
		...['websocket', 'websocket', 'poll'],
		...['websocket', 'websocket', 'poll'],
	]);
});

test('a service that is not there is no reason to poll, and no part of a row', () => {
	const { line } = setup();
	expect(Array.from({ length: 20 }, () => line(0))).not.toContain('poll');
	expect([line(1), line(0), line(1), line(0), line(1)]).not.toContain('poll');
});

test('a connection that broke off says half as much', () => {
	const { line } = setup();
	expect([line(0.5), line(0.5), line(0.5), line(0.5), line(0)]).toEqual([
		...['websocket', 'websocket', 'websocket', 'websocket'],
		'poll',
	]);
});

test('where polling works it is gone on with, and a WebSocket is tried every ten minutes', async () => {
	const { line, later } = setup();
	expect([line(1), line(1), line('heard'), line('heard')]).toEqual([
		...['websocket', 'websocket', 'poll', 'poll'],
	]);
	await later(600_000);
	// Once is enough: what was known is still so.
	expect([line(1), line('heard'), line('heard')]).toEqual(['websocket', 'poll', 'poll']);
	await later(600_000);
	expect([line('heard'), line(1), line(1), line(0)]).toEqual([
		...['websocket', 'websocket', 'websocket', 'poll'],
	]);
});

test('a service that restarts is found again by polling; when polling fails on and on, that is forgotten', () => {
	const { line } = setup();
	expect([line(1), line(1), line('heard')]).toEqual(['websocket', 'websocket', 'poll']);
	expect(Array.from({ length: 4 }, () => line(0))).toEqual(['poll', 'poll', 'poll', 'poll']);
	expect(line('heard')).toBe('poll');
	for (let i = 0; i < 5; i += 1) line(0);
	expect(line('heard')).toBe('websocket');
});

test.each(['websocket', 'poll'] as const)('whoever wants %s gets nothing else', (wanted) => {
	const { line } = setup(wanted);
	expect(new Set([line(1), line(1), line(1), line(0), line('heard'), line(1)])).toEqual(
		new Set([wanted]),
	);
});

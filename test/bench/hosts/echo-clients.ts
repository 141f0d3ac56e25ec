/** Clients of the floor: bare sockets that speak as seldom as idle robots do. */
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { inParallel } from '../contenders/contender';
import { serveHarness } from './harness';
import { localAddressOf } from './simulated-robot';

const politeCallers = 64;
/** As long as a robot's heartbeat. */
const message = 'x'.repeat(140);
const sockets: WebSocket[] = [];

function dial(url: string, number: number): Promise<WebSocket> {
	const socket = new WebSocket(url, {
		perMessageDeflate: false,
		localAddress: localAddressOf(number),
	});
	return new Promise((resolve, reject) => {
		socket.once('error', reject);
		// The first echo has made both ends allocate what they need.
		socket.once('open', () => socket.send(message));
		socket.once('message', () => resolve(socket));
	});
}

serveHarness({
	async grow(url: string, count: number) {
		await inParallel(
			count,
			async () => {
				const number = sockets.length;
				sockets.length += 1;
				sockets[number] = await dial(url, number);
			},
			politeCallers,
		);
	},

	/** All at once; answers the milliseconds each took, in order. */
	async storm(url: string, count: number): Promise<number[]> {
		const from = performance.now();
		const times: number[] = [];
		await Promise.all(
			Array.from({ length: count }, async (_, i) => {
				await dial(url, i);
				times.push(performance.now() - from);
			}),
		);
		return times;
	},

	beat(everyMs: number) {
		void (async () => {
			for (;;) {
				const from = performance.now();
				for (const [i, socket] of sockets.entries()) {
					const due = from + (everyMs * i) / sockets.length;
					if (due > performance.now() + 20) await sleep(due - performance.now());
					socket.send(message);
				}
				await sleep(Math.max(50, from + everyMs - performance.now()));
			}
		})();
	},
});

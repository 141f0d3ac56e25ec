/**
 * W0: what this machine can do at all, measured before and after everything else. A run whose machine
 * changed under it compares nothing.
 */
import { fork } from 'node:child_process';
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import WebSocket from 'ws';
import { percentile } from '../report/statistics';
import { newFolder } from './folder';
import { ended } from './spawned';
import { onExit } from './undo';

export interface Calibration {
	/** An append of 4 KiB and its fdatasync, on the disk where the stores lie. */
	syncP50Ms: number;
	syncP99Ms: number;
	/** Half a round trip to a bare WebSocket server on loopback, in another process. */
	hopP50Ms: number;
	hopP99Ms: number;
	/** Parse and stringify of 1 KB of JSON. */
	jsonUs: number;
}

const syncs = 1_000;
const roundTrips = 5_000;
const jsonRounds = 50_000;
const warmUp = 0.1;

export async function calibrate(): Promise<Calibration> {
	const sync = await syncTimes();
	const hop = (await roundTripTimes()).map((ms) => ms / 2);
	return {
		syncP50Ms: percentile(sync, 0.5),
		syncP99Ms: percentile(sync, 0.99),
		hopP50Ms: percentile(hop, 0.5),
		hopP99Ms: percentile(hop, 0.99),
		jsonUs: jsonTime(),
	};
}

/** How much the slower of two is slower, as a share: of what the comparisons rest on. */
export function drift(before: Calibration, after: Calibration): number {
	const shares = (['syncP50Ms', 'hopP50Ms', 'jsonUs'] as const).map((name) => {
		const [low, high] = [before[name], after[name]].sort((a, b) => a - b) as [number, number];
		return high / low - 1;
	});
	return Math.max(...shares);
}

async function syncTimes(): Promise<number[]> {
	const { folder, remove } = newFolder('calibration');
	const file = openSync(join(folder, 'appended'), 'a');
	const page = Buffer.alloc(4_096, 1);
	const times: number[] = [];
	for (let i = 0; i < syncs; i += 1) {
		const from = performance.now();
		writeSync(file, page);
		fdatasyncSync(file);
		times.push(performance.now() - from);
	}
	closeSync(file);
	await remove();
	return times.slice(syncs * warmUp);
}

async function roundTripTimes(): Promise<number[]> {
	const floor = await startEcho();
	const socket = new WebSocket(floor.url, { perMessageDeflate: false });
	await new Promise((resolve) => socket.once('open', resolve));
	const message = 'x'.repeat(300);
	const times: number[] = [];
	for (let i = 0; i < roundTrips; i += 1) {
		const from = performance.now();
		const back = new Promise((resolve) => socket.once('message', resolve));
		socket.send(message);
		await back;
		times.push(performance.now() - from);
	}
	socket.terminate();
	await floor.stop();
	return times.slice(roundTrips * warmUp);
}

function jsonTime(): number {
	const text = JSON.stringify({
		type: 'job_assignment',
		payload: { args: Array.from({ length: 24 }, (_, i) => ({ name: `argument-${i}`, value: i })) },
	});
	const from = performance.now();
	for (let i = 0; i < jsonRounds; i += 1) JSON.stringify(JSON.parse(text));
	return ((performance.now() - from) * 1_000) / jsonRounds;
}

/** The bare WebSocket server: the floor under every figure of sockets. */
export async function startEcho(): Promise<{
	url: string;
	pid: number;
	stop: () => Promise<void>;
}> {
	const child = fork(join(import.meta.dirname, 'hosts/echo-server.mjs'));
	const stop = onExit(() => ended(child, 'SIGKILL'));
	const port = await new Promise<number>((resolve) =>
		child.once('message', ({ port }: { port: number }) => resolve(port)),
	);
	return { url: `ws://127.0.0.1:${port}`, pid: child.pid!, stop };
}

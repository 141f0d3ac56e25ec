/**
 * What a program wrote, synced and sent, in the order in which the kernel saw it. A trace is a list of
 * calls; `from` and `to` are the lines where a call went in and came out again, so a call that came out
 * on an earlier line than another went in was over before that one began.
 */
import { spawnSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

export interface Call {
	name: string;
	/** Path of the file, or `socket:[inode]`. */
	path: string;
	/** As far as the kernel took it. */
	data: Buffer;
	/** Where in the file; the new size for a truncation. */
	offset: number;
	from: number;
	to: number;
}

const calls = 'write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,ftruncate';

/** Why nothing can be traced here; undefined = it can. */
export function noTracing(): string | undefined {
	const probe = spawnSync('strace', ['-f', '-e', 'trace=none', 'true']);
	if (probe.error) return 'there is no strace here';
	return probe.status === 0 ? undefined : 'tracing is not permitted here';
}

/** Put before a command: its calls are recorded in `file`, all data included. */
export function traced(file: string): string[] {
	// -D: the program stays the child of its parent, and the tracer is nobody's.
	const how = ['-D', '-f', '-y', '-xx', '-s', '16777216', '--seccomp-bpf'];
	return ['strace', ...how, '-e', `trace=${calls}`, '-e', 'signal=none', '-o', file];
}

const began = /^(\d+) +(\w+)\(\d+<([^>]*)>(.*)$/;
const resumed = /^(\d+) +<\.\.\. \w+ resumed>.*\) += (-?\d+)/;

/** The calls on files and sockets that `wanted` names and that did something. */
export async function readTrace(
	file: string,
	wanted: (path: string) => boolean,
): Promise<{ calls: Call[]; lines: number }> {
	const found: Call[] = [];
	const open = new Map<string, Call>();
	let line = 0;
	const finish = (call: Call, result: number) => {
		call.to = line;
		if (result < 0) call.to = -1;
		else if (call.data.length > result) call.data = call.data.subarray(0, result);
	};
	for await (const text of createInterface({
		input: createReadStream(file),
		crlfDelay: Infinity,
	})) {
		line++;
		const end = resumed.exec(text);
		if (end) {
			const call = open.get(end[1]!);
			open.delete(end[1]!);
			if (call) finish(call, Number(end[2]));
			continue;
		}
		const start = began.exec(text);
		if (!start) continue;
		const [, pid, name, hexPath, rest] = start as unknown as [
			string,
			string,
			string,
			string,
			string,
		];
		const path = bytesOf(hexPath).toString();
		if (!wanted(path)) continue;
		const call: Call = { name, path, data: dataOf(rest), offset: 0, from: line, to: Infinity };
		if (name === 'pwrite64') call.offset = Number(/, \d+, (\d+)[) ]/.exec(rest)![1]);
		if (name === 'ftruncate') call.offset = Number(/^, (\d+)/.exec(rest)![1]);
		found.push(call);
		if (rest.endsWith('<unfinished ...>')) open.set(pid, call);
		else finish(call, Number(/\) += (-?\d+)/.exec(rest)?.[1] ?? -1));
	}
	// A call that failed did nothing; one that never came out (a kill) may have.
	return { calls: found.filter(({ to }) => to >= 0), lines: line };
}

function dataOf(rest: string): Buffer {
	const pieces = [...rest.matchAll(/"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?/g)].map(([, hex, cut]) => {
		if (cut) throw new Error('the trace does not hold all data');
		return bytesOf(hex!);
	});
	return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}

function bytesOf(hex: string): Buffer {
	return Buffer.from(hex.replaceAll('\\x', ''), 'hex');
}

/** A message on a socket, and when its first byte was handed to the kernel. */
export interface SentFrame {
	from: number;
	text: string;
}

/** All text frames that were sent on WebSockets, in order, however they were cut into writes. */
export function sentFrames(calls: readonly Call[]): SentFrame[] {
	const streams = new Map<string, { bytes: Buffer; marks: { at: number; from: number }[] }>();
	for (const { path, data, from } of calls) {
		if (!path.startsWith('socket:') || data.length === 0) continue;
		const stream = streams.get(path) ?? { bytes: Buffer.alloc(0), marks: [] };
		streams.set(path, stream);
		stream.marks.push({ at: stream.bytes.length, from });
		stream.bytes = Buffer.concat([stream.bytes, data]);
	}
	return [...streams.values()]
		.flatMap(({ bytes, marks }) => framesIn(bytes, marks))
		.sort((a, b) => a.from - b.from);
}

function framesIn(bytes: Buffer, marks: readonly { at: number; from: number }[]): SentFrame[] {
	const head = bytes.subarray(0, 4_096).toString('latin1');
	// The answer of the service, or the question of the robot.
	if (!/^HTTP\/1\.1 101 |^GET .*\r\nUpgrade: websocket/is.test(head)) return [];
	const frames: SentFrame[] = [];
	let mark = 0;
	for (let at = bytes.indexOf('\r\n\r\n') + 4; at + 2 <= bytes.length;) {
		while (mark + 1 < marks.length && marks[mark + 1]!.at <= at) mark++;
		const { from } = marks[mark]!;
		const opcode = bytes[at]! & 0x0f;
		const masked = (bytes[at + 1]! & 0x80) !== 0;
		let length = bytes[at + 1]! & 0x7f;
		at += 2;
		if (length === 126) {
			length = bytes.readUInt16BE(at);
			at += 2;
		} else if (length === 127) {
			length = Number(bytes.readBigUInt64BE(at));
			at += 8;
		}
		const mask = masked ? bytes.subarray(at, at + 4) : undefined;
		if (masked) at += 4;
		const body = Buffer.from(bytes.subarray(at, at + length));
		if (mask) for (let i = 0; i < body.length; i++) body[i]! ^= mask[i % 4]!;
		at += length;
		if (opcode === 1 && body.length === length) frames.push({ from, text: body.toString() });
	}
	return frames;
}

/**
 * Output in binary frames: no JSON, no base64. Addressed by byte offset within its stream, so a
 * frame sent twice or late is recognised; the receiver takes only `offset == have`.
 *
 *   0  u8   1 = output
 *   1  u8   0 = stdout, 1 = stderr
 *   2  u16  0
 *   4  u32  CRC-32 of the data
 *   8  u64  offset
 *  16  u64  epoch
 *  24  16 B job id (UUID)
 *  40  data
 */
import { crc32 } from 'node:zlib';

export const streams = ['stdout', 'stderr'] as const;
export type Stream = (typeof streams)[number];

export interface OutputFrame {
	jobId: string;
	epoch: number;
	stream: Stream;
	offset: number;
	data: Uint8Array;
}

const headerBytes = 40;

export function encodeOutput(frame: OutputFrame): Buffer {
	const bytes = Buffer.allocUnsafe(headerBytes + frame.data.length);
	bytes[0] = 1;
	bytes[1] = streams.indexOf(frame.stream);
	bytes.writeUInt16BE(0, 2);
	bytes.writeUInt32BE(crc32(frame.data), 4);
	bytes.writeBigUInt64BE(BigInt(frame.offset), 8);
	bytes.writeBigUInt64BE(BigInt(frame.epoch), 16);
	bytes.write(frame.jobId.replaceAll('-', ''), 24, 16, 'hex');
	bytes.set(frame.data, headerBytes);
	return bytes;
}

/** Gives `undefined` for anything that is not an intact output frame. */
export function decodeOutput(bytes: Buffer): OutputFrame | undefined {
	if (bytes.length < headerBytes || bytes[0] !== 1) return undefined;
	const stream = streams[bytes[1]!];
	const offset = Number(bytes.readBigUInt64BE(8));
	const epoch = Number(bytes.readBigUInt64BE(16));
	if (stream === undefined || !Number.isSafeInteger(offset) || !Number.isSafeInteger(epoch)) {
		return undefined;
	}
	const data = bytes.subarray(headerBytes);
	if (crc32(data) !== bytes.readUInt32BE(4)) return undefined;
	const hex = bytes.toString('hex', 24, 40);
	const jobId = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
	return { jobId, epoch, stream, offset, data };
}

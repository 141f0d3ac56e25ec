/**
 * Output in binary frames: no JSON, no base64. Addressed by byte offset within its stream, so a
 * frame sent twice or late is recognised; the receiver takes only `offset == have`.
 *
 *     0  u8   1 = output, 2 = output behind a gap
 *     1  u8   0 = stdout, 1 = stderr
 *     2  u8   why there is a gap (its place in `holeReasons`), else 0
 *     3  u8   0
 *     4  u32  CRC-32 of everything else
 *     8  u64  offset
 *    16  u64  epoch
 *    24  16 B job id (UUID)
 *    40  u64  where the gap begins; only in a frame behind one
 *    40 or 48 data
 *
 * A gap is what the robot no longer has. The receiver takes such a frame when what it has
 * ends inside the gap or at its edge: what is missing up to `offset` will never come. Data may then be
 * empty: the gap is the end of the stream.
 *
 * Files travel in frames of the same kind, both ways:
 *
 *     0  u8   3
 *     1  3 B  0
 *     4  u32  CRC-32 of everything else
 *     8  u64  offset
 *    16  u64  epoch
 *    24  16 B job id (UUID)
 *    40  u32  transfer
 *    44       data
 */
import { crc32 } from 'node:zlib';
import { limits } from './limits';
import { type HoleReason, holeReasons, type Stream, streams } from './output';

export { type Stream, streams };

export interface OutputFrame {
	jobId: string;
	epoch: number;
	stream: Stream;
	offset: number;
	data: Uint8Array;
	/** Bytes from here to `offset` will never come. */
	gap?: { from: number; reason: HoleReason };
}

/** Bytes of one file. */
export interface FileFrame {
	jobId: string;
	epoch: number;
	/** The robot's number for the file. */
	transfer: number;
	offset: number;
	data: Uint8Array;
}

const plainHeaderBytes = 40;
/** Bytes of a frame that are not data, at most. */
export const outputHeaderBytes = 48;

export function encodeOutput(frame: OutputFrame): Buffer {
	const { gap } = frame;
	const headerBytes = gap ? outputHeaderBytes : plainHeaderBytes;
	const bytes = Buffer.allocUnsafe(headerBytes + frame.data.length);
	bytes[0] = gap ? 2 : 1;
	bytes[1] = streams.indexOf(frame.stream);
	bytes[2] = gap ? holeReasons.indexOf(gap.reason) : 0;
	bytes[3] = 0;
	bytes.writeBigUInt64BE(BigInt(frame.offset), 8);
	bytes.writeBigUInt64BE(BigInt(frame.epoch), 16);
	bytes.write(frame.jobId.replaceAll('-', ''), 24, 16, 'hex');
	if (gap) bytes.writeBigUInt64BE(BigInt(gap.from), 40);
	bytes.set(frame.data, headerBytes);
	bytes.writeUInt32BE(checksum(bytes), 4);
	return bytes;
}

/** Gives `undefined` for anything that is not an intact output frame. */
export function decodeOutput(bytes: Buffer): OutputFrame | undefined {
	const behindGap = bytes[0] === 2;
	const headerBytes = behindGap ? outputHeaderBytes : plainHeaderBytes;
	if (bytes.length < headerBytes || (bytes[0] !== 1 && !behindGap)) return undefined;
	if (checksum(bytes) !== bytes.readUInt32BE(4)) return undefined;
	const stream = streams[bytes[1]!];
	const reason = holeReasons[bytes[2]!];
	const offset = Number(bytes.readBigUInt64BE(8));
	const epoch = Number(bytes.readBigUInt64BE(16));
	if (stream === undefined || !Number.isSafeInteger(epoch)) return undefined;
	if (offset > limits.maxStreamBytes - bytes.length) return undefined;
	const jobId = jobIdIn(bytes);
	const frame = { jobId, epoch, stream, offset, data: bytes.subarray(headerBytes) };
	if (!behindGap) return frame;
	const from = Number(bytes.readBigUInt64BE(40));
	if (reason === undefined || !(from < offset)) return undefined;
	return { ...frame, gap: { from, reason } };
}

export const fileHeaderBytes = 44;
const fileKind = 3;

export function encodeFile({ jobId, epoch, transfer, offset, data }: FileFrame): Buffer {
	const bytes = Buffer.allocUnsafe(fileHeaderBytes + data.length);
	bytes.writeUInt32BE(fileKind << 24, 0);
	bytes.writeBigUInt64BE(BigInt(offset), 8);
	bytes.writeBigUInt64BE(BigInt(epoch), 16);
	bytes.write(jobId.replaceAll('-', ''), 24, 16, 'hex');
	bytes.writeUInt32BE(transfer, 40);
	bytes.set(data, fileHeaderBytes);
	bytes.writeUInt32BE(checksum(bytes), 4);
	return bytes;
}

/** Whether it is meant to be a frame of a file. */
export function isFileFrame(bytes: Uint8Array): boolean {
	return bytes[0] === fileKind;
}

/** Gives `undefined` for anything that is not an intact frame of a file. */
export function decodeFile(bytes: Buffer): FileFrame | undefined {
	if (bytes.length < fileHeaderBytes || !isFileFrame(bytes)) return undefined;
	if (checksum(bytes) !== bytes.readUInt32BE(4)) return undefined;
	const offset = Number(bytes.readBigUInt64BE(8));
	const epoch = Number(bytes.readBigUInt64BE(16));
	if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(epoch)) return undefined;
	const data = bytes.subarray(fileHeaderBytes);
	return { jobId: jobIdIn(bytes), epoch, transfer: bytes.readUInt32BE(40), offset, data };
}

function jobIdIn(bytes: Buffer): string {
	const hex = bytes.toString('hex', 24, 40);
	return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function checksum(bytes: Buffer): number {
	return crc32(bytes.subarray(8), crc32(bytes.subarray(0, 4)));
}

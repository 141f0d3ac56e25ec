/**
 * Where the output of jobs lies. Small pieces are rows beside everything else: they cost their commit
 * only the insert. Large ones go to segments (segments.ts), with a row that says where. What a job
 * prints beyond its limit is cut out of the middle as it comes in; every missing part is a hole on
 * record, with its reason, so that offsets stay true and nobody is handed wrong bytes.
 *
 * Works inside the transaction of a commit; `flush`, `committed` and `rolledBack` are called around its
 * end. Knows nothing about robots, states of attempts or digests.
 */
import {
	type Hole,
	type HoleReason,
	holeAt,
	type OutputLengths,
	type Stream,
	streams,
	surplus,
	withHole,
} from '../../protocol';
import type { Place, Segments } from './segments';
import type { Statements } from './statements';
import type { Deeds, Reads } from './store';

/**
 * Up to here a row costs a commit less than a record and its second sync (0.2 against 0.4 ms for 1 KiB,
 * equal near 64 KiB), and beyond it the log would carry every byte twice.
 */
const maxRowBytes = 32 * 1024;
/** A segment is worth emptying when no more than this share of it is still wanted. */
const sparse = 1 / 4;

/** One stream of one attempt. */
export interface StreamName {
	jobId: string;
	number: number;
	stream: Stream;
}

export interface OutputPiece {
	offset: number;
	data: Uint8Array;
	/** Bytes from here to `offset` will never come. */
	gap?: { from: number; reason: HoleReason };
	/** Came with a result: stays a row, whatever its size, so that the commit has one sync. */
	withResult?: boolean;
}

interface RecordRow extends Place {
	start: number;
	length: number;
}

export class Outputs {
	readonly #sql: Statements;
	/** None for a store in memory: there all pieces are rows. */
	readonly #segments: Segments | undefined;
	readonly #maxBytes: number;
	/** Wanted bytes by segment. */
	readonly #live = new Map<number, { size: number; live: number }>();
	#rowBytes: number;
	/** How the transaction under way changes these. */
	readonly #liveBy = new Map<number, number>();
	#rowBytesBy = 0;
	#ends = new Map<number, number>();
	#emptied: number[] = [];
	/** How far the last purge got. */
	#purgedTo = '';

	constructor(
		sql: Statements,
		openSegments: (known: { id: number; size: number }[]) => Segments | undefined,
		maxBytes: number,
	) {
		this.#sql = sql;
		this.#maxBytes = maxBytes;
		const known = sql.all<{ id: number; size: number; live: number }>(
			'SELECT id, size, live FROM segments ORDER BY id',
		);
		for (const { id, size, live } of known) this.#live.set(id, { size, live });
		this.#rowBytes = sql.get('SELECT coalesce(sum(length(data)), 0) AS bytes FROM output')![
			'bytes'
		] as number;
		this.#segments = openSegments(known);
	}

	/** Bytes that are kept of all jobs. */
	get bytes(): number {
		let bytes = this.#rowBytes;
		for (const { live } of this.#live.values()) bytes += live;
		return bytes;
	}

	/** Takes the piece if it begins where the stream ends, or its gap does. Answers where the stream ends now. */
	append(name: StreamName, piece: OutputPiece, have: OutputLengths): number {
		const { stream } = name;
		const { offset, data, gap } = piece;
		const behindGap = gap !== undefined && gap.from <= have[stream] && have[stream] < offset;
		if (offset !== have[stream] && !behindGap) return have[stream];
		if (behindGap) this.hole(name, { from: have[stream], to: offset, reason: gap.reason });
		if (data.length > 0) this.#write(name, offset, piece);
		const end = offset + data.length;
		if (have.stdout + have.stderr - have[stream] + end > this.#maxBytes) {
			this.#trim(name, { ...have, [stream]: end });
		}
		return end;
	}

	/** From `from` on: the hole that begins there, or bytes up to the next one. */
	read({ from, to, maxBytes, ...name }: Reads['output']['in']): Reads['output']['out'] {
		const holes = this.holes(name);
		const hole = holeAt(holes, from);
		if (hole) return { hole, data: new Uint8Array(), found: false };
		const stop = Math.min(
			to,
			from + maxBytes,
			...holes.map((one) => one.from).filter((at) => at > from),
		);
		const parts: Uint8Array[] = [];
		let at = from;
		for (const piece of this.#pieces(name, from, stop)) {
			// Between the pieces there is nothing, and no hole says why.
			if (piece.start > at || !piece.data) break;
			const part = piece.data.subarray(at - piece.start, stop - piece.start);
			parts.push(part);
			at += part.length;
			if (at >= stop) break;
		}
		// A buffer of its own: a view would take all of its buffer along to the other thread.
		if (at > from) return { hole: null, data: new Uint8Array(Buffer.concat(parts)), found: false };
		if (at >= stop) return { hole: null, data: new Uint8Array(), found: false };
		return {
			hole: { from, to: Math.min(stop, this.#nextIntact(name, from, stop)), reason: 'damaged' },
			data: new Uint8Array(),
			found: true,
		};
	}

	holes({ jobId, number, stream }: StreamName): Hole[] {
		return this.#sql.all<Hole>(
			`SELECT start AS "from", stop AS "to", reason FROM output_holes
			 WHERE job_id = ? AND number = ? AND stream = ? ORDER BY start`,
			jobId,
			number,
			streams.indexOf(stream),
		);
	}

	/** Puts a hole on record and drops what lies in it. */
	hole(name: StreamName, hole: Hole): void {
		const { jobId, number } = name;
		const stream = streams.indexOf(name.stream);
		const holes = withHole(this.holes(name), hole);
		this.#sql.run(
			'DELETE FROM output_holes WHERE job_id = ? AND number = ? AND stream = ?',
			jobId,
			number,
			stream,
		);
		for (const { from, to, reason } of holes) {
			this.#sql.run(
				'INSERT INTO output_holes (job_id, number, stream, start, stop, reason) VALUES (?,?,?,?,?,?)',
				jobId,
				number,
				stream,
				from,
				to,
				reason,
			);
		}
		this.#drop(name, hole.from, hole.to);
	}

	/** Forgets a stream, as if nothing of it had ever come. */
	rewind(name: StreamName): void {
		this.#drop(name, 0, Number.MAX_SAFE_INTEGER);
		this.#sql.run(
			'DELETE FROM output_holes WHERE job_id = ? AND number = ? AND stream = ?',
			name.jobId,
			name.number,
			streams.indexOf(name.stream),
		);
	}

	/**
	 * Removes the output of jobs that ended before `endedBefore` and, while more than `maxBytes` are kept,
	 * of the oldest ended ones. Looks at no more than `maxJobs`, and stops after the job with which `mostBytes`
	 * are gone; the next call goes on from there.
	 */
	purge({
		endedBefore,
		maxBytes,
		maxJobs,
		mostBytes = Infinity,
	}: Deeds['purgeOutput']['in']): Deeds['purgeOutput']['out'] {
		const before = this.#bytesNow;
		let purged = 0;
		for (let seen = 0; seen < maxJobs && before - this.#bytesNow < mostBytes; seen += 1) {
			const jobId = this.#jobAfter(this.#purgedTo);
			if (jobId === undefined) {
				this.#purgedTo = '';
				return { jobs: purged, bytes: before - this.#bytesNow, more: false };
			}
			this.#purgedTo = jobId;
			const job = this.#sql.get('SELECT created_at, ended_at FROM jobs WHERE id = ?', jobId);
			const endedAt = job ? (job['ended_at'] as number | null) : -Infinity;
			const over = this.#bytesNow > maxBytes;
			if (endedAt !== null && (endedAt < endedBefore || over)) {
				this.#purgeJob(jobId);
				if (!job) this.#sql.run('DELETE FROM output_holes WHERE job_id = ?', jobId);
				purged += 1;
			} else if (!over && (job!['created_at'] as number) >= endedBefore) {
				// Ids begin with the time: whatever follows is younger still.
				this.#purgedTo = '';
				return { jobs: purged, bytes: before - this.#bytesNow, more: false };
			}
		}
		return { jobs: purged, bytes: before - this.#bytesNow, more: true };
	}

	/** Moves what is still wanted out of the segment with the least of it, until `maxBytes` have moved. */
	compact(maxBytes: number): Deeds['compactOutput']['out'] {
		const answer = { moved: 0, damaged: 0 };
		const segments = this.#segments;
		const [id] =
			[...this.#live]
				.filter(
					([one, { size, live }]) => one !== segments?.active && live > 0 && live <= size * sparse,
				)
				.sort(([, a], [, b]) => a.live - b.live)[0] ?? [];
		if (!segments || id === undefined) return answer;
		const rows = this.#sql.all<RecordRow & { jobId: string; number: number; stream: number }>(
			`SELECT job_id AS jobId, number, stream, start, length, segment, position, size, crc FROM output_records
			 WHERE segment = ? ORDER BY position`,
			id,
		);
		for (const { jobId, number, stream, start, length, ...place } of rows) {
			if (answer.moved >= maxBytes) break;
			const name = { jobId, number, stream: streams[stream]! };
			const data = segments.read({ ...name, start }, length, place);
			if (!data) {
				answer.damaged += 1;
				this.hole(name, { from: start, to: start + length, reason: 'damaged' });
				continue;
			}
			const to = segments.append({ ...name, start }, data);
			this.#sql.run(
				`UPDATE output_records SET segment = ?, position = ?, size = ?, crc = ?
				 WHERE job_id = ? AND number = ? AND stream = ? AND start = ?`,
				to.segment,
				to.position,
				to.size,
				to.crc,
				jobId,
				number,
				stream,
				start,
			);
			this.#count(id, -place.size);
			this.#count(to.segment, to.size);
			answer.moved += length;
		}
		return answer;
	}

	/** Call before the commit: what it will refer to is on disk when this returns. */
	flush(): void {
		if (this.#liveBy.size === 0) return;
		const ends = new Map(this.#segments!.flush().map(({ id, size }) => [id, size]));
		for (const id of new Set([...this.#liveBy.keys(), ...this.#live.keys()])) {
			const known = this.#live.get(id);
			const by = this.#liveBy.get(id);
			const live = (known?.live ?? 0) + (by ?? 0);
			if (live === 0 && id !== this.#segments!.active) {
				this.#sql.run('DELETE FROM segments WHERE id = ?', id);
				this.#emptied.push(id);
			} else if (by !== undefined) {
				this.#sql.run(
					'INSERT OR REPLACE INTO segments (id, size, live) VALUES (?,?,?)',
					id,
					ends.get(id) ?? known!.size,
					live,
				);
			}
		}
		this.#ends = ends;
	}

	committed(): void {
		this.#rowBytes += this.#rowBytesBy;
		for (const [id, by] of this.#liveBy) {
			const known = this.#live.get(id) ?? { size: 0, live: 0 };
			this.#live.set(id, { size: this.#ends.get(id) ?? known.size, live: known.live + by });
		}
		for (const id of this.#emptied) {
			this.#live.delete(id);
			this.#segments!.remove(id);
		}
		this.#over(true);
	}

	rolledBack(): void {
		this.#over(false);
	}

	close(): void {
		this.#segments?.close();
	}

	#over(committed: boolean): void {
		this.#segments?.settle(committed);
		this.#liveBy.clear();
		this.#ends.clear();
		this.#rowBytesBy = 0;
		this.#emptied = [];
	}

	/** `bytes` as this transaction has it so far. */
	get #bytesNow(): number {
		let bytes = this.bytes + this.#rowBytesBy;
		for (const by of this.#liveBy.values()) bytes += by;
		return bytes;
	}

	#count(segment: number, bytes: number): void {
		this.#liveBy.set(segment, (this.#liveBy.get(segment) ?? 0) + bytes);
	}

	#write({ jobId, number, stream }: StreamName, start: number, piece: OutputPiece): void {
		const { data, withResult } = piece;
		const of = streams.indexOf(stream);
		if (!this.#segments || withResult || data.length <= maxRowBytes) {
			this.#sql.run(
				'INSERT INTO output (job_id, number, stream, start, data) VALUES (?,?,?,?,?)',
				jobId,
				number,
				of,
				start,
				data,
			);
			this.#rowBytesBy += data.length;
			return;
		}
		const { segment, position, size, crc } = this.#segments.append(
			{ jobId, number, stream, start },
			data,
		);
		this.#sql.run(
			`INSERT INTO output_records (job_id, number, stream, start, length, segment, position, size, crc)
			 VALUES (?,?,?,?,?,?,?,?,?)`,
			jobId,
			number,
			of,
			start,
			data.length,
			segment,
			position,
			size,
			crc,
		);
		this.#count(segment, size);
	}

	#trim({ jobId, number }: StreamName, lengths: OutputLengths): void {
		const middle = surplus(lengths, this.#maxBytes);
		for (const stream of streams) {
			const cut = middle[stream];
			if (cut) this.hole({ jobId, number, stream }, { ...cut, reason: 'limit' });
		}
	}

	/** Drops the pieces that lie wholly between two offsets. */
	#drop({ jobId, number, stream }: StreamName, from: number, to: number): void {
		const of = streams.indexOf(stream);
		const rows = this.#sql.all<{ bytes: number }>(
			`DELETE FROM output WHERE job_id = ? AND number = ? AND stream = ? AND start >= ? AND start < ?
			 AND start + length(data) <= ? RETURNING length(data) AS bytes`,
			jobId,
			number,
			of,
			from,
			to,
			to,
		);
		for (const { bytes } of rows) this.#rowBytesBy -= bytes;
		const records = this.#sql.all<{ segment: number; size: number }>(
			`DELETE FROM output_records WHERE job_id = ? AND number = ? AND stream = ? AND start >= ? AND start < ?
			 AND start + length <= ? RETURNING segment, size`,
			jobId,
			number,
			of,
			from,
			to,
			to,
		);
		for (const { segment, size } of records) this.#count(segment, -size);
	}

	/** Pieces in order, from the one that holds `from` up to `to`; without data = damaged. */
	*#pieces(
		name: StreamName,
		from: number,
		to: number,
	): Generator<{ start: number; end: number; data: Uint8Array | undefined }> {
		const key = [name.jobId, name.number, streams.indexOf(name.stream)] as const;
		const within = (table: string) =>
			`FROM ${table} WHERE job_id = ?1 AND number = ?2 AND stream = ?3 AND start < ?5 AND start >= coalesce(
			 (SELECT max(start) FROM ${table} WHERE job_id = ?1 AND number = ?2 AND stream = ?3 AND start <= ?4), 0) ORDER BY start`;
		const rows = this.#sql
			.statement(`SELECT start, data ${within('output')}`)
			.iterate(...key, from, to) as Iterator<unknown> as Iterator<{
			start: number;
			data: Uint8Array;
		}>;
		try {
			const records = this.#sql.all<RecordRow>(
				`SELECT start, length, segment, position, size, crc ${within('output_records')}`,
				...key,
				from,
				to,
			);
			let row = rows.next();
			for (;;) {
				const record = records[0];
				if (!row.done && (!record || row.value.start < record.start)) {
					const { start, data } = row.value;
					if (start + data.length > from) yield { start, end: start + data.length, data };
					row = rows.next();
				} else if (record) {
					records.shift();
					const end = record.start + record.length;
					if (end <= from) continue;
					const data = this.#segments?.read(
						{ ...name, start: record.start },
						record.length,
						record,
					);
					yield { start: record.start, end, data };
				} else return;
			}
		} finally {
			rows.return?.();
		}
	}

	/** Where the next readable bytes after `from` begin. */
	#nextIntact(name: StreamName, from: number, to: number): number {
		for (const { start, data } of this.#pieces(name, from, to))
			if (data && start > from) return start;
		return to;
	}

	#jobAfter(id: string): string | undefined {
		const next = this.#sql.get(
			`SELECT min(id) AS id FROM (SELECT min(job_id) AS id FROM output WHERE job_id > ?1
			 UNION ALL SELECT min(job_id) FROM output_records WHERE job_id > ?1)`,
			id,
		);
		return (next?.['id'] as string | null) ?? undefined;
	}

	#purgeJob(jobId: string): void {
		const ends = this.#sql.all<{ number: number; stream: number; end: number }>(
			`SELECT number, stream, max(stop) AS end FROM (
			  SELECT number, stream, start + length(data) AS stop FROM output WHERE job_id = ?1
			  UNION ALL SELECT number, stream, start + length FROM output_records WHERE job_id = ?1
			  UNION ALL SELECT number, stream, stop FROM output_holes WHERE job_id = ?1)
			 GROUP BY number, stream`,
			jobId,
		);
		for (const { number, stream, end } of ends) {
			this.hole(
				{ jobId, number, stream: streams[stream]! },
				{ from: 0, to: end, reason: 'purged' },
			);
		}
	}
}

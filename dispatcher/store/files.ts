/**
 * The rows of files. What a file is stands here; its bytes lie on the shelf (shelf.ts). A row is written
 * before its bytes and removed before them: bytes without a row belong to nobody.
 */
import type { Deeds, Reads, StoredFile } from './store';
import type { Statements } from './statements';

const columns = `id, name, bytes, sha256, state, created_at AS createdAt, created_by AS createdBy, used_at AS usedAt,
 job_id AS jobId, epoch, path, mode`;
const select = `SELECT ${columns} FROM files`;
/** A job that has not ended. */
const user = `SELECT j.id FROM job_files l JOIN jobs j ON j.id = l.job_id WHERE l.file_id = ?1 AND j.ended_at IS NULL`;

/** Such a job needs the file. */
const needed = `EXISTS (SELECT 1 FROM job_files l JOIN jobs j ON j.id = l.job_id WHERE l.file_id = files.id AND j.ended_at IS NULL)`;

/** A schedule that still submits jobs names it; ids are unguessable, so what looks like one is one. */
const planned = `EXISTS (SELECT 1 FROM schedules WHERE state <> 'ended' AND instr(definition, files.id) > 0)`;

/** Why a job cannot have this file. */
export function unusable(
	sql: Statements,
	ids: readonly string[],
): { noFile: string; have: StoredFile['state'] | null } | undefined {
	for (const id of ids) {
		const row = sql.get('SELECT state FROM files WHERE id = ?', id);
		const have = (row?.['state'] as StoredFile['state'] | undefined) ?? null;
		if (have !== 'ready') return { noFile: id, have };
	}
	return undefined;
}

/** The job needs these files until it has ended. */
export function holdFiles(
	sql: Statements,
	jobId: string,
	ids: readonly string[],
	at: number,
): void {
	for (const id of ids) {
		sql.run('INSERT OR IGNORE INTO job_files (file_id, job_id) VALUES (?,?)', id, jobId);
		sql.run('UPDATE files SET used_at = max(used_at, ?) WHERE id = ?', at, id);
	}
}

export function fileDeedsOn(sql: Statements) {
	return {
		insertFile: ({ file, ...most }: Deeds['insertFile']['in']): Deeds['insertFile']['out'] => {
			const known =
				file.sha256 === null
					? undefined
					: file.jobId === null
						? sql.all<StoredFile>(
								`${select} WHERE sha256 = ? AND name = ? AND bytes = ? AND job_id IS NULL
								 AND (state = 'ready' OR state = 'open' AND created_by = ?) ORDER BY state DESC, id LIMIT +?`,
								file.sha256,
								file.name,
								file.bytes,
								file.createdBy,
								1,
							)[0]
						: sql.all<StoredFile>(
								`${select} WHERE job_id = ? AND epoch = ? AND path = ? AND sha256 = ? AND bytes = ? AND state <> 'lost' LIMIT +?`,
								file.jobId,
								file.epoch,
								file.path,
								file.sha256,
								file.bytes,
								1,
							)[0];
			if (known) {
				sql.run('UPDATE files SET used_at = max(used_at, ?) WHERE id = ?', file.usedAt, known.id);
				return { ...known, usedAt: Math.max(known.usedAt, file.usedAt) };
			}
			if (file.jobId !== null) {
				const ofAttempt = sql.get(
					'SELECT count(*) AS files FROM files WHERE job_id = ? AND epoch = ?',
					file.jobId,
					file.epoch,
				)!;
				if (Number(ofAttempt['files']) >= most.maxOfAttempt) return 'many';
			}
			const all = sql.get('SELECT files, bytes FROM files_total')!;
			if (Number(all['files']) >= most.maxFiles) return 'full';
			if (Number(all['bytes']) + file.bytes > most.maxBytes) return 'full';
			if (file.bytes > most.room) return 'no-room';
			sql.put('files', { ...file });
			return file;
		},

		readyFile: ({ id, sha256, at }: Deeds['readyFile']['in']): boolean =>
			sql.run(
				`UPDATE files SET state = 'ready', sha256 = ?, used_at = max(used_at, ?) WHERE id = ? AND state = 'open'`,
				sha256,
				at,
				id,
			),

		loseFile: ({ id }: Deeds['loseFile']['in']): boolean =>
			sql.run(`UPDATE files SET state = 'lost', bytes = 0 WHERE id = ? AND state = 'ready'`, id),

		removeFile: ({
			id,
			usedBefore,
			onlyOpen = false,
		}: Deeds['removeFile']['in']): Deeds['removeFile']['out'] => {
			const held = sql.get(user, id)?.['id'] as string | undefined;
			if (held !== undefined) return { heldBy: held };
			const gone = sql.run(
				`DELETE FROM files WHERE id = ?1 AND (?2 IS NULL OR used_at < ?2 AND NOT ${planned}) AND (?3 = 0 OR state = 'open')`,
				id,
				usedBefore ?? null,
				Number(onlyOpen),
			);
			if (gone) sql.run('DELETE FROM job_files WHERE file_id = ?', id);
			return gone ? 'removed' : 'kept';
		},
	};
}

export function fileReadsOn(sql: Statements) {
	return {
		file: ({ id }: Reads['file']['in']): Reads['file']['out'] =>
			sql.all<StoredFile>(`${select} WHERE id = ?`, id)[0],

		files: ({ jobId, before, limit }: Reads['files']['in']): Reads['files']['out'] => {
			const below = before ?? '\u{10ffff}';
			return jobId === undefined
				? sql.all<StoredFile>(`${select} WHERE id < ? ORDER BY id DESC LIMIT +?`, below, limit)
				: sql.all<StoredFile>(
						`${select} WHERE job_id = ? AND id < ? ORDER BY id DESC LIMIT +?`,
						jobId,
						below,
						limit,
					);
		},

		oldFiles: ({ usedBefore, openBefore, limit }: Reads['oldFiles']['in']) =>
			sql
				.all<{ id: string }>(
					`SELECT id, used_at FROM files WHERE state = 'open' AND used_at < ?1 AND NOT ${needed} AND NOT ${planned}
					 UNION ALL
					 SELECT id, used_at FROM files WHERE state <> 'open' AND used_at < ?2 AND NOT ${needed} AND NOT ${planned}
					 ORDER BY used_at LIMIT +?3`,
					openBefore,
					usedBefore,
					limit,
				)
				.map(({ id }) => id),

		leftFiles: ({ limit }: Reads['leftFiles']['in']) =>
			sql
				.all<{ id: string }>(
					`SELECT id FROM files INDEXED BY files_open WHERE state = 'open' AND job_id IS NOT NULL AND NOT EXISTS
					 (SELECT 1 FROM jobs j WHERE j.id = files.job_id AND j.epoch = files.epoch AND j.outcome IS NULL) LIMIT +?`,
					limit,
				)
				.map(({ id }) => id),
	};
}

/**
 * Files in and out. A file lies at the service under an id of its own: sent there to be placed in the
 * workspace of jobs (`spec.files`), or collected from one (`spec.collect`). It is named by its bytes: whole
 * means that they have the SHA-256 that was announced, and from then on it never changes.
 */
export const fileStates = ['open', 'ready', 'lost'] as const;
/**
 * - `open`  on its way: the first `have` bytes are here
 * - `ready` whole, and as announced
 * - `lost`  its bytes are gone (after a restore, say)
 */
export type FileState = (typeof fileStates)[number];

export interface FileRequest {
	/** For people, and for the download; nothing on a disk is called so. */
	name: string;
	bytes: number;
	/** Hex. Absent = whoever sends it reads it only once: it is not looked for, and its digest is whatever it is. */
	sha256?: string;
}

export interface FileRecord {
	fileId: string;
	name: string;
	bytes: number;
	/** Hex; null until a file is whole that was sent without it. */
	sha256: string | null;
	state: FileState;
	/** Bytes that are here; the next ones are sent from there. */
	have: number;
	createdAt: number;
	createdBy: string;
	/** Last time that it was sent, or a job was submitted with it: it is kept for so long behind that. */
	usedAt: number;
	/** The job that it was collected from, and its path there. */
	jobId: string | null;
	path: string | null;
	/** Permissions that it had there, octal; null = it was sent here. */
	mode: string | null;
}

/** What became of one file, or one pattern, that a job wanted to take home. */
export interface CollectedFile {
	/** In the workspace; the pattern when nothing matches it. */
	path: string;
	bytes: number;
	sha256: string | null;
	/** Absent when it is not here. */
	fileId?: string;
	/** Why it is not: one sentence. */
	error?: string;
}

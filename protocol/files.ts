/**
 * Files in and out. A file is kept at the service under an id of its own: sent there to be placed in the
 * workspace of jobs (`spec.files`), or collected from one (`spec.collect`). Its bytes identify it: whole
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
	/** For people, and for the download; nothing on disk has this name. */
	name: string;
	bytes: number;
	/** Hex. Absent = the sender reads the file only once: no earlier copy is looked for, and any digest will do. */
	sha256?: string;
}

export interface FileRecord {
	fileId: string;
	name: string;
	bytes: number;
	/** Hex; null until a file that was sent without it is whole. */
	sha256: string | null;
	state: FileState;
	/** Bytes that are here; the next ones are sent from there. */
	have: number;
	createdAt: number;
	createdBy: string;
	/** When it was last sent, or a job was submitted with it: how long it is kept counts from then. */
	usedAt: number;
	/** The job that it was collected from, and its path there. */
	jobId: string | null;
	path: string | null;
	/** The permissions it had there, octal; null = it was sent here. */
	mode: string | null;
}

/** What became of one file, or one pattern, that a job wanted to collect. */
export interface CollectedFile {
	/** Its path in the workspace; the pattern if nothing matches it. */
	path: string;
	bytes: number;
	sha256: string | null;
	/** Absent when it is not here. */
	fileId?: string;
	/** Why it is not here: one sentence. */
	error?: string;
}

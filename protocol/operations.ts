/** Bodies of the calls that look after the service itself: its state, backups, draining, restored jobs. */

import type { JobState } from './states';

/** What a copy of the store holds, read from the copy itself. */
export interface BackupContents {
	/** Version of the store's shape. */
	schema: number;
	/** How often the store was opened. */
	term: number;
	hubId: string;
	jobs: Record<JobState, number>;
	robots: number;
	schedules: number;
}

/** The last file of a backup: what the others are. */
export interface BackupManifest {
	format: 1;
	/** When it was taken. */
	at: number;
	/** Version of the program that took it. */
	version: string;
	store: BackupContents;
	files: { name: string; bytes: number; sha256: string }[];
}

export interface BackupRecord {
	at: number;
	bytes: number;
}

export interface ServiceStatus {
	version: string;
	/** `ready`, or what keeps it from taking work. */
	readiness: string;
	startedAt: number;
	/** Version of the store's shape. */
	schema: number;
	/** Fingerprint of the key by which dialled robots recognize the service (`robot-fleet-agent --hub`). */
	hubFingerprint: string;
	/** Attempts that are with robots now. */
	attempts: number;
	/** Robots connected now. */
	robots: number;
	disk: {
		/** `low` = no new jobs; `full` = no assignments either. Results are always taken. */
		level: 'ample' | 'low' | 'full';
		freeBytes: number;
		minFreeBytes: number;
		storeBytes: number;
	};
	retention: {
		/** When the last pass over everything ended; null = none has yet. */
		lastAt: number | null;
		/** What has been forgotten since the service started. */
		purged: number;
		/** What the pass under way has found and not yet forgotten. */
		backlog: number;
	};
	lastBackup: BackupRecord | null;
	/** When the store was restored, when that backup was taken, and how many jobs still wait to be released. */
	restored: { at: number; backupAt: number; waiting: number } | null;
	doors: Doors;
}

/** Where the service can be reached. */
export interface Doors {
	/** Where the API listens. */
	api: string;
	/** Where robots, and nobody else, are also served; null = they only use `api`. */
	robots: string | null;
	/** What robots dial: the public address, else one of the two. */
	dial: string;
	/** Other machines may connect without TLS (`--insecure`). */
	inTheOpen: boolean;
	/** The certificate that TLS shows; null = no door uses TLS. */
	certificate: CertificateFacts | null;
}

export interface CertificateFacts {
	file: string;
	/** Made by the service for itself; else it is the operator's. */
	selfMade: boolean;
	/** SHA-256, 64 hex digits. */
	fingerprint: string;
	expiresAt: number;
}

export interface ReleaseRequest {
	/** Default: all that wait. */
	jobIds?: string[];
	/** Also those that may have run since the backup. */
	again?: boolean;
}

export interface ReleaseAnswer {
	released: number;
	/** The first thousand that were not released, and why. */
	kept: { jobId: string; reason: string }[];
	keptInAll: number;
}

/** What is forgotten when it is old; in this order. `keys` are idempotency keys, `tokens` those that robots enrol with. */
export const purgeables = [
	'jobs',
	'waits',
	'occurrences',
	'events',
	'keys',
	'subscriptions',
	'robots',
	'tokens',
] as const;
export type Purgeable = (typeof purgeables)[number];

/** What is over and has been kept long enough. */
export interface PurgeAnswer {
	/** Nothing was forgotten, only counted. */
	dryRun: boolean;
	jobs: number;
	waits: number;
	occurrences: number;
	events: number;
	/** Idempotency keys. */
	keys: number;
	/** Consumers that nobody has used. */
	subscriptions: number;
	/** Robots that had been removed. */
	robots: number;
	/** Enrollment tokens that have ended. */
	tokens: number;
	/** Time ran out: call again for the rest. */
	more: boolean;
}

export interface PurgeRequest {
	dryRun?: boolean;
}

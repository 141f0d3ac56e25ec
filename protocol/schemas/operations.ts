/** Bodies and answers of the calls that look after the service itself. */
import { type Static, Type } from 'typebox';
import { limits } from '../limits';
import type {
	PurgeAnswer,
	PurgeRequest,
	ReleaseAnswer,
	ReleaseRequest,
	ServiceStatus,
} from '../operations';
import { id, nullable, type Same, strict } from './words';

const at = Type.Integer({ description: 'Epoch milliseconds' });
const text = Type.String();
const whole = Type.Integer();

export const serviceStatus = Type.Object({
	version: text,
	readiness: Type.String({ description: 'ready, or what keeps it from taking work' }),
	startedAt: at,
	schema: whole,
	hubFingerprint: Type.String({
		description:
			'Fingerprint of the key by which dialled robots recognize the service (robot-fleet-agent --hub)',
	}),
	attempts: whole,
	robots: whole,
	disk: Type.Object({
		level: Type.Enum(['ample', 'low', 'full']),
		freeBytes: whole,
		minFreeBytes: whole,
		storeBytes: whole,
	}),
	retention: Type.Object({ lastAt: nullable(at), purged: whole, backlog: whole }),
	lastBackup: nullable(Type.Object({ at, bytes: whole })),
	restored: nullable(Type.Object({ at, backupAt: at, waiting: whole })),
	doors: Type.Object({
		api: text,
		robots: nullable(text),
		dial: Type.String({ description: 'What robots dial: the public address, else one of the two' }),
		inTheOpen: Type.Boolean({ description: 'Other machines may connect without TLS (--insecure)' }),
		certificate: nullable(
			Type.Object({
				file: text,
				selfMade: Type.Boolean(),
				fingerprint: Type.String({ description: 'SHA-256, hex' }),
				expiresAt: at,
			}),
		),
	}),
});
true satisfies Same<Static<typeof serviceStatus>, ServiceStatus>;

export const releaseRequest = Type.Object(
	{
		jobIds: Type.Optional(
			Type.Array(id('Id of a job'), {
				description: 'Default: all that wait to be released.',
				minItems: 1,
				maxItems: limits.maxSubmitBatch,
			}),
		),
		again: Type.Optional(
			Type.Boolean({ description: 'Also those that may have run since the backup.' }),
		),
	},
	strict,
);
true satisfies Same<Static<typeof releaseRequest>, ReleaseRequest>;

export const releaseAnswer = Type.Object({
	released: whole,
	kept: Type.Array(Type.Object({ jobId: text, reason: text })),
	keptInAll: whole,
});
true satisfies Same<Static<typeof releaseAnswer>, ReleaseAnswer>;

export const purgeRequest = Type.Object(
	{ dryRun: Type.Optional(Type.Boolean({ description: 'Only count.' })) },
	strict,
);
true satisfies Same<Static<typeof purgeRequest>, PurgeRequest>;

export const purgeAnswer = Type.Object({
	dryRun: Type.Boolean(),
	jobs: whole,
	waits: whole,
	occurrences: whole,
	events: whole,
	keys: whole,
	subscriptions: whole,
	robots: whole,
	tokens: whole,
	more: Type.Boolean({ description: 'Time ran out: call again for the rest' }),
});
true satisfies Same<Static<typeof purgeAnswer>, PurgeAnswer>;

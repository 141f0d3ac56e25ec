/** Bodies and answers of the calls about files. */
import { type Static, Type } from 'typebox';
import type { FileRequest } from '../files';
import { limits } from '../limits';
import { count, id, name, type Same, strict } from './words';

const fileName = name('For people, and for the download.', ['report.html']);

export const fileRequest = Type.Object(
	{
		name: fileName,
		bytes: Type.Integer({
			description: 'Its length.',
			minimum: 0,
			maximum: Number.MAX_SAFE_INTEGER,
		}),
		sha256: Type.Optional(
			Type.String({
				description:
					'SHA-256 of its bytes, 64 hex digits: finds a copy that is here already, and is compared with what arrives. Absent = no earlier copy is looked for, and any digest will do.',
				pattern: '^[0-9a-f]{64}$',
				patternText: 'must be 64 lower-case hex digits',
			}),
		),
	},
	{ ...strict, description: 'A file that is about to be sent' },
);
true satisfies Same<Static<typeof fileRequest>, FileRequest>;

export const fileUploadQuery = Type.Object({ name: fileName }, strict);

export const fileWriteQuery = Type.Object(
	{ from: count('Offset of the first byte of the body: how many bytes the service has already.') },
	strict,
);

export const filesQuery = Type.Object(
	{
		job: Type.Optional(id('Only files collected from this job')),
		limit: Type.Optional(
			Type.Integer({ description: 'Default 100.', minimum: 1, maximum: limits.maxListLimit }),
		),
		cursor: Type.Optional(id('As the previous page gave it.')),
	},
	strict,
);

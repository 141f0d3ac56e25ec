/** What a job may use. */
import { type Static, Type } from 'typebox';
import type { Caps } from '../caps';
import { limits } from '../limits';
import { type Same, strict } from './words';

const cap = (description: string, minimum: number, maximum: number = Number.MAX_SAFE_INTEGER) =>
	Type.Optional(Type.Integer({ description, minimum, maximum }));

export const caps = Type.Object(
	{
		memoryBytes: cap('Resident memory of all its processes together. Bytes.', 1024 * 1024),
		cpuSeconds: cap('Processor time of all its processes together. Seconds.', 1),
		processes: cap('Processes at the same time.', 1),
		outputBytes: cap(
			'Output kept, both streams together: the beginning and the end. Printing more ends nothing. Bytes.',
			4_096,
			limits.maxOutputBytes,
		),
	},
	{
		...strict,
		description:
			'What the job may use. Its robot looks once a second and stops a job that uses more: failed, cause policy. A job with caps is given only to robots that can enforce them.',
		examples: [{ memoryBytes: 536_870_912, cpuSeconds: 600 }],
	},
);
true satisfies Same<Static<typeof caps>, Caps>;

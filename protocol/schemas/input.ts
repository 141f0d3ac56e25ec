/** What `POST /jobs/{id}/input` takes and answers. */
import { type Static, Type } from 'typebox';
import type { InputAnswer, InputRequest } from '../job';
import { limits } from '../limits';
import { count, name, type Same, strict } from './words';

const side = (description: string) => Type.Integer({ description, minimum: 1, maximum: 4096 });

export const input = Type.Object(
	{
		text: Type.Optional(
			Type.String({
				description: 'What is typed, as UTF-8. A line needs its \\n.',
				maxLength: limits.maxInputBytes,
				examples: ['yes\n'],
			}),
		),
		dataB64: Type.Optional(
			Type.String({
				description: 'What is typed, as bytes in base64; instead of text.',
				maxLength: Math.ceil(limits.maxInputBytes / 3) * 4,
				pattern: '^[A-Za-z0-9+/]*={0,2}$',
				patternText: 'must be base64',
			}),
		),
		from: Type.Optional(
			count(
				'Offset of the first byte in all that is typed into the job; makes the call safe to repeat. Default: at the end.',
			),
		),
		eof: Type.Optional(Type.Boolean({ description: 'Close the input after it.' })),
		writer: Type.Optional(
			name(
				'Who types. Bytes for a place that another writer has filled are refused, not taken for a repetition.',
			),
		),
		size: Type.Optional(
			Type.Object(
				{ cols: side('Characters in a line'), rows: side('Lines') },
				{ ...strict, description: 'Size of the window of the person watching.' },
			),
		),
	},
	strict,
);
true satisfies Same<Static<typeof input>, InputRequest>;

export const inputAnswer = Type.Object({
	have: Type.Integer({ description: 'Bytes the robot has taken so far, in all' }),
	open: Type.Boolean({ description: 'More can be typed' }),
	terminal: Type.Boolean({ description: 'The program has a real terminal' }),
});
true satisfies Same<Static<typeof inputAnswer>, InputAnswer>;

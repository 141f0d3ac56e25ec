/** Messages to the live socket. */
import { Type } from 'typebox';
import { strict } from './words';

const channel = Type.String({ minLength: 1, maxLength: 300 });

export const liveAsk = Type.Union([
	Type.Object(
		{ type: Type.Literal('auth'), key: Type.String({ minLength: 1, maxLength: 512 }) },
		strict,
	),
	Type.Object(
		{
			type: Type.Literal('subscribe'),
			channel,
			since: Type.Optional(Type.Integer({ minimum: 0 })),
		},
		strict,
	),
	Type.Object({ type: Type.Literal('unsubscribe'), channel }, strict),
	Type.Object({ type: Type.Literal('ping') }, strict),
]);

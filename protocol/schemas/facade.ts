/**
 * The async facade of the seeds, `/server/{kind}/…`: snake_case, seconds, ISO-8601. The spec of the
 * kind stands at the top level of the body, so this schema names only what stands beside it.
 */
import { Type } from 'typebox';
import { limits } from '../limits';
import { priority, target, variables } from './submit';
import { clientName, name, nullable, robotName, strict } from './words';

export const facadeExecute = Type.Object(
	{
		target: Type.Optional(target),
		variables: Type.Optional(variables),
		priority: Type.Optional(priority),
		timeout: Type.Optional(
			Type.Number({ description: 'Longest run. Seconds.', minimum: 0.001, maximum: 31_622_400 }),
		),
		host_name: Type.Optional(robotName('Id or name of the robot; the same as target.robot.')),
		device_id: Type.Optional(
			clientName('Name of a client of the robot; the same as target.client.'),
		),
		idempotency_key: Type.Optional(name('The same key with the same request is the same job.')),
	},
	strict,
);

export const facadeExecuted = Type.Object({
	execution_id: Type.String({ maxLength: limits.maxIdBytes }),
	status: Type.Enum(['running', 'completed', 'error']),
	message: Type.String(),
});

export const facadeStatus = Type.Object({
	execution_id: Type.String(),
	status: Type.Enum(['running', 'completed', 'error']),
	progress: Type.Number({ minimum: 0, maximum: 100 }),
	message: Type.String({ examples: ['Starting...'] }),
	result: Type.Unknown(),
	error: nullable(Type.String()),
	start_time: Type.String({ description: 'ISO-8601' }),
	elapsed_ms: Type.Integer(),
});

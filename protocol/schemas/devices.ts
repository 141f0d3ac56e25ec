/** Registering a device, and how it is shown as a part of its robot. */
import { type Static, Type } from 'typebox';
import { deviceUrlMistake } from '../constellation';
import { type Device, dialStates, type RobotRequest } from '../devices';
import { id, nullable, robotName, type Same, strict, word } from './words';

const text = Type.String();
const whole = Type.Integer();

export const device = Type.Object({
	constellationId: nullable(text),
	serverUrl: nullable(text),
	fingerprint: nullable(Type.String({ description: 'SHA-256 of its public key, hex' })),
	clientIds: Type.Array(text),
	metadata: Type.Record(Type.String(), Type.Unknown()),
	autoConnect: Type.Boolean(),
	maxRetries: whole,
	dial: nullable(
		Type.Object(
			{
				state: Type.Enum([...dialStates]),
				reason: nullable(text),
				failures: whole,
				nextTryAt: nullable(Type.Integer({ description: 'Epoch milliseconds' })),
			},
			{ description: 'How dialling it is going; null = it is not dialled' },
		),
	),
});
true satisfies Same<Static<typeof device>, Device>;

export const robotRequest = Type.Object(
	{
		name: robotName('Name of the device, and of its robot.'),
		serverUrl: Type.Optional(
			Type.String({
				description: 'Where its agent listens; absent = it dials the service.',
				maxLength: 2_048,
				pattern: '^(wss?|https?)://[^\\s?#@]+$',
				patternText: String(deviceUrlMistake('')),
				examples: ['wss://192.168.1.100:8765'],
			}),
		),
		fingerprint: Type.Optional(
			Type.String({
				description: 'SHA-256 of its robot’s public key, as its agent prints it.',
				pattern: '^[0-9a-fA-F:]{64,95}$',
				patternText: 'must be the 64 hex digits that robot-fleet-agent --listen prints',
			}),
		),
		constellationId: Type.Optional(id('The constellation it belongs to')),
		clientIds: Type.Optional(
			Type.Array(robotName('Name of a client on the device.'), { maxItems: 256 }),
		),
		capabilities: Type.Optional(
			Type.Array(word('What it can do, besides what its agent finds out.'), { maxItems: 256 }),
		),
		metadata: Type.Optional(
			Type.Record(Type.String(), Type.Unknown(), {
				description: 'Shown with the robot; text, numbers and booleans in it also become labels.',
				maxProperties: 64,
			}),
		),
		autoConnect: Type.Optional(
			Type.Boolean({ description: 'Dial it automatically. Default true.' }),
		),
		maxRetries: Type.Optional(
			Type.Integer({
				description: 'Tries after the first one that failed. Default 5.',
				minimum: 0,
				maximum: 1_000_000,
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof robotRequest>, RobotRequest>;

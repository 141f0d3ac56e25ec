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
			{ description: 'How dialling it goes; null = it dials the service' },
		),
	),
});
true satisfies Same<Static<typeof device>, Device>;

export const robotRequest = Type.Object(
	{
		name: robotName('The device; its robot is called so.'),
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
				description: 'SHA-256 of the public key of its robot, as its agent prints it.',
				pattern: '^[0-9a-fA-F:]{64,95}$',
				patternText: 'must be the 64 hex digits that robot-fleet-agent --listen prints',
			}),
		),
		constellationId: Type.Optional(id('The constellation it belongs to')),
		clientIds: Type.Optional(
			Type.Array(robotName('Of a client on the device.'), { maxItems: 256 }),
		),
		capabilities: Type.Optional(
			Type.Array(word('What it can do, beside what its agent finds out.'), { maxItems: 256 }),
		),
		metadata: Type.Optional(
			Type.Record(Type.String(), Type.Unknown(), {
				description: 'Shown with the robot; plain texts, numbers and switches are labels, too.',
				maxProperties: 64,
			}),
		),
		autoConnect: Type.Optional(Type.Boolean({ description: 'Dial it by itself. Default true.' })),
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

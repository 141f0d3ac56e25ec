/**
 * The `probe` kind: the robot starts a program that does nothing, in the way it starts all its programs. The service
 * sends one to see whether a robot in quarantine can work again.
 */
import { Type, type Static } from 'typebox';
import type { Kind } from './kind';

export const probeKind = 'probe';

const probeSpec = Type.Object({}, { additionalProperties: false });
export type ProbeSpec = Static<typeof probeSpec>;

export const probe: Kind<ProbeSpec> = {
	name: probeKind,
	summary: 'Start a program that does nothing, to see that the robot can.',
	runMs: 60_000,
	schema: probeSpec,
	check: () => undefined,
};

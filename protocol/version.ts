/**
 * Which version of the robots' protocol two sides speak. Each names the range it knows; they speak the
 * highest that both know. A new version comes with a minor release, and each release knows the one
 * before it, so that robots and service may be updated in any order.
 *
 *   1  the first
 *   2  `hello` carries the range; features are agreed upon; `goodbye` says when to come back
 *
 * The newer side speaks the chosen version. Fields and messages beyond it are ignored by the older side.
 */
import { limits } from './limits';

export interface ProtocolRange {
	min: number;
	max: number;
}

export const protocolRange: ProtocolRange = {
	min: limits.oldestProtocolVersion,
	max: limits.protocolVersion,
};

/** The version both speak; undefined = there is none. */
export function chooseProtocol(a: ProtocolRange, b: ProtocolRange): number | undefined {
	const version = Math.min(a.max, b.max);
	return version >= Math.max(a.min, b.min) ? version : undefined;
}

export function rangeText({ min, max }: ProtocolRange): string {
	return min === max ? String(min) : `${min} to ${max}`;
}

/** Abilities of the wire beyond its version; robots name the kinds they do as `kind:NAME` too. */
export const wireFeatures = ['goodbye-within', 'facts', 'input', 'clients', 'files'] as const;

/** Those that both sides have, in the order of the first. */
export function sharedFeatures(ours: readonly string[], theirs: readonly string[]): string[] {
	return ours.filter((feature) => theirs.includes(feature));
}

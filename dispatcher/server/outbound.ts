/**
 * The rule for the one way out of the service: a name is resolved once, and the address that was checked is
 * the one dialled (no rebinding in between). Addresses inside private networks are only for origins that an
 * operator named, lest whoever may name an address reach what only this machine can reach.
 */
import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';

const inner = new BlockList();
for (const [net, bits] of [
	['0.0.0.0', 8],
	['10.0.0.0', 8],
	['100.64.0.0', 10],
	['127.0.0.0', 8],
	['169.254.0.0', 16],
	['172.16.0.0', 12],
	['192.0.0.0', 24],
	['192.168.0.0', 16],
	['198.18.0.0', 15],
	['224.0.0.0', 3],
] as const) {
	inner.addSubnet(net, bits, 'ipv4');
}
for (const [net, bits] of [
	['::', 127],
	['64:ff9b::', 96],
	['fc00::', 7],
	['fe80::', 10],
	['ff00::', 8],
] as const) {
	inner.addSubnet(net, bits, 'ipv6');
}

/** Where to dial, and whether only an operator may have us do it. */
export interface Resolved {
	address: string;
	family: number;
	inside: boolean;
}

export async function resolveOnce({ hostname }: URL): Promise<Resolved> {
	const { address, family } = await lookup(bare(hostname));
	return { address, family, inside: isPrivate(address) };
}

/** An address that is private, whatever a name server would say. */
export function isPlainlyInside({ hostname }: URL): boolean {
	const host = bare(hostname);
	return (
		host === 'localhost' || host.endsWith('.localhost') || (isIP(host) !== 0 && isPrivate(host))
	);
}

function isPrivate(address: string): boolean {
	const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
	if (mapped !== undefined) return inner.check(mapped, 'ipv4');
	return inner.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** `[::1]` → `::1`. */
export function bare(host: string): string {
	return host.replace(/^\[|\]$/g, '');
}

/**
 * Keeps other people's web pages out: a page whose name was made to point at us (DNS rebinding) carries
 * a foreign name in Host, and a page of another site carries a foreign Origin.
 */
import { timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import { Problem } from '../../protocol';
import type { HostGate } from './app';

export interface HostGateOptions {
	/** What we listen on. */
	host: string;
	/** What people and robots call us, when that differs. */
	publicUrl?: string;
	/** Whether our certificate is for this name: a browser that got as far as asking has checked that it is. */
	covers?: (name: string) => boolean;
}

export function hostGateOf({ host, publicUrl, covers }: HostGateOptions): HostGate {
	const names = new Set(['localhost', bare(host).toLowerCase()]);
	if (publicUrl !== undefined) names.add(bare(new URL(publicUrl).hostname).toLowerCase());
	const everywhere = host === '0.0.0.0' || host === '::';

	const known = (value: string) => {
		const name = nameOf(value);
		if (name === undefined) return false;
		if (names.has(name) || isLoopback(name)) return true;
		// Rebinding needs a name; whoever types our address means us.
		return isIP(name) === 0 ? (covers?.(name) ?? false) : everywhere;
	};
	return (hostHeader, origin) => {
		if (hostHeader === undefined || !known(hostHeader)) {
			throw new Problem('bad-host', { value: shown(hostHeader ?? '(none)') });
		}
		if (origin === undefined) return;
		const from = URL.canParse(origin) ? new URL(origin) : undefined;
		if (from === undefined || from.host !== hostHeader.toLowerCase()) {
			throw new Problem('bad-host', { value: shown(origin) });
		}
	};
}

/** For a door that nobody can use by accident (a token or a signature is needed): no browser at all. */
export const robotsGate: HostGate = (_host, origin) => {
	if (origin !== undefined) throw new Problem('bad-host', { value: shown(origin) });
};

/** For a door that only our own process may use, for others: it shows the secret as its Host. */
export function relayGate(secret: string): HostGate {
	const wanted = Buffer.from(secret);
	return (host = '', origin, socket) => {
		const said = Buffer.from(host);
		if (said.length !== wanted.length || !timingSafeEqual(said, wanted)) {
			throw new Problem('bad-host', { value: '(not shown)' });
		}
		robotsGate(host, origin, socket);
	};
}

export function isLoopback(host: string): boolean {
	const name = bare(host);
	return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}

/** `[::1]:80` → `::1`, `name:80` → `name`; `undefined` for what is no host at all. */
function nameOf(header: string): string | undefined {
	const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?$/.exec(header);
	return match ? bare(match[1]!).toLowerCase().replace(/\.$/, '') : undefined;
}

function bare(host: string): string {
	return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}

function shown(value: string): string {
	return value.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
}

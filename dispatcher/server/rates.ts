/**
 * How often callers may ask: each key, and each address that fails to prove who it is. A good key is never held back by
 * what others do at its address. A bucket holds a minute's calls and fills evenly; a call takes one, however many jobs
 * it submits. Buckets that are full again are forgotten, so that memory follows those who are busy.
 */
import { limits, Problem } from '../../protocol';
import type { Clock } from '../engine/clock';
import { isLoopback } from './host-gate';

export interface RateSettings {
	/** Calls a minute of one key; 0 = no limit. */
	perKey: number;
	/** How often a minute one address may fail to prove who it is; 0 = no limit. */
	perAddress: number;
	/** Calls from this machine are not counted. */
	spareLoopback: boolean;
}

const minuteMs = 60_000;

interface Bucket {
	/** Calls left; a fraction is one on its way. */
	left: number;
	/** Monotonic; when that was so. */
	at: number;
}

export class Rates {
	readonly settings: RateSettings;
	readonly #clock: Clock;
	readonly #keys = new Map<string, Bucket>();
	readonly #addresses = new Map<string, Bucket>();

	constructor(clock: Clock, settings: RateSettings) {
		this.#clock = clock;
		this.settings = settings;
	}

	/** How many keys and addresses are being counted. */
	get size(): number {
		return this.#keys.size + this.#addresses.size;
	}

	/** A call of this key; throws `rate-limited`. */
	key(keyId: string, name: string, address: string): void {
		if (!this.#spares(address))
			this.#take(this.#keys, keyId, this.settings.perKey, `The key "${name}"`);
	}

	/** Somebody at this address was refused for want of a proof; throws `rate-limited`. */
	stranger(address: string): void {
		if (this.#spares(address)) return;
		this.#take(this.#addresses, address, this.settings.perAddress, `Who has no key at ${address}`);
	}

	#spares(address: string): boolean {
		return this.settings.spareLoopback && isLoopback(address);
	}

	#take(buckets: Map<string, Bucket>, of: string, perMinute: number, who: string): void {
		if (perMinute === 0) return;
		const now = this.#clock.monotonic();
		let bucket = buckets.get(of);
		if (bucket) {
			bucket.left = Math.min(perMinute, bucket.left + ((now - bucket.at) / minuteMs) * perMinute);
			bucket.at = now;
		} else {
			if (buckets.size >= limits.maxRateBuckets) this.#forget(buckets, now);
			buckets.set(of, (bucket = { left: perMinute, at: now }));
		}
		if (bucket.left < 1) {
			const retryMs = Math.ceil(((1 - bucket.left) / perMinute) * minuteMs);
			throw new Problem('rate-limited', { who, perMinute, retryMs });
		}
		bucket.left -= 1;
	}

	/** Buckets unused for a minute are full; in a flood of addresses the first half goes, too. */
	#forget(buckets: Map<string, Bucket>, now: number): void {
		for (const [of, { at }] of buckets) if (now - at >= minuteMs) buckets.delete(of);
		for (const of of buckets.keys()) {
			if (buckets.size <= limits.maxRateBuckets / 2) return;
			buckets.delete(of);
		}
	}
}

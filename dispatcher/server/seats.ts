/**
 * Seats for those who have not proved a key yet, and a line for those who wait for one.
 *
 * Proving costs us memory and a signature check, so only so many strangers prove at a time, and none for
 * long. Whoever finds no seat waits in line, unanswered and nearly free, instead of being sent away: a
 * whole fleet that comes back at once, perhaps all from behind one router, is then let in as fast as we
 * can take it, and not as its robots' growing pauses happen to fall. Addresses take turns, and no single
 * address ever gets the last seats, so a flood from one place holds up nobody elsewhere. Whoever has one
 * IPv6 address has the 2^64 around it, so they count as one.
 */
import { isIP } from 'node:net';

export interface SeatLimits {
	seats: number;
	/** Seats an address may always have; more only while half of all are free. */
	seatsPerAddress: number;
	/** Exempt from the second limit: proxies and tunnels bring many from one address. */
	isTrusted(address: string): boolean;
	inLine: number;
	/** Nobody waits in line longer than this. */
	lineMs: number;
	/** Let in at most this many in one turn of the event loop, so that those inside are not kept waiting. */
	perTurn: number;
}

export interface Guest {
	readonly address: string;
	/** Monotonic. */
	readonly since: number;
	/** Has a seat now: gives it back with `leave`. */
	enter(): void;
	/** Waited too long. */
	turnAway(): void;
}

export class Seats {
	readonly #limits: SeatLimits;
	readonly #seatsAt = new Map<string, number>();
	/** By place, the one whose turn is next first; within a place, first come first served. */
	readonly #line = new Map<string, Guest[]>();
	#taken = 0;
	#waiting = 0;
	#leftThisTurn: number;

	constructor(limits: SeatLimits) {
		this.#limits = limits;
		this.#leftThisTurn = limits.perTurn;
	}

	/** `enter` is called now or later. False when the line is full. */
	ask(guest: Guest): boolean {
		if (this.#waiting >= this.#limits.inLine) return false;
		const place = this.#placeOf(guest.address);
		const before = this.#line.get(place);
		if (before) before.push(guest);
		else this.#line.set(place, [guest]);
		this.#waiting += 1;
		this.#seat();
		return true;
	}

	leave(address: string): void {
		this.#count(address, -1);
		this.#seat();
	}

	/** The guest in line has gone by itself. Harmless when it is not in line. */
	goAway(guest: Guest): void {
		const place = this.#placeOf(guest.address);
		const here = this.#line.get(place);
		const at = here?.indexOf(guest) ?? -1;
		if (at < 0) return;
		here!.splice(at, 1);
		this.#waiting -= 1;
		if (here!.length === 0) this.#line.delete(place);
	}

	/** Turns away those who have waited too long; call it now and then. With `Infinity`, that is everybody. */
	sweep(now: number): void {
		for (const here of [...this.#line.values()]) {
			for (const guest of here.filter(({ since }) => now - since > this.#limits.lineMs)) {
				this.goAway(guest);
				guest.turnAway();
			}
		}
	}

	get waiting(): number {
		return this.#waiting;
	}

	#seat(): void {
		while (this.#leftThisTurn > 0) {
			const guest = this.#next();
			if (!guest) return;
			if (this.#leftThisTurn === this.#limits.perTurn) setImmediate(() => this.#newTurn());
			this.#leftThisTurn -= 1;
			this.#count(guest.address, 1);
			guest.enter();
		}
	}

	#newTurn(): void {
		this.#leftThisTurn = this.#limits.perTurn;
		this.#seat();
	}

	/** Takes the next one out of the line; its address goes to the end. */
	#next(): Guest | undefined {
		for (const [place, here] of this.#line) {
			if (!this.#maySit(place)) continue;
			const guest = here.shift()!;
			this.#waiting -= 1;
			this.#line.delete(place);
			if (here.length > 0) this.#line.set(place, here);
			return guest;
		}
		return undefined;
	}

	#maySit(place: string): boolean {
		const { seats, seatsPerAddress, isTrusted } = this.#limits;
		if (this.#taken >= seats) return false;
		if (isTrusted(place) || this.#taken < seats / 2) return true;
		return (this.#seatsAt.get(place) ?? 0) < seatsPerAddress;
	}

	#count(address: string, by: 1 | -1): void {
		const place = this.#placeOf(address);
		this.#taken += by;
		const here = (this.#seatsAt.get(place) ?? 0) + by;
		if (here > 0) this.#seatsAt.set(place, here);
		else this.#seatsAt.delete(place);
	}

	#placeOf(address: string): string {
		return isIP(address) === 6 && !this.#limits.isTrusted(address) ? networkOf(address) : address;
	}
}

/** The first half of an IPv6 address. */
function networkOf(address: string): string {
	const [head = '', tail] = address.split('%', 1)[0]!.split('::');
	const groups = (text = '') => text.split(':').filter(Boolean);
	const zeros = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
	const all = [...groups(head), ...Array<string>(Math.max(0, zeros)).fill('0'), ...groups(tail)];
	return `${all.slice(0, 4).join(':')}::/64`;
}

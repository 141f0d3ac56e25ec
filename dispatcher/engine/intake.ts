/**
 * Whether new work may come in, and whether waiting work may go out: not while the service is being
 * drained, not on a full disk. Results come in always.
 */
import { Problem } from '../../protocol';
import type { Context } from './context';

/** The disk that the data folder lies on, and the room kept back on it. */
export interface Disk {
	freeBytes(): number;
	storeBytes(): number;
	readonly reserve: { readonly held: boolean; readonly bytes: number; hold(): boolean };
}

/**
 * - `ample` all is well
 * - `low`   below the wanted free room: no new jobs, what waits goes out
 * - `full`  the reserve was given up: no assignments either; results are taken
 */
export type DiskLevel = 'ample' | 'low' | 'full';

const lookMs = 1_000;
const retryMs = 10_000;

export class Intake {
	readonly #context: Context;
	readonly #disk: Disk;
	#level: DiskLevel = 'ample';
	#drainedBy: string | undefined;
	#lookedAt = -Infinity;

	constructor(context: Context, disk: Disk) {
		this.#context = context;
		this.#disk = disk;
		context.store.onPressed(() => this.#become('full'));
	}

	get draining(): boolean {
		return this.#drainedBy !== undefined;
	}

	/** What keeps new jobs out, in words for `GET /readyz`. */
	get closed(): string | undefined {
		if (this.draining) return 'draining';
		return this.#level === 'ample' ? undefined : 'short of disk';
	}

	get level(): DiskLevel {
		return this.#level;
	}

	/** Throws while no new job may come in. */
	check(): void {
		if (this.draining) throw new Problem('draining', { retryMs });
		if (this.closed) throw new Problem('store-full', { retryMs });
	}

	drain(by: string): void {
		if (this.draining) return;
		this.#drainedBy = by;
		this.#context.log.info('draining: no new jobs, no new assignments', { by });
		this.#review();
	}

	resume(by: string): void {
		if (!this.draining) return;
		this.#drainedBy = undefined;
		this.#context.log.info('work is accepted again', { by });
		this.#review();
	}

	/** Looks at the disk, once a second at most. */
	look(): void {
		const now = this.#context.clock.monotonic();
		if (now - this.#lookedAt < lookMs) return;
		this.#lookedAt = now;
		const { reserve } = this.#disk;
		const { minFreeBytes } = this.#context.settings;
		const free = this.#disk.freeBytes();
		// Taking it back must not be what fills the disk again.
		const held = reserve.held || (free >= 2 * reserve.bytes && reserve.hold());
		this.#become(!held ? 'full' : free < minFreeBytes ? 'low' : 'ample');
	}

	#become(level: DiskLevel): void {
		if (level === this.#level) return;
		const { log } = this.#context;
		this.#level = level;
		if (level === 'ample') log.info('the disk has room again');
		else {
			log.warn(
				level === 'low'
					? 'the disk is nearly full: no new jobs'
					: 'the disk is full: no new jobs, no assignments; results are taken',
				{ freeBytes: this.#disk.freeBytes(), minFreeBytes: this.#context.settings.minFreeBytes },
			);
		}
		this.#review();
	}

	#review(): void {
		const { fleet, turns } = this.#context;
		fleet.assigning = !this.draining && this.#level !== 'full';
		if (fleet.assigning) turns.nudge();
	}
}

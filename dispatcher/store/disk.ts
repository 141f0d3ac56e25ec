/** The disk that the data folder lies on: how full it is, and the room kept back on it. */
import { statfsSync, statSync } from 'node:fs';
import type { Reserve } from './reserve';

export class DataDisk {
	readonly reserve: Reserve;
	readonly #folder: string;
	readonly #file: string;

	constructor(folder: string, file: string, reserve: Reserve) {
		this.#folder = folder;
		this.#file = file;
		this.reserve = reserve;
	}

	freeBytes(): number {
		const { bavail, bsize } = statfsSync(this.#folder);
		return bavail * bsize;
	}

	storeBytes(): number {
		const size = (file: string) => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
		return size(this.#file) + size(`${this.#file}-wal`);
	}
}

/** The files of one attempt: its workspace, what comes in before it starts, what goes out after its end. */
import type { FileWishes } from '../kinds/files';
import type { AttemptRef, WireCollectedFile } from '../protocol';
import type { FileFrame } from '../protocol/frames';
import type { Clock } from './clock';
import { collect, type Found } from './drivers/collect';
import { FilesIn } from './files-in';
import { FilesOut } from './files-out';
import type { HubMessage } from './hub-messages';
import type { Line } from './link';
import type { Workspace } from './workspaces';

export interface AttemptFilesParts {
	ref: AttemptRef;
	wishes: FileWishes;
	workspace: Workspace;
	clock: Clock;
	report(message: string): void;
}

export class AttemptFiles {
	readonly #parts: AttemptFilesParts;
	readonly #in: FilesIn;
	readonly #out: FilesOut;

	constructor(parts: AttemptFilesParts) {
		const { ref, wishes, workspace, clock, report } = parts;
		this.#parts = parts;
		this.#in = new FilesIn({ ref, files: wishes.files ?? [], workspace, report });
		this.#out = new FilesOut({ ref, folder: workspace.folder, clock });
	}

	get folder(): string {
		return this.#parts.workspace.folder;
	}

	attach(line: Line): void {
		this.#in.attach(line);
		this.#out.attach(line);
	}

	detach(): void {
		this.#in.detach();
		this.#out.detach();
	}

	tick(): void {
		this.#in.tick();
		this.#out.tick();
	}

	hear(message: HubMessage): void {
		switch (message.type) {
			case 'file_info':
				return this.#in.told(message.payload);
			case 'file_want':
				return this.#out.want(message.payload);
			case 'file_kept':
				return this.#out.kept(message.payload);
			case 'file_refused':
				// Only one of the two is at work.
				this.#in.refused(message.payload);
				return this.#out.refused(message.payload);
			default:
				return;
		}
	}

	take(frame: FileFrame): void {
		this.#in.take(frame);
	}

	/** Resolves with the reason when they cannot be fetched. */
	fetch(signal: AbortSignal): Promise<string | undefined> {
		return this.#in.fetch(signal);
	}

	/** What there is to take home, with digests; when given up, whatever was found by then. */
	collect(givenUp: AbortSignal): Promise<Found[]> {
		return collect(this.folder, this.#parts.wishes.collect ?? [], givenUp);
	}

	get takesHome(): boolean {
		return this.#parts.wishes.collect !== undefined;
	}

	send(found: readonly Found[], givenUp: AbortSignal): Promise<WireCollectedFile[]> {
		return this.#out.send(found, givenUp);
	}

	remove(): Promise<void> {
		return this.#parts.workspace.remove();
	}
}

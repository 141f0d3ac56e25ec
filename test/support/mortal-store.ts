/**
 * A store as one life of the service sees it. The test says when that life ends, even on which side of a
 * commit: from then on nothing it asks is done or answered. What was committed stays for the next life.
 */
import { StoreFull } from '../../dispatcher/store/open';
import type {
	Deed,
	DeedAnswer,
	DeedName,
	ReadName,
	Reads,
	Store,
} from '../../dispatcher/store/store';

/** `before` = the commit that carries the deed is never made; `after` = made, and never answered. */
export type Moment = 'before' | 'after';

export class MortalStore implements Store {
	readonly term: number;
	readonly #store: Store;
	#dead = false;
	#full = false;
	#fullAt: { deed: DeedName; commits: number } | undefined;
	#death: { deed: DeedName; moment: Moment; commits: number; died(): void } | undefined;

	constructor(store: Store, term: number) {
		this.#store = store;
		this.term = term;
	}

	get schema(): number {
		return this.#store.schema;
	}

	get migratedFrom(): number | null {
		return this.#store.migratedFrom;
	}

	onPressed(listener: () => void): void {
		this.#store.onPressed(listener);
	}

	snapshot(file: string): Promise<void> {
		return this.#dead ? silence() : this.#store.snapshot(file);
	}

	/** Resolves when that has happened. `commits` with the deed are made before it. */
	dieAt(deed: DeedName, moment: Moment, commits = 0): Promise<void> {
		return new Promise((died) => (this.#death = { deed, moment, commits, died }));
	}

	get isDead(): boolean {
		return this.#dead;
	}

	die(): void {
		this.#dead = true;
	}

	/** While it is full, every commit is refused. */
	set full(full: boolean) {
		this.#full = full;
	}

	/** The commit with this deed is refused, behind so many that are made. */
	fullAt(deed: DeedName, commits: number): void {
		this.#fullAt = { deed, commits };
	}

	async commit(deeds: Deed[]): Promise<DeedAnswer[]> {
		const death = this.#death;
		const carries = death !== undefined && deeds.some((deed) => deed.do === death.deed);
		const fatal = carries && death.commits-- === 0;
		if (fatal && death.moment === 'before') this.#die();
		if (this.#dead) return silence();
		const short = this.#fullAt && deeds.some((deed) => deed.do === this.#fullAt!.deed);
		if (short && this.#fullAt!.commits-- === 0) {
			this.#fullAt = undefined;
			throw new StoreFull('database or disk is full');
		}
		if (this.#full) throw new StoreFull('database or disk is full');
		const answers = await this.#store.commit(deeds);
		if (fatal) this.#die();
		return this.#dead ? silence() : answers;
	}

	async read<N extends ReadName>(name: N, args: Reads[N]['in']): Promise<Reads[N]['out']> {
		if (this.#dead) return silence();
		const found = await this.#store.read(name, args);
		return this.#dead ? silence() : found;
	}

	close(): Promise<void> {
		return this.#store.close();
	}

	#die(): void {
		this.#dead = true;
		this.#death?.died();
		this.#death = undefined;
	}
}

/** What a dead service hears. */
function silence(): Promise<never> {
	return new Promise(() => undefined);
}

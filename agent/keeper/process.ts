/**
 * The keeper's process: parent of every program that the agent runs, so that they and what they print
 * outlive it. Started by the agent with a small heap, in a folder of its own; ends when nobody needs it. It
 * ignores polite signals: whoever stops a whole group of processes still wants to know how they ended.
 */
import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '../clock';
import { Desk } from './desk';
import { Door } from './door';
import { ExitFiles } from './exits';
import { Keep } from './keep';
import { places } from './places';

/** How often it looks whether anybody needs it. */
const lookMs = 10_000;

/** Resolves when it is not needed any more. */
export async function keepPrograms(clock: Clock, complain: (text: string) => void): Promise<void> {
	// Unhandled, the last one opens Node's debugger to every user of this machine.
	const signals = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const;
	for (const name of signals) process.on(name, () => undefined);
	// Whoever relies on this process must not suffer from an error that nobody foresaw.
	process.on('uncaughtException', (error) => complain(error.stack ?? error.message));
	const keep = new Keep(new ExitFiles(places.exits), clock);
	const leaving = new AbortController();
	const door = new Door({
		keep,
		desk: new Desk(keep, clock, complain),
		secret: readFileSync(places.secret, 'utf8'),
		clock,
		onLeave: () => keep.isEmpty && leaving.abort(),
		complain,
	});
	await door.listen(places.socket);
	const door0 = inodeOf(places.socket);
	process.stdout.on('error', () => undefined);
	process.stdout.write('ready\n');
	const idleness = new Idleness();
	for (let over = false; !over;) {
		if (!(await clock.sleep(lookMs, leaving.signal))) return;
		// Without its socket nobody will ever come and take what it holds.
		const reachable = inodeOf(places.socket) === door0;
		const needed = door.isVisited || keep.isBusy || (reachable && !keep.isEmpty);
		over = idleness.seen({ needed, visits: door.visits });
	}
}

/** Nobody needs the keeper: not at two looks, and nobody came in between, as agents do when killed over and over. */
export class Idleness {
	#looks = 0;
	#visits = 0;

	/** True when it may leave. `visits` = agents that came so far. */
	seen({ needed, visits }: { needed: boolean; visits: number }): boolean {
		if (needed || visits !== this.#visits) this.#looks = 0;
		if (!needed) this.#looks += 1;
		this.#visits = visits;
		return this.#looks >= 2;
	}
}

function inodeOf(path: string): number | undefined {
	return statSync(path, { throwIfNoEntry: false })?.ino;
}

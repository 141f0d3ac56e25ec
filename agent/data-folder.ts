/**
 * The data folder of one robot: identity, journal, spool, ballast. Opened together, because the journal's
 * lock decides who may touch the others. Whatever is wrong with it becomes one sentence for the owner.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Ballast } from './ballast';
import type { Clock } from './clock';
import { Identity } from './identity';
import { Journal, JournalUnusable } from './journal';
import { Spool, type SpoolLimits } from './spool';
import { Workspaces } from './workspaces';

export type Opened =
	| {
			ok: true;
			journal: Journal;
			identity: Identity;
			spool: Spool;
			workspaces: Workspaces;
			ballast: Ballast;
	  }
	| { ok: false; sentence: string };

/** Room for one exit record with both tails, its page and its log. */
const ballastBytes = 1024 * 1024;

export function openFolder(folder: string, clock: Clock, limits: SpoolLimits): Opened {
	let journal: Journal | undefined;
	try {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		journal = Journal.open(join(folder, 'journal.db'), clock);
		return {
			ok: true,
			journal,
			identity: Identity.open(folder),
			spool: new Spool(join(folder, 'spool'), limits),
			workspaces: new Workspaces(join(folder, 'work'), limits.reserveBytes),
			ballast: new Ballast(join(folder, 'ballast'), ballastBytes),
		};
	} catch (error) {
		journal?.close();
		const { message } = error as Error;
		if (error instanceof JournalUnusable) return { ok: false, sentence: message };
		return {
			ok: false,
			sentence: `The data folder ${folder} cannot be used (${message}); repair it, or choose another one with --data.`,
		};
	}
}

/** Whether the log beside a store file is as it was written; asked before anybody opens the file. */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Problem } from '../../protocol';
import { type WalDamage, walDamage } from '../../protocol/wal';

/** How much of a log is read at a time; more than two of its largest frames. */
const pieceBytes = 1024 * 1024;

/**
 * SQLite would silently cut a damaged log short, and acknowledged jobs would be gone. Checked before
 * the file is opened, because closing it again would overwrite the evidence.
 */
export function refuseDamage(file: string): void {
	const wal = `${file}-wal`;
	const damage = existsSync(wal) ? damageIn(wal) : undefined;
	if (!damage) return;
	// What a live owner is writing may look like anything. This throws when there is one.
	const probe = new DatabaseSync(file, { readOnly: true });
	try {
		probe.exec('PRAGMA user_version');
	} finally {
		probe.close();
	}
	throw new Problem('store-damaged', { wal, ...damage });
}

/** An upgrade may have left a log of many gigabytes: it is never in memory as a whole. */
function damageIn(wal: string): WalDamage | undefined {
	const file = openSync(wal, 'r');
	try {
		const { size } = fstatSync(file);
		// What is read again and again lies close together.
		let piece = Buffer.alloc(0);
		let start = 0;
		const subarray = (from: number, to: number) => {
			if (from < start || to > start + piece.length) {
				start = Math.max(0, from - pieceBytes / 2);
				const bytes = Buffer.alloc(Math.min(pieceBytes, size - start));
				for (let at = 0; at < bytes.length;) {
					const got = readSync(file, bytes, at, bytes.length - at, start + at);
					// Cut by a live owner: no reason to stop waiting for it. What is gone may as well be zeros.
					if (got === 0) break;
					at += got;
				}
				piece = bytes;
			}
			return piece.subarray(from - start, to - start);
		};
		return walDamage({ length: size, subarray });
	} finally {
		closeSync(file);
	}
}

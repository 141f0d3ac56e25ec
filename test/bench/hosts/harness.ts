/** A host's end of its talk with the harness (machine/host.ts). */
import type { FromHost } from '../machine/host';

type Calls = Record<string, (...args: never[]) => unknown>;

let recorded = 0;
let expected = Infinity;

/** Starts to answer calls, and says that everything is in place. */
export function serveHarness(calls: Calls = {}): void {
	const all: Calls = { expect, ...calls };
	process.on('message', ({ id, call, args }: { id: number; call: string; args: never[] }) => {
		void (async () => {
			try {
				tell({ id, answer: await all[call]!(...args) });
			} catch (error) {
				tell({ id, failed: `${call}: ${(error as Error).stack}` });
			}
		})();
	});
	process.on('disconnect', () => process.exit());
	tell({ ready: true });
}

function expect(count: number): void {
	recorded = 0;
	expected = count;
}

/** A job starts. Only probes carry the time they were sent at, of the clock all processes share. */
export function started(sentAt: string | undefined): void {
	if (sentAt !== undefined) tell({ startedNs: Number(process.hrtime.bigint() - BigInt(sentAt)) });
}

/** The end of one job is durably recorded, once `settled`, where recording is out of our sight, says so. */
export function ended(settled?: () => Promise<void>): void {
	recorded += 1;
	if (recorded !== expected) return;
	if (!settled) tell({ tally: recorded });
	else void settled().then(() => tell({ tally: recorded }));
}

function tell(message: FromHost): void {
	if (process.connected) process.send!(message);
}

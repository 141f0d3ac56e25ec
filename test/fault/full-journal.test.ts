/** The journal of an agent on a disk that runs full in the middle of a turn: what it says is on disk is there. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../agent/clock';
import { Journal } from '../../agent/journal';
import type { JobAssignment } from '../../protocol';
import { noSmallDisk, SmallDisk } from '../support/bad-disk';

const small = noSmallDisk();
const onSmallDisk = small === undefined ? test : test.skip;
if (small) process.stderr.write(`skipped: ${small}\n`);

const jobId = '01890000-0000-7000-8000-000000000001';
const assignment = (epoch: number, bytes = 0): JobAssignment => ({
	job_id: jobId,
	attempt: epoch,
	epoch,
	token: 't',
	kind: 'command',
	spec: { command: 'x'.repeat(bytes) },
	variables: {},
	timeouts: { grace_ms: 1 },
	on_disconnect: 'continue',
});

onSmallDisk(
	'a start that the disk took back with a later one of its turn is not said to be on disk',
	async () => {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-journal-'));
		const disk = new SmallDisk(folder, 16);
		try {
			const journal = Journal.open(join(folder, 'journal.db'), systemClock);
			disk.fill();
			// More than SQLite keeps in memory of a transaction: it goes to the disk before the commit.
			const starts = [1, 2, 3].map((epoch) =>
				journal.start(assignment(epoch, epoch === 1 ? 0 : 1_500_000), 'mark', 5),
			);
			const all = Promise.allSettled(starts);
			await expect(starts[2]).rejects.toThrow('full');
			// It goes on when there is room.
			disk.empty();
			await journal.start(assignment(9), 'mark', 5);
			const told = await all;
			journal.close();
			const after = Journal.open(join(folder, 'journal.db'), systemClock);
			const held = after.held().map((one) => one.assignment.epoch);
			after.close();
			const onDisk = told.flatMap(({ status }, at) => (status === 'fulfilled' ? [at + 1] : []));
			expect(held).toEqual([...onDisk, 9]);
			expect(told[0]!.status).toBe('rejected');
		} finally {
			disk.close();
			rmSync(folder, { recursive: true, force: true });
		}
	},
);

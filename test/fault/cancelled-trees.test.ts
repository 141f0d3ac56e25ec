/**
 * Row 27: cancelled commands that do their best to stay: double forks, sessions of their own, ignored
 * SIGTERM. The test looks for what each of their processes carries in its environment, and does not ask
 * what the agent believes.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFinal, type Submit } from '../../protocol';
import { Draw } from '../support/dice';
import { howMany, percentile, say, seed, thorough } from '../support/proof';
import { eventually, OneService } from './one-service';

const wanted = howMany(10, 1_000);
const together = thorough ? 25 : 10;
/** Of a tree that stands: the command, its sleep, and four members with theirs. */
const members = 10;

jest.setTimeout(60_000 + Math.ceil(wanted / together) * 40_000);

/**
 * Says when it is asked to end, and goes on if it is stubborn. Each tree has a process in the group,
 * a double-forked one whose parent is gone, and one in a session of its own.
 */
const script = `
member='
	[ "$STUBBORN" = 1 ] && trap "" TERM
	echo "$BASHPID $0" >> "$TREES/$ROBOT_FLEET_JOB_ID"
	while :; do sleep 1000 & wait $!; done
'
if [ "$STUBBORN" = 1 ]; then
	trap 'echo $EPOCHREALTIME > "$TREES/$ROBOT_FLEET_JOB_ID.asked"' TERM
else
	trap 'echo $EPOCHREALTIME > "$TREES/$ROBOT_FLEET_JOB_ID.asked"; exit 3' TERM
fi
bash -c "$member" child &
( bash -c "$member" double-forked & )
setsid bash -c "$member" session &
( setsid setsid bash -c "$member" daemon > /dev/null 2>&1 < /dev/null & )
while :; do sleep 1000 & wait $!; done
`;

test('a cancel ends the whole tree of a command, however it hides and whatever it ignores', async () => {
	await OneService.use(async (house) => {
		const { client } = house.service;
		const draw = new Draw(seed);
		await house.agent('anna', { TREES: house.folder }, together);
		const survivors: string[] = [];
		const latencies: number[] = [];
		const goneAfter: number[] = [];
		const states: Record<string, number> = {};
		let processes = 0;
		let stubborn = 0;

		const jobOf = (): Submit => {
			const ignores = draw.chance(0.5);
			if (ignores) stubborn++;
			return {
				kind: 'command',
				spec: { command: 'bash', args: ['-c', script], env: { STUBBORN: ignores ? '1' : '0' } },
			};
		};
		for (let done = 0; done < wanted; done += together) {
			const answers = await client.submitMany(
				Array.from({ length: Math.min(together, wanted - done) }, jobOf),
			);
			const ids = answers.map((answer) => ('jobId' in answer ? answer.jobId : 'refused'));
			const standing = await eventually('all trees to stand', () => {
				const sizes = ids.map((id) => {
					const tree = join(house.folder, id);
					const told = existsSync(tree) && readFileSync(tree, 'utf8').split('\n').length === 5;
					return told ? living(id).length : 0;
				});
				const isWhole = sizes.every((size) => size >= members);
				return isWhole && sizes.reduce((sum, size) => sum + size, 0);
			});
			processes += standing;
			await eventually('all jobs to be known to run', async () =>
				(await Promise.all(ids.map((id) => client.job(id)))).every(
					({ state }) => state === 'running',
				),
			);
			const cancelledAt = new Map<string, number>();
			await Promise.all(
				ids.map(async (id) => {
					await sleep(draw.part(0, 500));
					cancelledAt.set(id, Date.now());
					await client.cancel(id);
				}),
			);
			await Promise.all(
				ids.map(async (id) => {
					const from = cancelledAt.get(id)!;
					const job = await eventually(`the end of ${id}`, async () => {
						const read = await client.job(id);
						return isFinal(read.state) && read;
					});
					const what = `${job.state}, gone: ${job.result?.processGone}`;
					states[what] = (states[what] ?? 0) + 1;
					const left = living(id);
					if (left.length > 0) survivors.push(`${id}: ${left.join(', ')}`);
					goneAfter.push(Date.now() - from);
					const asked = Number(readFileSync(join(house.folder, `${id}.asked`), 'utf8'));
					latencies.push(asked * 1_000 - from);
				}),
			);
		}
		say(27, {
			cancels: wanted,
			'that ignore SIGTERM': stubborn,
			processes,
			survivors: survivors.length,
			'gone after ms (at most)': Math.max(...goneAfter),
			'cancel → SIGTERM p50 ms': percentile(latencies, 50).toFixed(1),
			p99: percentile(latencies, 99).toFixed(1),
		});
		expect(survivors).toEqual([]);
		expect(states).toEqual({ 'cancelled, gone: true': wanted });
		expect(stubborn).toBeGreaterThan(0);
	});
});

/** Processes of a job, read from their environment. A zombie has none. */
function living(jobId: string): number[] {
	const mark = `ROBOT_FLEET_JOB_ID=${jobId}\0`;
	return readdirSync('/proc')
		.map(Number)
		.filter((pid) => {
			if (!Number.isInteger(pid)) return false;
			try {
				return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
			} catch {
				return false;
			}
		});
}

/**
 * Row 15: links that are dead without a word, on the robot's side, the service's or both, while jobs
 * are given out all the time. That the bound is three heartbeats to the millisecond is shown on a
 * virtual clock (integration layer), because a machine that stands still for a moment restarts it; here
 * real sockets show that each side counts by itself, and the test reports how long it took.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFinal, limits } from '../../protocol';
import { Draw } from '../support/dice';
import { howMany, percentile, say, seed, thorough } from '../support/proof';
import { type Direction, type Strand, Wire } from '../support/wire';
import { eventually, OneService } from './one-service';

const wanted = howMany(10, 1_000);
const robots = thorough ? 20 : 5;
const heartbeatMs = 1_000;
const boundMs = limits.missedHeartbeats * heartbeatMs;
/** What a busy machine may add to a timer. */
const slackMs = 400;

jest.setTimeout(120_000 + wanted * 2_000);

const script =
	'echo "$ROBOT_FLEET_JOB_ID $ROBOT_FLEET_ATTEMPT" >> "$NOTES"; echo "$ROBOT_FLEET_JOB_ID"; sleep 0.3';

test('a link that is dead without a word is noticed within three heartbeats, and no job is lost on it', async () => {
	await OneService.use(
		async (house) => {
			const { client } = house.service;
			const notes = join(house.folder, 'notes');
			const noticed: Record<string, number[]> = {};
			const ids: string[] = [];
			let left = wanted;
			let over = false;

			const harm = async (n: number) => {
				const draw = new Draw(seed * 1_000 + n);
				const wire = await Wire.to(house.service.url);
				const name = `robot-${n}`;
				const agent = await house.agent(name, { NOTES: notes }, 2, wire.url);
				let alone = 0;
				try {
					for (let seen = 0; left-- > 0;) {
						let strand: Strand;
						// One that a machine which stood still has cost meanwhile would be noticed by nobody.
						do {
							await eventually(`${name} to be connected`, async () => {
								if (wire.strands.length === seen) return false;
								return (await client.robot(name)).connected;
							});
							seen = wire.strands.length;
							strand = wire.strands.at(-1)!;
							await sleep(draw.part(0, heartbeatMs));
						} while ((strand.leftAt.robot ?? strand.leftAt.service) !== undefined);
						const deaf = draw.pick<Direction[]>([['up'], ['down'], ['up', 'down']]);
						const from = performance.now();
						strand.blackhole(...deaf);
						await strand.over();
						// Whoever hears nothing must notice by itself; the other one may be told.
						const note = (who: 'service' | 'robot') =>
							(noticed[`${who} deaf to ${deaf.join(' and ')}`] ??= []).push(
								strand.leftAt[who]! - from,
							);
						if (deaf.includes('up')) note('service');
						if (!deaf.includes('down')) continue;
						note('robot');
						alone += 1;
					}
				} finally {
					await eventually(`${name} to be back`, async () => (await client.robot(name)).connected);
					wires.push(wire);
				}
				const counted = agent.logged().split('nothing was heard for three heartbeats').length - 1;
				expect(counted).toBeGreaterThanOrEqual(alone);
			};
			const wires: Wire[] = [];
			const feed = async () => {
				while (!over) {
					const { jobId } = await client.submit({ kind: 'command', spec: { shell: script } });
					ids.push(jobId);
					await sleep(400 / robots);
				}
			};
			const feeding = feed();
			try {
				await Promise.all(Array.from({ length: robots }, (_, n) => harm(n)));
			} finally {
				over = true;
				await feeding;
			}
			const jobs = await eventually(
				'all jobs to be final',
				async () => {
					const read = await Promise.all(ids.map((id) => client.job(id)));
					return read.every(({ state, output }) => isFinal(state) && output.complete) && read;
				},
				120_000,
			);
			await Promise.all(wires.map((wire) => wire.close()));

			const lost = jobs.filter(
				({ jobId, state, result }) => state !== 'completed' || result?.stdout !== `${jobId}\n`,
			);
			const starts = readFileSync(notes, 'utf8').trim().split('\n');
			const all = Object.values(noticed).flat();
			say(15, {
				'dead links': wanted,
				robots,
				jobs: jobs.length,
				lost: lost.length,
				'started twice': starts.length - jobs.length,
				'sent again after a proved non-start': jobs.filter(({ attempt }) => attempt > 1).length,
				'noticed after ms (p50)': Math.round(percentile(all, 50)),
				'at most': Math.round(Math.max(...all)),
				bound: boundMs,
				later: all.filter((ms) => ms > boundMs + slackMs).length,
			});
			expect(lost).toEqual([]);
			expect(starts).toHaveLength(jobs.length);
			expect(new Set(starts).size).toBe(jobs.length);
			expect(all.length).toBeGreaterThanOrEqual(wanted);
		},
		{ env: { HEARTBEAT_INTERVAL: String(heartbeatMs / 1_000) } },
	);
});

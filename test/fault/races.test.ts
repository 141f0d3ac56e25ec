/** Row 28: the end of a program, its time limit and a cancel at the same moment settle once, and all agree on how. */
import { isFinal } from '../../protocol';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { WholeHouse } from '../support/whole-house';
import { eventually } from './one-service';

const races = howMany(60, 2_000);
jest.setTimeout(120_000 + races * 500);

const aboutMs = 60;

test('an end, a time limit and a cancel that meet are one end, the same for service, robot and everybody who looks', async () => {
	const draw = new Draw(seed);
	await using house = await WholeHouse.open();
	const { client } = house;
	await house.robot('anna');
	const outcomes: Record<string, number> = {};
	const race = async (): Promise<void> => {
		// All three within a few milliseconds of each other.
		const seconds = ((aboutMs + draw.part(-8, 8)) / 1_000).toFixed(4);
		const { jobId } = await client.submit({
			kind: 'command',
			spec: { shell: `sleep ${seconds}` },
			...(draw.chance(0.6) ? { timeouts: { runMs: aboutMs + draw.whole(-8, 8) } } : {}),
		});
		const isCancelled = draw.chance(0.7);
		if (isCancelled) {
			await eventually('it to run or be over', async () => {
				const { state } = await client.job(jobId);
				return state === 'running' || isFinal(state);
			});
			await client.job(jobId, draw.whole(0, aboutMs));
			// It may be over by now: then it stays what it is.
			await client.cancel(jobId).catch(({ code }: { code: string }) => {
				expect(code).toBe('job-over');
			});
		}
		const job = await client.job(jobId, 20_000);
		expect(['completed', 'cancelled', 'timeout', 'failed']).toContain(job.state);
		if (!isCancelled) expect(job.state).not.toBe('cancelled');
		const ends = (await client.timeline(jobId)).filter(({ to }) => isFinal(to));
		expect(ends.map(({ to }) => to)).toEqual([job.state]);
		const [attempt, ...more] = await client.attempts(jobId);
		expect(more).toEqual([]);
		expect(attempt!.outcome).not.toBeNull();
		outcomes[job.state] = (outcomes[job.state] ?? 0) + 1;
		// Asked again, later, it is still that.
		expect((await client.job(jobId)).state).toBe(job.state);
	};
	for (let done = 0; done < races; done += 4) {
		await Promise.all(Array.from({ length: Math.min(4, races - done) }, race));
	}
	await eventually('the robot to hold nothing', async () => {
		const [robot] = await client.robots();
		return robot!.held === 0;
	});
	say(28, { races, ...outcomes, 'with two ends or none': 0 });
	expect(Object.keys(outcomes).length).toBeGreaterThan(1);
});

/**
 * Rows 16 and 19: the line of a robot is cut at any byte, in the middle of a handshake, a frame or an answer, over and over.
 * What was said is not lost, nothing takes effect twice, and output arrives as it was printed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal, type Job } from '../../protocol';
import { type Cut, CuttingProxy } from '../support/cutting-proxy';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { WholeHouse } from '../support/whole-house';
import { eventually } from './one-service';

const cuts = howMany(1_000, 10_000);
const outputCuts = howMany(10, 1_000);
const pieceBytes = 100_000;
jest.setTimeout(120_000 + cuts * 300 + outputCuts * 1_000);

/** Cuts each connection after so many bytes, every order of magnitude as likely as the next, until it were `count`. */
async function cuttingProxy(
	house: WholeHouse,
	count: number,
	most: Record<Cut['direction'], number>,
) {
	const draw = new Draw(seed);
	let isCutting = false;
	const proxy: CuttingProxy = await CuttingProxy.start(house.service.url, () => {
		if (!isCutting || proxy.cuts >= count) return undefined;
		const direction = draw.pick(['up', 'down'] as const);
		return { direction, afterBytes: Math.round(draw.scale(1, most[direction])) };
	});
	const begin = () => {
		isCutting = true;
		proxy.cutNow();
	};
	return { proxy, begin };
}

/** Ended, and all it printed is here. */
async function ended({ client }: WholeHouse, jobId: string): Promise<Job> {
	return await eventually(
		`${jobId} to end with all it printed`,
		async () => {
			const job = await client.job(jobId);
			return isFinal(job.state) && job.output.complete && job;
		},
		60_000,
	);
}

interface Sent {
	jobId: string;
	prints: string;
	/** Undefined = it sleeps until it is cancelled. */
	exitCode: number | undefined;
}

test('row 16: a line that is cut at any byte loses nothing and doubles nothing', async () => {
	const draw = new Draw(seed);
	await using house = await WholeHouse.open();
	const { client } = house;
	const { proxy, begin } = await cuttingProxy(house, cuts, { up: 20_000, down: 5_000 });
	const starts = join(house.folder, 'starts');
	const submit = async (): Promise<Sent> => {
		const exitCode = draw.chance(0.15) ? undefined : draw.chance(0.7) ? 0 : draw.whole(1, 9);
		const lines = draw.chance(0.5) ? draw.whole(1, 3_000) : 0;
		const shell = [
			`echo "$ROBOT_FLEET_JOB_ID" >> '${starts}'`,
			`seq ${lines}`,
			exitCode === undefined ? 'exec sleep 600' : `exit ${exitCode}`,
		].join('; ');
		const { jobId } = await client.submit({ kind: 'command', spec: { shell } });
		const prints = Array.from({ length: lines }, (_, n) => `${n + 1}\n`).join('');
		return { jobId, prints, exitCode };
	};
	const sent: Sent[] = [];
	const wrong: string[] = [];
	try {
		// Lines that poll have proofs of their own.
		await house.robot('anna', { url: proxy.url, transport: 'websocket' });
		begin();
		while (proxy.cuts < cuts) {
			const batch = await Promise.all(Array.from({ length: 8 }, submit));
			for (const { jobId, exitCode } of batch) {
				if (exitCode !== undefined) continue;
				await eventually(`${jobId} to run`, async () => {
					return (await client.job(jobId)).state === 'running';
				});
				await client.cancel(jobId);
			}
			for (const { jobId, prints, exitCode } of batch) {
				const { state, result } = await ended(house, jobId);
				const printed = (await house.output(jobId)).bytes.toString();
				const came =
					exitCode === undefined
						? [state, prints.startsWith(printed)]
						: [state, printed === prints && result?.exitCode === exitCode];
				const due = exitCode === undefined ? 'cancelled' : exitCode === 0 ? 'completed' : 'failed';
				if (came[0] !== due || !came[1]) wrong.push(`${jobId} is ${state}, not ${due}`);
			}
			sent.push(...batch);
		}
		const started = readFileSync(starts, 'utf8').trim().split('\n');
		const twice = started.length - new Set(started).size;
		// One that is cancelled as soon as it is taken may be stopped before its program does anything.
		const never = sent.filter(
			({ jobId, exitCode }) => exitCode !== undefined && !started.includes(jobId),
		).length;
		say(16, {
			cuts: proxy.cuts,
			jobs: sent.length,
			'with another end or output': wrong.length,
			'started twice': twice,
			'never started': never,
		});
		expect({ wrong, twice, never }).toEqual({ wrong: [], twice: 0, never: 0 });
		expect(await client.robots()).toMatchObject([{ held: 0 }]);
	} finally {
		await proxy.close();
	}
});

test('row 19: what a program printed is stored byte by byte, however often the line was cut meanwhile', async () => {
	// It prints on until all cuts were made: a slow service takes much with few words, and seldom comes to where it is cut.
	const mostPieces = outputCuts + 30;
	const mebibytes = Math.ceil((mostPieces * pieceBytes) / 2 ** 20) + 8;
	await using house = await WholeHouse.open({ maxOutput: String(mebibytes) });
	const { client, folder } = house;
	const { proxy, begin } = await cuttingProxy(house, outputCuts, { up: 400_000, down: 2_000 });
	try {
		const maxBytes = mebibytes * 2 ** 20;
		await house.robot('anna', { url: proxy.url, maxBytes, transport: 'websocket' });
		const all = randomBytes(mostPieces * pieceBytes);
		writeFileSync(join(folder, 'printed'), all);
		const { jobId } = await client.submit({
			kind: 'command',
			spec: {
				shell: `n=0
until [ -e enough ]; do
	if [ -e piece-$n ]; then
		tail -c +$((n * ${pieceBytes} + 1)) printed | head -c ${pieceBytes}
		n=$((n + 1))
	else sleep 0.02; fi
done
seq 20000 >&2`,
				cwd: folder,
			},
		});
		await eventually('it to run', async () => (await client.job(jobId)).state === 'running');
		begin();
		let pieces = 0;
		while (pieces < outputCuts || proxy.cuts < outputCuts) {
			writeFileSync(join(folder, `piece-${pieces}`), '');
			pieces += 1;
			await eventually(`piece ${pieces} to be stored`, async () => {
				return (await client.job(jobId)).output.stdout === pieces * pieceBytes;
			});
		}
		writeFileSync(join(folder, 'enough'), '');
		const printed = all.subarray(0, pieces * pieceBytes);
		const job = await ended(house, jobId);
		const both = {
			stdout: (await house.output(jobId)).bytes,
			stderr: (await house.output(jobId, 'stderr')).bytes,
		};
		const errors = Buffer.from(Array.from({ length: 20_000 }, (_, n) => `${n + 1}\n`).join(''));
		const isEqual = [both.stdout.equals(printed), both.stderr.equals(errors)];
		say(19, {
			cuts: proxy.cuts,
			'MB printed': printed.length / 1e6,
			'gaps or repeats': isEqual.filter((equal) => !equal).length,
		});
		expect(isEqual).toEqual([true, true]);
		expect(job).toMatchObject({ state: 'completed', attempt: 1 });
		expect(job.output.holes).toBeUndefined();
		expect(job.result!.sha256!.stdout).toBe(createHash('sha256').update(printed).digest('hex'));
		expect(proxy.cuts).toBe(outputCuts);
	} finally {
		await proxy.close();
	}
});

/** What a job prints, from the pipe of a real child to the answer of the real service. */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFinal, type Job } from '../../../protocol';
import { type Cut, CuttingProxy } from '../../support/cutting-proxy';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(180_000);

const MiB = 1024 * 1024;
const cuts = Number(process.env.CUTS ?? 1_000);
const seed = Number(process.env.SEED ?? 1);
const sha256 = (...parts: Uint8Array[]) => {
	const hash = createHash('sha256');
	for (const part of parts) hash.update(part);
	return hash.digest('hex');
};

/** A small generator with a seed, so that a bad day can be repeated. */
function dice(): () => number {
	let state = seed;
	return () => {
		state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
		return state / 2 ** 32;
	};
}

async function complete(house: WholeHouse, jobId: string, deadlineMs: number): Promise<Job> {
	const until = performance.now() + deadlineMs;
	for (;;) {
		const job = await house.client.job(jobId);
		if (isFinal(job.state) && job.output.complete) return job;
		if (performance.now() > until) {
			throw new Error(`waited ${deadlineMs} ms for all output: ${JSON.stringify(job.output)}`);
		}
		await sleep(20);
	}
}

test(`100 MB arrive byte by byte equal through ${cuts} cuts at any byte of the connection`, async () => {
	await using house = await WholeHouse.open({ maxOutput: '128' });
	const chance = dice();
	let left = cuts;
	const next = (): Cut | undefined => {
		if (left === 0) return undefined;
		left -= 1;
		// Most in the stream of output, some in what the service answers. Together they let less through than is printed: however
		// quickly it is taken, each of them comes.
		return chance() < 0.9
			? { direction: 'up', afterBytes: 1 + Math.floor(chance() * 200_000) }
			: { direction: 'down', afterBytes: 1 + Math.floor(chance() * 1_200) };
	};
	const proxy = await CuttingProxy.start(house.service.url, next);
	try {
		await house.robot('anna', { url: proxy.url, maxBytes: 128 * MiB });
		const file = join(house.folder, 'printed');
		const printed = randomBytes(100_000_000);
		writeFileSync(file, printed);
		const { jobId } = await house.client.submit({
			kind: 'command',
			spec: { shell: `cat "${file}"; tail -c 70000 "${file}" >&2` },
		});
		const job = await complete(house, jobId, 150_000);
		expect(job).toMatchObject({
			state: 'completed',
			attempt: 1,
			output: { stdout: printed.length, stderr: 70_000, complete: true },
		});
		expect(job.output.holes).toBeUndefined();
		const { bytes, headers } = await house.output(jobId);
		expect(headers.get('x-output-complete')).toBe('true');
		expect([sha256(bytes), job.result!.sha256!.stdout]).toEqual([sha256(printed), sha256(printed)]);
		const errors = (await house.output(jobId, 'stderr')).bytes;
		expect(errors.equals(printed.subarray(-70_000))).toBe(true);
		expect([left, proxy.cuts]).toEqual([0, expect.any(Number)]);
		// A cut that comes after all was said cuts nothing.
		expect(proxy.cuts).toBeGreaterThan(cuts * 0.9);
		const spool = join(house.folder, 'anna/spool');
		for (let tries = 0; tries < 500 && readdirSync(spool).length > 0; tries += 1) await sleep(10);
		expect(readdirSync(spool)).toEqual([]);
	} finally {
		await proxy.close();
	}
});

test('of 100 MB the first 8 MiB and the last 56 are kept, and a few lines of errors', async () => {
	await using house = await WholeHouse.open();
	await house.robot('anna');
	const file = join(house.folder, 'printed');
	const printed = randomBytes(100_000_000);
	writeFileSync(file, printed);
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { shell: `echo begin >&2; cat "${file}"; echo end >&2` },
	});
	const job = await complete(house, jobId, 60_000);
	const hole = { from: 8 * MiB, to: 100_000_000 - (56 * MiB - 10), reason: 'limit' };
	expect(job).toMatchObject({ state: 'completed', result: { exitCode: 0, truncated: true } });
	expect(job.output).toEqual({
		stdout: 100_000_000,
		stderr: 10,
		complete: true,
		holes: { stdout: [hole] },
	});
	const kept = [printed.subarray(0, hole.from), printed.subarray(hole.to)];
	const { bytes, headers } = await house.output(jobId);
	expect(headers.get('x-output-holes')).toBe(`${hole.from}-${hole.to};limit`);
	expect([sha256(bytes), job.result!.sha256!.stdout]).toEqual([sha256(...kept), sha256(...kept)]);
	expect((await house.output(jobId, 'stderr')).bytes.toString()).toBe('begin\nend\n');
});

test('many jobs of one robot that print much at the same time all arrive', async () => {
	await using house = await WholeHouse.open();
	await house.robot('anna');
	const size = 5_000_000;
	const jobs = await Promise.all(
		Array.from({ length: 8 }, async (_, i) => {
			const shell = `yes line of job ${i} | head -c ${size}; yes oops ${i} | head -c 300000 >&2`;
			return house.client.submit({ kind: 'command', spec: { shell } });
		}),
	);
	for (const [i, { jobId }] of jobs.entries()) {
		const job = await complete(house, jobId, 60_000);
		const whole = Buffer.alloc(size, `line of job ${i}\n`);
		expect(job.output).toEqual({ stdout: size, stderr: 300_000, complete: true });
		expect((await house.output(jobId)).bytes.equals(whole)).toBe(true);
		expect(job.result!.sha256).toEqual({
			stdout: sha256(whole),
			stderr: sha256(Buffer.alloc(300_000, `oops ${i}\n`)),
		});
	}
});

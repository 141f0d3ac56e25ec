/**
 * Row 24: what is typed into a program is exact and in order, whatever cuts the line of its robot. And what
 * is typed at a hidden prompt is in no file of either program, at the loudest log level, through a
 * kill of the service.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetClient } from '../../client';
import { Typist } from '../../dispatcher/cli/typist';
import { type InputRequest, isFinal, Problem } from '../../protocol';
import { CuttingProxy } from '../support/cutting-proxy';
import { Draw } from '../support/dice';
import { filesWith } from '../support/files-with';
import { howMany, say, seed } from '../support/proof';
import { WholeHouse } from '../support/whole-house';
import { eventually, OneService } from './one-service';

const wanted = howMany(20, 1_000);
jest.setTimeout(120_000 + wanted * 1_000);

/** Repeats a piece until the robot has it, as every caller may. */
async function typeSurely(client: FleetClient, jobId: string, input: InputRequest) {
	for (let repeated = 0; ; repeated++) {
		try {
			return { repeated, ...(await client.input(jobId, input)) };
		} catch (error) {
			if (!(error instanceof Problem) || !error.retry) throw error;
			await sleep(5);
		}
	}
}

test('a program reads what was typed, byte for byte, whatever cuts the line of its robot', async () => {
	const draw = new Draw(seed);
	await using house = await WholeHouse.open();
	// The first line is left alone until the job runs.
	let isCutting = false;
	const proxy = await CuttingProxy.start(house.service.url, () =>
		!isCutting || proxy.cuts >= wanted
			? undefined
			: draw.chance(0.5)
				? { direction: 'down', afterBytes: draw.whole(1, 24_000) }
				: { direction: 'up', afterBytes: draw.whole(1, 4_000) },
	);
	try {
		await house.robot('anna', { url: proxy.url });
		const file = join(house.folder, 'read');
		const { jobId } = await house.client.submit({
			kind: 'command',
			spec: { shell: `tee "${file}" | sha256sum`, interactive: true },
		});
		await typeSurely(house.client, jobId, {});
		isCutting = true;
		proxy.cutNow();
		const typed: Buffer[] = [];
		let at = 0;
		let repeated = 0;
		while (proxy.cuts < wanted) {
			const data = randomBytes(draw.whole(1, 6_000));
			const piece = { dataB64: data.toString('base64'), from: at };
			repeated += (await typeSurely(house.client, jobId, piece)).repeated;
			typed.push(data);
			at += data.length;
			// An impatient caller says it once more although it was taken.
			if (draw.chance(0.1)) await typeSurely(house.client, jobId, piece);
		}
		expect(await typeSurely(house.client, jobId, { eof: true })).toMatchObject({
			have: at,
			open: false,
		});
		const job = await house.client.job(jobId, 60_000);
		const all = Buffer.concat(typed);
		const digest = createHash('sha256').update(all).digest('hex');
		expect(job).toMatchObject({ state: 'completed', attempt: 1 });
		expect(job.result!.stdout).toContain(digest);
		expect(readFileSync(file).equals(all)).toBe(true);
		say(24, {
			cuts: proxy.cuts,
			'bytes typed': at,
			'calls repeated': repeated,
			'bytes missing, double or out of order': 0,
		});
	} finally {
		await proxy.close();
	}
});

test('typing goes on through kill -9 of the service, and a typed secret is in no file of either program', async () => {
	const secret = 'correct-horse-7315';
	await OneService.use(
		async (house) => {
			const { service } = house;
			const { client } = service;
			await house.agent('anna', { LOG_LEVEL: 'trace' });
			const script =
				'printf "Password: "; read -r p; echo; printf "%s" "$p" | sha256sum; cat | sha256sum; printf "Again: "; read -r q';
			const { jobId } = await client.submit({
				kind: 'command',
				spec: { shell: script, interactive: true },
			});
			const asked = () =>
				eventually('the prompt', async () => (await client.job(jobId)).waitingFor ?? undefined);
			expect(await asked()).toMatchObject({ hidden: true, text: 'Password:' });
			await service.kill();
			service.start();
			await service.ready();
			// Nothing of it was on disk: the robot says it again.
			expect(await asked()).toMatchObject({ hidden: true, text: 'Password:', offset: 0 });
			const bytes = randomBytes(400_000);
			const failures: Error[] = [];
			const typist = new Typist(client, jobId, {
				sleep: (ms) => sleep(ms),
				failed: (error) => void failures.push(error),
			});
			await typist.begin();
			typist.type(Buffer.from(`${secret}\n`));
			for (let at = 0; at < bytes.length; at += 20_000) {
				typist.type(bytes.subarray(at, at + 20_000));
				if (at === 200_000) {
					await service.kill();
					service.start();
					await service.ready();
				}
			}
			typist.end();
			await typist.sent();
			expect(failures).toEqual([]);
			const job = await eventually('the end', async () => {
				const read = await client.job(jobId);
				return isFinal(read.state) && read.output.complete && read;
			});
			const digest = (data: Uint8Array | string) => createHash('sha256').update(data).digest('hex');
			expect(job.result!.stdout).toContain(digest(secret));
			expect(job.result!.stdout).toContain(digest(bytes));
			const forms = [secret, Buffer.from(`${secret}\n`).toString('base64').slice(0, 20)];
			expect(forms.flatMap((form) => filesWith(house.folder, form))).toEqual([]);
			// The search finds what is there: in the store, in the robot's folder, in both logs.
			const found = filesWith(house.folder, jobId).join('\n');
			for (const place of ['service/', 'anna/', 'anna.log']) expect(found).toContain(place);
		},
		{ env: { LOG_LEVEL: 'debug' } },
	);
});

test.each([
	['a pipe', false],
	['a real terminal', true],
])(
	'at %s a question outlives kill -9 of the agent: it is asked again, its answer is typed once, and nothing that was told before is forgotten',
	async (_, terminals) => {
		const secret = 'battery-staple-2049';
		await OneService.use(
			async (house) => {
				const { client } = house.service;
				const agent = await house.agent('anna', { LOG_LEVEL: 'trace' });
				const script = `echo '::fleet:output {"before":1}'; echo '::fleet:progress 30 half'
					test -t 0 && kind=terminal || kind=pipe
					printf "Password: "; read -r p; echo
					echo "::fleet:output {\\"kind\\":\\"$kind\\",\\"digest\\":\\"$(printf %s "$p" | sha256sum | cut -c1-64)\\"}"`;
				const { jobId } = await client.submit({
					kind: 'command',
					spec: { command: 'bash', args: ['-c', script], interactive: true },
				});
				const asked = () =>
					eventually('the prompt', async () => {
						const { waitingFor, progress } = await client.job(jobId);
						return progress === 30 ? (waitingFor ?? undefined) : undefined;
					});
				expect(await asked()).toMatchObject({ hidden: true, text: 'Password:', offset: 0 });
				await agent.kill();
				await eventually(
					'the service to miss it',
					async () => !(await client.robot('anna')).connected,
				);
				agent.start();
				await agent.connected();
				expect(await asked()).toMatchObject({ hidden: true, text: 'Password:', offset: 0 });
				await client.input(jobId, { text: `${secret}\n`, from: 0 });
				await client.input(jobId, { text: `${secret}\n`, from: 0 }).catch(() => undefined);
				const job = await eventually('the end', async () => {
					const read = await client.job(jobId);
					return isFinal(read.state) && read.output.complete && read;
				});
				expect(job).toMatchObject({ state: 'completed', attempt: 1 });
				expect(job.result!.outputs).toEqual({
					before: 1,
					kind: terminals ? 'terminal' : 'pipe',
					digest: createHash('sha256').update(secret).digest('hex'),
				});
				expect(filesWith(house.folder, secret)).toEqual([]);
			},
			{ env: { LOG_LEVEL: 'debug' }, terminals },
		);
	},
);

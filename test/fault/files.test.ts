/** Files under harm: kills of either side while they are on their way. Programs are the built ones. */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal, type Job } from '../../protocol';
import { Wire } from '../support/wire';
import { eventually, OneService } from './one-service';

jest.setTimeout(240_000);

const MB = 1_000_000;
const rounds = Number(process.env.ROUNDS ?? 3);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function put(house: OneService, bytes: Uint8Array): Promise<string> {
	const path = join(house.folder, 'sent.bin');
	writeFileSync(path, bytes);
	const { code, out, err } = await house.cli('files', 'put', path, '--data', house.service.data);
	expect([code, err]).toEqual([0, '']);
	return out.trim();
}

async function final({ service }: OneService, jobId: string): Promise<Job> {
	return await eventually(
		'the end of the job',
		async () => {
			const job = await service.client.job(jobId);
			return isFinal(job.state) && job;
		},
		60_000,
	);
}

async function fetched({ service }: OneService, fileId: string): Promise<Buffer> {
	const answer = await fetch(`${service.url}/api/v1/files/${fileId}/content`, {
		headers: { authorization: `Bearer ${service.adminKey}` },
	});
	return Buffer.from(await answer.arrayBuffer());
}

/** The job copies what it brings along, once, and says how often it was started. */
const spec = (file: string) => ({
	shell: 'echo started >> "$STARTS"; cp in out',
	files: [{ file, path: 'in' }],
	collect: ['out'],
});

test.each([
	['agent', 'fetching'],
	['agent', 'sending'],
	['service', 'fetching'],
	['service', 'sending'],
] as const)(
	'kill -9 of the %s while files are %s: they go on, the program runs once, and every byte arrives',
	async (victim, stage) => {
		await OneService.use(async (house) => {
			const { service, folder } = house;
			await using wire = await Wire.to(service.url);
			const agent = await house.agent('anna', {}, 1, wire.url);
			const data = randomBytes(120 * MB);
			const file = await put(house, data);
			for (let round = 0; round < rounds; round += 1) {
				const starts = join(folder, `starts-${round}`);
				// On its way it stays there until the kill, however long that takes.
				const least = (5 + 10 * round) * MB;
				wire.dam(stage === 'fetching' ? 'down' : 'up', least + 3 * MB);
				const { jobId } = await service.client.submit({
					kind: 'command',
					spec: { ...spec(file), env: { STARTS: starts } },
				});
				const work = join(agent.data, 'work');
				const underWay = (): number => {
					if (stage === 'fetching') {
						const incoming = readdirSync(work).find((name) => name.endsWith('.in'));
						const part = incoming && join(work, incoming, '0');
						return part ? sizeOf(part) : 0;
					}
					const names = readdirSync(join(service.data, 'files')).filter((name) => name !== file);
					return Math.max(0, ...names.map((name) => sizeOf(join(service.data, 'files', name))));
				};
				const before = await eventually(`files to be ${stage}`, () => {
					const bytes = underWay();
					return bytes > least && bytes < data.length && bytes;
				});
				if (victim === 'agent') {
					await agent.kill();
					const atKill = underWay();
					expect(atKill).toBeGreaterThanOrEqual(before);
					wire.open();
					agent.start();
					await agent.connected();
					// Nothing that was there is fetched or sent anew.
					const now = underWay();
					expect(now === 0 || now >= atKill).toBe(true);
				} else {
					await service.kill();
					wire.open();
					service.start();
					await service.ready();
				}
				const job = await final(house, jobId);
				expect(job).toMatchObject({
					state: 'completed',
					attempt: 1,
					result: { files: [{ path: 'out', bytes: data.length, sha256: sha256(data) }] },
				});
				expect(readFileSync(starts, 'utf8')).toBe('started\n');
				const { fileId } = job.result!.files![0]!;
				expect(sha256(await fetched(house, fileId!))).toBe(sha256(data));
				expect((await service.client.files({ job: jobId })).items).toHaveLength(1);
				await service.client.removeFile(fileId!);
			}
			await eventually(
				'the workspaces to go',
				() => readdirSync(join(agent.data, 'work')).length === 0,
			);
		});
	},
);

test('the command line brings files along and takes them home', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		await house.agent('anna');
		writeFileSync(
			join(folder, 'run.sh'),
			'#!/bin/sh\necho $1; mkdir -p report/a; cp conf/in report/a/out\n',
		);
		chmodSync(join(folder, 'run.sh'), 0o755);
		writeFileSync(join(folder, 'in'), randomBytes(1_000));
		const home = join(folder, 'home');
		const { code, out, err } = await house.cli(
			...['submit', '--data', service.data, '--file', join(folder, 'run.sh')],
			...['--file', `${join(folder, 'in')}:conf/in`, '--collect', 'report/**', '--collect', 'none'],
			...['--wait', '--download', home, '--', './run.sh', 'hello'],
		);
		expect({ code, out, err }).toEqual({
			code: 0,
			out: 'hello\n',
			err: expect.stringMatching(/report\/a\/out is here\.\nnone: is not there\n$/),
		});
		expect(readFileSync(join(home, 'report/a/out'))).toEqual(readFileSync(join(folder, 'in')));
		const listed = await house.cli('files', 'list', '--data', service.data);
		expect(listed.out).toMatch(/report\/a\/out +1000 +ready/);
		const id = /^(\S+) +run\.sh/m.exec(listed.out)![1]!;
		const got = await house.cli('files', 'get', id, '--out', '-', '--data', service.data);
		expect(got.out).toBe(readFileSync(join(folder, 'run.sh'), 'utf8'));
		for (const path of [join(folder, 'nowhere'), folder]) {
			const none = await house.cli('files', 'put', path, '--data', service.data);
			expect([none.code, none.err]).toEqual([
				2,
				expect.stringMatching(/ENOENT|is not a file; send a folder as an archive/),
			]);
		}
		// A name may come from a robot: nothing of ours is written over.
		const put = ['put', join(folder, 'in'), '--name', 'package.json', '--data', service.data];
		const named = (await house.cli('files', ...put)).out.trim();
		const over = await house.cli('files', 'get', named, '--data', service.data);
		expect([over.code, over.err]).toEqual([
			2,
			expect.stringMatching(/^package\.json is here already, .* --out\.\n$/),
		]);
		expect((await house.cli('files', 'show', id, '--data', service.data)).out).toMatch(
			/state +ready/,
		);
		expect((await house.cli('files', 'delete', id, '--data', service.data)).code).toBe(0);
		const gone = await house.cli('files', 'show', id, '--data', service.data);
		expect([gone.code, gone.err]).toEqual([1, expect.stringContaining('[no-such-file]')]);
	});
});

test('200 MB in and out cost neither side memory', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		const agent = await house.agent('anna');
		const data = randomBytes(200 * MB);
		const before = { service: memory(service.pid!), agent: memory(agent.pid!) };
		const file = await put(house, data);
		const { jobId } = await service.client.submit({
			kind: 'command',
			spec: { ...spec(file), env: { STARTS: '/dev/null' } },
		});
		const job = await final(house, jobId);
		expect(job.result!.files).toEqual([expect.objectContaining({ sha256: sha256(data) })]);
		const grown = {
			service: Math.round((memory(service.pid!) - before.service) / MB),
			agent: Math.round((memory(agent.pid!) - before.agent) / MB),
		};
		process.stdout.write(`200 MB in and out; peak memory grew by (MB) ${JSON.stringify(grown)}\n`);
		expect(grown.service).toBeLessThan(120);
		expect(grown.agent).toBeLessThan(80);
	});
});

function sizeOf(path: string): number {
	return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** The most it ever had. */
function memory(pid: number): number {
	const text = readFileSync(`/proc/${pid}/status`, 'utf8');
	return Number(/VmHWM:\s+(\d+) kB/.exec(text)![1]) * 1024;
}

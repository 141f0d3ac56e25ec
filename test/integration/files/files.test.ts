/** Files from the disk of a caller to the workspace of a real job and back, over real sockets. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { getFile, putFile } from '../../../dispatcher/cli/files';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import type { Terminal } from '../../../dispatcher/cli/terminal';
import { type FileRecord, isFinal, type Job, type Submit } from '../../../protocol';
import { type Cut, CuttingProxy } from '../../support/cutting-proxy';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(120_000);

const MB = 1_000_000;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const terminal = {
	env: {},
	out() {},
	err() {},
	sleep: (ms: number) => sleep(ms),
} as unknown as Terminal;

function asking(house: WholeHouse) {
	const { url, key } = house.address;
	return (path: string, options: RequestInit & { headers?: Record<string, string> } = {}) =>
		fetch(`${url}/api/v1${path}`, {
			...options,
			headers: { authorization: `Bearer ${key}`, ...options.headers },
		});
}

async function sent(house: WholeHouse, bytes: Uint8Array, name = 'data.bin'): Promise<string> {
	const answer = await asking(house)(`/files/upload?name=${name}`, {
		method: 'POST',
		body: bytes as Uint8Array<ArrayBuffer>,
		headers: { 'content-type': 'application/octet-stream' },
	});
	expect(answer.status).toBe(200);
	return ((await answer.json()) as FileRecord).fileId;
}

async function content(house: WholeHouse, fileId: string): Promise<Buffer> {
	const answer = await asking(house)(`/files/${fileId}/content`);
	expect(answer.status).toBe(200);
	return Buffer.from(await answer.arrayBuffer());
}

async function ended(house: WholeHouse, job: Partial<Submit>, deadlineMs = 60_000): Promise<Job> {
	const { jobId } = await house.client.submit({ kind: 'command', spec: {}, ...job });
	const until = performance.now() + deadlineMs;
	for (;;) {
		const found = await house.client.job(jobId, 1_000);
		if (isFinal(found.state)) return found;
		if (performance.now() > until) {
			throw new Error(`waited for the end: ${found.state}, ${found.message}`);
		}
	}
}

test('20 MB go in, are worked on in a folder of their own, and come out equal; then nothing is left on the robot', async () => {
	await using house = await WholeHouse.open();
	await house.robot('anna');
	const data = randomBytes(20 * MB);
	const file = await sent(house, data);
	const small = await sent(
		house,
		Buffer.from('#!/bin/sh\nsha256sum data/in.bin | cut -d" " -f1 > digest\n'),
	);
	const job = await ended(house, {
		spec: {
			shell:
				'pwd; test "$PWD" = "$ROBOT_FLEET_WORKSPACE" && bin/run && cp data/in.bin out/copy.bin',
			files: [
				{ file, path: 'data/in.bin' },
				{ file: small, path: 'bin/run', mode: '0755' },
				{ file: small, path: 'out/script', mode: '0600' },
			],
			collect: ['out/**', 'digest', 'missing.txt'],
		},
	});
	expect(job).toMatchObject({ state: 'completed', result: { exitCode: 0 } });
	expect(job.result!.stdout).toContain(`/anna/work/${job.jobId}-`);
	const files = Object.fromEntries(job.result!.files!.map((one) => [one.path, one]));
	expect(files).toEqual({
		'out/copy.bin': {
			path: 'out/copy.bin',
			bytes: 20 * MB,
			sha256: sha256(data),
			fileId: expect.any(String),
		},
		'out/script': expect.objectContaining({ bytes: 57, fileId: expect.any(String) }),
		digest: expect.objectContaining({ bytes: 65 }),
		'missing.txt': { path: 'missing.txt', bytes: 0, sha256: null, error: 'is not there' },
	});
	expect((await content(house, files['out/copy.bin']!.fileId!)).equals(data)).toBe(true);
	expect((await content(house, files.digest!.fileId!)).toString()).toBe(`${sha256(data)}\n`);
	const listed = await house.client.files({ job: job.jobId });
	expect(listed.items.map(({ path, mode }) => [path, mode]).sort()).toEqual([
		['digest', expect.any(String)],
		['out/copy.bin', expect.any(String)],
		['out/script', '0600'],
	]);
	const work = join(house.folder, 'anna/work');
	for (let tries = 0; tries < 500 && readdirSync(work).length > 0; tries += 1) await sleep(10);
	expect(readdirSync(work)).toEqual([]);
});

test('a job that fails leaves its report all the same', async () => {
	await using house = await WholeHouse.open();
	await house.robot('anna');
	const job = await ended(house, {
		spec: { shell: 'echo broken > report.txt; exit 3', collect: ['report.txt'] },
	});
	expect(job).toMatchObject({ state: 'failed', cause: 'exit_code', result: { exitCode: 3 } });
	const [report] = job.result!.files!;
	expect((await content(house, report!.fileId!)).toString()).toBe('broken\n');
});

test('cut again and again in the middle, both ways go on where they were: what crosses the line is hardly more than the files', async () => {
	await using house = await WholeHouse.open();
	let left = 12;
	let passed = 0;
	const next = (): Cut | undefined => {
		if (left === 0) return undefined;
		left -= 1;
		const cut: Cut = { direction: left >= 6 ? 'down' : 'up', afterBytes: 800_000 };
		passed += cut.afterBytes;
		return cut;
	};
	const proxy = await CuttingProxy.start(house.service.url, next);
	try {
		await house.robot('anna', { url: proxy.url });
		const data = randomBytes(6 * MB);
		const file = await sent(house, data);
		const job = await ended(house, {
			spec: { shell: 'cp in out', files: [{ file, path: 'in' }], collect: ['out'] },
		});
		expect(job).toMatchObject({ state: 'completed', attempt: 1 });
		const [out] = job.result!.files!;
		expect(out).toMatchObject({ bytes: data.length, sha256: sha256(data) });
		expect((await content(house, out!.fileId!)).equals(data)).toBe(true);
		// No connection lets a sixth of the file through: none of it would ever have arrived from byte 0.
		expect([left, proxy.cuts]).toEqual([0, 12]);
		expect(passed).toBeLessThan(2 * data.length);
	} finally {
		await proxy.close();
	}
});

test('nothing leads out of a workspace: not a link to take home, not a path to place', async () => {
	await using house = await WholeHouse.open();
	await house.robot('anna');
	const job = await ended(house, {
		spec: {
			shell: 'ln -s /etc/passwd passwd; ln -s /etc etc; echo fine > fine',
			collect: ['passwd', 'etc/*', 'fine'],
		},
	});
	expect(job.result!.files).toEqual([
		expect.objectContaining({ path: 'fine', fileId: expect.any(String) }),
		{ path: 'passwd', bytes: 0, sha256: null, error: 'is a symbolic link, which is not followed' },
		{ path: 'etc/*', bytes: 0, sha256: null, error: 'finds nothing' },
	]);
	const file = await sent(house, Buffer.from('x'));
	for (const spec of [
		{ command: 'true', files: [{ file, path: '../x' }] },
		{ command: 'true', files: [{ file, path: '/tmp/x' }] },
		{ command: 'true', collect: ['../../journal.db'] },
	]) {
		await expect(house.client.submit({ kind: 'command', spec })).rejects.toMatchObject({
			code: 'bad-field',
		});
	}
});

test('what the service does not take is told in the result, and holds nothing up', async () => {
	await using house = await WholeHouse.open({ maxFile: '1MB' });
	await house.robot('anna');
	const job = await ended(house, {
		spec: { shell: 'head -c 2000000 /dev/zero > large; echo ok > small', collect: ['*'] },
	});
	expect(job).toMatchObject({ state: 'completed' });
	expect(job.result!.files).toEqual([
		expect.objectContaining({
			path: 'large',
			bytes: 2_000_000,
			error: 'The file is 2000000 bytes; the limit for one file is 1000000.',
		}),
		expect.objectContaining({ path: 'small', fileId: expect.any(String) }),
	]);
	expect(job.result!.files![0]!.fileId).toBeUndefined();
});

test('a job that is cancelled while its files are on their way ends at once', async () => {
	await using house = await WholeHouse.open();
	let slow = false;
	const proxy = await CuttingProxy.start(house.service.url, () => undefined);
	try {
		await house.robot('anna', { url: proxy.url });
		const { jobId } = await house.client.submit({
			kind: 'command',
			spec: { shell: 'head -c 400000000 /dev/zero > large', collect: ['large'] },
		});
		for (let tries = 0; tries < 3_000 && !slow; tries += 1) {
			slow = /sending files/.test((await house.client.job(jobId)).message ?? '');
			await sleep(5);
		}
		expect(slow).toBe(true);
		await house.client.cancel(jobId);
		const job = await house.client.job(jobId, 10_000);
		// It had run to its end: that decides. What was not sent is told.
		expect(job).toMatchObject({ state: 'completed' });
		expect(job.result!.files).toEqual([
			expect.objectContaining({ path: 'large', error: expect.stringMatching(/over before/) }),
		]);
	} finally {
		await proxy.close();
	}
});

test('what a job for several robots takes home comes into a folder for each of them', async () => {
	await using house = await WholeHouse.open();
	for (const name of ['anna', 'bert']) await house.robot(name);
	const home = join(house.folder, 'home');
	const world = { ...terminal, version: '0.0.0', now: Date.now } as unknown as ProgramWorld;
	const flags = ['--all', '--shell', '--collect', 'out', '--wait', '--download', home];
	const words = [...flags, '--data', join(house.folder, 'service'), '--', 'pwd > out'];
	expect(await runProgram(['submit', ...words], world)).toBe(0);
	expect(readdirSync(home).sort()).toEqual(['anna', 'bert']);
	for (const name of ['anna', 'bert']) {
		expect(readFileSync(join(home, name, 'out'), 'utf8')).toContain(`/${name}/work/`);
	}
});

test('with curl or with the command line, an upload that was cut goes on; a download too', async () => {
	await using house = await WholeHouse.open();
	const ask = asking(house);
	const data = randomBytes(3 * MB);
	const announced = await ask('/files', {
		method: 'POST',
		body: JSON.stringify({ name: 'a "b".bin', bytes: data.length, sha256: sha256(data) }),
		headers: { 'content-type': 'application/json' },
	});
	const { fileId } = (await announced.json()) as FileRecord;
	// A caller that announces all and hangs up in the middle.
	const { hostname, port } = new URL(house.address.url);
	const socket = connect(Number(port), hostname);
	socket.write(
		`PUT /api/v1/files/${fileId}/content?from=0 HTTP/1.1\r\nhost: ${hostname}:${port}\r\nauthorization: Bearer ${house.address.key}\r\ncontent-length: ${data.length}\r\n\r\n`,
	);
	socket.write(data.subarray(0, 1_234_567));
	const have = async () => ((await (await ask(`/files/${fileId}`)).json()) as FileRecord).have;
	for (let tries = 0; tries < 1_000 && (await have()) < 1_234_567; tries += 1) await sleep(5);
	socket.destroy();
	expect(await have()).toBe(1_234_567);
	const wrong = await ask(`/files/${fileId}/content?from=0`, {
		method: 'PUT',
		body: data as Uint8Array<ArrayBuffer>,
		headers: { 'content-type': 'application/octet-stream' },
	});
	expect([wrong.status, await wrong.json()]).toMatchObject([
		409,
		{ error: { code: 'file-offset', details: { have: 1_234_567 } } },
	]);
	// The command line finds it by its digest, sends the rest, and sends nothing when it is there.
	mkdirSync(join(house.folder, 'mine'));
	const mine = join(house.folder, 'mine/a "b".bin');
	writeFileSync(mine, data);
	const file = await putFile(terminal, house.address, mine);
	expect(file).toMatchObject({ fileId, state: 'ready', have: data.length });
	expect(await putFile(terminal, house.address, mine)).toEqual(expect.objectContaining({ fileId }));
	// And fetches from where it was.
	const there = join(house.folder, 'mine/there');
	writeFileSync(`${there}.part`, data.subarray(0, 1_000_000));
	await getFile(terminal, house.address, file, there);
	expect(readFileSync(there).equals(data)).toBe(true);
	expect(existsSync(`${there}.part`)).toBe(false);
	// A part that is not of this file is noticed, and fetched anew.
	writeFileSync(`${there}.part`, randomBytes(1_000_000));
	await getFile(terminal, house.address, file, there);
	expect(readFileSync(there).equals(data)).toBe(true);
	// One that is gone is told at once, and nothing is fetched.
	const lost: FileRecord = { ...file, state: 'lost', bytes: 0 };
	await expect(getFile(terminal, house.address, lost, there)).rejects.toMatchObject({
		code: 'file-lost',
	});
	const empty = join(house.folder, 'mine/empty');
	writeFileSync(empty, '');
	expect(await putFile(terminal, house.address, empty)).toMatchObject({ state: 'ready', bytes: 0 });
});

test('bytes are handed out with their digest as ETag, by range, for saving and not for showing', async () => {
	await using house = await WholeHouse.open();
	const ask = asking(house);
	const data = randomBytes(100_000);
	const fileId = await sent(house, data, encodeURIComponent('é"\\report.html'));
	const tag = `"${sha256(data)}"`;
	const whole = await ask(`/files/${fileId}/content`);
	expect(Object.fromEntries(whole.headers)).toMatchObject({
		etag: tag,
		'accept-ranges': 'bytes',
		'content-length': '100000',
		'x-content-type-options': 'nosniff',
		'content-type': 'application/octet-stream',
		'content-disposition': `attachment; filename="___report.html"; filename*=UTF-8''%C3%A9%22%5Creport.html`,
	});
	await whole.arrayBuffer();
	const range = async (header: string, more: Record<string, string> = {}) => {
		const answer = await ask(`/files/${fileId}/content`, { headers: { range: header, ...more } });
		const bytes = Buffer.from(await answer.arrayBuffer());
		return { status: answer.status, where: answer.headers.get('content-range'), bytes };
	};
	const middle = await range('bytes=10-19');
	expect([middle.status, middle.where]).toEqual([206, 'bytes 10-19/100000']);
	expect(middle.bytes.equals(data.subarray(10, 20))).toBe(true);
	expect((await range('bytes=-5')).bytes.equals(data.subarray(-5))).toBe(true);
	expect(await range('bytes=100000-')).toMatchObject({ status: 416, where: 'bytes */100000' });
	expect((await range('bytes=10-19', { 'if-range': '"other"' })).status).toBe(200);
	const known = await ask(`/files/${fileId}/content`, { headers: { 'if-none-match': tag } });
	expect([known.status, (await known.arrayBuffer()).byteLength]).toEqual([304, 0]);
});

test('bytes are taken where they are wanted only, JSON elsewhere only, and a file in use is not removed', async () => {
	await using house = await WholeHouse.open();
	const ask = asking(house);
	const octets = { 'content-type': 'application/octet-stream' };
	const said = async (answer: Response) => [
		answer.status,
		((await answer.json()) as { error: { code: string } }).error.code,
	];
	expect(await said(await ask('/jobs', { method: 'POST', body: '{}', headers: octets }))).toEqual([
		415,
		'bad-body',
	]);
	const json = { 'content-type': 'application/json' };
	expect(
		await said(await ask('/files/upload?name=a', { method: 'POST', body: '{}', headers: json })),
	).toEqual([415, 'bad-bytes']);
	expect(await said(await ask('/files/nobody/content'))).toEqual([404, 'no-such-file']);
	const file = await sent(house, Buffer.from('x'));
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'true', files: [{ file, path: 'x' }] },
	});
	await expect(house.client.removeFile(file)).rejects.toMatchObject({
		code: 'file-in-use',
		details: { jobId },
	});
	await house.client.cancel(jobId);
	await house.client.removeFile(file);
	expect(readdirSync(join(house.folder, 'service/files'))).toEqual([]);
	expect(statSync(join(house.folder, 'service/files')).mode & 0o777).toBe(0o700);
});

import { closeSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFinal } from '../../protocol';
import { readRows } from './chaos';
import { eventually, OneService } from './one-service';

jest.setTimeout(120_000);

test('a submit that was committed and not answered is one job when it is sent again with its key', async () => {
	await OneService.use(async ({ service }) => {
		let between = 0;
		const keys: string[] = [];
		// The moment is a few milliseconds wide: some rounds hit it, one at least, and all of them must hold.
		for (let round = 0; between < 3 && (round < 25 || between === 0); round++) {
			const key = `between-commit-and-reply-${String(round).padStart(4, '0')}`;
			keys.push(key);
			const submit = {
				kind: 'command',
				spec: { command: 'true' },
				variables: { key },
				idempotencyKey: key,
			};
			const wal = join(service.data, 'robot-fleet.db-wal');
			const caller = await ask(service.port, service.adminKey, submit);
			const committed = untilWritten(wal, key, 2_000);
			// Not a turn of the event loop lies between the sight and the kill.
			process.kill(service.pid!, 'SIGKILL');
			await service.exit;
			const answer = await caller.rest();
			service.start();
			await service.ready();

			const { client } = service;
			const before = (await client.jobs({ limit: 100 })).items.filter(
				({ variables }) => variables['key'] === key,
			);
			const told = await client.submit(submit);
			const again = await client.submit(submit);
			const after = (await client.jobs({ limit: 100 })).items.filter(
				({ variables }) => variables['key'] === key,
			);
			expect(after.map(({ jobId }) => jobId)).toEqual([told.jobId]);
			expect(again).toMatchObject({ jobId: told.jobId, duplicate: true });
			// An answer that came was no lie either.
			if (answer !== '') expect(before.map(({ jobId }) => jobId)).toEqual([told.jobId]);
			if (committed && answer === '' && before.length === 1) {
				expect(told.duplicate).toBe(true);
				between++;
			}
		}
		await service.stop();
		const stored = readRows<{ key: string; jobs: number }>(
			join(service.data, 'robot-fleet.db'),
			'SELECT key, count(*) AS jobs FROM idempotency GROUP BY key ORDER BY key',
		);
		expect(stored.map(({ key, jobs }) => [key, jobs])).toEqual(keys.map((key) => [key, 1]));
		const [{ jobs }] = readRows<{ jobs: number }>(
			join(service.data, 'robot-fleet.db'),
			'SELECT count(*) AS jobs FROM jobs',
		) as [{ jobs: number }];
		expect(jobs).toBe(keys.length);
	});
});

test('a job that ends while the service is away is reported once, with all of its output, when it is back', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		const go = join(folder, 'go');
		const agent = await house.agent('anna');
		const { jobId } = await service.client.submit({
			kind: 'command',
			spec: {
				shell:
					'echo begin; while [ ! -e "$GO" ]; do sleep 0.05; done; yes end | head -c 300000; echo oops >&2; exit 3',
				env: { GO: go },
			},
		});
		await eventually(
			'the first output to be stored',
			async () => (await service.client.job(jobId)).output.stdout === 6,
		);
		await service.kill();
		writeFileSync(go, '');
		await eventually('the agent to record the end', () =>
			agent.logged().includes('"msg":"job ended"'),
		);
		// Away for long enough that the robot has tried to come back, in vain.
		await eventually('a try to come back', () => agent.logged().includes('ECONNREFUSED'));
		service.start();
		await service.ready();
		const job = await eventually('the end and all output', async () => {
			const read = await service.client.job(jobId);
			return isFinal(read.state) && read.output.complete && read;
		});
		expect(job).toMatchObject({ state: 'failed', cause: 'exit_code', attempt: 1 });
		expect(job.result).toMatchObject({ exitCode: 3, stderr: 'oops\n', processGone: true });
		expect(job.output).toEqual({ stdout: 300_006, stderr: 5, complete: true });
		const finals = (await service.client.timeline(jobId)).filter(({ to }) => isFinal(to));
		expect(finals).toHaveLength(1);

		// Coming back once more brings nothing new.
		await agent.kill();
		agent.start();
		await agent.connected();
		await service.kill();
		service.start();
		await service.ready();
		await eventually(
			'the robot to be back',
			async () => (await service.client.robot('anna')).connected,
		);
		expect(await service.client.job(jobId)).toEqual(job);
		expect(await service.client.attempts(jobId)).toMatchObject([
			{ outcome: 'failed', cause: 'exit_code', lateResult: null },
		]);
		expect(agent.logged().match(/"msg":"job ended"/g)).toHaveLength(1);
		expect(await agent.stop()).toBe(0);
		expect(readRows(join(agent.data, 'journal.db'), 'SELECT fate FROM attempts')).toEqual([
			expect.objectContaining({ fate: 'over' }),
		]);
	});
});

/** Looks at what is written to the file, without a pause, until `text` is in it. */
function untilWritten(path: string, text: string, ms: number): boolean {
	const file = openSync(path, 'r');
	const until = performance.now() + ms;
	try {
		while (performance.now() < until) {
			const { size } = fstatSync(file);
			const piece = Buffer.alloc(size);
			if (readSync(file, piece, 0, size, 0) > 0 && piece.includes(text)) return true;
		}
		return false;
	} finally {
		closeSync(file);
	}
}

/** Sends a submit over a socket of its own, and reads nothing until it is asked to. */
async function ask(port: number, key: string, submit: object) {
	const text = JSON.stringify(submit);
	const socket: Socket = connect(port, '127.0.0.1');
	await new Promise<void>((open, fail) => socket.once('connect', open).once('error', fail));
	const head = [
		'POST /api/v1/jobs HTTP/1.1',
		'host: 127.0.0.1',
		`authorization: Bearer ${key}`,
		'content-type: application/json',
		`content-length: ${Buffer.byteLength(text)}`,
		'',
		'',
	];
	await new Promise<void>((sent) => socket.write(head.join('\r\n') + text, () => sent()));
	return {
		/** Whatever was answered, once the other end is gone. */
		async rest(): Promise<string> {
			let answer = '';
			socket.setEncoding('latin1').on('data', (piece: string) => (answer += piece));
			socket.on('error', () => undefined);
			await Promise.race([new Promise((closed) => socket.once('close', closed)), sleep(2_000)]);
			socket.destroy();
			return answer;
		},
	};
}

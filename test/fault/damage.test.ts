/**
 * Row 5: disks that forget. Bits flip and ends vanish in the service's write-ahead log and in a
 * robot's journal and spool, after both were killed in mid-work; then they are opened again. Nothing
 * wrong may come out of it, whatever is lost is reported, and whatever is whole arrives.
 */
import {
	copyFileSync,
	cpSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { openStore } from '../../dispatcher/store/open';
import type { StoredJob } from '../../dispatcher/store/store';
import { Problem } from '../../protocol';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { type HubAttempt, ScriptedHub } from '../support/scripted-hub';
import { AgentProgram, builtPrograms } from '../support/programs';
import { eventually, OneService } from './one-service';

const images = howMany(20, 1_000);

jest.setTimeout(120_000 + images * 3_000);

/** Returns what was done to the bytes, and where. */
function harm(
	bytes: Buffer,
	draw: Draw,
): { bytes: Buffer; what: 'flip' | 'hole' | 'cut'; at: number } {
	const at = draw.whole(0, bytes.length - 1);
	const what = draw.pick(['flip', 'flip', 'hole', 'cut'] as const);
	if (what === 'cut') return { bytes: bytes.subarray(0, at), what, at };
	const harmed = Buffer.from(bytes);
	if (what === 'flip') harmed[at]! ^= 1 << draw.whole(0, 7);
	else harmed.fill(0, at, Math.min(at + 512, harmed.length));
	return { bytes: harmed, what, at };
}

test('a damaged log of the service is refused with its place, or opens with everything before it', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		await house.agent('anna', {}, 2);
		const ids: string[] = [];
		for (let n = 0; n < 40; n++) {
			const shell = `echo ${n}; exit ${n % 3}`;
			const { jobId } = await service.client.submit({ kind: 'command', spec: { shell } });
			ids.push(jobId);
		}
		await eventually('all jobs to end', async () => {
			const { byState } = await service.client.queueStats();
			return byState.completed + byState.failed === ids.length;
		});
		await service.kill();
		const database = join(service.data, 'robot-fleet.db');
		const log = readFileSync(`${database}-wal`);
		const draw = new Draw(seed);
		const copy = join(folder, 'copy', 'robot-fleet.db');
		const readAll = async () => {
			const store = await openStore({ file: copy });
			try {
				return new Map((await store.read('jobs', { limit: 1_000 })).map((job) => [job.id, job]));
			} finally {
				await store.close();
			}
		};
		const lay = (bytes: Buffer) => {
			rmSync(join(folder, 'copy'), { recursive: true, force: true });
			mkdirSync(join(folder, 'copy'));
			copyFileSync(database, copy);
			writeFileSync(`${copy}-wal`, bytes);
		};
		lay(log);
		const truth = await readAll();
		expect([...truth.keys()].sort()).toEqual([...ids].sort());

		const counts = { refused: 0, harmless: 0, 'end cut off': 0 };
		const wrong: string[] = [];
		for (let n = 0; n < images; n++) {
			const { bytes, what, at } = harm(log, draw);
			lay(bytes);
			try {
				const found = await readAll();
				for (const job of found.values()) {
					const mistake = contradiction(job, truth.get(job.id));
					if (mistake) wrong.push(`${what} at ${at}: ${mistake}`);
				}
				const whole = [...truth].every(([id, job]) => same(job, found.get(id)));
				if (whole) counts.harmless++;
				// Cut off where a crash might have cut: only the robots can tell, when they come back.
				else if (what === 'cut' || at > lastCommit(log)) counts['end cut off']++;
				else wrong.push(`${what} at ${at}: jobs are gone without a word`);
			} catch (error) {
				if (!(error instanceof Problem) || error.code !== 'store-damaged') {
					wrong.push(`${what} at ${at}: ${String(error)}`);
					continue;
				}
				counts.refused++;
				// The sentence says how to go on, and that is true.
				const offset = Number(error.details['offset']);
				lay(bytes.subarray(0, offset));
				for (const job of (await readAll()).values()) {
					const mistake = contradiction(job, truth.get(job.id));
					if (mistake) wrong.push(`${what} at ${at}, then cut at ${offset}: ${mistake}`);
				}
			}
		}
		say(5, { 'damaged logs of the service': images, ...counts, 'wrong or silent': wrong.length });
		expect(wrong).toEqual([]);
		expect(counts.refused).toBeGreaterThan(images / 4);
	});
});

/** Bytes before the last commit of a log: damage behind them looks like a crash. */
function lastCommit(log: Buffer): number {
	const frame = 24 + log.readUInt32BE(8);
	const ours = (at: number) => log.subarray(at + 8, at + 16).equals(log.subarray(16, 24));
	const commits: number[] = [];
	for (let at = 32; at + frame <= log.length && ours(at); at += frame) {
		if (log.readUInt32BE(at + 4) !== 0) commits.push(at + frame);
	}
	return commits.at(-2) ?? 0;
}

function same(one: StoredJob, other: StoredJob | undefined): boolean {
	return JSON.stringify(one) === JSON.stringify(other);
}

/** An earlier state of the job is none; a job nobody knows or another result is. */
function contradiction(job: StoredJob, truth: StoredJob | undefined): string | undefined {
	if (!truth) return `nobody submitted ${job.id}`;
	if (job.spec !== truth.spec) return `${job.id} asks for something else`;
	if (job.endedAt === null) return undefined;
	return same(job, truth) || job.result === null || job.result === truth.result
		? undefined
		: `${job.id} has another result`;
}

/** What SQLite does by itself when a log has grown. */
function checkpoint(file: string): void {
	const db = new DatabaseSync(file);
	db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
	db.close();
}

test('a robot with a damaged journal delivers what is whole, tells what is not, and never a wrong result', async () => {
	const count = Math.round(images / 2);
	await OneService.use(async ({ folder }) => {
		const bundles = builtPrograms(folder);
		const hub = await ScriptedHub.start();
		const draw = new Draw(seed);
		const base = join(folder, 'base');
		const counts = { harmless: 0, 'told as damage': 0, 'refused with a sentence': 0, 'cut off': 0 };
		const wrong: string[] = [];
		let agent = new AgentProgram(bundles, hub.url, { name: 'anna', data: base, slots: 8 });
		try {
			hub.ackResults = false;
			agent.start(hub.token);
			await agent.connected();
			const ended: HubAttempt[] = [];
			for (let n = 0; n < 6; n++) {
				const one = hub.assign({ shell: `echo "job ${n} says so"; exit ${n}` });
				ended.push(one);
				await hub.untilResult(one);
			}
			const running = hub.assign({ shell: 'echo up; sleep 30' });
			await hub.untilSaid(running, 'job_accepted');
			await agent.kill();
			const truth = new Map(ended.map((one) => [one, one.result!]));
			const log = readFileSync(join(base, 'journal.db-wal'));

			for (let n = 0; n < count; n++) {
				for (const one of hub.attempts.values()) {
					one.result = undefined;
					one.output = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
				}
				const data = join(folder, `image-${n}`);
				cpSync(base, data, { recursive: true });
				// Half of them with everything in the file itself, as it is after a while.
				const name = draw.chance(0.5) ? 'journal.db' : 'journal.db-wal';
				if (name === 'journal.db') checkpoint(join(data, name));
				const { bytes, what, at } = harm(readFileSync(join(data, name)), draw);
				writeFileSync(join(data, name), bytes);
				agent = new AgentProgram(bundles, hub.url, { name: 'anna', data, slots: 8 });
				const hellos = hub.hellos.length;
				agent.start();
				const come = await Promise.race([
					hub.until('a hello', () => hub.hellos.length > hellos).then(() => true),
					agent.exit.then(() => false),
				]);
				const place = `${what} at ${at} of ${name}`;
				if (!come) {
					const lines = agent.logged().trim().split('\n');
					const sentence = lines.length === 1 && /^The (journal|data folder) .*\.$/.test(lines[0]!);
					if (sentence && (await agent.exit) === 2) counts['refused with a sentence']++;
					else wrong.push(`${place}: it ended with ${agent.logged().slice(0, 500)}`);
				} else {
					const hello = hub.hellos.at(-1)!;
					const held = ended.filter(({ assignment }) =>
						hello.attempts.some(
							({ job_id, state }) => job_id === assignment.job_id && state === 'ended',
						),
					);
					for (const one of held) await hub.untilComplete(one);
					for (const [one, said] of truth) {
						const now = one.result;
						if (!now || now.cause === 'unknown') continue;
						const { inline: _, ...facts } = now;
						const { inline: __, ...expected } = said;
						if (JSON.stringify(facts) !== JSON.stringify(expected)) {
							wrong.push(`${place}: told ${JSON.stringify(facts)}`);
						}
						if (!one.output.stdout.equals(Buffer.from(said.result.stdout))) {
							wrong.push(`${place}: other output`);
						}
					}
					const told = agent.logged().includes('is damaged');
					if (held.length === ended.length && hello.attempts.length === ended.length + 1) {
						counts[told ? 'told as damage' : 'harmless']++;
					} else if (told) counts['told as damage']++;
					else if (name === 'journal.db-wal' && (what === 'cut' || at > lastCommit(log))) {
						counts['cut off']++;
					} else wrong.push(`${place}: attempts are gone without a word`);
				}
				await agent.kill();
				rmSync(data, { recursive: true });
			}
		} finally {
			await agent.kill();
			await hub.close();
		}
		say(5, { 'damaged journals': count, ...counts, 'wrong or silent': wrong.length });
		expect(wrong).toEqual([]);
		expect(counts['told as damage'] + counts['refused with a sentence']).toBeGreaterThan(0);
	});
});

test('output that was damaged on a robot is never handed out, and that of its neighbours arrives', async () => {
	const damaged = Math.max(4, Math.round(images / 4));
	const together = 8;
	await OneService.use(async (house) => {
		const { service, folder } = house;
		const draw = new Draw(seed);
		const counts = { damaged: 0, told: 0, 'sent before or harmless': 0, neighbours: 0 };
		const wrong: string[] = [];
		const agent = await house.agent('anna', {}, together);
		const spool = join(agent.data, 'spool');
		for (let round = 0; counts.damaged < damaged; round++) {
			const go = join(folder, `go-${round}`);
			const submit = (n: number) => ({
				kind: 'command' as const,
				spec: {
					shell: 'while [ ! -e "$GO" ]; do sleep 0.05; done; yes "line of $ME" | head -c 150000',
					env: { GO: go, ME: String(n) },
				},
			});
			const answers = await service.client.submitMany(
				Array.from({ length: together }, (_, n) => submit(n)),
			);
			const ids = answers.map((answer) => ('jobId' in answer ? answer.jobId : 'refused'));
			await eventually('all jobs to run', async () => {
				const jobs = await Promise.all(ids.map((id) => service.client.job(id)));
				return jobs.every(({ state }) => state === 'running');
			});
			await service.kill();
			writeFileSync(go, '');
			await eventually('the robot to record all ends', () =>
				ids.every((id) => agent.logged().includes(`"job":"${id}","attempt":1,"epoch"`)),
			);
			await agent.kill();
			const harmed = new Map<string, 'flip' | 'hole' | 'cut'>();
			for (const id of ids) {
				if (!draw.chance(0.5)) continue;
				const [name] = readdirSync(spool).filter((file) => file.startsWith(id));
				const file = join(spool, name!);
				const { bytes, what } = harm(readFileSync(file), draw);
				writeFileSync(file, bytes);
				harmed.set(id, what);
			}
			service.start();
			await service.ready();
			agent.start();
			const jobs = await eventually('all output to be complete', async () => {
				const read = await Promise.all(ids.map((id) => service.client.job(id)));
				return read.every(({ state, output }) => state === 'completed' && output.complete) && read;
			});
			for (const [n, { jobId, output }] of jobs.entries()) {
				const url = `${service.url}/api/v1/jobs/${jobId}/output?holes=omit`;
				const headers = { authorization: `Bearer ${service.adminKey}` };
				const bytes = Buffer.from(await (await fetch(url, { headers })).arrayBuffer());
				const truth = Buffer.alloc(150_000, `line of ${n}\n`);
				const whole = bytes.equals(truth);
				const told = output.holes !== undefined;
				// Of a file that was cut off the beginning is as it was; of any other nothing can be trusted.
				const kept = harmed.get(jobId) === 'cut' && truth.subarray(0, bytes.length).equals(bytes);
				if (!whole && !(told && (kept || bytes.length === 0))) {
					wrong.push(`${jobId}: ${bytes.length} bytes of a ${harmed.get(jobId) ?? 'whole'} one`);
				}
				if (harmed.has(jobId)) counts[told ? 'told' : 'sent before or harmless']++;
				else if (whole) counts.neighbours++;
				else wrong.push(`${jobId} was whole and did not arrive`);
			}
			counts.damaged += harmed.size;
		}
		say(5, {
			'spool files': counts.damaged + counts.neighbours,
			...counts,
			'wrong or silent': wrong.length,
		});
		expect(wrong).toEqual([]);
		expect(counts.told).toBeGreaterThan(0);
	});
});

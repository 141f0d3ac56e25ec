/**
 * Row 3: acknowledged means on stable storage. A kill never shows whether somebody forgot to sync, so
 * both programs run under a tracer, and what the kernel was asked for is judged afterwards:
 *
 * - order: no acknowledgement leaves a socket before the sync of the commit that it speaks of;
 * - crash images: every file that a power cut could have left at some moment opens with our own store,
 *   is intact, has all that was acknowledged by then, and nothing else.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { openStore } from '../../dispatcher/store/open';
import type { StoredJob } from '../../dispatcher/store/store';
import { Draw } from '../support/dice';
import { CachedFile, type Harm, harms } from '../support/page-cache';
import { howMany, say, seed, thorough } from '../support/proof';
import { type Call, noTracing, readTrace, sentFrames, traced } from '../support/strace';
import { eventually, OneService } from './one-service';

const acknowledgements = howMany(200, 10_000);
const images = thorough ? 500 : 10;
/** Each job is acknowledged three times by the service and twice by its robot. */
const jobs = Math.ceil(acknowledgements / 3) + 5;

jest.setTimeout(120_000 + jobs * 500 + images * 2_000);

const reason = noTracing();
if (reason) process.stdout.write(`row 3 is left out: ${reason}\n`);

interface Acknowledgement {
	what: 'submit' | 'assignment' | 'result' | 'acceptance' | 'report';
	jobId: string;
	token?: string;
	/** When its first byte was handed to the kernel. */
	at: number;
	/** Bytes that no commit has before the one it speaks of. */
	needle: string;
}

(reason ? test.skip : test)(
	'what was acknowledged was synced before, and every disk that a power cut may leave has it',
	async () => {
		await OneService.use(async (house) => {
			const { service, folder } = house;
			await service.stop();
			const traces = { service: join(folder, 'service.trace'), agent: join(folder, 'agent.trace') };
			// Everything again, this time watched: the folder is made anew, so that all of it is in the trace.
			rmSync(service.data, { recursive: true });
			service.through = traced(traces.service);
			service.start();
			await service.ready();
			const agent = await house.agent('anna', {}, 4);
			await agent.stop();
			rmSync(join(agent.data, 'journal.db'));
			agent.through = traced(traces.agent);
			agent.start();
			await agent.connected();

			const { client } = service;
			const asked = new Map<string, string>();
			let next = 0;
			const caller = async () => {
				while (next < jobs) {
					const key = `key-${next++}`;
					const { jobId } = await client.submit({
						kind: 'command',
						spec: { shell: 'echo "done-$ROBOT_FLEET_JOB_ID"' },
						variables: { key },
					});
					asked.set(jobId, key);
				}
			};
			await Promise.all(Array.from({ length: 8 }, caller));
			await eventually(
				'all jobs to be done',
				async () => {
					const { byState } = await client.queueStats();
					return byState.completed === jobs;
				},
				60_000 + jobs * 300,
			);
			// At the height of it, as a power cut would: not after a tidy end.
			await Promise.all([agent.kill(), service.kill()]);

			const files = {
				service: join(service.data, 'robot-fleet.db'),
				agent: join(agent.data, 'journal.db'),
			};
			const ofService = await traceOf(traces.service, files.service);
			const ofAgent = await traceOf(traces.agent, files.agent);
			const saidByService = [...submitsIn(ofService.calls), ...framesOf(ofService.calls)];
			const saidByAgent = framesOf(ofAgent.calls);

			const early = [
				...unsynced(saidByService, ofService.wal),
				...unsynced(saidByAgent, ofAgent.wal),
			];
			const counts = new Map<string, number>();
			for (const { what } of [...saidByService, ...saidByAgent]) {
				counts.set(what, (counts.get(what) ?? 0) + 1);
			}
			const broken: string[] = [];
			const looked = await cutPower(
				join(folder, 'images'),
				ofService,
				saidByService,
				asked,
				broken,
			);
			say(3, {
				acknowledgements: saidByService.length + saidByAgent.length,
				of: [...counts].map(([what, n]) => `${what} ${n}`).join(', '),
				'before their sync': early.length,
				commits: ofService.wal.commits.length,
				'crash images': images,
				'with unsynced writes': looked.loose,
				'jobs looked for in them': looked.jobs,
				'lost, invented or damaged': broken.length,
			});
			expect(early).toEqual([]);
			expect(broken).toEqual([]);
			for (const what of ['submit', 'assignment', 'result', 'acceptance', 'report']) {
				expect(counts.get(what)).toBeGreaterThanOrEqual(jobs);
			}
			// Images that have nothing to lose prove nothing.
			expect(looked.loose).toBeGreaterThan(images / 4);
			expect(looked.jobs).toBeGreaterThan(images);
		});
	},
);

interface Trace {
	calls: Call[];
	db: Call[];
	walCalls: Call[];
	wal: Wal;
	lines: number;
}

async function traceOf(trace: string, database: string): Promise<Trace> {
	const wanted = (path: string) => path.startsWith('socket:') || path.startsWith(database);
	const { calls, lines } = await readTrace(trace, wanted);
	const db = calls.filter(({ path }) => path === database);
	const walCalls = calls.filter(({ path }) => path === `${database}-wal`);
	return { calls, db, walCalls, wal: new Wal(walCalls), lines };
}

/** The commits of a write-ahead log, each with the line where it was known to be on disk. */
class Wal {
	readonly commits: { bytes: Buffer; syncedAt: number }[] = [];

	constructor(calls: readonly Call[]) {
		let pages: Buffer[] = [];
		let ended = false;
		const waiting: Buffer[] = [];
		for (const call of calls) {
			if (call.name === 'fsync' || call.name === 'fdatasync') {
				for (const bytes of waiting.splice(0)) this.commits.push({ bytes, syncedAt: call.to });
			} else if (call.data.length === 24) {
				// A frame's head: the size of the database is there only in the last one of a commit.
				ended = call.data.readUInt32BE(4) !== 0;
			} else if (call.data.length >= 512) {
				pages.push(call.data);
				if (!ended) continue;
				waiting.push(Buffer.concat(pages));
				pages = [];
			}
		}
	}
}

/** Those that left before a commit with their needle was synced. */
function unsynced(said: readonly Acknowledgement[], { commits }: Wal): string[] {
	const early: string[] = [];
	let next = 0;
	for (const { what, jobId, at, needle } of said.toSorted((a, b) => a.at - b.at)) {
		while (next < commits.length && commits[next]!.syncedAt < at) next++;
		const before = commits.slice(0, next).findLast(({ bytes }) => bytes.includes(needle));
		if (!before) early.push(`${what} of ${jobId} at line ${at}`);
	}
	return early;
}

/** The answers to submits. */
function submitsIn(calls: readonly Call[]): Acknowledgement[] {
	return calls.flatMap(({ path, data, from }) => {
		if (!path.startsWith('socket:') || !data.includes('HTTP/1.1 202')) return [];
		return [...data.toString('latin1').matchAll(/"jobId":"([0-9a-f-]{36})"/g)].map(
			([, jobId]): Acknowledgement => ({
				what: 'submit',
				jobId: jobId!,
				at: from,
				needle: jobId!,
			}),
		);
	});
}

/** What both sides of the robots' link promise each other. */
function framesOf(calls: readonly Call[]): Acknowledgement[] {
	const kinds: Record<string, Acknowledgement['what']> = {
		job_assignment: 'assignment',
		result_ack: 'result',
		job_accepted: 'acceptance',
		job_result: 'report',
	};
	return sentFrames(calls).flatMap(({ text, from }) => {
		const { type, payload } = JSON.parse(text) as {
			type: string;
			payload: { job_id: string; token?: string };
		};
		const what = kinds[type];
		if (!what) return [];
		const { job_id: jobId, token } = payload;
		const ended = what === 'result' || what === 'report';
		const needle = ended ? `done-${jobId}` : token!;
		return [{ what, jobId, at: from, needle, ...(token === undefined ? {} : { token }) }];
	});
}

/** Cuts the power at moments of chance, and opens what is left. */
async function cutPower(
	folder: string,
	{ db, walCalls, lines }: Trace,
	said: readonly Acknowledgement[],
	asked: ReadonlyMap<string, string>,
	broken: string[],
): Promise<{ loose: number; jobs: number }> {
	const draw = new Draw(seed);
	const writes = walCalls.filter(({ name }) => name !== 'fsync' && name !== 'fdatasync');
	// In turn: just when something was said, so that it counts; when something lay unsynced, so that there
	// is something to lose; at any moment.
	const moments = Array.from({ length: images }, (_, i) => {
		if (i % 5 === 4) return draw.whole(1, lines);
		return i % 2 === 0 ? draw.pick(said).at : draw.pick(writes).from;
	}).sort((a, b) => a - b);
	const cached = { db: new CachedFile(db), wal: new CachedFile(walCalls) };
	const sum = { loose: 0, jobs: 0 };
	for (const [n, moment] of moments.entries()) {
		cached.db.advance(moment);
		cached.wal.advance(moment);
		const harm: Harm = draw.pick(harms);
		if (cached.db.loose + cached.wal.loose > 0) sum.loose++;
		mkdirSync(folder, { recursive: true });
		const file = join(folder, 'robot-fleet.db');
		writeFileSync(file, cached.db.image(harm, draw));
		writeFileSync(`${file}-wal`, cached.wal.image(harm, draw));
		const due = said.filter(({ at }) => at <= moment);
		sum.jobs += new Set(due.map(({ jobId }) => jobId)).size;
		try {
			for (const what of await mistakes(file, due, asked)) {
				broken.push(`image ${n} (${harm}, line ${moment}): ${what}`);
			}
		} catch (error) {
			broken.push(`image ${n} (${harm}, line ${moment}): ${(error as Error).message}`);
		}
		rmSync(folder, { recursive: true });
	}
	return sum;
}

async function mistakes(
	file: string,
	due: readonly Acknowledgement[],
	asked: ReadonlyMap<string, string>,
): Promise<string[]> {
	const found: string[] = [];
	const store = await openStore({ file });
	try {
		const stored = new Map<string, StoredJob>();
		for (let before: string | undefined; ;) {
			const page = await store.read('jobs', { limit: 1_000, ...(before ? { before } : {}) });
			for (const job of page) stored.set(job.id, job);
			before = page.at(-1)?.id;
			if (before === undefined) break;
		}
		for (const { id, variables } of stored.values()) {
			const { key } = JSON.parse(variables) as { key?: string };
			if (key === undefined || asked.get(id) !== key) found.push(`nobody asked for ${id}`);
		}
		for (const { what, jobId, token } of due) {
			const job = stored.get(jobId);
			if (!job) found.push(`${what} was said, but there is no ${jobId}`);
			else if (what === 'assignment') {
				const attempt = await store.read('attempt', { jobId, epoch: job.epoch });
				if (attempt?.token !== token) found.push(`the assignment of ${jobId} is not there`);
			} else if (what === 'result' && job.state !== 'completed') {
				found.push(`the result of ${jobId} was taken, but it is ${job.state}`);
			}
		}
	} finally {
		await store.close();
	}
	const raw = new DatabaseSync(file);
	const [check] = raw.prepare('PRAGMA integrity_check').all();
	raw.close();
	if (check?.['integrity_check'] !== 'ok') found.push(JSON.stringify(check));
	return found;
}

/** What every store promises; one suite, run for each database. A fresh store per test. */
import { randomBytes } from 'node:crypto';
import type { ParentEndings } from '../../dispatcher/core/parents';
import type { Hole } from '../../protocol';
import type {
	Deeds,
	JobQuery,
	NewAttempt,
	NewJob,
	NewOccurrence,
	RolloutMove,
	Scan,
	Store,
	StoredFile,
	StoredJob,
} from '../../dispatcher/store/store';

export interface Bench {
	store: Store;
	/** Ends it as a crash would, and opens what is left. */
	reopen(): Promise<Store>;
	remove(): Promise<void>;
}

const at = 1_700_000_000_000;
const lane = '["",{},[]]';

export const job = (id: string, more: Partial<NewJob> = {}): NewJob => ({
	id,
	kind: 'command',
	state: 'queued',
	lane,
	shareKey: '',
	needs: '',
	rank: at,
	priority: 'normal',
	createdAt: at,
	readyAt: at,
	dueAt: null,
	createdBy: 'key:test',
	retryOf: null,
	parentId: null,
	cell: null,
	children: null,
	spec: '{"command":"true"}',
	variables: '{}',
	target: '{}',
	policy: '{}',
	...more,
});
const attempt = (number = 1, epoch = 10 + number): NewAttempt => ({
	number,
	epoch,
	token: `token-${epoch}`,
	robotId: 'robot',
	at,
});
const occurrence = (more: Partial<NewOccurrence> = {}): NewOccurrence => ({
	scheduleId: 's',
	origin: 'planned',
	plannedAt: at,
	at,
	state: 'ran',
	reason: null,
	jobId: null,
	...more,
});
const settle = (
	jobId: string,
	more: Partial<Deeds['settle']['in']> = {},
): Deeds['settle']['in'] => ({
	jobId,
	number: 1,
	epoch: 11,
	from: 'dispatched',
	at,
	by: 'robot:robot',
	outcome: 'completed',
	cause: null,
	result: '{"exitCode":0}',
	outputLength: { stdout: 0, stderr: 0 },
	reason: 'completed',
	next: { to: 'completed', cause: null, error: null },
	countTry: true,
	countLoss: false,
	...more,
});

export function storeSuite(name: string, open: () => Promise<Bench>): void {
	describe(name, () => {
		let bench: Bench;
		let store: Store;
		const insert = (id: string, more: Partial<NewJob> = {}, first?: NewAttempt) =>
			store.commit([
				{ do: 'insertJob', with: { job: job(id, more), ...(first ? { attempt: first } : {}) } },
			]);

		const found = (query: JobQuery, more: Partial<Scan> = {}) =>
			store.read('scan', { query, order: 'newest', after: null, scan: 100, ...more });

		beforeEach(async () => {
			bench = await open();
			store = bench.store;
		});
		afterEach(async () => {
			await store.close();
			await bench.remove();
		});

		test('groups and pools are replaced whole, kept over a crash, and removed', async () => {
			const by = { createdBy: 'key:test', updatedAt: at };
			const hall = { name: 'hall', parent: 'site', robots: '["r"]', ...by };
			const pool = { name: 'p', definition: '{}', ...by };
			await store.commit([
				{ do: 'putGroup', with: { ...hall, parent: null } },
				{ do: 'putGroup', with: hall },
				{ do: 'putPool', with: pool },
			]);
			store = await bench.reopen();
			expect(await store.read('groups', null)).toEqual([expect.objectContaining(hall)]);
			expect(await store.read('pools', null)).toEqual([expect.objectContaining(pool)]);
			expect(
				await store.commit([
					{ do: 'removeGroup', with: { name: 'hall' } },
					{ do: 'removeGroup', with: { name: 'hall' } },
					{ do: 'removePool', with: { name: 'p' } },
				]),
			).toEqual([true, false, true]);
		});

		test('limits are set anew, kept over a crash, and removed once', async () => {
			const limit = { name: 'licence', max: 3, createdBy: 'key:test', updatedAt: at };
			await store.commit([
				{ do: 'putLimit', with: { ...limit, max: 9 } },
				{ do: 'putLimit', with: limit },
			]);
			store = await bench.reopen();
			expect(await store.read('limits', null)).toEqual([expect.objectContaining(limit)]);
			const remove = { do: 'removeLimit', with: { name: 'licence' } } as const;
			expect(await store.commit([remove, remove])).toEqual([true, false]);
		});

		test('a start is on record in the commit that gave the job away, until it counts no more or was none', async () => {
			const start = { key: 'crm', until: at + 60_000 };
			await insert('a', {}, { ...attempt(), start });
			await insert('b');
			const given = { ...attempt(1, 20), start: { ...start, until: at + 10 } };
			await store.commit([{ do: 'assign', with: { jobId: 'b', attempt: given, tell: false } }]);
			// One that found its job gone is no start.
			const late = { ...attempt(1, 30), start };
			await store.commit([{ do: 'assign', with: { jobId: 'b', attempt: late, tell: false } }]);
			store = await bench.reopen();
			const epochs = async (after: number) =>
				(await store.read('starts', { after })).map(({ epoch }) => epoch);
			expect(await epochs(at)).toEqual([11, 20]);
			expect(await epochs(at + 10)).toEqual([11]);
			const sweep = { do: 'sweepStarts', with: { before: at + 10, limit: 10 } } as const;
			expect(await store.commit([sweep])).toEqual([1]);
			const back = { to: 'queued', readyAt: at, rank: at, dueAt: null } as const;
			const refused = { outcome: 'refused', next: back, countTry: false, result: null };
			await store.commit([{ do: 'settle', with: settle('a', { ...refused, unstarted: true }) }]);
			expect(await epochs(0)).toEqual([]);
		});

		test('what jobs need is part of their queue, and those behind it are found in order', async () => {
			const needs = '[["lock","db",1]]';
			await insert('plain');
			for (const id of ['c', 'a', 'b']) await insert(id, { needs, rank: id === 'b' ? at - 1 : at });
			await insert('later', { needs, state: 'pending', dueAt: at + 5 });
			expect(await store.read('queues', null)).toEqual([
				{ lane, shareKey: '', needs: '' },
				{ lane, shareKey: '', needs },
			]);
			const queue = { lane, shareKey: '', needs, limit: 10 };
			expect((await store.read('heads', queue)).map(({ id }) => id)).toEqual(['b', 'a', 'c']);
			const behind = await store.read('behind', { needs: [needs, 'x'], limit: 2, max: 10 });
			expect(behind).toMatchObject({ count: 3, first: [{ id: 'b', needs }, { id: 'a' }] });
			expect(await store.read('behind', { needs: [needs], limit: 2, max: 2 })).toMatchObject({
				count: 2,
			});
			expect(await store.read('job', { id: 'a' })).toMatchObject({ needs });
		});

		test('a turn is on record in the commit that gave the job away, and only then', async () => {
			await insert('a', {}, { ...attempt(), turn: { before: 0 } });
			await insert('b');
			const given = { ...attempt(1, 20), robotId: 'other', turn: { before: 0 } };
			await store.commit([{ do: 'assign', with: { jobId: 'b', attempt: given, tell: false } }]);
			const late = { ...attempt(1, 30), turn: { before: 11 } };
			await store.commit([{ do: 'assign', with: { jobId: 'b', attempt: late, tell: false } }]);
			store = await bench.reopen();
			expect(await store.read('turns', null)).toEqual([
				expect.objectContaining({ robotId: 'other', epoch: 20 }),
				expect.objectContaining({ robotId: 'robot', epoch: 11 }),
			]);
		});

		test('successes of a key are counted once each, start anew after a long while, and are swept when old', async () => {
			const week = 7 * 86_400_000;
			const ends = async (id: string, when: number) => {
				await insert(id, { affinity: 'k' }, attempt());
				const with_ = settle(id, { at: when, affinity: 'k' });
				// The second of two is told that the attempt is over.
				return store.commit([
					{ do: 'settle', with: with_ },
					{ do: 'settle', with: with_ },
				]);
			};
			expect(await ends('a', at)).toEqual([true, false]);
			await ends('b', at + week);
			const known = () => store.read('affinities', { limit: 10 });
			expect(await known()).toMatchObject([
				{ key: 'k', robotId: 'robot', successes: 2, at: at + week },
			]);
			await ends('c', at + 3 * week);
			expect(await known()).toMatchObject([{ successes: 1, at: at + 3 * week }]);
			const sweep = (before: number, keep: number) =>
				store.commit([{ do: 'sweepAffinities', with: { before, keep, limit: 10 } }]);
			expect(await sweep(0, 1)).toEqual([0]);
			await insert('d', { affinity: 'other' }, attempt());
			const later = settle('d', { at: at + 4 * week, affinity: 'other' });
			await store.commit([{ do: 'settle', with: later }]);
			expect(await sweep(0, 1)).toEqual([1]);
			expect(await known()).toMatchObject([{ key: 'other' }]);
			expect(await sweep(at + 4 * week + 1, 10)).toEqual([1]);
			expect(await known()).toEqual([]);
		});

		test('what a commit answered is there after a crash', async () => {
			await insert('a', {}, attempt());
			store = await bench.reopen();
			expect(await store.read('job', { id: 'a' })).toMatchObject({
				state: 'dispatched',
				attempt: 1,
				epoch: 11,
			});
			expect(await store.read('held', null)).toHaveLength(1);
		});

		test('every opening is a new term', async () => {
			const first = store.term;
			store = await bench.reopen();
			expect(store.term).toBe(first + 1);
		});

		test('a deed whose guard is broken changes nothing and does not disturb the others', async () => {
			await insert('a', {}, attempt());
			const answers = await store.commit([
				{ do: 'start', with: { jobId: 'a', number: 1, epoch: 99, at } },
				{ do: 'insertJob', with: { job: job('b') } },
				{ do: 'settle', with: settle('a', { epoch: 99 }) },
			]);
			expect(answers).toEqual([false, null, false]);
			expect(await store.read('job', { id: 'a' })).toMatchObject({ state: 'dispatched' });
			expect(await store.read('job', { id: 'b' })).toMatchObject({ state: 'queued' });
		});

		test('a job is given away once: the second assignment finds it gone', async () => {
			await insert('a');
			const answers = await store.commit([
				{ do: 'assign', with: { jobId: 'a', attempt: attempt(1, 11), tell: true } },
				{ do: 'assign', with: { jobId: 'a', attempt: attempt(1, 12), tell: true } },
			]);
			expect(answers[0]).toMatchObject({ spec: '{"command":"true"}', tries: 0 });
			expect(answers[1]).toBeNull();
			expect((await store.read('attempts', { jobId: 'a' })).map(({ epoch }) => epoch)).toEqual([
				11,
			]);
		});

		test('what is old is found in bounded looks and forgotten whole; a child waits for its parent', async () => {
			const ids = ['a', 'b', 'c', 'd'].map((name) => `018bcfe5-6800-7000-8000-${name}`);
			const [parent, child, other, young] = ids as [string, string, string, string];
			await insert(parent);
			await insert(child, { parentId: parent, cell: '1' }, attempt());
			await insert(other, {}, attempt(1, 12));
			await insert(young, {}, attempt(1, 13));
			await store.commit([
				{ do: 'settle', with: settle(child) },
				{ do: 'settle', with: settle(other, { epoch: 12 }) },
				{ do: 'settle', with: settle(young, { epoch: 13, at: at + 2_000 }) },
			]);
			const before = at + 1_000;
			const look = { what: 'jobs', before, limit: 3, cursor: null } as const;
			expect(await store.read('old', look)).toEqual({ old: [other], cursor: other });
			expect(await store.read('old', { ...look, cursor: other })).toEqual({
				old: [],
				cursor: null,
			});
			// Whatever is asked for, only what is old and free goes.
			expect(
				await store.commit([{ do: 'purge', with: { what: 'jobs', keys: ids, before } }]),
			).toEqual([[other]]);
			expect(await store.read('attempts', { jobId: other })).toEqual([]);
			expect(await store.read('finals', { limit: 10, cursor: null })).toMatchObject({ count: 2 });
			const end = { jobId: parent, from: ['queued' as const], to: 'cancelled' as const };
			await store.commit([
				{ do: 'moveJob', with: { ...end, cause: 'cancelled', reason: '', by: '', at } },
			]);
			expect((await store.read('old', { ...look, limit: 10 })).old).toEqual([parent, child]);
		});

		test('old events are found behind those of a clock that was ahead, and no look goes on behind young ones', async () => {
			const told = (n: number, when: number) => ({
				do: 'fire' as const,
				with: occurrence({
					plannedAt: at + n,
					at: when,
					event: { type: 'schedule.due', data: '{}' },
				}),
			});
			const ahead = [0, 1, 2].map((n) => told(n, at + 1e9));
			const young = [5, 6, 7, 8].map((n) => told(n, at + 100));
			await store.commit([...ahead, told(3, at), told(4, at), ...young]);
			const looks: (string[] | null)[] = [];
			let cursor: string | null = null;
			do {
				const look: { old: string[]; cursor: string | null } = await store.read('old', {
					what: 'events',
					before: at + 1,
					limit: 2,
					cursor,
				});
				looks.push(look.old);
				cursor = look.cursor;
			} while (cursor !== null);
			// The last two were not even looked at.
			expect(looks).toEqual([[], ['4'], ['5'], []]);
		});

		test('every idempotency key is come by, one look after the other, whatever its letters', async () => {
			const keys = ['b', 'b!', 'b"', 'c'];
			for (const key of keys) {
				const idempotency = { scope: 'key:test', key, hash: 'h' };
				await store.commit([{ do: 'insertJob', with: { job: job(`job of ${key}`), idempotency } }]);
			}
			const seen: string[] = [];
			let cursor: string | null = null;
			do {
				const look: { cursor: string | null } = await store.read('old', {
					what: 'keys',
					before: at,
					limit: 1,
					cursor,
				});
				cursor = look.cursor;
				if (cursor !== null) seen.push((JSON.parse(cursor) as [string, string])[1]);
			} while (cursor !== null);
			expect(seen.sort()).toEqual(keys.toSorted());
		});

		test('a pending job that is as it was read can be made to wait for something else, and no other job can', async () => {
			await insert('a', { state: 'pending', dueAt: at + 5 });
			await insert('b');
			expect(await store.read('restoredJobs', null)).toBe(0);
			const wish = {
				cause: 'restored',
				dueAt: at + 99,
				reason: 'restored',
				by: 'dispatcher',
				at,
			} as const;
			const [a, b] = (await store.read('jobsById', { ids: ['a', 'b'] })) as [StoredJob, StoredJob];
			expect(
				await store.commit([
					{ do: 'waitFor', with: { jobId: 'a', was: { ...a, hold: 'ana' }, ...wish } },
					{ do: 'waitFor', with: { jobId: 'a', was: a, ...wish } },
					{ do: 'waitFor', with: { jobId: 'a', was: a, ...wish } },
					{ do: 'waitFor', with: { jobId: 'b', was: b, ...wish } },
				]),
			).toEqual([false, true, false, false]);
			expect(await store.read('job', { id: 'a' })).toMatchObject({
				state: 'pending',
				cause: 'restored',
				dueAt: at + 99,
			});
			expect(await store.read('restoredJobs', null)).toBe(1);
			expect((await store.read('timeline', { jobId: 'a' })).at(-1)).toMatchObject({
				from: 'pending',
				to: 'pending',
				reason: 'restored',
			});
		});

		test('an ending is recorded once, and a final state never changes', async () => {
			await insert('a', {}, attempt());
			const answers = await store.commit([
				{ do: 'settle', with: settle('a', { startedAt: at }) },
				{
					do: 'settle',
					with: settle('a', { next: { to: 'failed', cause: 'unknown', error: null } }),
				},
				{
					do: 'moveJob',
					with: {
						jobId: 'a',
						from: ['queued', 'pending'],
						to: 'cancelled',
						cause: 'cancelled',
						reason: '',
						by: '',
						at,
					},
				},
			]);
			expect(answers).toEqual([true, false, false]);
			expect(await store.read('job', { id: 'a' })).toMatchObject({
				state: 'completed',
				result: '{"exitCode":0}',
				outputDone: 1,
			});
			const timeline = await store.read('timeline', { jobId: 'a' });
			expect(timeline.map(({ to }) => to)).toEqual([
				'queued',
				'dispatched',
				'running',
				'completed',
			]);
			expect(await store.read('held', null)).toEqual([]);
		});

		test('a move that the table does not know is refused by the schema itself', async () => {
			await insert('a', { state: 'pending', dueAt: at });
			const illegal = store.commit([
				{ do: 'insertJob', with: { job: job('b') } },
				{
					do: 'moveJob',
					with: {
						jobId: 'a',
						from: ['pending'],
						to: 'running',
						cause: null,
						reason: '',
						by: '',
						at,
					},
				},
			]);
			await expect(illegal).rejects.toThrow('CHECK constraint failed: was');
			expect(await store.read('job', { id: 'a' })).toMatchObject({ state: 'pending' });
			expect(await store.read('job', { id: 'b' })).toBeUndefined();
		});

		test('an attempt that goes back to the queue can be tried again under a new number', async () => {
			await insert('a', {}, attempt());
			await store.commit([
				{
					do: 'settle',
					with: settle('a', {
						outcome: 'refused',
						result: null,
						next: { to: 'queued', readyAt: at, rank: at, dueAt: null },
						countTry: false,
						bars: '{"robot":null}',
					}),
				},
			]);
			expect(await store.read('heads', { lane, shareKey: '', needs: '', limit: 10 })).toEqual([
				expect.objectContaining({ id: 'a', rank: at, bars: '{"robot":null}', attempt: 1 }),
			]);
			const [again] = await store.commit([
				{ do: 'assign', with: { jobId: 'a', attempt: attempt(2), tell: true } },
			]);
			expect(again).toMatchObject({ tries: 0 });
		});

		test('heads are the best of their lane: rank, then id', async () => {
			await insert('c');
			await insert('a');
			await insert('b', { rank: at - 1 });
			await insert('other', { lane: 'x' });
			await insert('later', { state: 'pending', dueAt: at + 5 });
			expect(
				(await store.read('heads', { lane, shareKey: '', needs: '', limit: 2 })).map(
					({ id }) => id,
				),
			).toEqual(['b', 'a']);
			await insert('shared', { shareKey: 'ana' });
			expect(await store.read('queues', null)).toEqual([
				{ lane, shareKey: '', needs: '' },
				{ lane, shareKey: 'ana', needs: '' },
				{ lane: 'x', shareKey: '', needs: '' },
			]);
		});

		test('what is due is found with the next instant', async () => {
			await insert('now', { state: 'pending', dueAt: at });
			await insert('later', { dueAt: at + 1_000 });
			const due = await store.read('due', { at, limit: 10 });
			expect(due.jobs.map(({ id }) => id)).toEqual(['now']);
			expect(due.nextAt).toBe(at + 1_000);
		});

		test('an idempotency key names the job that has it, per scope', async () => {
			const keyed = (id: string, hash: string, scope = 'k') => ({
				do: 'insertJob' as const,
				with: { job: job(id), idempotency: { scope, key: 'once', hash } },
			});
			const answers = await store.commit([
				keyed('a', 'h'),
				keyed('b', 'h'),
				keyed('c', 'x'),
				keyed('d', 'x', 'other'),
			]);
			expect(answers).toEqual([
				null,
				{ duplicateOf: 'a', sameRequest: true, state: 'queued' },
				{ duplicateOf: 'a', sameRequest: false, state: 'queued' },
				null,
			]);
			expect((await found({})).ids).toEqual(['d', 'a']);
		});

		test('a late result is kept beside the attempt, once, and only from who held it', async () => {
			await insert('a', {}, attempt());
			await store.commit([
				{
					do: 'settle',
					with: settle('a', {
						outcome: 'lost',
						result: null,
						next: { to: 'failed', cause: 'unknown', error: null },
					}),
				},
			]);
			const late = {
				jobId: 'a',
				number: 1,
				epoch: 11,
				token: 'token-11',
				robotId: 'robot',
				result: '{}',
				outputLength: { stdout: 0, stderr: 0 },
				event: { at, type: 'late', subject: 'late', data: '"a"' },
			};
			const answers = await store.commit([
				{ do: 'lateResult', with: { ...late, token: 'guessed' } },
				{ do: 'lateResult', with: late },
				{ do: 'lateResult', with: late },
			]);
			expect(answers).toEqual(['unknown', 'kept', 'again']);
			expect(await store.read('job', { id: 'a' })).toMatchObject({ state: 'failed', result: null });
			const events = await store.read('events', { subjects: ['late'], after: 0, limit: 10 });
			expect(events).toEqual([{ cursor: 1, ...late.event }]);
		});

		test('output is taken only where it goes on, and read from any byte', async () => {
			await insert('a', {}, attempt());
			const piece = (offset: number, text: string) => ({
				do: 'appendOutput' as const,
				with: {
					jobId: 'a',
					epoch: 11,
					robotId: 'robot',
					stream: 'stdout' as const,
					offset,
					data: Buffer.from(text),
				},
			});
			const answers = await store.commit([
				piece(0, 'abc'),
				piece(0, 'abc'),
				piece(4, 'x'),
				piece(3, 'def'),
			]);
			expect(answers.map((answer) => (answer as { have: number }).have)).toEqual([3, 3, 3, 6]);
			const name = { jobId: 'a', number: 1, stream: 'stdout' as const };
			const read = async (from: number, maxBytes: number) =>
				Buffer.from(
					(await store.read('output', { ...name, from, to: 6, maxBytes })).data,
				).toString();
			expect([await read(0, 100), await read(2, 2), await read(5, 9), await read(6, 9)]).toEqual([
				'abcdef',
				'cd',
				'f',
				'',
			]);
		});

		describe('output of a job that prints much', () => {
			const name = { jobId: 'a', number: 1, stream: 'stdout' as const };
			const piece = (
				offset: number,
				data: Uint8Array,
				more: Partial<Deeds['appendOutput']['in']> = {},
			) => ({
				do: 'appendOutput' as const,
				with: { ...name, epoch: 11, robotId: 'robot', offset, data, ...more },
			});
			/** What can be read, with holes as they are. */
			const all = async (stream: 'stdout' | 'stderr', to: number) => {
				const found: (Buffer | Hole)[] = [];
				for (let from = 0; from < to;) {
					const answer = await store.read('output', {
						...name,
						stream,
						from,
						to,
						maxBytes: 70_000,
					});
					found.push(answer.hole ?? Buffer.from(answer.data));
					from = answer.hole ? answer.hole.to : from + answer.data.length;
				}
				return found;
			};
			const bytesOf = (found: (Buffer | Hole)[]) =>
				Buffer.concat(found.filter((part) => Buffer.isBuffer(part)));

			beforeEach(() => insert('a', {}, attempt()));

			test('small and large pieces lie side by side and are read as one stream, after a crash too', async () => {
				const data = randomBytes(600_000);
				let at = 0;
				for (const size of [10, 250_000, 1_000, 90_000, 5, 200_000]) {
					await store.commit([piece(at, data.subarray(at, at + size))]);
					at += size;
				}
				expect(bytesOf(await all('stdout', at)).equals(data.subarray(0, at))).toBe(true);
				store = await bench.reopen();
				expect(bytesOf(await all('stdout', at)).equals(data.subarray(0, at))).toBe(true);
				await store.commit([piece(at, data.subarray(at))]);
				expect(bytesOf(await all('stdout', 600_000)).equals(data)).toBe(true);
			});

			test('a gap is taken where it bridges what is stored, and stays a hole with its reason', async () => {
				const data = randomBytes(100);
				const gap = { from: 40, reason: 'disk-full' as const };
				const answers = await store.commit([
					piece(0, data.subarray(0, 30)),
					// It begins behind what is stored: the bytes before it may still come.
					piece(90, data.subarray(90), { gap }),
					piece(30, data.subarray(30, 50)),
					piece(90, data.subarray(90, 95), { gap }),
					piece(90, data.subarray(90, 95), { gap }),
					piece(95, data.subarray(95)),
					piece(120, new Uint8Array(), { gap: { from: 100, reason: 'limit' } }),
				]);
				expect(answers.map((answer) => (answer as { have: number }).have)).toEqual([
					30, 30, 50, 95, 95, 100, 120,
				]);
				expect(await all('stdout', 120)).toEqual([
					data.subarray(0, 50),
					{ from: 50, to: 90, reason: 'disk-full' },
					data.subarray(90),
					{ from: 100, to: 120, reason: 'limit' },
				]);
				const [job] = await store.read('jobsById', { ids: ['a'] });
				expect(JSON.parse(job!.outputHoles)).toEqual([
					[0, 50, 90, 'disk-full'],
					[0, 100, 120, 'limit'],
				]);
			});

			test('of more than the limit the middle goes while it comes, and offsets stay true', async () => {
				const MiB = 1024 * 1024;
				const data = randomBytes(MiB);
				const frames = Array.from({ length: 300 }, (_, i) => data.subarray(0, 250_000 + i));
				let at = 0;
				const starts = frames.map((frame) => (at += frame.length) - frame.length);
				for (const [i, frame] of frames.entries()) {
					await store.commit([
						piece(starts[i]!, frame),
						...(i === 9 ? [piece(0, Buffer.from('oops'), { stream: 'stderr' })] : []),
					]);
				}
				expect(await all('stderr', 4)).toEqual([Buffer.from('oops')]);
				const whole = Buffer.concat(frames);
				const hole = { from: 8 * MiB, to: at - (56 * MiB - 4), reason: 'limit' };
				const found = await all('stdout', at);
				expect(found.filter((part) => !Buffer.isBuffer(part))).toEqual([hole]);
				const kept = Buffer.concat([whole.subarray(0, hole.from), whole.subarray(hole.to)]);
				expect(bytesOf(found).equals(kept)).toBe(true);
			});

			test('a stream that is sent again begins anew, and its sister does not notice', async () => {
				const data = randomBytes(100_000);
				await store.commit([
					piece(0, data),
					piece(100_010, data, { gap: { from: 99, reason: 'limit' } }),
					piece(0, data, { stream: 'stderr' }),
					{ do: 'rewindOutput', with: { jobId: 'a', epoch: 11, stream: 'stdout' } },
				]);
				expect(await store.read('job', { id: 'a' })).toMatchObject({
					stdoutHave: 0,
					stderrHave: 100_000,
					outputHoles: '[]',
				});
				await store.commit([piece(0, data.subarray(7))]);
				expect(bytesOf(await all('stdout', 99_993)).equals(data.subarray(7))).toBe(true);
				expect(bytesOf(await all('stderr', 100_000)).equals(data)).toBe(true);
			});

			test('what was found damaged and is being sent again meanwhile is no hole', async () => {
				const data = randomBytes(20);
				const hole: Hole = { from: 0, to: 20, reason: 'damaged' };
				const mark = { do: 'markOutput' as const, with: { ...name, hole } };
				const rewind = {
					do: 'rewindOutput' as const,
					with: { jobId: 'a', epoch: 11, stream: 'stdout' as const },
				};
				await store.commit([piece(0, data)]);
				expect(await store.commit([rewind, mark])).toEqual([true, false]);
				await store.commit([piece(0, data)]);
				expect(await all('stdout', 20)).toEqual([data]);
				expect(await store.commit([mark])).toEqual([true]);
				expect(await all('stdout', 20)).toEqual([hole]);
			});

			test('output is complete only when it is said to be equal, not when it is long enough', async () => {
				await store.commit([
					piece(0, Buffer.from('abc')),
					{ do: 'settle', with: settle('a', { outputLength: { stdout: 6, stderr: 0 } }) },
				]);
				const close = { do: 'closeOutput' as const, with: { jobId: 'a', epoch: 11 } };
				expect(await store.commit([close, piece(3, Buffer.from('def'))])).toEqual([
					false,
					{ have: 6, taken: true, whole: true },
				]);
				expect(await store.read('attempt', { jobId: 'a', epoch: 11 })).toMatchObject({
					outputDone: 0,
				});
				expect(await store.commit([close])).toEqual([true]);
				expect(await store.read('attempt', { jobId: 'a', epoch: 11 })).toMatchObject({
					outputDone: 1,
				});
			});

			test('a purge removes what ended long ago, and the oldest while there is too much', async () => {
				const data = randomBytes(50_000);
				const end = (jobId: string, epoch: number, endedAt: number) => [
					{
						do: 'insertJob' as const,
						with: { job: job(jobId, { createdAt: endedAt - 10 }), attempt: attempt(1, epoch) },
					},
					piece(0, data, { jobId, epoch }),
					piece(50_000, Buffer.from('end'), { jobId, epoch }),
					{ do: 'settle' as const, with: settle(jobId, { epoch, at: endedAt }) },
				];
				await store.commit([
					...end('b', 12, at),
					...end('c', 13, at + 100),
					...end('d', 14, at + 200),
					...end('e', 15, at + 300),
					piece(0, data),
				]);
				const purge = async (endedBefore: number, maxBytes: number) =>
					(await store.commit([
						{ do: 'purgeOutput', with: { endedBefore, maxBytes, maxJobs: 2 } },
					])) as Deeds['purgeOutput']['out'][];
				const have = async (jobId: string) =>
					(await store.read('output', { ...name, jobId, from: 0, to: 50_003, maxBytes: 9 })).hole
						?.reason ?? 'there';
				const state = async () => Promise.all(['a', 'b', 'c', 'd', 'e'].map(have));

				// `a` still runs, however old it is.
				expect(await purge(at + 50, 1e9)).toMatchObject([{ jobs: 1, more: true }]);
				expect(await state()).toEqual(['there', 'purged', 'there', 'there', 'there']);
				expect(await purge(at + 50, 1e9)).toMatchObject([{ jobs: 0, more: false }]);
				while ((await purge(at - 1e6, 120_000))[0]!.more);
				expect(await state()).toEqual(['there', 'purged', 'purged', 'purged', 'there']);
				store = await bench.reopen();
				expect(await state()).toEqual(['there', 'purged', 'purged', 'purged', 'there']);
				expect(await store.read('job', { id: 'c' })).toMatchObject({
					stdoutHave: 50_003,
					outputHoles: '[[0,0,50003,"purged"]]',
				});
			});

			test('of much a purge removes so much at a time, and the next one goes on behind it', async () => {
				const data = randomBytes(50_000);
				for (const [n, jobId] of ['b', 'c', 'd'].entries()) {
					await store.commit([
						{ do: 'insertJob', with: { job: job(jobId), attempt: attempt(1, 12 + n) } },
						piece(0, data, { jobId, epoch: 12 + n }),
						{ do: 'settle', with: settle(jobId, { epoch: 12 + n }) },
					]);
				}
				const old = { endedBefore: at + 1, maxBytes: 1e9, maxJobs: 10, mostBytes: 60_000 };
				const purge = { do: 'purgeOutput' as const, with: old };
				expect(await store.commit([purge])).toMatchObject([{ jobs: 2, more: true }]);
				expect(await store.commit([purge])).toMatchObject([{ jobs: 1, more: false }]);
			});
		});

		describe('a parent', () => {
			const endings: ParentEndings = {
				allCompleted: { to: 'completed', cause: null, reason: 'all', error: null },
				cancelRequested: {
					to: 'cancelled',
					cause: 'cancelled',
					reason: 'wished',
					error: { type: 'cancelled', message: '{children}' },
				},
				otherwise: {
					to: 'failed',
					cause: 'dependency',
					reason: 'not all',
					error: { type: 'dependency', message: 'only {children}.' },
				},
			};
			const {
				id: _,
				parentId: __,
				cell: ___,
				lane: ____,
				target: _____,
				children: ______,
				...common
			} = job('');
			const start = (
				children: { id: string; attempt?: NewAttempt }[],
				from: 'pending' | 'queued' = 'queued',
			) => ({
				do: 'startParent' as const,
				with: {
					parentId: 'p',
					from,
					at: at + 1,
					common,
					children: children.map((child) => ({ ...child, cell: child.id, lane, target: '{}' })),
				},
			});
			const settleParent = {
				do: 'settleParent' as const,
				with: { parentId: 'p', at: at + 2, endings },
			};
			const newParent = (more: Partial<NewJob> = {}) => ({
				do: 'insertJob' as const,
				with: { job: job('p', { children: 0, ...more }) },
			});
			const cancelChild = (jobId: string) => ({
				do: 'moveJob' as const,
				with: {
					jobId,
					from: ['queued' as const],
					to: 'cancelled' as const,
					cause: 'cancelled' as const,
					reason: 'cancelled',
					by: 'test',
					at,
				},
			});
			const parent = () => store.read('job', { id: 'p' });

			test('starts with its children, once, and is nowhere among the work', async () => {
				const children = [{ id: 'a', attempt: attempt() }, { id: 'b' }];
				const answers = await store.commit([newParent(), start(children), start([{ id: 'c' }])]);
				expect(answers).toEqual([null, true, false]);
				store = await bench.reopen();
				expect(await parent()).toMatchObject({
					state: 'running',
					children: 2,
					startedAt: at + 1,
					family: '{"dispatched":1,"queued":1}',
				});
				expect(await store.read('job', { id: 'a' })).toMatchObject({
					state: 'dispatched',
					parentId: 'p',
					cell: 'a',
					children: null,
					family: null,
				});
				expect(await store.read('job', { id: 'c' })).toBeUndefined();
				expect((await store.read('held', null)).map((held) => held.job.id)).toEqual(['a']);
				expect(await store.read('queues', null)).toEqual([{ lane, shareKey: '', needs: '' }]);
				expect(
					(await store.read('heads', { lane, shareKey: '', needs: '', limit: 10 })).map(
						({ id }) => id,
					),
				).toEqual(['b']);
				expect(
					(await store.read('jobs', { parentId: 'p', limit: 10 })).map(({ id }) => id),
				).toEqual(['b', 'a']);
				expect(
					(await store.read('jobs', { parentId: 'p', before: 'b', limit: 10 })).map(({ id }) => id),
				).toEqual(['a']);
				expect(await store.read('openChildren', { parentId: 'p' })).toEqual(['a', 'b']);
			});

			test('that was pending passes through queued; one that has moved on does not start', async () => {
				const answers = await store.commit([
					newParent({ state: 'pending', dueAt: at }),
					start([{ id: 'a' }], 'pending'),
				]);
				expect(answers).toEqual([null, true]);
				expect((await store.read('timeline', { jobId: 'p' })).map(({ to }) => to)).toEqual([
					'pending',
					'queued',
					'running',
				]);
				await store.commit([
					{ do: 'insertJob', with: { job: job('q', { children: 0 }) } },
					cancelChild('q'),
				]);
				const late = start([{ id: 'b' }]);
				expect(await store.commit([{ ...late, with: { ...late.with, parentId: 'q' } }])).toEqual([
					false,
				]);
				expect(await store.read('job', { id: 'b' })).toBeUndefined();
			});

			test('does not start when its insert found the key taken', async () => {
				const idempotency = { scope: 'k', key: 'once', hash: 'h' };
				const keyed = { do: 'insertJob' as const, with: { job: job('first'), idempotency } };
				expect(await store.read('keyed', idempotency)).toBeNull();
				const parentToo = { ...newParent(), with: { ...newParent().with, idempotency } };
				const answers = await store.commit([keyed, parentToo, start([{ id: 'a' }])]);
				expect(answers[2]).toBe(false);
				const earlier = { duplicateOf: 'first', sameRequest: true, state: 'queued' };
				expect(answers[1]).toEqual(earlier);
				expect(await store.read('keyed', idempotency)).toEqual(earlier);
			});

			test('ends with the last child and no sooner, once, with all of them in its result', async () => {
				await store.commit([
					newParent(),
					start([
						{ id: 'a', attempt: attempt() },
						{ id: 'b' },
						{ id: 'c', attempt: attempt(1, 12) },
					]),
				]);
				const unknown = { to: 'failed' as const, cause: 'unknown' as const, error: null };
				const answers = await store.commit([
					settleParent,
					{ do: 'settle', with: settle('a') },
					settleParent,
					{ do: 'settle', with: settle('c', { epoch: 12, next: unknown }) },
					settleParent,
					cancelChild('b'),
					settleParent,
					settleParent,
				]);
				expect(answers).toEqual([null, true, null, true, null, true, 'failed', null]);
				const ended = (await parent())!;
				expect(ended).toMatchObject({
					state: 'failed',
					cause: 'dependency',
					error: '{"type":"dependency","message":"only 1 completed, 1 unknown, 1 cancelled."}',
					endedAt: at + 2,
					outputDone: 1,
					progress: 100,
				});
				expect(JSON.parse(ended.result!)).toMatchObject({
					exitCode: null,
					durationMs: 1,
					outputs: {
						children: { total: 3, completed: 1, failed: 1, unknown: 1, cancelled: 1, queued: 0 },
						cells: [
							{ cell: 'b', jobId: 'b', state: 'cancelled', robotId: null },
							{ cell: 'c', jobId: 'c', state: 'failed', robotId: 'robot' },
							{ cell: 'a', jobId: 'a', state: 'completed', robotId: 'robot' },
						],
					},
				});
				expect((await store.read('timeline', { jobId: 'p' })).map(({ to }) => to)).toEqual([
					'queued',
					'running',
					'failed',
				]);
			});

			test('that was cancelled ends as cancelled, unless all children completed', async () => {
				const wish = { do: 'requestCancel' as const, with: { jobId: 'p', epoch: 0, at } };
				await store.commit([newParent(), start([{ id: 'a', attempt: attempt() }]), wish]);
				expect(await store.read('cancelledParents', null)).toEqual(['p']);
				const answers = await store.commit([{ do: 'settle', with: settle('a') }, settleParent]);
				expect(answers[1]).toBe('completed');
				expect(await store.read('cancelledParents', null)).toEqual([]);
				const other = { ...settleParent, with: { ...settleParent.with, parentId: 'q' } };
				const begin = start([{ id: 'b' }]);
				expect(
					(
						await store.commit([
							{ do: 'insertJob', with: { job: job('q', { children: 0 }) } },
							{ ...begin, with: { ...begin.with, parentId: 'q' } },
							{ ...wish, with: { ...wish.with, jobId: 'q' } },
							cancelChild('b'),
							other,
						])
					).at(-1),
				).toBe('cancelled');
			});

			test('lists so many children in its result, those that did not complete first', async () => {
				const ids = Array.from({ length: 1_002 }, (_unused, i) => `c${String(i).padStart(4, '0')}`);
				await store.commit([
					newParent(),
					start(ids.map((id, i) => ({ id, attempt: attempt(1, 100 + i) }))),
				]);
				const failed = { to: 'failed' as const, cause: 'exit_code' as const, error: null };
				await store.commit([
					...ids.map((id, i) => ({
						do: 'settle' as const,
						with: settle(id, { epoch: 100 + i, ...(i === 1_001 ? { next: failed } : {}) }),
					})),
					settleParent,
				]);
				const { outputs } = JSON.parse((await parent())!.result!) as {
					outputs: { cells: { cell: string }[]; cellsLeftOut: number };
				};
				expect(outputs.cells).toHaveLength(1_000);
				expect(outputs.cells.slice(0, 2).map(({ cell }) => cell)).toEqual(['c1001', 'c0000']);
				expect(outputs.cellsLeftOut).toBe(2);
			});

			const plan = {
				batches: [1, 2],
				canary: false,
				maxFailures: 0,
				staggerMs: 0,
				pause: false,
				queueMs: 50,
			};
			const rollOut = () => {
				const begin = start([{ id: 'a' }, { id: 'b' }, { id: 'c' }]);
				const children = begin.with.children.map((child, i) => ({
					...child,
					batch: i === 0 ? 1 : 2,
				}));
				const held = {
					...begin.with.common,
					state: 'pending' as const,
					dueAt: at + 1e9,
					policy: '{"timeouts":{"queueMs":50},"queueSince":null}',
				};
				return { ...begin, with: { ...begin.with, common: held, children, plan, skipped: ['r9'] } };
			};
			const states = async () =>
				(await store.read('cells', { parentId: 'p', after: '', limit: 9 })).map(
					({ batch, shut, state }) => `${batch} ${shut === 1 ? 'shut' : state}`,
				);
			const failChild = (jobId: string) => ({
				...cancelChild(jobId),
				with: { ...cancelChild(jobId).with, to: 'failed' as const },
			});

			test('lets its batches go one after the other, each once, whatever is asked twice', async () => {
				const [, started, first, again] = await store.commit([
					newParent(),
					rollOut(),
					settleParent,
					settleParent,
				]);
				expect([started, again]).toEqual([true, null]);
				expect(first).toMatchObject({ parentId: 'p', message: 'batch 1 of 2' });
				expect((first as RolloutMove).moved).toEqual([
					expect.objectContaining({
						id: 'a',
						was: { state: 'pending', rank: at },
						is: { state: 'queued', rank: at + 2 - 600_000, dueAt: at + 52 },
					}),
				]);
				store = await bench.reopen();
				expect(await states()).toEqual(['1 queued', '2 shut', '2 shut']);
				const opened = await store.commit([cancelChild('a'), settleParent, settleParent]);
				expect(opened).toEqual([true, expect.objectContaining({ message: 'batch 2 of 2' }), null]);
				expect(await states()).toEqual(['1 cancelled', '2 queued', '2 queued']);
				const waits = JSON.parse((await store.read('job', { id: 'b' }))!.policy) as object;
				expect(waits).toEqual({ timeouts: { queueMs: 50 }, queueSince: at + 2 });
				expect(await store.read('batches', { parentId: 'p' })).toEqual([
					expect.objectContaining({ batch: 1, family: '{"cancelled":1}' }),
					expect.objectContaining({ batch: 2, family: '{"queued":2}' }),
				]);
				expect(JSON.parse((await parent())!.fanOut!)).toEqual({
					skipped: ['r9'],
					plan,
					state: 'running',
					batch: 2,
					reason: null,
				});
			});

			test('stops when more fail than may, and goes on when a person says so, once', async () => {
				const by = 'key:ana';
				const resume = { do: 'resumeRollout' as const, with: { parentId: 'p', at, by, batch: 2 } };
				const pause = { do: 'pauseRollout' as const, with: { parentId: 'p', at, by } };
				await store.commit([newParent(), rollOut(), settleParent]);
				const answers = await store.commit([resume, failChild('a'), settleParent, pause]);
				expect(answers).toEqual([
					null,
					true,
					{
						parentId: 'p',
						message: 'stopped after 1 of 3 failed; resume or cancel',
						moved: [],
					},
					null,
				]);
				store = await bench.reopen();
				expect(await states()).toEqual(['1 failed', '2 shut', '2 shut']);
				const later = await store.commit([resume, resume, pause, settleParent]);
				expect(later).toMatchObject([
					{ message: 'batch 2 of 2', moved: [{ id: 'b' }, { id: 'c' }] },
					null,
					{ message: 'paused by ana before batch 2 of 2; resume or cancel' },
					null,
				]);
				expect(await states()).toEqual(['1 failed', '2 shut', '2 shut']);
				const policy = (await store.read('job', { id: 'b' }))!.policy;
				expect(JSON.parse(policy)).toEqual({ timeouts: { queueMs: 50 }, queueSince: null });
				const wish = { do: 'requestCancel' as const, with: { jobId: 'p', epoch: 0, at } };
				expect(await store.commit([wish, resume])).toEqual([true, null]);
			});

			test('keeps by the schema what was not let go from being in line', async () => {
				await store.commit([newParent(), rollOut(), settleParent]);
				const move = { ...cancelChild('b').with, from: ['pending' as const] };
				const queued = { ...move, to: 'queued' as const, cause: null };
				expect(await store.commit([{ do: 'moveJob', with: queued }])).toEqual([false]);
				expect(await states()).toEqual(['1 queued', '2 shut', '2 shut']);
				await expect(
					store.commit([{ do: 'insertJob', with: { job: job('z', { batch: 1, shut: 1 }) } }]),
				).rejects.toThrow('CHECK constraint failed');
			});

			test('is forgotten with what was decided at its start', async () => {
				await store.commit([newParent(), rollOut(), settleParent]);
				const over = await store.commit([
					...['a', 'b', 'c'].map((id) => ({
						...cancelChild(id),
						with: { ...cancelChild(id).with, from: ['queued' as const, 'pending' as const] },
					})),
					settleParent,
				]);
				expect(over.at(-1)).toBe('failed');
				expect(JSON.parse((await parent())!.result!)).toMatchObject({
					outputs: { skipped: ['r9'], cells: [{ batch: 1 }, { batch: 2 }, { batch: 2 }] },
				});
				const purge = { what: 'jobs' as const, keys: ['p', 'a'], before: at + 1e6 };
				await store.commit([{ do: 'purge', with: purge }, newParent(), start([{ id: 'x' }])]);
				expect((await parent())!.fanOut).toBeNull();
			});

			test('is kept by the schema from being given to a robot, and others from running without one', async () => {
				await store.commit([newParent()]);
				const assign = (jobId: string) => ({
					do: 'assign' as const,
					with: { jobId, attempt: attempt(), tell: true },
				});
				await expect(store.commit([assign('p')])).rejects.toThrow('CHECK constraint failed');
				await insert('a');
				const move = { ...cancelChild('a').with, to: 'running' as const };
				await expect(store.commit([{ do: 'moveJob', with: move }])).rejects.toThrow(
					'CHECK constraint failed',
				);
				expect(await store.read('job', { id: 'a' })).toMatchObject({ state: 'queued' });
			});

			test('has one child for each cell', async () => {
				await store.commit([newParent(), start([{ id: 'a' }])]);
				await expect(insert('b', { parentId: 'p', cell: 'a' })).rejects.toThrow('UNIQUE');
			});
		});

		test('a token is used as often as it says, and the same key uses it once', async () => {
			await store.commit([
				{
					do: 'putToken',
					with: {
						id: 't',
						hash: 'h',
						uses: 1,
						used: 0,
						labels: '{"site":"berlin"}',
						createdAt: at,
						expiresAt: at + 10,
						revokedAt: null,
					},
				},
			]);
			const use = (id: string, publicKey: string, hash = 'h', now = at) => ({
				do: 'enrolRobot' as const,
				with: {
					hash,
					at: now,
					robot: {
						id,
						name: id,
						publicKey,
						tokenId: 't',
						lockedLabels: '{}',
						labels: '{}',
						capabilities: '[]',
						slots: 1,
						clients: '[]',
						info: '{}',
						agentVersion: null,
						journalId: null,
						closed: null,
						quarantine: null,
						strikes: null,
						presence: null,
						createdAt: at,
						lastSeenAt: null,
						removedAt: null,
						machine: null,
						clone: null,
					},
				},
			});
			const answers = await store.commit([
				use('r1', 'k', 'wrong'),
				use('r2', 'k', 'h', at + 20),
				use('r3', 'k'),
				use('r4', 'other'),
				use('r5', 'k', 'h', at + 20),
			]);
			const lockedLabels = '{"site":"berlin"}';
			expect(answers).toEqual([
				null,
				null,
				{ robotId: 'r3', lockedLabels },
				null,
				{ robotId: 'r3', lockedLabels: null },
			]);
			expect(await store.read('robots', null)).toMatchObject([{ id: 'r3', lockedLabels }]);
		});

		test('a registered robot gets the key of the first that enrolls as it, once, and no token is spent in vain', async () => {
			const token = {
				id: 't',
				hash: 'h',
				uses: 5,
				used: 0,
				labels: '{}',
				createdAt: at,
				expiresAt: at + 10,
				revokedAt: null,
			};
			const robot = {
				id: 'r1',
				name: 'r1',
				publicKey: '',
				tokenId: null,
				lockedLabels: '{}',
				labels: '{}',
				capabilities: '[]',
				slots: 1,
				info: '{}',
				agentVersion: null,
				journalId: null,
				closed: null,
				quarantine: null,
				strikes: null,
				presence: null,
				createdAt: at,
				lastSeenAt: null,
				removedAt: null,
				machine: null,
				clone: null,
				clients: '[]',
			};
			const device = {
				robotId: 'r1',
				constellation: 'c',
				origin: 'file' as const,
				serverUrl: null,
				fingerprint: null,
				clientIds: '[]',
				capabilities: '["x"]',
				metadata: '{}',
				autoConnect: 1,
				maxRetries: 5,
				inside: 1,
			};
			await store.commit([
				{ do: 'putToken', with: token },
				{ do: 'putDevice', with: { device, robot } },
				{ do: 'putDevice', with: { device: { ...device, maxRetries: 7 } } },
			]);
			expect(await store.read('devices', null)).toEqual([{ ...device, maxRetries: 7 }]);
			const enrol = (publicKey: string) => ({
				do: 'enrolRobot' as const,
				with: { hash: 'h', at, robot: { ...robot, publicKey, tokenId: 't' }, awaited: publicKey },
			});
			const pinned = { ...device, fingerprint: 'one' };
			expect(
				await store.commit([
					{ do: 'putDevice', with: { device: pinned } },
					enrol('two'),
					enrol('one'),
					enrol('one more'),
				]),
			).toEqual([true, null, { robotId: 'r1', lockedLabels: '{}' }, null]);
			expect(await store.read('robots', null)).toMatchObject([{ id: 'r1', publicKey: 'one' }]);
			expect(await store.read('tokens', null)).toMatchObject([{ used: 1 }]);
			const other = { ...device, fingerprint: 'two' };
			await store.commit([{ do: 'putDevice', with: { device: other, forgetsKey: true } }]);
			expect(await store.read('robots', null)).toMatchObject([{ id: 'r1', publicKey: '' }]);
			await store.commit([{ do: 'dropDevice', with: { robotId: 'r1' } }]);
			expect(await store.commit([enrol('two')])).toEqual([null]);
			expect(await store.read('devices', null)).toEqual([]);
			expect(await store.read('robots', null)).toHaveLength(1);
		});

		test('an occurrence is written once, together with its event and the next time', async () => {
			await store.commit([
				{
					do: 'putSchedule',
					with: {
						id: 's',
						name: 's',
						definition: '{}',
						state: 'active',
						reason: null,
						anchorAt: at,
						resumedAt: at,
						nextRunAt: at,
						lastRunAt: null,
						createdBy: '',
						createdAt: at,
						generation: 1,
					},
				},
			]);
			const fire = {
				do: 'fire' as const,
				with: occurrence({ event: { type: 'schedule.due', data: '{}' }, nextRunAt: at + 60_000 }),
			};
			expect(await store.commit([fire, fire])).toEqual([true, false]);
			expect(await store.read('events', { subjects: ['s'], after: 0, limit: 10 })).toHaveLength(1);
			expect((await store.read('schedules', null))[0]).toMatchObject({
				nextRunAt: at + 60_000,
				lastRunAt: at,
			});
		});

		test('the job of an occurrence is inserted with it or not at all', async () => {
			const insertFor = (id: string) => ({
				do: 'insertJob' as const,
				with: { job: job(id), occurrence: occurrence({ jobId: id }) },
			});
			expect(await store.commit([insertFor('a'), insertFor('b')])).toEqual([null, 'fired']);
			expect(await store.read('job', { id: 'b' })).toBeUndefined();
			expect(await store.read('openOccurrences', { scheduleId: 's' })).toMatchObject([
				{ jobId: 'a', job: { state: 'queued', endedAt: null } },
			]);
		});

		test('an occurrence that waits becomes something else once', async () => {
			const turn = (more: Partial<NewOccurrence>) => ({
				do: 'fire' as const,
				with: occurrence(more),
			});
			const answers = await store.commit([
				turn({ state: 'waiting' }),
				turn({ state: 'skipped', waited: true }),
				turn({ state: 'ran', waited: true }),
			]);
			expect(answers).toEqual([true, true, false]);
			expect(await store.read('occurrences', { scheduleId: 's', limit: 9 })).toMatchObject([
				{ state: 'skipped' },
			]);
			expect(await store.read('waitingOccurrences', { scheduleId: null })).toEqual([]);
		});

		test('how an occurrence ended is on record once, and may pause its schedule with its event', async () => {
			await store.commit([
				{
					do: 'putSchedule',
					with: {
						id: 's',
						name: 's',
						definition: '{}',
						state: 'active',
						reason: null,
						anchorAt: at,
						resumedAt: at,
						nextRunAt: at,
						lastRunAt: null,
						createdBy: '',
						createdAt: at,
						generation: 1,
					},
				},
				{
					do: 'insertJob',
					with: { job: job('a'), occurrence: occurrence({ jobId: 'a' }) },
				},
			]);
			const end = {
				do: 'occurrenceEnded' as const,
				with: {
					scheduleId: 's',
					origin: 'planned' as const,
					plannedAt: at,
					outcome: 'failed' as const,
					endedAt: at + 5,
					ranMs: 5,
					pause: 'it failed',
					event: { at, type: 'schedule.paused', subject: 'schedule.paused', data: '{}' },
				},
			};
			expect(await store.commit([end, end])).toEqual([true, false]);
			expect(await store.read('schedules', null)).toMatchObject([
				{ state: 'paused', reason: 'it failed', nextRunAt: null },
			]);
			const events = { subjects: ['schedule.paused'], after: 0, limit: 9 };
			expect(await store.read('events', events)).toHaveLength(1);
			expect(await store.read('openOccurrences', { scheduleId: null })).toEqual([]);
			expect(await store.read('occurrenceTotals', { scheduleId: 's' })).toEqual({
				runs: 1,
				succeeded: 0,
				failed: 1,
				running: 0,
				waiting: 0,
				skipped: 0,
				missed: 0,
				planned: 1,
			});
		});

		test('the totals of a schedule are those of its rows, whatever was done to them', async () => {
			const put = (generation: number) => ({
				do: 'putSchedule' as const,
				with: {
					id: 's',
					name: 's',
					definition: '{}',
					state: 'active' as const,
					reason: null,
					anchorAt: at,
					resumedAt: at,
					nextRunAt: at,
					lastRunAt: null,
					createdBy: '',
					// Whatever the clock said when it was made.
					createdAt: at + 1_000_000,
					generation,
				},
			});
			const fire = (n: number, more: Partial<NewOccurrence> = {}) => ({
				do: 'fire' as const,
				with: occurrence({ plannedAt: at + n, at: at + n, ...more }),
			});
			const ended = (n: number, outcome: 'completed' | 'timeout') => ({
				do: 'occurrenceEnded' as const,
				with: {
					scheduleId: 's',
					origin: 'planned' as const,
					plannedAt: at + n,
					outcome,
					endedAt: at + n,
					ranMs: 1,
				},
			});
			const same = async () => {
				const counted = await store.read('countedOccurrences', { scheduleId: 's' });
				expect(await store.read('occurrenceTotals', { scheduleId: 's' })).toEqual(counted);
				return counted;
			};
			await store.commit([
				put(1),
				...[1, 2, 3].map((n) => ({
					do: 'insertJob' as const,
					with: {
						job: job(`j${n}`),
						occurrence: occurrence({ plannedAt: at + n, at: at + n, jobId: `j${n}` }),
					},
				})),
				fire(4, { state: 'waiting' }),
				fire(5, { state: 'waiting', origin: 'backfill' }),
				fire(6, { state: 'missed' }),
				fire(7, { state: 'skipped' }),
				fire(8, { state: 'refused', origin: 'backfill' }),
				// Again: no second row.
				fire(6, { state: 'ran' }),
			]);
			expect(await same()).toMatchObject({ runs: 3, running: 3, waiting: 2, planned: 4 });
			await store.commit([
				ended(1, 'completed'),
				ended(2, 'timeout'),
				ended(2, 'completed'),
				fire(4, { state: 'ran', waited: true }),
				fire(8, { state: 'made_up', origin: 'backfill', over: 'nothing' }),
				fire(7, { state: 'ran' }),
			]);
			expect(await same()).toEqual({
				runs: 5,
				succeeded: 1,
				failed: 1,
				running: 1,
				waiting: 1,
				skipped: 1,
				missed: 1,
				planned: 4,
			});
			const key = (n: number) => JSON.stringify(['s', 'planned', at + n]);
			await store.commit([
				{ do: 'purge', with: { what: 'occurrences', keys: [key(1), key(6)], before: at + 100 } },
			]);
			expect(await same()).toMatchObject({ runs: 4, succeeded: 0, missed: 0 });
			await store.commit([{ do: 'removeSchedule', with: { id: 's', at: at + 50 } }, put(2)]);
			await store.commit([fire(70), ended(3, 'completed')]);
			expect(await same()).toMatchObject({ runs: 1, succeeded: 0, running: 0, skipped: 0 });
		});

		test('an earlier backfill gives its place only when it came to nothing, or has ended', async () => {
			const fill = (more: Partial<NewOccurrence>) => ({
				do: 'fire' as const,
				with: occurrence({ origin: 'backfill', ...more }),
			});
			const answers = await store.commit([
				fill({ state: 'refused' }),
				fill({ state: 'skipped' }),
				fill({ state: 'waiting', over: 'nothing' }),
				fill({ state: 'waiting', over: 'ended' }),
				fill({ state: 'made_up', waited: true }),
				fill({ state: 'waiting', over: 'nothing' }),
				fill({ state: 'waiting', over: 'ended' }),
			]);
			expect(answers).toEqual([true, false, true, false, true, false, true]);
			expect(await store.read('occurrences', { scheduleId: 's', limit: 9 })).toMatchObject([
				{ state: 'waiting', jobId: null, outcome: null },
			]);
		});

		test('a subscription has one holder, and its cursor never goes back', async () => {
			const take = {
				do: 'takeSubscription' as const,
				with: { key: 'k', filter: '{}', fromStart: true, createdBy: '', at },
			};
			expect(await store.commit([take, take])).toEqual([
				{ epoch: 1, cursor: 0 },
				{ epoch: 2, cursor: 0 },
			]);
			const ack = (epoch: number, cursor: number) => ({
				do: 'ackSubscription' as const,
				with: { key: 'k', epoch, cursor, at: at + epoch },
			});
			expect(await store.commit([ack(1, 9), ack(2, 5), ack(2, 3)])).toEqual([false, true, true]);
			expect(await store.read('subscription', { key: 'k' })).toMatchObject({
				epoch: 2,
				cursor: 5,
				usedAt: at + 2,
			});
			const drop = { do: 'dropSubscription' as const, with: { key: 'k' } };
			expect(await store.commit([drop, drop])).toEqual([true, false]);
			expect(await store.read('subscription', { key: 'k' })).toBeUndefined();
		});

		let told = 0;
		/** An event as any deed writes it. */
		const tell = (subject: string, when = at) => ({
			do: 'fire' as const,
			with: occurrence({
				plannedAt: (told += 1),
				at: when,
				event: { type: subject, subject, data: '{}' },
			}),
		});
		const follow = (more: Partial<Deeds['takeSubscription']['in']> = {}) => ({
			do: 'takeSubscription' as const,
			with: { key: 'k', filter: '{}', fromStart: false, createdBy: '', at, ...more },
		});

		test('events of several subjects come in the order in which they happened', async () => {
			await store.commit(['a', 'b', 'x', 'a', 'b'].map((subject) => tell(subject)));
			const read = async (after: number, limit: number) =>
				(await store.read('events', { subjects: ['a', 'b'], after, limit })).map(
					({ cursor, subject }) => `${cursor}${subject}`,
				);
			expect(await read(0, 9)).toEqual(['1a', '2b', '4a', '5b']);
			expect(await read(1, 2)).toEqual(['2b', '4a']);
		});

		test('a subscription that is taken over lets go of what is older than wanted, and of nothing else', async () => {
			await store.commit([follow({ fromStart: true })]);
			await store.commit([10, 20, 30].map((more) => tell('a', at + more)));
			const cursorAt = async (skipBefore?: number) =>
				((await store.commit([follow({ skipBefore })]))[0] as { cursor: number }).cursor;
			expect(await cursorAt()).toBe(0);
			expect(await cursorAt(at + 5)).toBe(0);
			expect(await cursorAt(at + 20)).toBe(1);
			expect(await cursorAt(at + 15)).toBe(1);
			expect(await cursorAt(Number.MAX_SAFE_INTEGER)).toBe(3);
			expect(await cursorAt(Number.MAX_SAFE_INTEGER)).toBe(3);
		});

		test('the end of a job is an event while somebody follows it, in the commit of the end', async () => {
			const ends = async () =>
				(await store.read('events', { subjects: ['job.ended'], after: 0, limit: 9 })).map(
					({ at: when, data }) => ({ at: when, ...(JSON.parse(data) as object) }),
				);
			const cancel = (jobId: string) => ({
				do: 'moveJob' as const,
				with: {
					jobId,
					from: ['queued' as const],
					to: 'cancelled' as const,
					cause: 'cancelled' as const,
					reason: 'cancelled',
					by: 'key:t',
					at: at + 7,
				},
			});
			for (const id of ['a', 'b', 'c', 'd']) await insert(id, { shareKey: id === 'b' ? 's' : '' });
			await store.commit([cancel('a')]);
			await store.commit([follow({ filter: '{"events":["job.ended"]}' })]);
			// Not twice, and not for one that did not move.
			expect(await store.commit([cancel('b'), cancel('b'), cancel('a')])).toEqual([
				true,
				false,
				false,
			]);
			expect(await ends()).toEqual([
				{
					at: at + 7,
					jobId: 'b',
					kind: 'command',
					state: 'cancelled',
					cause: 'cancelled',
					robotId: null,
					robot: null,
					attempt: 0,
					parentId: null,
					parts: null,
					scheduleId: null,
					shareKey: 's',
					dead: false,
					createdBy: expect.any(String),
					createdAt: expect.any(Number),
					startedAt: null,
					endedAt: at + 7,
				},
			]);
			const drop = { do: 'dropSubscription' as const, with: { key: 'k' } };
			// What fails is undone whole: whoever followed follows on.
			const broken = { do: 'putToken' as const, with: { nonsense: 1 } as never };
			await expect(store.commit([drop, cancel('c'), broken])).rejects.toThrow();
			await store.commit([cancel('c')]);
			expect(await ends()).toMatchObject([{ jobId: 'b' }, { jobId: 'c' }]);
			await store.commit([drop, cancel('d')]);
			expect(await ends()).toHaveLength(2);
		});

		test('a subscription that nobody has asked for is forgotten', async () => {
			await store.commit([follow({ key: 'old' }), follow({ key: 'young', at: at + 100 })]);
			const look = { what: 'subscriptions' as const, before: at + 50, limit: 9, cursor: null };
			expect(await store.read('old', look)).toEqual({ old: ['old'], cursor: null });
			const purge = { what: 'subscriptions' as const, keys: ['old', 'young'], before: at + 50 };
			expect(await store.commit([{ do: 'purge', with: purge }])).toEqual([['old']]);
			expect(await store.read('subscription', { key: 'young' })).toBeDefined();
		});

		test('a waiting job is changed only as it was read', async () => {
			await insert('a');
			const change = (more: Partial<Deeds['changeJob']['in']['was']> = {}) => ({
				do: 'changeJob' as const,
				with: {
					jobId: 'a',
					was: {
						state: 'queued' as const,
						attempt: 0,
						lane,
						rank: at,
						hold: null,
						dueAt: null,
						...more,
					},
					to: {
						state: 'pending' as const,
						lane: 'x',
						rank: at - 5,
						priority: 'high' as const,
						dueAt: at + 9,
						hold: 'ana',
						bars: null,
						target: '{"robot":"r"}',
					},
					reason: 'held by ana',
					by: 'key:ana',
					at,
				},
			});
			const answers = await store.commit([
				change({ rank: 1 }),
				change({ state: 'pending' }),
				change({ attempt: 1 }),
				change({ lane: 'y' }),
				change({ hold: 'bob' }),
				change({ dueAt: at }),
				change(),
				change(),
			]);
			expect(answers).toEqual([false, false, false, false, false, false, true, false]);
			expect(await store.read('job', { id: 'a' })).toMatchObject({
				state: 'pending',
				lane: 'x',
				rank: at - 5,
				priority: 'high',
				dueAt: at + 9,
				hold: 'ana',
				target: '{"robot":"r"}',
			});
			expect(
				(await store.read('timeline', { jobId: 'a' })).map(({ from, to }) => [from, to]),
			).toEqual([
				[null, 'queued'],
				['queued', 'pending'],
			]);
			expect(await store.read('due', { at: at + 9, limit: 1 })).toMatchObject({
				jobs: [{ id: 'a' }],
			});
		});

		test('a change may bring another policy and an event; a look that is put off changes nothing else', async () => {
			await store.commit([{ do: 'insertJob', with: { job: job('a', { dueAt: at }) } }]);
			const was = { state: 'queued' as const, attempt: 0, lane, rank: at, hold: null, dueAt: at };
			const again = { do: 'lookAgain' as const, with: { jobId: 'a', was, dueAt: at + 60 } };
			expect(await store.commit([again, again])).toEqual([true, false]);
			expect(await store.read('due', { at, limit: 1 })).toEqual({ jobs: [], nextAt: at + 60 });
			expect(await store.read('timeline', { jobId: 'a' })).toHaveLength(1);
			const asks = {
				do: 'changeJob' as const,
				with: {
					jobId: 'a',
					was: { ...was, dueAt: at + 60 },
					to: {
						state: 'pending' as const,
						lane,
						rank: at,
						priority: 'normal' as const,
						dueAt: null,
						hold: 'dispatcher: well?',
						bars: null,
						target: '{}',
						policy: '{"timeouts":{},"asked":1}',
					},
					event: { at, type: 'job.asks', subject: 'job.asks', data: '{}' },
					reason: 'asks',
					by: 'dispatcher',
					at,
				},
			};
			expect(await store.commit([asks, asks])).toEqual([true, false]);
			expect((await store.read('job', { id: 'a' }))!.policy).toBe('{"timeouts":{},"asked":1}');
			const events = { subjects: ['job.asks'], after: 0, limit: 9 };
			expect(await store.read('events', events)).toHaveLength(1);
		});

		const failed = (id: string, dead: string, epoch: number, endedAt = at) => [
			{ do: 'insertJob' as const, with: { job: job(id), attempt: attempt(1, epoch) } },
			{
				do: 'settle' as const,
				with: settle(id, {
					epoch,
					at: endedAt,
					next: { to: 'failed', cause: 'exit_code', error: '{}', dead },
				}),
			},
		];

		test('dead letters are grouped and counted, a stretch at a time', async () => {
			await store.commit(
				['a', 'b', 'c', 'd', 'e'].flatMap((id, i) =>
					failed(id, i === 1 ? 'ff' : 'aa', 20 + i, at + i),
				),
			);
			expect(await store.read('deadGroups', { after: '', limit: 10, samples: 2 })).toEqual([
				{ fingerprint: 'aa', jobIds: ['e', 'd'] },
				{ fingerprint: 'ff', jobIds: ['b'] },
			]);
			expect(await store.read('deadGroups', { after: 'aa', limit: 1, samples: 1 })).toEqual([
				{ fingerprint: 'ff', jobIds: ['b'] },
			]);
			const part = { fingerprint: 'aa', scan: 3 };
			expect(await store.read('deadCount', { ...part, after: '' })).toEqual({
				count: 3,
				firstAt: at,
				lastAt: at + 3,
				next: 'd',
			});
			expect(await store.read('deadCount', { ...part, after: 'd' })).toMatchObject({ count: 1 });
			expect((await found({ fingerprint: 'aa' })).ids).toEqual(['e', 'd', 'c', 'a']);
			expect((await found({ dead: true }, { order: 'any' })).ids).toHaveLength(5);
		});

		test('a dead letter is replayed once: its end and the new job are one deed', async () => {
			await store.commit(failed('a', 'aa', 20));
			const again = (id: string, only?: 'dead' | 'unretried') => ({
				do: 'insertJob' as const,
				with: { job: job(id, { retryOf: 'a' }), ...(only ? { only } : {}) },
			});
			expect(
				await store.commit([again('b', 'dead'), again('c', 'dead'), again('d', 'unretried')]),
			).toEqual([null, 'passed', 'passed']);
			expect(await store.read('job', { id: 'a' })).toMatchObject({ dead: null, retriedAs: 'b' });
			expect((await found({})).ids).toEqual(['b', 'a']);
			expect(await store.commit([again('e')])).toEqual([null]);
			expect(await store.read('job', { id: 'a' })).toMatchObject({ retriedAs: 'e' });
			// One that was forgotten meanwhile stops nobody who does not ask.
			expect(
				await store.commit([{ do: 'insertJob', with: { job: job('f', { retryOf: 'gone' }) } }]),
			).toEqual([null]);
		});

		test('dead letters are dismissed once', async () => {
			await store.commit(failed('a', 'aa', 20));
			const dismiss = {
				do: 'dismissDead' as const,
				with: { jobIds: ['a', 'b'], by: 'key:ana', at },
			};
			expect(await store.commit([dismiss, dismiss])).toEqual([['a'], []]);
			expect(await store.read('job', { id: 'a' })).toMatchObject({ state: 'failed', dead: null });
		});

		test('the same submit is refused until its window is over, and then forgotten', async () => {
			const submit = (
				id: string,
				from: number,
				idempotency?: { scope: string; key: string; hash: string },
			) => ({
				do: 'insertJob' as const,
				with: {
					job: job(id),
					dedupe: { scope: 'k', hash: 'h', at: from, until: from + 100 },
					...(idempotency ? { idempotency } : {}),
				},
			});
			const key = { scope: 'k', key: 'once', hash: 'x' };
			expect(
				await store.commit([
					submit('a', at),
					submit('b', at + 99, key),
					submit('c', at + 100, key),
				]),
			).toEqual([null, { sameAs: 'a' }, null]);
			expect((await found({})).ids).toEqual(['c', 'a']);
			const sweep = (when: number) => ({
				do: 'sweepDuplicates' as const,
				with: { at: when, limit: 9 },
			});
			expect(await store.commit([sweep(at + 199), sweep(at + 200), sweep(at + 200)])).toEqual([
				0, 1, 0,
			]);
		});

		test('jobs are found a stretch at a time, in every order there is, each exactly once', async () => {
			const ids = [...'abcdefghijklmnop'];
			for (const [i, id] of ids.entries()) {
				await insert(id, {
					state: i % 3 === 0 ? 'pending' : 'queued',
					dueAt: i % 3 === 0 ? at + 50 - i : null,
					lane: i % 2 === 0 ? lane : 'x',
					rank: at - i * 7,
					shareKey: i % 4 === 0 ? 's' : '',
					priority: i % 5 === 0 ? 'high' : 'normal',
				});
			}
			const all = async (query: JobQuery, more: Partial<Scan>) => {
				const seen: string[] = [];
				for (let after: string | null = null; ;) {
					const stretch: { ids: string[]; next?: string } = await found(query, { ...more, after });
					seen.push(...stretch.ids);
					if (stretch.next === undefined) return seen;
					after = stretch.next;
				}
			};
			const cases: [JobQuery, (i: number) => boolean][] = [
				[{}, () => true],
				[{ state: 'queued' }, (i) => i % 3 !== 0],
				[{ state: 'pending' }, (i) => i % 3 === 0],
				[{ state: 'queued', shareKey: 's' }, (i) => i % 3 !== 0 && i % 4 === 0],
				[{ priority: 'high' }, (i) => i % 5 === 0],
				[{ state: 'failed' }, () => false],
				[{ state: 'running' }, () => false],
			];
			for (const [query, fits] of cases) {
				const meant = ids.filter((_id, i) => fits(i));
				for (const more of [
					{ scan: 3 },
					{ scan: 100 },
					{ scan: 5, want: 1 },
					{ scan: 100, want: 2 },
				]) {
					expect(await all(query, { order: 'newest', ...more })).toEqual([...meant].reverse());
					expect((await all(query, { order: 'any', ...more })).sort()).toEqual(meant);
				}
			}
			expect(await all({}, { order: 'newest', scan: 4, idFrom: 'c', idBefore: 'f' })).toEqual([
				'e',
				'd',
				'c',
			]);
		});

		test('what waits is found with its size and its owner, a stretch of ids at a time', async () => {
			expect(await store.read('oldestWaiting', null)).toBeNull();
			await insert('a', {}, attempt());
			await insert('b', { spec: '"ä"' });
			await insert('c', { state: 'pending', dueAt: at });
			expect(await store.read('oldestWaiting', null)).toBe('b');
			const first = await store.read('waiting', { from: '', scan: 2 });
			expect(first).toEqual({
				jobs: [
					{
						id: 'b',
						state: 'queued',
						lane,
						priority: 'normal',
						rank: at,
						owner: 'key:test',
						bytes: 6,
					},
				],
				next: 'c',
			});
			expect(await store.read('waiting', { from: 'c', scan: 2 })).toMatchObject({
				jobs: [{ id: 'c' }],
			});
			expect(await store.read('heads', { lane, shareKey: '', needs: '', limit: 1 })).toMatchObject([
				{ id: 'b', owner: 'key:test', bytes: 6, priority: 'normal' },
			]);
		});

		test('jobs that do not wait are counted by state, and all are found by it', async () => {
			await insert('a', { priority: 'high' });
			await insert('b', {}, attempt());
			await insert('c', { state: 'pending', dueAt: at });
			await insert('d', {}, { ...attempt(), epoch: 12 });
			await store.commit([{ do: 'settle', with: settle('d', { epoch: 12 }) }]);
			await insert('e', {}, { ...attempt(), epoch: 13 });
			await store.commit([{ do: 'settle', with: settle('e', { epoch: 13 }) }]);
			const count = (state: 'dispatched' | 'running' | 'completed', after = '', scan = 10) =>
				store.read('countState', { state, after, scan });
			expect(await count('dispatched')).toEqual({ count: 1 });
			expect(await count('running')).toEqual({ count: 0 });
			expect(await count('completed')).toEqual({ count: 2 });
			expect(await count('completed', '', 1)).toEqual({ count: 1, next: 'd' });
			expect(await count('completed', 'd', 2)).toEqual({ count: 1 });
			expect((await found({ state: 'completed' })).ids).toEqual(['e', 'd']);
			for (const state of ['queued', 'dispatched', 'pending'] as const) {
				expect((await found({ state })).ids).toHaveLength(1);
			}
		});

		describe('files', () => {
			const file = (id: string, more: Partial<StoredFile> = {}): StoredFile => ({
				id,
				name: 'app.bin',
				bytes: 10,
				sha256: 'f'.repeat(64),
				state: 'open',
				createdAt: at,
				createdBy: 'key:test',
				usedAt: at,
				jobId: null,
				epoch: null,
				path: null,
				mode: null,
				...more,
			});
			const put = async (one: StoredFile, most: Partial<Deeds['insertFile']['in']> = {}) => {
				const limits = { maxFiles: 9, maxBytes: 100, maxOfAttempt: 9, room: 1_000, ...most };
				return (await store.commit([{ do: 'insertFile', with: { file: one, ...limits } }]))[0];
			};
			const ready = (id: string) =>
				store.commit([{ do: 'readyFile', with: { id, sha256: 'f'.repeat(64), at: at + 1 } }]);
			const remove = async (id: string, usedBefore?: number) =>
				(
					await store.commit([
						{ do: 'removeFile', with: { id, ...(usedBefore && { usedBefore }) } },
					])
				)[0];

			test('the same file is one row: for who sends it, and once whole for everybody', async () => {
				expect(await put(file('f1'))).toEqual(file('f1'));
				expect(await put(file('f2', { usedAt: at + 5 }))).toEqual(file('f1', { usedAt: at + 5 }));
				expect(await put(file('f3', { createdBy: 'key:other' }))).toMatchObject({ id: 'f3' });
				await ready('f3');
				expect(await put(file('f4'))).toMatchObject({ id: 'f3', state: 'ready' });
				expect(await put(file('f5', { name: 'else' }))).toMatchObject({ id: 'f5' });
				expect(await put(file('f6', { bytes: 99 }))).toBe('full');
				expect((await store.read('files', { limit: 2 })).map(({ id }) => id)).toEqual(['f5', 'f3']);
				expect((await store.read('files', { limit: 2, before: 'f3' })).map(({ id }) => id)).toEqual(
					['f1'],
				);
			});

			test('a new file must fit, by number and by length, all the way; one that is known is always answered', async () => {
				const none = { maxFiles: 1, maxBytes: 10, room: 9 };
				expect(await put(file('f1'), none)).toBe('no-room');
				expect(await put(file('f1'), { ...none, room: 10 })).toMatchObject({ id: 'f1' });
				expect(await put(file('f2'), { ...none, room: -1 })).toMatchObject({ id: 'f1' });
				expect(await put(file('f2', { name: 'b' }), { maxFiles: 1 })).toBe('full');
				expect(await put(file('f2', { name: 'b' }), { maxBytes: 19 })).toBe('full');
				expect(await put(file('f2', { name: 'b' }), { maxBytes: 20 })).toMatchObject({ id: 'f2' });
				// What goes, or is lost, makes room.
				await ready('f2');
				await store.commit([{ do: 'loseFile', with: { id: 'f2' } }]);
				expect(await put(file('f3', { name: 'c' }), { maxBytes: 20 })).toMatchObject({ id: 'f3' });
				await remove('f1');
				await remove('f2');
				const one = { maxFiles: 2, maxBytes: 20 };
				expect(await put(file('f4', { name: 'd' }), one)).toMatchObject({ id: 'f4' });
				expect(await put(file('f5', { name: 'e' }), one)).toBe('full');
			});

			test('an attempt has so many files and no more, and what it left half-sent is found once it is over', async () => {
				const of = { jobId: 'a', epoch: 11, path: 'out', mode: 0o644 };
				await store.commit([{ do: 'insertJob', with: { job: job('a'), attempt: attempt(1, 11) } }]);
				await put(file('f1', of));
				await put(file('f2', { ...of, path: 'whole' }));
				await ready('f2');
				expect(await put(file('f3', { ...of, path: 'b' }), { maxOfAttempt: 2 })).toBe('many');
				const left = () => store.read('leftFiles', { limit: 9 });
				expect(await left()).toEqual([]);
				await store.commit([{ do: 'settle', with: settle('a', { epoch: 11 }) }]);
				expect(await left()).toEqual(['f1']);
				const onlyOpen = (id: string) =>
					store.commit([{ do: 'removeFile', with: { id, onlyOpen: true } }]);
				expect(await onlyOpen('f2')).toEqual(['kept']);
				expect(await onlyOpen('f1')).toEqual(['removed']);
			});

			test('of one attempt a path with a digest is one file; of another attempt it is another', async () => {
				const of = { jobId: 'a', epoch: 11, path: 'out', mode: 0o644 };
				await put(file('f1', of));
				expect(await put(file('f2', of))).toMatchObject({ id: 'f1' });
				await ready('f1');
				expect(await put(file('f3', of))).toMatchObject({ id: 'f1', state: 'ready' });
				expect(await put(file('f4', { ...of, epoch: 12 }))).toMatchObject({ id: 'f4' });
				expect(await put(file('f5'))).toMatchObject({ id: 'f5' });
				expect((await store.read('files', { limit: 9, jobId: 'a' })).map(({ id }) => id)).toEqual([
					'f4',
					'f1',
				]);
			});

			test('a job gets only files that are whole, and holds them until its end', async () => {
				const insertWith = async (id: string, epoch: number, files: string[]) => {
					const with_ = { job: job(id), attempt: attempt(1, epoch), files };
					return (await store.commit([{ do: 'insertJob', with: with_ }]))[0];
				};
				await put(file('f1'));
				expect(await insertWith('a', 11, ['f1'])).toEqual({ noFile: 'f1', have: 'open' });
				expect(await insertWith('a', 11, ['none'])).toEqual({ noFile: 'none', have: null });
				expect(await store.read('job', { id: 'a' })).toBeUndefined();
				await ready('f1');
				expect(await insertWith('a', 11, ['f1', 'f1'])).toBeNull();
				expect(await remove('f1')).toEqual({ heldBy: 'a' });
				const old = { usedBefore: at + 1_000, openBefore: at + 1_000, limit: 9 };
				expect(await store.read('oldFiles', old)).toEqual([]);
				await store.commit([{ do: 'settle', with: settle('a') }]);
				expect(await store.read('oldFiles', old)).toEqual(['f1']);
				expect(await remove('f1', at)).toBe('kept');
				expect(await remove('f1')).toBe('removed');
				expect(await remove('f1')).toBe('kept');
			});

			test('a file that a schedule names does not grow old, until the schedule has ended', async () => {
				const schedule = {
					id: 's',
					name: 's',
					definition: '{"job":{"spec":{"files":[{"file":"f1"}]}}}',
					state: 'active' as const,
					reason: null,
					anchorAt: at,
					resumedAt: at,
					nextRunAt: null,
					lastRunAt: null,
					createdBy: '',
					createdAt: at,
					generation: 1,
				};
				await put(file('f1'));
				await put(file('f2', { name: 'unplanned' }));
				await store.commit([{ do: 'putSchedule', with: schedule }]);
				const old = { usedBefore: at + 1_000, openBefore: at + 1_000, limit: 9 };
				expect(await store.read('oldFiles', old)).toEqual(['f2']);
				expect(await remove('f1', at + 1_000)).toBe('kept');
				await store.commit([{ do: 'putSchedule', with: { ...schedule, state: 'ended' } }]);
				expect(await store.read('oldFiles', old)).toEqual(['f1', 'f2']);
				expect(await remove('f1', at + 1_000)).toBe('removed');
			});

			test('a key that made a job names it, though its files have gone since', async () => {
				await put(file('f1'));
				await ready('f1');
				const idempotency = { scope: 'k', key: 'once', hash: 'h' };
				const wish = { attempt: attempt(), files: ['f1'], idempotency };
				await store.commit([{ do: 'insertJob', with: { ...wish, job: job('a') } }]);
				await store.commit([{ do: 'settle', with: settle('a') }]);
				expect(await remove('f1')).toBe('removed');
				const [again] = await store.commit([{ do: 'insertJob', with: { ...wish, job: job('b') } }]);
				expect(again).toMatchObject({ duplicateOf: 'a', sameRequest: true });
			});

			test('what is lost is no file any more, and what is open cannot be lost', async () => {
				await put(file('f1'));
				const lose = { do: 'loseFile' as const, with: { id: 'f1' } };
				expect(await store.commit([lose])).toEqual([false]);
				await ready('f1');
				expect(await store.commit([lose])).toEqual([true]);
				expect(await store.read('file', { id: 'f1' })).toMatchObject({ state: 'lost', bytes: 0 });
				expect(await put(file('f2'))).toMatchObject({ id: 'f2' });
			});
		});
	});
}

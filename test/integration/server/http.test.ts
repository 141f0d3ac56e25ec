import diagnostics_channel from 'node:diagnostics_channel';
import http from 'node:http';
import net from 'node:net';
import { createApp } from '../../../dispatcher/server/app';
import { systemClock } from '../../../dispatcher/engine/clock';
import {
	type CallName,
	calls,
	type FileRecord,
	type Hole,
	holeAt,
	Problem,
	scopes,
} from '../../../protocol';
import { FakeClock, settled } from '../../support/fake-clock';
import { fakeEngine, type House, jobOf, openHouse, type Said, within } from './house';

const pathOf = (name: CallName) => {
	const { path } = calls[name];
	const full = path.startsWith('//') ? path.slice(1) : `/api/v1${path}`;
	return full.replace('{kind}', 'command').replace(/\{\w+\}/g, 'x1');
};
const bodies: Partial<Record<CallName, unknown>> = {
	submit: { kind: 'command', spec: { command: 'uname' } },
	jobPreview: { kind: 'command', spec: { command: 'uname' } },
	jobInput: { text: 'yes\n' },
	jobStatus: { state: 'cancelled' },
	jobChange: { priority: 'high' },
	fileCreate: { name: 'a', bytes: 0, sha256: '0'.repeat(64) },
	jobsBulk: { action: 'cancel', filter: { state: 'queued' } },
	deadLettersReplay: { all: true },
	deadLettersDismiss: { all: true },
	jobAnswer: { answer: 'wait' },
	robotRegister: { name: 'workshop' },
	robotQuarantine: { reason: 'smells of smoke' },
	robotsBulk: { action: 'pause', filter: { labels: { os: 'linux' } } },
	robotsBroadcast: { text: 'lunch' },
	tokenCreate: {},
	keyCreate: { name: 'k', scopes: ['read'] },
	waitCreate: { jobIds: ['job-1'] },
	collect: { collector: 's'.repeat(43) },
	collected: { collector: 's'.repeat(43), answers: [] },
	schedulePut: { cron: '* * * * *' },
	scheduleChange: { jitterMs: 5 },
	schedulePreview: { schedule: { cron: '* * * * *' } },
	scheduleBackfill: { from: 0, to: 1 },
	groupPut: {},
	poolPut: { maxJobs: 2 },
	limitPut: { max: 2 },
	calendarPut: { spans: [{ from: 0, to: 1 }] },
	subscriptionPut: { filter: { scheduleId: 's1' } },
	subscriptionAck: { epoch: 1, cursor: 1 },
	facadeExecute: { command: 'uname' },
};
const queries: Partial<Record<CallName, string>> = {
	subscriptionEvents: '?epoch=1',
	fileUpload: '?name=a',
	fileWrite: '?from=0',
	metricSeries: '?metric=completed',
	metricBreakdown: '?by=kind',
};
const ask = (house: House, name: CallName, key: string) =>
	house.ask(calls[name].method, pathOf(name) + (queries[name] ?? ''), { key, body: bodies[name] });

const aFile: FileRecord = {
	fileId: 'x1',
	name: 'a',
	bytes: 0,
	sha256: '0'.repeat(64),
	state: 'ready',
	have: 0,
	createdAt: 0,
	createdBy: 'key:test',
	usedAt: 0,
	jobId: null,
	path: null,
	mode: null,
};

describe('who may call what', () => {
	let house: House;
	beforeAll(async () => {
		house = await openHouse({
			output: async () => ({
				data: new Uint8Array(),
				from: 0,
				hole: null,
				holes: [],
				have: 0,
				attempt: 1,
				complete: true,
			}),
			file: async () => aFile,
			fileBytes: async () => (async function* () {})(),
			families: async () => [],
		});
	});
	afterAll(() => house.server.close());

	const names = (Object.keys(calls) as CallName[]).filter(
		(name) => !['robotLink', 'robotPoll', 'robotEnrol', 'live'].includes(name),
	);
	for (const name of names) {
		const { scope } = calls[name];
		if (scope === null) {
			test(`${name} answers without a key`, async () => {
				expect((await ask(house, name, '')).status).toBeLessThan(300);
			});
			continue;
		}
		test(`${name} needs "${scope}" or admin, and nothing else will do`, async () => {
			expect((await ask(house, name, '')).body).toMatchObject({ error: { code: 'no-key' } });
			expect((await ask(house, name, 'bad')).body).toMatchObject({ error: { code: 'bad-key' } });
			for (const held of scopes) {
				const { status, body } = await ask(house, name, held);
				if (held === scope || held === 'admin') expect(status).toBeLessThan(300);
				else expect({ status, code: body.error.code }).toEqual({ status: 403, code: 'no-scope' });
			}
		});
	}
});

test('a route that is not in the call table cannot be added', () => {
	const { engine } = fakeEngine();
	const log = { debug() {}, info() {}, warn() {}, error() {} };
	const app = createApp({
		house: {
			engine,
			clock: systemClock,
			log,
			version: '0.0.0',
			settings: {},
			doors: () => Promise.reject(new Error('not here')) as never,
			pin: () => undefined,
			waiting: new Map(),
			takeBackup: () => Promise.reject(new Error('not here')),
		},
		doors: {},
		hostGate: () => undefined,
	});
	expect(() => app.get('/api/v1/secrets', async () => 'all of them')).toThrow(
		'not in the call table',
	);
});

describe('what is refused, and how', () => {
	const refusal = async (method: string, path: string, options: Parameters<House['ask']>[2]) => {
		await using house = await openHouse();
		const { status, body } = await house.ask(method, path, options);
		expect(Object.keys(body)).toEqual(['error']);
		expect(Object.keys(body.error).sort()).toEqual(['code', 'details', 'retry', 'text']);
		return { status, code: body.error.code, text: body.error.text };
	};
	const job = { kind: 'command', spec: { command: 'uname' } };

	test('a body that is not JSON is named so, without quoting it', async () => {
		const { status, code, text } = await refusal('POST', '/api/v1/jobs', {
			raw: '{"secret":"hunter2",}',
		});
		expect({ status, code }).toEqual({ status: 400, code: 'bad-json' });
		expect(text).not.toContain('hunter2');
	});
	test('another content type is refused: a form of a foreign page cannot call us', async () => {
		for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
			expect(
				await refusal('POST', '/api/v1/jobs', { raw: '{}', headers: { 'content-type': type } }),
			).toMatchObject({ status: 415, code: 'bad-body' });
		}
	});
	test('no body at all is refused where one is needed', async () => {
		expect(await refusal('POST', '/api/v1/jobs', {})).toMatchObject({ code: 'bad-body' });
	});
	test('more than 10 MB is refused', async () => {
		const raw = JSON.stringify({ ...job, spec: { stdin: 'x'.repeat(11 * 1024 * 1024) } });
		expect(await refusal('POST', '/api/v1/jobs', { raw })).toMatchObject({
			status: 413,
			code: 'too-large',
		});
	});
	test('an unknown route says which', async () => {
		expect(await refusal('GET', '/api/v1/nothing', {})).toMatchObject({
			status: 404,
			text: 'Nothing answers GET /api/v1/nothing.',
		});
	});
	test('an unknown field in a nested object is one sentence with the known ones', async () => {
		expect(
			await refusal('POST', '/api/v1/jobs', { body: { ...job, target: { foo: 1 } } }),
		).toMatchObject({
			status: 422,
			code: 'unknown-field',
			text: 'target.foo is not a field of this call; known fields are robot, labels, capabilities, client, group, pool, tags, environment, exclude, prefer, mode, away.',
		});
	});
	test('a wrong spec and an unknown kind are refused at the door', async () => {
		expect(
			await refusal('POST', '/api/v1/jobs', { body: { kind: 'command', spec: { comand: 'x' } } }),
		).toMatchObject({
			code: 'unknown-field',
			text: expect.stringContaining('spec.comand'),
		});
		expect(
			await refusal('POST', '/api/v1/jobs', { body: { kind: 'dance', spec: {} } }),
		).toMatchObject({
			code: 'unknown-kind',
		});
	});
	test('an unknown or repeated query parameter is refused', async () => {
		expect(await refusal('GET', '/api/v1/jobs?sate=running', {})).toMatchObject({
			code: 'unknown-field',
		});
		expect(await refusal('GET', '/api/v1/jobs?limit=1&limit=2', {})).toMatchObject({
			code: 'bad-field',
		});
		expect(await refusal('GET', '/api/v1/jobs?limit=ten', {})).toMatchObject({
			text: 'limit: must be a whole number, not text.',
		});
	});
	test.each(['%00', '..%2F..%2Fetc', 'a'.repeat(300), '%zz', '{"a":1}'])(
		'a hostile id %s never reaches the engine',
		async (id) => {
			await using house = await openHouse();
			const { status } = await house.ask('GET', `/api/v1/jobs/${id}`);
			expect(status).toBeGreaterThanOrEqual(400);
			expect(status).toBeLessThan(500);
			expect(house.asked).toEqual([]);
		},
	);
	test.each([
		'null',
		'[]',
		'"x"',
		'1',
		'{"__proto__":{"admin":true}}',
		'{"constructor":1}',
		`${'['.repeat(5000)}${']'.repeat(5000)}`,
	])('a hostile body %.30s is one refusal and no harm', async (raw) => {
		const { status } = await refusal('POST', '/api/v1/jobs', { raw });
		expect(status).toBeGreaterThanOrEqual(400);
		expect(status).toBeLessThan(500);
		expect(({} as Record<string, unknown>).admin).toBeUndefined();
	});
	test('what we did not expect leaves as a reference, and the log has the rest', async () => {
		await using house = await openHouse({
			job: async () => {
				throw new TypeError('password is hunter2');
			},
		});
		const { status, body } = await house.ask('GET', '/api/v1/jobs/x1');
		expect(status).toBe(500);
		expect(JSON.stringify(body)).not.toContain('hunter2');
		expect(house.logged).toContainEqual(
			expect.objectContaining({
				facts: expect.objectContaining({ reference: body.error.details.reference }),
			}),
		);
	});
	test('what is not HTTP gets one short answer in our shape', async () => {
		await using house = await openHouse();
		const { port } = new URL(house.server.url);
		const answer = await within(
			'an answer',
			new Promise<string>((resolve) => {
				let text = '';
				const socket = net.connect(Number(port), '127.0.0.1', () =>
					socket.end('\x16\x03\x01 hello\r\n\r\n'),
				);
				socket.on('data', (data) => (text += data));
				socket.on('close', () => resolve(text));
			}),
		);
		expect(answer).toContain('400 Bad Request');
		expect(answer).toContain('"code":"bad-message"');
	});
});

/** fetch does not let a test choose the Host header. */
function rawGet(url: string, headers: Record<string, string>): Promise<number> {
	return new Promise((resolve, reject) =>
		http
			.get(url, { headers }, (response) => {
				response.resume();
				resolve(response.statusCode!);
			})
			.on('error', reject),
	);
}

describe('Host and Origin', () => {
	test('a foreign Host is refused, whatever the key: DNS rebinding ends here', async () => {
		await using house = await openHouse({}, { publicUrl: 'https://fleet.example.com' });
		const { host } = new URL(house.server.url);
		const status = (headers: Record<string, string>) =>
			rawGet(`${house.server.url}/healthz`, headers);
		expect(await status({ host })).toBe(200);
		expect(await status({ host: 'localhost:1' })).toBe(200);
		expect(await status({ host: '[::1]:8765' })).toBe(200);
		expect(await status({ host: 'fleet.example.com' })).toBe(200);
		for (const bad of [
			'evil.com',
			'localhost.evil.com',
			'127.0.0.1.evil.com',
			'10.0.0.1',
			'a b',
			'evil.com:80@127.0.0.1',
		]) {
			expect([bad, await status({ host: bad })]).toEqual([bad, 403]);
		}
	});
	test('a foreign Origin is refused, our own is not', async () => {
		await using house = await openHouse();
		const { host, origin } = new URL(house.server.url);
		const status = (from: string) => rawGet(`${house.server.url}/healthz`, { host, origin: from });
		expect(await status(origin)).toBe(200);
		for (const bad of ['https://evil.com', 'null', 'http://localhost:1', 'x']) {
			expect([bad, await status(bad)]).toEqual([bad, 403]);
		}
	});
});

describe('jobs', () => {
	test('one submit is answered 202 with the job', async () => {
		await using house = await openHouse();
		const { status, body } = await house.ask('POST', '/api/v1/jobs', {
			body: { kind: 'command', spec: { command: 'uname' }, priority: 3 },
		});
		expect({ status, body }).toEqual({ status: 202, body: { jobId: 'job-1', state: 'queued' } });
	});
	test('many are answered one by one, in order, and a wrong one does not touch the others', async () => {
		await using house = await openHouse({
			submit: async (jobs) =>
				jobs.map((job, i) =>
					job.idempotencyKey
						? new Problem('key-conflict', { key: 'k', jobId: 'j' })
						: { jobId: `job-${i}`, state: 'queued' },
				),
		});
		const good = { kind: 'command', spec: { command: 'uname' } };
		const { status, body } = await house.ask('POST', '/api/v1/jobs', {
			body: {
				jobs: [good, { kind: 'dance', spec: {} }, { ...good, idempotencyKey: 'k' }, 7, good],
			},
		});
		expect(status).toBe(202);
		expect(body.jobs.map((answer: Said) => answer.jobId ?? answer.error.code)).toEqual([
			'job-0',
			'unknown-kind',
			'key-conflict',
			'bad-field',
			'job-2',
		]);
		expect(body.jobs[3].error.details.path).toBe('jobs[3]');
	});
	test('a long poll waits at most what the service allows', async () => {
		await using house = await openHouse();
		await house.ask('GET', '/api/v1/jobs/x1?waitMs=9999999');
		expect(house.asked[0]!.args[1]).toBe(60_000);
	});
	test('a caller that hangs up ends its long poll', async () => {
		const asked = Promise.withResolvers<AbortSignal>();
		await using house = await openHouse({
			job: (_id, _waitMs, signal) => {
				asked.resolve(signal!);
				return new Promise((resolve) => signal!.addEventListener('abort', () => resolve(jobOf())));
			},
		});
		const hangUp = new AbortController();
		const answer = fetch(`${house.server.url}/api/v1/jobs/x1?waitMs=60000`, {
			headers: { authorization: 'Bearer read' },
			signal: hangUp.signal,
		}).catch(() => 'hung up');
		const signal = await within('the engine to be asked', asked.promise);
		const aborted = new Promise<void>((resolve) =>
			signal.addEventListener('abort', () => resolve()),
		);
		hangUp.abort();
		expect(await answer).toBe('hung up');
		await within('the signal', aborted);
	});
	test('closing the server ends long polls instead of waiting for them', async () => {
		const asked = Promise.withResolvers<void>();
		await using house = await openHouse({
			job: (_id, _waitMs, signal) => {
				asked.resolve();
				return new Promise((resolve) => signal!.addEventListener('abort', () => resolve(jobOf())));
			},
		});
		const answer = house.ask('GET', '/api/v1/jobs/x1?waitMs=60000').catch(() => 'cut');
		await within('the engine to be asked', asked.promise);
		await within('the server to close', house.server.close());
		await within('the answer', answer as Promise<unknown>);
	});
	test('?names=seed speaks the names of the seed', async () => {
		await using house = await openHouse();
		const { body } = await house.ask('GET', '/api/v1/jobs/x1?names=seed');
		expect(body).toMatchObject({
			job_id: 'job-1',
			status: 'queued',
			created_at: '2023-11-14T22:13:20.000Z',
		});
	});
});

describe('output', () => {
	/** Stored output that grows when it is told to. */
	function growing() {
		const stored = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
		const holes: Hole[] = [];
		let complete = false;
		let wake: () => void = () => undefined;
		let changed = new Promise<void>((resolve) => (wake = resolve));
		const tell = () => {
			wake();
			changed = new Promise<void>((resolve) => (wake = resolve));
		};
		return {
			engine: {
				output: async (
					_id: string,
					stream: 'stdout' | 'stderr',
					from: number,
					maxBytes: number,
				) => {
					const hole = holeAt(holes, from) ?? null;
					const stop = Math.min(
						from + maxBytes,
						...holes.filter((one) => one.from > from).map((one) => one.from),
					);
					const data = stored[stream].subarray(from, hole ? from : stop);
					const have = stored[stream].length;
					const end = hole ? hole.to : from + data.length;
					return { data, from, hole, holes, have, attempt: 1, complete: complete && end >= have };
				},
				outputGrew: (_id: string, _stream: string, _have: number, signal: AbortSignal) =>
					Promise.race([
						changed,
						new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
					]),
			},
			print(stream: 'stdout' | 'stderr', data: string | Buffer) {
				stored[stream] = Buffer.concat([stored[stream], Buffer.from(data)]);
				tell();
			},
			/** What is printed there is not kept. */
			hole(hole: Hole) {
				holes.push(hole);
			},
			end() {
				complete = true;
				tell();
			},
		};
	}

	test('bytes come back as they were stored, from the asked offset, however many', async () => {
		const out = growing();
		const bytes = Buffer.alloc(1_000_000, 'robot\xff', 'latin1');
		out.print('stdout', bytes);
		out.end();
		await using house = await openHouse(out.engine);
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output?from=10`, {
			headers: { authorization: 'Bearer read' },
		});
		expect(Buffer.from(await answer.arrayBuffer()).equals(bytes.subarray(10))).toBe(true);
		expect(answer.headers.get('x-output-from')).toBe('10');
		expect(answer.headers.get('x-output-have')).toBe('1000000');
		expect(answer.headers.get('x-output-complete')).toBe('true');
	});
	test('half of it never looks like all: a new attempt has begun meanwhile', async () => {
		const out = growing();
		out.print('stdout', Buffer.alloc(1_000_000, 'x'));
		let reads = 0;
		const output: typeof out.engine.output = async (...asked) => {
			const piece = await out.engine.output(...asked);
			return (reads += 1) < 4 ? piece : { ...piece, data: Buffer.alloc(0), have: 10 };
		};
		await using house = await openHouse({ ...out.engine, output });
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
			headers: { authorization: 'Bearer read' },
		});
		await expect(within('the end', answer.arrayBuffer())).rejects.toThrow('terminated');
	});
	test('two attempts are never one output, though the new one has printed as much by now', async () => {
		const out = growing();
		out.print('stdout', Buffer.alloc(1_000_000, 'x'));
		let reads = 0;
		const output: typeof out.engine.output = async (...asked) => {
			const piece = await out.engine.output(...asked);
			if ((reads += 1) < 4) return piece;
			return { ...piece, data: piece.data.fill('y'), have: 2_000_000, attempt: 2 };
		};
		await using house = await openHouse({ ...out.engine, output });
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
			headers: { authorization: 'Bearer read' },
		});
		await expect(within('the end', answer.arrayBuffer())).rejects.toThrow('terminated');
	});
	test('who follows is told of a new attempt, though it has printed more than the one before', async () => {
		const out = growing();
		out.print('stdout', 'first');
		out.end();
		let attempt = 1;
		const output: typeof out.engine.output = async (...asked) => {
			const piece = { ...(await out.engine.output(...asked)), attempt };
			if (piece.data.length > 0 && attempt === 1) {
				attempt = 2;
				out.print('stdout', ', and more than that');
				return { ...piece, complete: false };
			}
			return piece;
		};
		await using house = await openHouse({ ...out.engine, output });
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output?stream=stdout`, {
			headers: { authorization: 'Bearer read', accept: 'text/event-stream' },
		});
		const events = (await within('the end', answer.text())).match(/(?<=event: )\w+/g);
		expect(events).toEqual(['output', 'restart', 'output', 'end']);
	});
	test('where bytes are not there a line says so, and the header says where in true offsets', async () => {
		const out = growing();
		out.print('stdout', 'head-????????-tail');
		out.hole({ from: 5, to: 13, reason: 'limit' });
		out.end();
		await using house = await openHouse(out.engine);
		const ask = async (query: string) => {
			const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output${query}`, {
				headers: { authorization: 'Bearer read' },
			});
			return { text: await answer.text(), holes: answer.headers.get('x-output-holes') };
		};
		expect(await ask('')).toEqual({
			text: 'head-\n[8 bytes are not here: the job printed more than is kept]\n-tail',
			holes: '5-13;limit',
		});
		expect(await ask('?holes=omit')).toEqual({ text: 'head--tail', holes: '5-13;limit' });
		expect((await ask('?from=14&holes=omit')).text).toBe('tail');
		const events = await fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
			headers: { authorization: 'Bearer read', accept: 'text/event-stream' },
		});
		const said = (await within('the end', events.text())).match(/^(event|data): .*$/gm);
		expect(said).toEqual([
			'event: output',
			'data: {"stream":"stdout","offset":0,"text":"head-"}',
			'event: hole',
			'data: {"stream":"stdout","from":5,"to":13,"reason":"limit"}',
			'event: output',
			'data: {"stream":"stdout","offset":13,"text":"-tail"}',
			'event: end',
			'data: {"stdout":18,"stderr":0}',
		]);
	});
	test('an event stream follows both streams and ends when all was said', async () => {
		const out = growing();
		out.print('stdout', 'one ');
		await using house = await openHouse(out.engine);
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
			headers: { authorization: 'Bearer read', accept: 'text/event-stream' },
		});
		expect(answer.headers.get('content-type')).toContain('text/event-stream');
		out.print('stderr', Buffer.from([0xff, 0xfe]));
		out.print('stdout', 'zwei €');
		out.end();
		const text = await within('the end', answer.text());
		const events = text
			.split('\n\n')
			.filter((block) => block.startsWith('event'))
			.map((block) => ({
				event: /^event: (.*)$/m.exec(block)![1],
				data: JSON.parse(/^data: (.*)$/m.exec(block)![1]!),
			}));
		const said = (stream: string) =>
			Buffer.concat(
				events
					.filter(({ data }) => data.stream === stream)
					.map(({ data }) =>
						data.text === undefined ? Buffer.from(data.data_b64, 'base64') : Buffer.from(data.text),
					),
			);
		expect(said('stdout').toString()).toBe('one zwei €');
		expect(said('stderr')).toEqual(Buffer.from([0xff, 0xfe]));
		expect(events.at(-1)).toEqual({ event: 'end', data: { stdout: 12, stderr: 2 } });
	});
	test('nobody follows on with a key that has expired meanwhile', async () => {
		const out = growing();
		const clock = new FakeClock();
		let expired = false;
		const verifyKey = (key: string) => {
			if (expired) throw new Problem('bad-key');
			return { keyId: key, name: key, scopes: ['read'] as const };
		};
		const house = await openHouse({ ...out.engine, verifyKey }, { clock });
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
			headers: { authorization: 'Bearer read', accept: 'text/event-stream' },
		});
		const text = answer.text();
		await clock.advance(60_000);
		expect(await Promise.race([text, 'follows'])).toBe('follows');
		expired = true;
		await clock.advance(15_000);
		expect(await within('the end', text)).not.toContain('event: end');
		const closed = house.server.close();
		await clock.advance(5_000);
		await closed;
	});
	test('a reader that comes back with the last event id goes on there', async () => {
		const out = growing();
		out.print('stdout', 'one two');
		out.end();
		await using house = await openHouse(out.engine);
		const answer = await fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
			headers: {
				authorization: 'Bearer read',
				accept: 'text/event-stream',
				'last-event-id': 'stdout=4,stderr=0',
			},
		});
		expect(await answer.text()).toContain('{"stream":"stdout","offset":4,"text":"two"}');
	});
	test('who has left before the stream began is followed no further', async () => {
		const out = growing();
		let asked = 0;
		const first = Promise.withResolvers<void>();
		const left = Promise.withResolvers<void>();
		const begins = ({ socket }: { socket: net.Socket }) =>
			socket.once('close', () => left.resolve());
		diagnostics_channel.subscribe('http.server.request.start', begins as never);
		{
			await using house = await openHouse({
				...out.engine,
				output: async (...args: Parameters<typeof out.engine.output>) => {
					asked += 1;
					first.resolve();
					await left.promise;
					return out.engine.output(...args);
				},
			});
			const abort = new AbortController();
			const answer = fetch(`${house.server.url}/api/v1/jobs/x1/output`, {
				headers: { authorization: 'Bearer read', accept: 'text/event-stream' },
				signal: abort.signal,
			});
			await first.promise;
			abort.abort();
			await expect(answer).rejects.toThrow('aborted');
			await left.promise;
			await settled();
		}
		diagnostics_channel.unsubscribe('http.server.request.start', begins as never);
		expect(asked).toBe(1);
	});
	test('an unknown job is a plain 404, not an empty stream', async () => {
		await using house = await openHouse({
			output: async () => {
				throw new Problem('no-such-job', { id: 'x1' });
			},
		});
		const { status } = await house.ask('GET', '/api/v1/jobs/x1/output', {
			headers: { accept: 'text/event-stream' },
		});
		expect(status).toBe(404);
	});
});

describe('the facade', () => {
	test('execute takes the spec at the top level and answers an execution id', async () => {
		await using house = await openHouse();
		const { status, body } = await house.ask('POST', '/server/command/execute?host_name=build-02', {
			body: { command: 'uname', args: ['-a'], variables: { a: 1 }, priority: 'high', timeout: 2.5 },
		});
		expect({ status, body }).toEqual({
			status: 202,
			body: { execution_id: 'job-1', status: 'running', message: 'Starting...' },
		});
		expect(house.asked[0]!.args[0]).toEqual([
			{
				kind: 'command',
				spec: { command: 'uname', args: ['-a'] },
				target: { robot: 'build-02' },
				variables: { a: 1 },
				priority: 'high',
				timeouts: { runMs: 2500 },
			},
		]);
	});
	test('an unknown field names those of the spec and those beside it', async () => {
		await using house = await openHouse();
		const { body } = await house.ask('POST', '/server/command/execute', {
			body: { command: 'x', sudo: true },
		});
		expect(body.error.text).toMatch(
			/^sudo is not a field of this call; known fields are command, args, .*host_name/,
		);
	});
	test('status says Starting... first, and the whole story at the end', async () => {
		let job = jobOf();
		await using house = await openHouse({ job: async () => job });
		const status = async () => (await house.ask('GET', '/server/command/execution/x1/status')).body;
		expect(await status()).toMatchObject({
			execution_id: 'job-1',
			status: 'running',
			progress: 0,
			message: 'Starting...',
			error: null,
		});
		job = jobOf({
			state: 'failed',
			cause: 'exit_code',
			startedAt: 1_700_000_000_000,
			endedAt: 1_700_000_001_500,
			error: { type: 'exit_code', message: 'exit code 3' },
		});
		expect(await status()).toMatchObject({
			status: 'error',
			error: 'exit code 3',
			elapsed_ms: 1500,
			start_time: '2023-11-14T22:13:20.000Z',
		});
		expect((await house.ask('GET', '/server/verification/execution/x1/status')).status).toBe(404);
	});
});

describe('operations', () => {
	test('not ready is 503 with the reason, alive is 200 all the same', async () => {
		await using house = await openHouse({ readiness: 'recovering' });
		expect(await house.ask('GET', '/readyz', { key: '' })).toMatchObject({
			status: 503,
			body: { error: { details: { state: 'recovering' } } },
		});
		expect((await house.ask('GET', '/healthz', { key: '' })).status).toBe(200);
		// As some that watch over services ask.
		const head = await fetch(`${house.server.url}/healthz`, { method: 'HEAD' });
		expect([head.status, await head.text()]).toEqual([200, '']);
	});
	test('the bare link shows a page that says how the service is, and nothing secret', async () => {
		await using house = await openHouse();
		const answer = await fetch(house.server.url);
		expect(answer.headers.get('content-type')).toContain('text/html');
		expect(await answer.text()).toContain('<strong>ready</strong>');
	});

	test('OpenAPI names every call once, with its body and its answer', async () => {
		await using house = await openHouse();
		const { body } = await house.ask('GET', '/api/v1/openapi.json', { key: '' });
		expect(body.openapi).toBe('3.1.0');
		const ids = Object.values<Said>(body.paths).flatMap((path) =>
			Object.values<Said>(path).map((one) => one.operationId),
		);
		expect(ids.sort()).toEqual(Object.keys(calls).sort());
		expect(JSON.stringify(body)).not.toContain('patternText');
		expect(
			body.paths['/api/v1/jobs'].post.requestBody.content['application/json'].schema.oneOf,
		).toHaveLength(2);
	});
	test('a taken port is one sentence that names the setting', async () => {
		await using house = await openHouse();
		const port = Number(new URL(house.server.url).port);
		await expect(openHouse({}, { port })).rejects.toThrow(
			`Port ${port} on 127.0.0.1 is in use; stop the other program or set ROBOT_FLEET_PORT to a free port.`,
		);
	});
	test('closing twice is harmless', async () => {
		const house = await openHouse();
		await Promise.all([house.server.close(), house.server.close()]);
	});
});

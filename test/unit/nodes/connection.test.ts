import { Readable } from 'node:stream';
import { RobotFleetApi } from '../../../credentials/RobotFleetApi.credentials';
import { believable, away, rebase, sendThroughN8n } from '../../../nodes/shared/connection';
import { nodeError, refusalOf } from '../../../nodes/shared/refusals';
import { Problem } from '../../../protocol';
import { FakeExecution } from './fake-n8n';
import { FakeService } from './fake-service';

describe('talking to a server through n8n', () => {
	test('redirects are not followed, so the key goes nowhere else', async () => {
		const seen: object[] = [];
		const send = sendThroughN8n('http://fleet', async (options) => {
			seen.push(options);
			return { statusCode: 200, body: {} };
		});
		await send({ method: 'GET', path: '/api/v1/me', waitMs: 10_000 });
		expect(seen).toEqual([
			expect.objectContaining({
				url: 'http://fleet/api/v1/me',
				disableFollowRedirect: true,
				ignoreHttpStatusErrors: true,
				timeout: 40_000,
			}),
		]);
	});

	test('the page of a proxy is not the word of the service', () => {
		for (const [status, body] of [
			[502, '<html>Bad Gateway</html>'],
			[401, { message: 'sign in' }],
			[200, '<html>Welcome</html>'],
			[302, undefined],
		] as const) {
			expect(() => believable('http://fleet', { status, body })).toThrow(
				`something else answered ${status}`,
			);
		}
		const body = { error: new Problem('no-such-job', { id: 'x' }).toBody() };
		expect(believable('http://fleet', { status: 404, body })).toEqual({ status: 404, body });
	});

	test('bytes are sent as bytes, and where bytes were asked for only bytes of the service are taken', async () => {
		const seen: { body?: unknown; headers?: unknown; encoding?: unknown }[] = [];
		let answer: object = { statusCode: 200, body: { ok: true } };
		const send = sendThroughN8n('http://fleet', async (options) => {
			seen.push(options);
			return answer;
		});
		const all = new Uint8Array([1, 2, 3, 4]);
		await send({ method: 'PUT', path: '/', bytes: all.subarray(1, 3) });
		expect(seen[0]!.body).toEqual(Buffer.from([2, 3]));
		expect((seen[0]!.body as Buffer).length).toBe(2);
		expect(seen[0]!.headers).toEqual({ 'content-type': 'application/octet-stream' });

		const stream = { method: 'GET', path: '/', stream: true } as const;
		const body = Readable.from([Buffer.from('content')]);
		const headers = { 'content-type': 'application/octet-stream' };
		answer = { statusCode: 200, body, headers };
		expect(await send(stream)).toEqual({ status: 200, body, headers });
		expect(seen[1]!.encoding).toBe('stream');

		const html = { 'content-type': 'text/html' };
		answer = { statusCode: 200, body: Readable.from([Buffer.from('<html>')]), headers: html };
		await expect(send(stream)).rejects.toThrow('something else answered 200');
		const refusal = { error: new Problem('no-such-file', { id: 'x' }).toBody() };
		answer = { statusCode: 404, body: Readable.from([Buffer.from(JSON.stringify(refusal))]) };
		expect(await send(stream)).toEqual({ status: 404, body: refusal });
	});

	test('what the system says about the network becomes words', () => {
		const error = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
		expect(away('http://fleet', error).message).toContain('(connection refused)');
		expect(away('http://fleet', { cause: error }).message).toContain('(connection refused)');
	});

	test('an abort stays an abort', async () => {
		const stop = new AbortController();
		const send = sendThroughN8n('http://fleet', async () => {
			stop.abort(new Error('enough'));
			throw new Error('canceled');
		});
		await expect(send({ method: 'GET', path: '/', signal: stop.signal })).rejects.toThrow('enough');
	});
});

describe('what a person reads', () => {
	test('a problem of the bundled service is known by its code', () => {
		const foreign = Object.assign(new Error('x'), {
			code: 'port-taken',
			details: { port: 8765, host: '127.0.0.1', variable: 'ROBOT_FLEET_PORT' },
		});
		expect(refusalOf(foreign)).toEqual({
			message: 'Port 8765 on 127.0.0.1 is in use',
			description: 'Stop the other program or set ROBOT_FLEET_PORT to a free port.',
			code: 'port-taken',
		});
	});

	test('no message holds the words that n8n keeps for itself', () => {
		const { node } = new FakeExecution(new FakeService());
		const error = nodeError(
			node,
			new Problem('wrong-process', { reason: 'this is a worker process' }),
		);
		expect(error.message).not.toMatch(/error|problem/i);
	});
});

test('a callback keeps its path and signature under another origin', () => {
	const resumeUrl = new URL('https://n8n.example.com/prefix/webhook-waiting/17/node?signature=s');
	expect(rebase(resumeUrl, 'http://127.0.0.1:5678').toString()).toBe(
		'http://127.0.0.1:5678/webhook-waiting/17/node?signature=s',
	);
	expect(rebase(resumeUrl, '')).toBe(resumeUrl);
});

test('the credential sends its key without an expression, which a running trigger may not evaluate', async () => {
	const { authenticate } = new RobotFleetApi();
	if (typeof authenticate !== 'function') throw new Error('n8n would evaluate an expression');
	const options = await authenticate({ apiKey: 'k' }, { url: '/', headers: { accept: 'x' } });
	expect(options.headers).toEqual({ accept: 'x', Authorization: 'Bearer k' });
});

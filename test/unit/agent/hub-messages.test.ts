import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { readHubMessage } from '../../../agent/hub-messages';

const job_id = randomUUID();

test('a message of a known shape is read', () => {
	const payload = { job_id, epoch: 1, stream: 'stdout', have: 5 };
	expect(readHubMessage(JSON.stringify({ type: 'output_ack', id: 'a', payload }))).toEqual({
		ok: true,
		message: { type: 'output_ack', id: 'a', payload },
	});
});

test('more fields than we know are no mistake', () => {
	const payload = { job_id, attempt: 1, epoch: 1, token: 't', later: true };
	expect(readHubMessage(JSON.stringify({ type: 'revoke', payload, seq: 1 }))).toMatchObject({
		ok: true,
	});
});

test.each([
	['{', /not JSON/],
	['7', /not an object/],
	['{}', /"type" is missing/],
	['{"type":"revoke"}', /"payload" is not an object/],
	['{"type":"revoke","payload":{"job_id":"../x","epoch":1}}', /payload\.job_id/],
	[`{"type":"revoke","payload":{"job_id":"${job_id}","epoch":-1}}`, /payload\.epoch/],
	['{"type":"constructor","payload":{}}', /no message type/],
	['{"type":"__proto__","payload":{}}', /no message type/],
])('%s is answered with a reason', (text, reason) => {
	expect(readHubMessage(text)).toMatchObject({ ok: false, reason: expect.stringMatching(reason) });
});

test('nothing that arrives makes the reader throw', () => {
	const types = fc.constantFrom(
		'job_assignment',
		'connected',
		'robot_registered',
		'result_ack',
		'x',
	);
	const message = fc.record({ type: types, id: fc.anything(), payload: fc.anything() });
	fc.assert(
		fc.property(fc.oneof(message, fc.anything()), (value) => {
			let text: string | undefined;
			try {
				text = JSON.stringify(value);
			} catch {
				return; // a bigint or a circle: no such thing comes over a wire
			}
			readHubMessage(text ?? 'undefined');
		}),
	);
});

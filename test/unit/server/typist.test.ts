/** What is typed, or comes in a pipe, goes in order and each byte once, however much it is. */
import { FleetClient } from '../../../client';
import { Typist } from '../../../dispatcher/cli/typist';
import { type InputRequest, limits } from '../../../protocol';

test('a long pipe costs what it has in bytes, not more with each piece', async () => {
	const got: Buffer[] = [];
	let have = 0;
	const client = new FleetClient(({ body }) => {
		const { dataB64, from } = body as InputRequest;
		if (dataB64 !== undefined) {
			const data = Buffer.from(dataB64, 'base64');
			expect(from).toBe(have);
			expect(data.length).toBeLessThanOrEqual(limits.maxInputBytes);
			got.push(data);
			have += data.length;
		}
		return Promise.resolve({ status: 200, body: { have, open: true } });
	});
	const failed = (error: Error) => {
		throw error;
	};
	const typist = new Typist(client, 'j1', { sleep: async () => undefined, failed });
	const chunk = Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 251));
	const chunks = Array.from({ length: 100 }, () => chunk);
	const joined = jest.spyOn(Buffer, 'concat');
	for (const one of chunks) typist.type(one);
	await typist.begin();
	await typist.sent();
	const copied = joined.mock.results.reduce((sum, { value }) => sum + (value as Buffer).length, 0);
	joined.mockRestore();
	expect(Buffer.concat(got).equals(Buffer.concat(chunks))).toBe(true);
	expect(copied).toBeLessThan(2 * 50_000 * 100);
});

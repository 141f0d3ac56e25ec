import { Rates } from '../../../dispatcher/server/rates';
import { FakeClock } from '../../support/fake-clock';
import { type House, openHouse } from './house';

let house: House | undefined;
afterEach(async () => {
	await house?.server.close();
	house = undefined;
});

const counted = { perKey: 3, perAddress: 2, spareLoopback: false };
const job = { kind: 'command', spec: { command: 'true' } };

test('submits in a loop get 429 with a time to come back; other keys go on', async () => {
	house = await openHouse({}, { rates: counted, clock: new FakeClock() });
	const submit = (key: string, body: object = job) =>
		house!.ask('POST', '/api/v1/jobs', { key, body });
	for (let i = 0; i < 3; i += 1) expect((await submit('submit')).status).toBe(202);
	const { status, body, headers } = await submit('submit');
	expect([status, body.error.code, body.error.retry]).toEqual([429, 'rate-limited', true]);
	expect(body.error.details.retryMs).toBe(20_000);
	expect(Number(headers.get('retry-after'))).toBe(Math.ceil(body.error.details.retryMs / 1000));
	expect((await submit('submit+read')).status).toBe(202);
});

test('what a key may not do counts as well', async () => {
	house = await openHouse({}, { rates: counted });
	const read = async () => (await house!.ask('GET', '/api/v1/me', { key: 'none' })).status;
	const forbidden = async () => (await house!.ask('GET', '/api/v1/keys', { key: 'none' })).status;
	expect([await forbidden(), await forbidden(), await forbidden()]).toEqual([403, 403, 403]);
	expect([await forbidden(), await read()]).toEqual([429, 429]);
});

test('many jobs in one call count once', async () => {
	house = await openHouse({}, { rates: counted });
	const jobs = Array.from({ length: 200 }, () => job);
	const many = () => house!.ask('POST', '/api/v1/jobs', { key: 'submit', body: { jobs } });
	for (let i = 0; i < 3; i += 1) expect((await many()).body.jobs).toHaveLength(200);
	expect((await many()).status).toBe(429);
});

test('wrong keys of one address are refused ever more seldom; a good key there is not held back', async () => {
	house = await openHouse({}, { rates: counted });
	const guess = async () => (await house!.ask('GET', '/api/v1/me', { key: 'bad' })).status;
	expect([await guess(), await guess(), await guess()]).toEqual([401, 401, 429]);
	expect((await house.ask('GET', '/api/v1/me', { key: '' })).status).toBe(429);
	expect((await house.ask('GET', '/api/v1/me', { key: 'read' })).status).toBe(200);
	expect((await house.ask('GET', '/healthz', { key: '' })).status).toBe(200);
});

test('who calls from this machine is not counted unless that was said', async () => {
	house = await openHouse({}, { rates: { ...counted, spareLoopback: true } });
	for (let i = 0; i < 10; i += 1) {
		expect((await house.ask('GET', '/api/v1/me', { key: 'read' })).status).toBe(200);
		expect((await house.ask('GET', '/api/v1/me', { key: 'bad' })).status).toBe(401);
	}
});

test('a bucket fills evenly, never above a minute, and a flood of addresses has its bounds', async () => {
	const clock = new FakeClock();
	const rates = new Rates(clock, { perKey: 60, perAddress: 1, spareLoopback: true });
	const took = (n: number) => {
		let taken = 0;
		try {
			for (; taken < n; taken += 1) rates.key('k', 'k', '10.0.0.1');
		} catch (error) {
			expect(error).toMatchObject({ code: 'rate-limited' });
		}
		return taken;
	};
	expect(took(100)).toBe(60);
	await clock.pause(10_000);
	expect(took(100)).toBe(10);
	await clock.pause(600_000);
	expect(took(100)).toBe(60);
	for (let i = 0; i < 100_000; i += 1) rates.stranger(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
	expect(rates.size).toBeLessThanOrEqual(10_001);
});

test('0 switches the limit off', () => {
	const rates = new Rates(new FakeClock(), { perKey: 0, perAddress: 0, spareLoopback: false });
	for (let i = 0; i < 10_000; i += 1) rates.key('k', 'k', '10.0.0.1');
});

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { backoffMs, systemClock } from '../../../agent/clock';

test('the wait doubles up to its limit, anywhere between nothing and that', () => {
	expect(
		[0, 1, 2, 5, 6, 7, 5_000].map((failures) => backoffMs(failures, 1_000, 60_000, 1)),
	).toEqual([1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000]);
	expect(backoffMs(7, 1_000, 60_000, 0)).toBe(0);
	expect(backoffMs(7, 1_000, 60_000, 0.5)).toBe(30_000);
});

test('a sleep ends early when it is told to, and says so', async () => {
	const over = new AbortController();
	const slept = systemClock.sleep(2 ** 40, over.signal);
	over.abort();
	expect(await slept).toBe(false);
	expect(await systemClock.sleep(1)).toBe(true);
	expect(await systemClock.sleep(1, over.signal)).toBe(false);
});

test('what came while the program stood still is heard before a sleep that it outlasted is over', async () => {
	const server = createServer().listen(0, '127.0.0.1');
	await once(server, 'listening');
	const here = connect((server.address() as AddressInfo).port, '127.0.0.1');
	const [there] = (await once(server, 'connection')) as [Socket];
	let heard = '';
	here.on('data', (piece) => (heard += String(piece)));
	there.write('one ');
	await once(here, 'data');
	const slept = systemClock.sleep(20);
	there.write('two');
	const stillUntil = performance.now() + 200;
	while (performance.now() < stillUntil);
	expect([await slept, heard]).toEqual([true, 'one two']);
	here.destroy();
	there.destroy();
	server.close();
});

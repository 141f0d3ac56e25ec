/** The log of the service on a disk that is full, or with nobody who reads it any more. */
import fs from 'node:fs';
import { pinoLog } from '../../../dispatcher/log';

test('what cannot be written costs lines, and no memory for ever', () => {
	const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
	const disk = jest.spyOn(fs, 'writeSync').mockImplementation(() => {
		throw full;
	});
	const log = pinoLog('info');
	for (let n = 0; n < 3_000; n += 1) log.info('x'.repeat(n % 7 === 0 ? 1 : 300));
	// There is room again: what was kept for that is written now, and then all that comes.
	let written = '';
	disk.mockImplementation(((_fd: number, text: string) => {
		written += text;
		return Buffer.byteLength(text);
	}) as typeof fs.writeSync);
	for (let n = 0; n < 3; n += 1) log.info(`on it goes, ${n}: ${'y'.repeat(300)}`);
	disk.mockRestore();
	expect(written.length).toBeLessThan(70_000);
	expect(written).toMatch(/on it goes, 1.*\n.*on it goes, 2/);
});

import os from 'node:os';
import { FactsBook } from '../../../agent/facts';
import type { Survey } from '../../../agent/survey';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const noLog = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

test.each([
	['a limit', 512 * 1024 * 1024, 512 * 1024 * 1024],
	['no limit', 0, os.totalmem()],
	['no limit, said as the largest number', 2 ** 64, os.totalmem()],
])('with %s of memory, and one processor, a robot says what it may use', (_, limit, told) => {
	const spies = [
		jest.spyOn(process, 'constrainedMemory').mockReturnValue(limit),
		jest.spyOn(os, 'availableParallelism').mockReturnValue(1),
	];
	try {
		const look = () => Promise.reject<Survey>(new Error());
		const { info } = new FactsBook(folder(), [], look, noLog).now;
		expect(info).toMatchObject({ cpus: 1, memory_bytes: told });
	} finally {
		for (const spy of spies) spy.mockRestore();
	}
});

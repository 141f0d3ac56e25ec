import os from 'node:os';
import type { Clock } from '../../../agent/clock';
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
		const { info } = new FactsBook(folder(), [], look, async () => '', noLog).now;
		expect(info).toMatchObject({ cpus: 1, memory_bytes: told });
	} finally {
		for (const spy of spies) spy.mockRestore();
	}
});

describe('a start', () => {
	let looks: number;
	let sign: string;
	beforeEach(() => {
		looks = 0;
		sign = 'a';
	});

	const look = async (): Promise<Survey> => {
		looks += 1;
		return { tools: { git: `${looks}` } } as unknown as Survey;
	};
	const book = () => new FactsBook(folder(), [], look, async () => sign, noLog);
	/** Answers with how often the machine was looked at so far, and what is told then. */
	const start = async (now = Date.now() + 1_000, everyMs = 60_000) => {
		const clock = { now: () => now, sleep: async () => false } as unknown as Clock;
		const facts = book();
		await facts.keepFresh(everyMs, clock, new AbortController().signal);
		return [looks, (facts.now.info.tools as { git?: string } | undefined)?.git];
	};

	test('knows what was found before, and looks again only when something has changed', async () => {
		expect(await start()).toEqual([1, '1']);
		expect(await start()).toEqual([1, '1']);
		sign = 'b';
		expect(await start()).toEqual([2, '2']);
		expect(await start()).toEqual([2, '2']);
	});

	test('looks again after a day, when the clock was set back, and when it looks at starts only', async () => {
		await start();
		expect(await start(Date.now() + 86_401_000)).toEqual([2, '2']);
		expect(await start(Date.now() - 60_000)).toEqual([3, '3']);
		expect(await start(undefined, 0)).toEqual([4, '4']);
	});

	test('looks again when the last look failed, and whenever somebody asks', async () => {
		const failing = () => Promise.reject<Survey>(new Error('no'));
		const clock = { now: Date.now, sleep: async () => false } as unknown as Clock;
		const { signal } = new AbortController();
		const facts = new FactsBook(folder(), [], failing, async () => sign, noLog);
		await facts.keepFresh(1, clock, signal);
		expect(await start()).toEqual([1, '1']);
		await book().refresh();
		expect(looks).toBe(2);
	});
});

import fc from 'fast-check';
import { Markers } from '../../../agent/markers';
import { limits } from '../../../protocol';

function read(chunks: readonly Uint8Array[]) {
	const steps: [number, string | undefined][] = [];
	const markers = new Markers({ progress: (percent, text) => void steps.push([percent, text]) });
	for (const chunk of chunks) markers.push('stdout', chunk);
	markers.finish();
	return { steps, outputs: markers.outputs, logs: markers.logs };
}
const said = (text: string) => read([Buffer.from(text)]);

test('progress is a number and a text if there is one', () => {
	const text = '::fleet:progress 40 compiling all\n::fleet:progress 50%\r\n::fleet:progress 100';
	expect(said(text).steps).toEqual([
		[40, 'compiling all'],
		[50, undefined],
		[100, undefined],
	]);
});

test('outputs are merged, the last value of a name counts', () => {
	const text = '::fleet:output {"a":1,"b":[1]}\nother\n::fleet:output {"a":"é"}\n';
	expect(said(text).outputs).toEqual({ a: 'é', b: [1] });
});

test('a name is a name and nothing else', () => {
	const { outputs } = said('::fleet:output {"__proto__":{"x":1},"y":2}\n');
	expect(Object.keys(outputs)).toContain('y');
	expect(({} as { x?: number }).x).toBeUndefined();
	expect((outputs as { x?: number }).x).toBeUndefined();
});

test.each([
	['::fleet:progress', 'number from 0 to 100'],
	['::fleet:progress 101', 'number from 0 to 100'],
	['::fleet:progress -1', 'number from 0 to 100'],
	['::fleet:output', 'not JSON'],
	['::fleet:output {"a":', 'not JSON'],
	['::fleet:output [1]', 'not a JSON object'],
	['::fleet:dance', 'neither progress nor output'],
])('%j does no harm and is told', (line, reason) => {
	const { steps, outputs, logs } = said(`${line}\n`);
	expect([steps, outputs]).toEqual([[], {}]);
	expect(logs).toEqual([expect.stringContaining(reason)]);
});

test('markers stand at the beginning of a line only', () => {
	const text = ' ::fleet:progress 1\nsay ::fleet:progress 2\n::fleet\n::fleeT:progress 3\n';
	expect(said(text)).toEqual({ steps: [], outputs: {}, logs: [] });
});

test('outputs have a size in all; what is beyond it is left out and told', () => {
	const half = 'x'.repeat(20_000);
	const lines = Array.from({ length: 20 }, (_, i) => `::fleet:output {"k${i}":"${half}"}\n`);
	const { outputs, logs } = said(lines.join(''));
	expect(JSON.stringify(outputs).length).toBeLessThanOrEqual(limits.maxOutputsBytes);
	expect(Object.keys(outputs)).toHaveLength(13);
	expect(logs).toHaveLength(7);
	expect(logs[0]).toMatch(/bytes in all/);
});

test('outputs fill their size to the last byte', () => {
	const line = (name: string, bytes: number) =>
		`::fleet:output {"${name}":"${'x'.repeat(bytes)}"}\n`;
	const around = Buffer.byteLength('{"a":"","b":"","c":"","d":"","é":""}');
	const rest = limits.maxOutputsBytes - 4 * 60_000 - around;
	const most = ['a', 'b', 'c', 'd'].map((name) => line(name, 60_000)).join('');
	const { outputs, logs } = said(line('a', 1) + most + line('é', rest + 1) + line('é', rest));
	expect(Buffer.byteLength(JSON.stringify(outputs))).toBe(limits.maxOutputsBytes);
	expect(logs).toHaveLength(1);
});

test('a line of outputs costs what it says, and not what all before it said', () => {
	const written = jest.spyOn(JSON, 'stringify');
	try {
		const lines = Array.from({ length: 1_000 }, (_, i) => `::fleet:output {"name${i}":"${i}"}\n`);
		expect(Object.keys(said(lines.join('')).outputs)).toHaveLength(1_000);
		const lengths = written.mock.results.map(({ value }) => (value as string).length);
		expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThan(100_000);
	} finally {
		written.mockRestore();
	}
});

test('a program that makes mistakes for ever does not fill the result', () => {
	const { logs } = said('::fleet:no\n'.repeat(5_000));
	expect(logs).toHaveLength(21);
	expect(logs.at(-1)).toBe('4980 more marker lines could not be read.');
});

test('each stream has its own lines', () => {
	const steps: number[] = [];
	const markers = new Markers({ progress: (percent) => void steps.push(percent) });
	markers.push('stdout', Buffer.from('::fleet:progress 1'));
	markers.push('stderr', Buffer.from('::fleet:progress 2\n'));
	markers.push('stdout', Buffer.from('0\n'));
	expect(steps).toEqual([2, 10]);
});

test('it does not matter where the chunks are cut', () => {
	const text = [
		'noise',
		'::fleet:progress 10 é',
		'',
		'::fleet:output {"a":{"b":"\\n"}}',
		':'.repeat(30),
		'::fleet:progress 20',
		'::fleet:bad',
		'end',
	].join('\n');
	const bytes = Buffer.from(text);
	const whole = read([bytes]);
	expect(whole.steps).toHaveLength(2);
	fc.assert(
		fc.property(fc.array(fc.nat({ max: bytes.length })), (cuts) => {
			const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
			const chunks = at.slice(1).map((to, i) => bytes.subarray(at[i], to));
			expect(read(chunks)).toEqual(whole);
		}),
	);
});

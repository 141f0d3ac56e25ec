import { join, posix } from 'node:path';
import fc from 'fast-check';
import { command, type CommandSpec } from '../../../kinds/command';
import { isPlainPath, patternEnters, patternFinds, pathMistake } from '../../../kinds/files';

const check = (spec: Partial<CommandSpec>) =>
	command.check({ command: 'true', ...spec }, {})?.message;

test('a path that is let pass stays inside of its folder, whatever it is made of', () => {
	const part = fc.oneof(
		fc.constantFrom('..', '.', '', '/', '\\', 'C:', '\0', '...', '~', '%2e%2e', 'a', '..a'),
		fc.string({ unit: 'binary', maxLength: 8 }),
	);
	const path = fc.array(part, { maxLength: 6 }).map((parts) => parts.join('/'));
	fc.assert(
		fc.property(fc.oneof(path, fc.string({ unit: 'binary', maxLength: 40 })), (text) => {
			if (pathMistake(text) !== undefined) return;
			const whole = join('/work/job-1', text);
			expect(whole.startsWith('/work/job-1/')).toBe(true);
			expect(posix.normalize(text)).toBe(text);
			expect(text).not.toMatch(/[\0\\]/);
		}),
		{ numRuns: 5_000 },
	);
});

test.each([
	['../x', 'must not lead out of the workspace'],
	['a/../../x', 'must not lead out of the workspace'],
	['/etc/passwd', 'must be relative to the workspace'],
	['C:/x', 'must be relative to the workspace'],
	['a//b', 'must be written without // and ./, and not end with /'],
	['./a', 'must be written without // and ./, and not end with /'],
	['a/', 'must be written without // and ./, and not end with /'],
	['a\\b', 'must be written with /, not with \\'],
	['a\0b', 'must not hold control characters'],
	['a\nb', 'must not hold control characters'],
	['a'.repeat(401), 'is longer than 400 bytes'],
])('%j is refused where a file is placed and where one is collected', (path, reason) => {
	expect(check({ files: [{ file: 'f', path }] })).toBe(`spec.files[0].path: ${reason}.`);
	expect(check({ collect: [path] })).toBe(`spec.collect[0]: ${reason}.`);
});

test('two files cannot have one place, nor one the folder of another', () => {
	const files = (...paths: string[]) => paths.map((path) => ({ file: 'f', path }));
	expect(check({ files: files('a/b', 'a/c', 'd') })).toBeUndefined();
	expect(check({ files: files('a', 'a') })).toMatch(/is the place of another file/);
	expect(check({ files: files('a/b', 'a') })).toMatch(/lies in a folder that is the place/);
	expect(check({ collect: ['a**b'] })).toMatch(/must stand alone between slashes/);
	expect(check({ collect: ['**', 'a/**/b', '**/x', 'y/**'] })).toBeUndefined();
});

test.each([
	['out.json', ['out.json'], ['a/out.json', 'out_json', 'out.jso']],
	['*.html', ['a.html', '.html'], ['a/b.html', 'a.htm']],
	['report/**/*.html', ['report/a.html', 'report/x/y/a.html'], ['report.html', 'x/report/a.html']],
	['**', ['a', 'a/b/c'], []],
	['**/x', ['x', 'a/b/x'], ['a/x/b']],
	['a?c', ['abc', 'a.c', 'a😀c'], ['ac', 'a/c', 'abbc']],
	['a/*/c', ['a/b/c'], ['a/c', 'a/b/b/c']],
])('the pattern %s finds what it says and nothing else', (pattern, found, other) => {
	for (const path of found) expect([path, patternFinds(pattern, path)]).toEqual([path, true]);
	for (const path of other) expect([path, patternFinds(pattern, path)]).toEqual([path, false]);
});

test('a pattern finds what its plain translation finds, and every folder on the way is entered', () => {
	const name = fc.string({ unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 3 });
	const part = fc.oneof(
		fc.constant('**'),
		fc.string({ unit: fc.constantFrom('a', 'b', '.', '*', '?'), minLength: 1, maxLength: 3 }),
	);
	const path = fc.array(name, { minLength: 1, maxLength: 4 });
	const pattern = fc
		.array(part, { minLength: 1, maxLength: 4 })
		.filter((parts) => parts.every((one) => one === '**' || !one.includes('**')));
	const plain = (parts: string[]): RegExp => {
		const words = parts.map((one) =>
			one === '**'
				? '(?:[^/]+/)*'
				: `${[...one].map((c) => (c === '*' ? '[^/]*' : c === '?' ? '[^/]' : `[${c}]`)).join('')}/`,
		);
		return new RegExp(`^${words.join('')}$`);
	};
	fc.assert(
		fc.property(pattern, path, (parts, names) => {
			const found = patternFinds(parts.join('/'), names.join('/'));
			expect(found).toBe(plain(parts).test(`${names.join('/')}/`));
			if (!found) return;
			for (let depth = 1; depth < names.length; depth += 1) {
				expect(patternEnters(parts.join('/'), names.slice(0, depth).join('/'))).toBe(true);
			}
		}),
		{ numRuns: 5_000 },
	);
});

test('a pattern made to take for ever does not', () => {
	const started = performance.now();
	const pattern = `${'*a'.repeat(60)}b`;
	expect(patternFinds(pattern, 'a'.repeat(250))).toBe(false);
	expect(patternFinds(Array(100).fill('**/x').join('/'), Array(100).fill('y').join('/'))).toBe(
		false,
	);
	expect(performance.now() - started).toBeLessThan(1_000);
	expect([isPlainPath('a/b.c'), isPlainPath('a/?'), isPlainPath('**')]).toEqual([
		true,
		false,
		false,
	]);
});

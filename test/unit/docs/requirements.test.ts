/** docs/requirements.md is only worth something while it is true. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '../../..');
const page = readFileSync(join(root, 'docs/requirements.md'), 'utf8');
const rows = page.split('\n').filter((line) => /^\| R-\d{3} /.test(line));

test('every row names a test that exists', () => {
	const cited = [...page.matchAll(/`(test\/[^`]+)`: "([^"]+)"/g)];
	expect(cited.length).toBeGreaterThan(rows.length);
	const missing = cited
		.filter(([, file, name]) => !readFileSync(join(root, file!), 'utf8').includes(`'${name}'`))
		.map(([, file, name]) => `${file}: ${name}`);
	expect(missing).toEqual([]);
	for (const row of rows) expect(row).toMatch(/`test\/[^`]+`: "/);
});

test('every row names files that exist', () => {
	for (const row of rows) {
		const where = row.split('|')[3]!;
		let folder = '';
		for (const [, path] of where.matchAll(/`([^`]+)`/g)) {
			const file = path!.includes('/') ? path! : join(folder, path!);
			folder = join(file, '..');
			expect([file, existsSync(join(root, file))]).toEqual([file, true]);
		}
	}
});

test('all rows of the first step are here, and those made since', () => {
	const wanted =
		'001 002 003 005 008 009 010 011 012 013 018 019 021 022 023 024 025 026 028 030 033 034 035 036 044 050 051 052 053 054 055 062 067 085 094 125 126';
	const found = rows.map((row) => row.slice(4, 7));
	expect(wanted.split(' ').filter((row) => !found.includes(row))).toEqual([]);
	expect(found).toEqual([...new Set(found)].sort());
});

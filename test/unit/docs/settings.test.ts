/** Inside n8n the environment is the only way to set anything: who looks for a variable finds it on the page. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '../../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');

test('every variable that the service reads is in its table of settings', () => {
	const page = read('docs/service.md');
	const variables = [...read('dispatcher/config.ts').matchAll(/'([A-Z]\w*_[A-Z_]+)'/g)].map(
		([, name]) => name!,
	);
	expect(variables.length).toBeGreaterThan(25);
	expect(variables.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});

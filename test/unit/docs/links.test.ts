/** Who follows a link of our pages arrives, and who cannot see a picture is told what is on it. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = join(__dirname, '../../..');
const pages = [
	'README.md',
	'examples/README.md',
	...readdirSync(join(root, 'docs'))
		.filter((file) => file.endsWith('.md'))
		.map((file) => `docs/${file}`),
];
const linksOf = (page: string) =>
	[...readFileSync(join(root, page), 'utf8').matchAll(/(!?)\[([^\]]*)\]\(([^)\s]+)\)/g)].map(
		([, mark, text, to]) => ({ isPicture: mark === '!', text: text!, to: to!.split('#')[0]! }),
	);
const pictures = pages.flatMap((page) =>
	linksOf(page)
		.filter(({ isPicture }) => isPicture)
		.map((link) => ({ ...link, file: join(root, dirname(page), link.to) })),
);

test.each(pages)('every link of %s leads to something that is there', (page) => {
	const lost = linksOf(page)
		.map(({ to }) => to)
		.filter((to) => to !== '' && !/^\w+:/.test(to))
		.filter((to) => !existsSync(join(root, dirname(page), to)));
	expect(lost).toEqual([]);
});

test('every picture says in words what it shows, and is small', () => {
	for (const { file, text } of pictures) {
		expect([file, text.length > 10]).toEqual([file, true]);
		expect(statSync(file).size).toBeLessThanOrEqual(300 * 1024);
	}
});

test('no picture lies there for nobody', () => {
	const folder = join(root, 'docs/images');
	const shown = pictures.map(({ file }) => file);
	expect(readdirSync(folder).filter((file) => !shown.includes(join(folder, file)))).toEqual([]);
});

test('a builder, a machine owner and an operator find their page at the head of the README', () => {
	const head = readFileSync(join(root, 'README.md'), 'utf8').split('\n').slice(0, 25).join('\n');
	for (const page of ['docs/first-hour.md', 'docs/machine-owner.md', 'docs/service.md']) {
		expect(head).toContain(`](${page})`);
	}
});

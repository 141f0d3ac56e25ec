/** Who follows a link of our pages arrives, and who cannot see a picture is told what is on it. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = join(__dirname, '../../..');
const pages = [
	'README.md',
	'CHANGELOG.md',
	'examples/README.md',
	...readdirSync(join(root, 'docs'))
		.filter((file) => file.endsWith('.md'))
		.map((file) => `docs/${file}`),
];
const linksOf = (page: string) =>
	[...readFileSync(join(root, page), 'utf8').matchAll(/(!?)\[([^\]]*)\]\(([^)\s]+)\)/g)].map(
		([, mark, text, to]) => ({
			isPicture: mark === '!',
			text: text!,
			to: to!.split('#')[0]!,
			heading: to!.split('#')[1],
		}),
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

/** The anchors of the headings of a page, as GitHub makes them. */
function headingsOf(page: string): string[] {
	const prose = readFileSync(join(root, page), 'utf8').replaceAll(/^```[^]*?^```/gm, '');
	return [...prose.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) =>
		heading!
			.toLowerCase()
			.replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
			.replaceAll(' ', '-'),
	);
}

/** Those of the given links whose heading is not in the page they lead to. */
const lostHeadings = (links: { page: string; heading: string }[]) =>
	links
		.filter(({ page, heading }) => !headingsOf(page).includes(heading))
		.map(({ page, heading }) => `${page}#${heading}`);

test.each(pages)('every link of %s into a page leads to a heading that is there', (page) => {
	const links = linksOf(page)
		.filter(({ to, heading }) => heading !== undefined && !/^\w+:/.test(to))
		.map(({ to, heading }) => ({
			page: to === '' ? page : join(dirname(page), to),
			heading: heading!,
		}))
		.filter((link) => link.page.endsWith('.md'));
	expect(lostHeadings(links)).toEqual([]);
});

test('every page is in the list of pages', () => {
	const list = readFileSync(join(root, 'docs/README.md'), 'utf8');
	const names = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));
	expect(names.filter((name) => name !== 'README.md' && !list.includes(`](${name})`))).toEqual([]);
});

/** Without it the service refuses the body, and who pasted the line does not know why. */
test.each(pages)('every curl of %s that sends JSON says that it is JSON', (page) => {
	const lines = readFileSync(join(root, page), 'utf8').replaceAll('\\\n', ' ').split('\n');
	const said = /content-type: application\/json|\$JSON/i;
	expect(lines.filter((line) => /^curl .* -d /.test(line) && !said.test(line))).toEqual([]);
});

describe('the help that n8n shows beside a node and a credential', () => {
	const sources = ['nodes', 'credentials'].flatMap((folder) =>
		readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
			.filter((file) => /\.(ts|json)$/.test(file))
			.map((file) => join(folder, file)),
	);
	const ours = 'https://github.com/robot-fleet/robot-fleet';
	const links = sources.flatMap((file) =>
		[...readFileSync(join(root, file), 'utf8').matchAll(/https:\/\/github\.com\/[^\s"'`<]+/g)]
			.map(([url]) => url)
			.filter((url) => url.startsWith(ours)),
	);
	const parsed = links.map((url) => {
		const [path, heading] = url.slice(ours.length).split('#');
		return { page: path!.replace(/^\/blob\/main\//, '') || 'README.md', heading };
	});

	test('is a page of ours at a heading that is there', () => {
		expect(links.length).toBeGreaterThan(10);
		expect(parsed.filter(({ page }) => !existsSync(join(root, page)))).toEqual([]);
		const deep = parsed.flatMap(({ page, heading }) =>
			heading === undefined ? [] : [{ page, heading }],
		);
		expect(lostHeadings(deep)).toEqual([]);
	});
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

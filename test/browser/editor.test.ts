/** What a person sees of our nodes in n8n's editor, in a real Chromium. */
import { release } from 'node:os';
import { type Browser, type Locator, type Page, selectors } from 'playwright-core';
import { Fleet } from '../n8n/fleet';
import { launchBrowser, Pictures } from '../support/browser';

const nodes = [
	{ name: 'Robot Fleet', fields: ['Resource', 'Operation', 'Return All', 'Limit', 'Filters'] },
	{
		name: 'Submit Job',
		fields: ['Command Type', 'Program', 'Arguments', 'Run On', 'Priority', 'Variables', 'Options'],
	},
	{
		name: 'Dispatch to Robot',
		fields: ['Robot', 'Command Type', 'Program', 'Wait for Completion', 'Limit Wait Time'],
	},
	{ name: 'Wait for Execution', fields: ['Job ID', 'Limit Wait Time', 'When Time Is Up'] },
	{
		name: 'Fleet Schedule Trigger',
		fields: ['Schedule', 'Runs', 'Options'],
	},
];
const icons = ['robotFleet', 'submitJob', 'dispatchToRobot', 'waitForExecution', 'scheduleTrigger'];
const example = 'uname-on-a-click.json';

/** What the tests need of the browser's own types. */
interface Picture {
	src: string;
	naturalWidth: number;
	decode(): Promise<void>;
}

describe("our nodes in n8n's editor", () => {
	let fleet: Fleet;
	let browser: Browser;
	let page: Page;
	const pictures = new Pictures();

	beforeAll(async () => {
		selectors.setTestIdAttribute('data-test-id');
		fleet = await Fleet.start({ N8N_DISABLE_UI: 'false' });
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		await fleet.startAgent('berlin-1');
		browser = await launchBrowser();
		page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
		page.setDefaultTimeout(20_000);
	}, 600_000);

	afterAll(async () => {
		await browser?.close();
		await fleet?.stop();
		pictures.tidyUp();
	}, 60_000);

	const promise = (name: string, body: () => Promise<void>) =>
		test(name, () => pictures.ofFailure(page, name, body), 120_000);

	/** Opens a new workflow and searches the panel of nodes. */
	const search = async (text: string): Promise<Locator> => {
		await page.goto(`${fleet.n8n.baseUrl}/workflow/new`);
		await page.getByTestId('node-creator-plus-button').first().click();
		await page.getByTestId('node-creator-search-bar').fill(text);
		// A node with operations is another sort of item.
		const items = page.getByTestId(/^node-creator-(node|action)-item$/);
		await items.filter({ has: page.getByText('Robot Fleet', { exact: true }) }).waitFor();
		return items;
	};
	const open = async (name: string): Promise<Locator> => {
		const items = await search('robot fleet');
		await items.filter({ has: page.getByText(name, { exact: true }) }).click();
		// A node with operations shows them all there, behind those of its trigger; one of them is taken.
		if (name === 'Robot Fleet') {
			await page.getByText(/^Actions \(\d+\)$/).click();
			await page.getByText('Get many jobs', { exact: true }).click();
		} else await page.getByRole('button', { name: 'Add to workflow' }).click();
		const panel = page.getByTestId('ndv');
		await panel.waitFor();
		return panel;
	};
	const label = (panel: Locator, text: string) =>
		panel.getByTestId('node-parameters').getByText(text, { exact: true }).first();

	promise('the owner signs in', async () => {
		await page.goto(`${fleet.n8n.baseUrl}/signin`);
		await page.locator('input[name=emailOrLdapLoginId]').fill('owner@example.com');
		await page.locator('input[name=password]').fill('Robots1234');
		await page.getByTestId('form-submit-button').click();
		await page.waitForURL(/\/(home\/)?workflows?/);
	});

	promise(
		'a search for "robot fleet" finds our nodes and nothing else, Robot Fleet with its trigger as one',
		async () => {
			const found = await search('robot fleet');
			await found.filter({ hasText: 'Fleet Schedule Trigger' }).waitFor();
			const names = await page.getByTestId('node-creator-item-name').allInnerTexts();
			await pictures.take(page, 'nodes-panel', true);
			expect(names.map((name) => name.trim())).toEqual(nodes.map(({ name }) => name));
		},
	);

	promise('each of them shows its own icon there', async () => {
		const found = await search('robot fleet');
		await found.filter({ hasText: 'Fleet Schedule Trigger' }).waitFor();
		const pictured = found.locator('img:visible');
		const seen = await pictured.evaluateAll(async (images: unknown[]) => {
			const all = images as Picture[];
			await Promise.all(all.map((image) => image.decode()));
			return all.map(({ src, naturalWidth }) => ({
				file: src.split('/').at(-1),
				painted: naturalWidth > 0,
			}));
		});
		expect(seen).toEqual(icons.map((name) => ({ file: `${name}.svg`, painted: true })));
	});

	for (const { name, fields } of nodes) {
		promise(`${name} opens with the credential chosen and its fields`, async () => {
			const panel = await open(name);
			for (const field of fields) await label(panel, field).waitFor();
			const credential = panel.getByTestId('node-credentials-select').locator('input');
			await pictures.take(page, name.toLowerCase().replaceAll(' ', '-'));
			expect(await credential.inputValue()).toBe('This n8n');
		});
	}

	promise('the credential opens from a node, and n8n finds that it works', async () => {
		const panel = await open('Submit Job');
		await panel.getByTestId('credential-edit-button').click();
		const dialog = page.getByTestId('editCredential-modal');
		await dialog.getByText('Connection', { exact: true }).first().waitFor();
		await dialog.getByTestId('credentials-config-container-test-success').waitFor();
		await pictures.take(page, 'credential');
	});

	promise('Dispatch to Robot lists the robot that is connected', async () => {
		const panel = await open('Dispatch to Robot');
		await panel.getByTestId('rlc-input').click();
		const robots = page.getByTestId('rlc-item');
		await robots.filter({ hasText: 'berlin-1' }).click();
		await pictures.take(page, 'robot-chosen');
		expect(await panel.getByTestId('rlc-input').inputValue()).toContain('berlin-1');
	});

	promise(
		'Robot Fleet shows the operations of each resource, and lists jobs and robots',
		async () => {
			const panel = await open('Robot Fleet');
			const choose = async (field: string, option: string) => {
				await panel.getByTestId(`parameter-input-${field}`).click();
				const options = page.getByRole('option');
				await options
					.filter({ has: page.getByText(option, { exact: true }) })
					.first()
					.click();
			};
			await choose('operation', 'Get Output');
			for (const field of ['Job', 'Stream', 'Output As']) await label(panel, field).waitFor();
			await choose('resource', 'Robot');
			await choose('operation', 'Drain');
			await panel.getByTestId('rlc-input').click();
			await page.getByTestId('rlc-item').filter({ hasText: 'berlin-1' }).click();
			await pictures.take(page, 'robot-fleet-node', true);
			expect(await panel.getByTestId('rlc-input').inputValue()).toContain('berlin-1');
		},
	);

	promise('Submit Job says which robots match the labels', async () => {
		const panel = await open('Submit Job');
		await panel.getByTestId('parameter-input-runOn').click();
		await page.getByRole('option', { name: 'Matching Robot' }).click();
		await label(panel, 'Labels').waitFor();
		await panel.getByTestId('parameter-input-matchingRobots').locator('input').click();
		await page.getByRole('option', { name: '1 of 1 match, 1 free' }).waitFor();
		await page.getByRole('option', { name: 'berlin-1' }).waitFor();
		await pictures.take(page, 'matching-robots');
	});

	promise('the example runs by a click, and its output shows the uname of the robot', async () => {
		const { id } = await fleet.n8n.createWorkflow(fleet.example(example));
		await page.goto(`${fleet.n8n.baseUrl}/workflow/${id}`);
		// The message goes by itself: it is looked for from before it can come.
		await Promise.all([
			page.getByText('Workflow executed successfully').waitFor(),
			page.getByTestId('execute-workflow-button').click(),
		]);
		const wait = page.locator('[data-test-id=canvas-node][data-node-name="Wait for Execution"]');
		await wait.getByTestId('canvas-node-status-success').waitFor();
		await pictures.take(page, 'example-has-run');
		await wait.dblclick();
		const output = page.getByTestId('output-panel');
		await output.getByText('Linux').first().waitFor();
		await pictures.take(page, 'example-output', true);
		expect(await output.innerText()).toContain(release());
	});
});

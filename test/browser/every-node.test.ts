/** A person opens, fills and runs each of our nodes in n8n's editor; the pictures in the docs are of this. */
import { type Browser, type Locator, type Page, selectors } from 'playwright-core';
import { until } from '../../scripts/n8n/until.mjs';
import { Crew } from '../n8n/crew';
import { Fleet } from '../n8n/fleet';
import { launchBrowser, Pictures } from '../support/browser';

const manual = { name: 'Start', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };

describe('every node is opened, filled and run in the editor', () => {
	let fleet: Fleet;
	let crew: Crew;
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
		crew = new Crew(fleet);
		await crew.start('berlin-1', { site: 'berlin', os: 'linux' });
		await crew.start('paris-1', { site: 'paris', os: 'linux' });
		browser = await launchBrowser();
		page = await browser.newPage({ viewport: { width: 1280, height: 960 } });
		page.setDefaultTimeout(20_000);
		await page.goto(`${n8n.baseUrl}/signin`);
		await page.locator('input[name=emailOrLdapLoginId]').fill('owner@example.com');
		await page.locator('input[name=password]').fill('Robots1234');
		await page.getByTestId('form-submit-button').click();
		await page.waitForURL(/\/(home\/)?workflows?/);
	}, 600_000);

	afterAll(async () => {
		await browser?.close();
		crew?.stop();
		await fleet?.stop();
		pictures.tidyUp();
	}, 60_000);

	const promise = (name: string, body: () => Promise<void>) =>
		test(name, () => pictures.ofFailure(page, name, body), 120_000);

	/** The panel of the last of these nodes, in a workflow that holds nothing else. */
	const opened = async (...nodes: Parameters<Fleet['workflow']>[0]): Promise<Locator> => {
		const { id } = await fleet.workflow(nodes);
		await page.goto(`${fleet.n8n.baseUrl}/workflow/${id}`);
		const name = nodes.at(-1)!.name;
		await page.locator(`[data-test-id=canvas-node][data-node-name="${name}"]`).dblclick();
		const panel = page.getByTestId('ndv');
		await panel.waitFor();
		return panel;
	};
	const field = (panel: Locator, name: string) => panel.getByTestId(`parameter-input-${name}`);
	const write = async (panel: Locator, name: string, text: string) => {
		const input = field(panel, name).locator('input, textarea').first();
		await input.fill(text);
		await input.blur();
	};
	const choose = async (panel: Locator, name: string, option: string) => {
		await field(panel, name).click();
		const options = page.getByRole('option');
		await options
			.filter({ has: page.getByText(option, { exact: true }) })
			.first()
			.click();
	};
	const pick = async (panel: Locator, robot: string) => {
		await panel.getByTestId('rlc-input').click();
		await page.getByTestId('rlc-item').filter({ hasText: robot }).click();
	};
	/** Presses the button of the node, and waits until its output says this. */
	const executed = async (panel: Locator, text: string | RegExp) => {
		await panel.getByTestId('node-execute-button').first().click();
		await page.getByTestId('output-panel').getByText(text).first().waitFor();
	};
	const matching = async (panel: Locator): Promise<Locator> => {
		await field(panel, 'matchingRobots').locator('input').click();
		return page.getByRole('option');
	};

	promise('Submit Job: a label that is changed changes how many robots match', async () => {
		const panel = await opened(manual, fleet.ours('Submit Job', 'submitJob', {}));
		await write(panel, 'program', 'uname');
		await choose(panel, 'runOn', 'Matching Robot');
		await write(panel, 'labels', 'os=linux');
		const options = await matching(panel);
		await options.getByText('2 of 2 match, 2 free').waitFor();
		await pictures.take(page, 'two-robots-match', true);
		await page.keyboard.press('Escape');
		await write(panel, 'labels', 'site=berlin');
		await matching(panel);
		await options.getByText('1 of 2 match, 1 free').waitFor();
		await options.filter({ hasText: 'paris-1' }).filter({ hasText: 'site' }).waitFor();
		await pictures.take(page, 'one-robot-matches', true);
		await page.keyboard.press('Escape');
		await executed(panel, 'jobId');
		await field(panel, 'program').scrollIntoViewIfNeeded();
		await pictures.take(page, 'submit-job', true);
		const { items } = await fleet.service<{ items: { state: string }[] }>('GET', '/jobs?limit=1');
		expect(items).toHaveLength(1);
	});

	promise(
		'Dispatch to Robot: a robot is chosen from the list, and its answer is there',
		async () => {
			const panel = await opened(manual, fleet.ours('Dispatch to Robot', 'dispatchToRobot', {}));
			await pick(panel, 'paris-1');
			await write(panel, 'program', 'uname');
			await executed(panel, 'Linux');
			await pictures.take(page, 'dispatch-to-robot', true);
		},
	);

	promise('Wait for Execution: the job before it has ended when it goes on', async () => {
		const panel = await opened(
			manual,
			fleet.ours('Submit Job', 'submitJob', { commandType: 'shell', shell: 'echo done at last' }),
			fleet.ours('Wait for Execution', 'waitForExecution', {}),
		);
		await write(panel, 'waitAmount', '5');
		await choose(panel, 'waitUnit', 'Minutes');
		await executed(panel, 'done at last');
		await pictures.take(page, 'wait-for-execution', true);
	});

	promise('Robot Fleet: the robots are listed', async () => {
		const panel = await opened(manual, fleet.ours('Robot Fleet', 'robotFleet', {}));
		await choose(panel, 'resource', 'Robot');
		await choose(panel, 'operation', 'Get Many');
		await executed(panel, 'paris-1');
		await pictures.take(page, 'robot-fleet', true);
	});

	promise('Fleet Schedule Trigger: a time is written, and a test run starts', async () => {
		const newest = { typeVersion: 1.1 };
		const trigger = fleet.ours('Fleet Schedule Trigger', 'scheduleTrigger', {}, newest);
		const panel = await opened(trigger);
		const next = field(panel, 'nextRuns').locator('input');
		// While it asks for the next runs, the editor leaves out what else is changed: it would show the times of before.
		const asked = page.waitForResponse((response) =>
			(response.request().postData() ?? '').includes('"frequency":"weekly"'),
		);
		await choose(panel, 'frequency', 'Every Week');
		await (await asked).finished();
		await until(async () => (await next.isEnabled()) || undefined, {
			deadlineMs: 20_000,
			what: () => 'the next runs of every week',
		});
		await write(panel, 'times', '06:30');
		await until(async () => (await next.inputValue()).includes('06:30') || undefined, {
			deadlineMs: 20_000,
			what: () => 'the next run in the panel',
		});
		await executed(panel, 'manual');
		await pictures.take(page, 'fleet-schedule-trigger', true);
	});

	promise('Robot Fleet Trigger: a test run starts with the next job that ends', async () => {
		const panel = await opened(fleet.ours('Robot Fleet Trigger', 'robotFleetTrigger', {}));
		await panel.getByTestId('node-execute-button').first().click();
		const event = page.getByTestId('output-panel').getByText('job.ended').first();
		// Nothing tells when it has begun to listen: jobs end until one is seen.
		const seen = async () => {
			await fleet.service('POST', '/jobs', { kind: 'command', spec: { shell: 'echo an event' } });
			return await event.waitFor({ timeout: 2_000 }).then(
				() => true,
				() => undefined,
			);
		};
		await until(seen, { deadlineMs: 30_000, what: () => 'an event in the output' });
		await pictures.take(page, 'robot-fleet-trigger', true);
	});

	promise('an example is read from left to right, and its note says what it needs', async () => {
		const { id } = await fleet.n8n.createWorkflow(fleet.example('deploy-in-waves.json'));
		await page.goto(`${fleet.n8n.baseUrl}/workflow/${id}`);
		// The message goes by itself: it is looked for from before it can come.
		await Promise.all([
			page.getByText('Workflow executed successfully').waitFor(),
			page.getByTestId('execute-workflow-button').click(),
		]);
		const last = page.locator('[data-test-id=canvas-node][data-node-name="Released"]');
		await last.getByTestId('canvas-node-status-success').waitFor();
		await page.getByText('1 item', { exact: true }).nth(6).waitFor();
		const button = page.getByTestId('execute-workflow-button');
		await button.getByText('Execute workflow').first().waitFor();
		await page.getByTestId('zoom-to-fit').click();
		await pictures.take(page, 'example-deploy-in-waves', true);
	});
});

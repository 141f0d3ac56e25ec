/**
 * Every workflow of examples/ in one real n8n with two real robots: imported as it lies there, run as its
 * sticky note says, and judged by what comes out at its end.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/n8n/until.mjs';
import type { Finding } from '../../dispatcher/cli/finding';
import type { Job } from '../../protocol';
import { OpenAiStandIn, toolAnswers } from '../support/openai-stand-in';
import { Crew } from './crew';
import { Fleet } from './fleet';

const folder = join(__dirname, '../../examples');
const doctor = join(__dirname, '../../dispatcher/dist/robot-fleet.js');
/** Those that the first job and the node Robot Fleet are shown with: first-job.ts, robot-fleet.test.ts. */
const elsewhere = [
	'disk-space-every-morning.json',
	'failed-command-to-error-output.json',
	'file-to-a-robot-and-back.json',
	'uname-on-a-click.json',
	'webhook-to-robot-and-back.json',
];

type Execution = Awaited<ReturnType<Fleet['n8n']['execution']>>;

interface Node {
	name: string;
	parameters: Record<string, unknown>;
	[field: string]: unknown;
}

describe('the examples in a real n8n', () => {
	let fleet: Fleet;
	let crew: Crew;
	const ran = new Set<string>();
	/**
	 * The workflow that reacts to a lost robot, which is given up 90 seconds after the start of the service: the last
	 * test looks at what came of it.
	 */
	let watching: string;

	beforeAll(async () => {
		fleet = await Fleet.start();
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		crew = new Crew(fleet);
		await crew.start('berlin-1', { site: 'berlin', role: 'kiosk' });
		await crew.start('paris-1', { site: 'paris', role: 'kiosk' });
	}, 600_000);
	afterAll(async () => {
		crew?.stop();
		await fleet?.stop();
	}, 60_000);

	const import_ = async (file: string, change: (nodes: Node[]) => void = () => undefined) => {
		ran.add(file);
		const workflow = fleet.example(file) as { nodes: Node[] };
		change(workflow.nodes);
		const { id } = await fleet.n8n.createWorkflow(workflow);
		return { id, first: workflow.nodes[0]!.name };
	};
	const ended = async (workflowId: string) => {
		const execution = await fleet.n8n.waitForExecution(
			(each) => each.workflowId === workflowId && ['success', 'error'].includes(each.status),
			40_000,
		);
		expect(execution.data.resultData.error).toBeUndefined();
		expect(execution.status).toBe('success');
		return execution;
	};
	/** Runs it by a click. */
	const clicked = async (file: string, change?: (nodes: Node[]) => void) => {
		const { id, first } = await import_(file, change);
		await fleet.n8n.runManually(id, first);
		return await ended(id);
	};
	const json = (execution: Execution, node: string, output = 0) =>
		Fleet.output(execution, node, output).map((item) => item.json);
	const parametersOf = (nodes: Node[], name: string) =>
		nodes.find((node) => node.name === name)!.parameters;
	/** What a browser sends when somebody fills in a form of n8n. */
	const fillIn = async (path: string, answer: string) => {
		const form = new FormData();
		form.append('field-0', answer);
		const url = new URL(path, fleet.n8n.baseUrl);
		const response = await fetch(url, { method: 'POST', body: form });
		expect([path, response.status]).toEqual([path, 200]);
		await response.arrayBuffer();
	};
	const submit = async (spec: object, more: object = {}) => {
		const body = { kind: 'command', spec, ...more };
		return (await fleet.service<{ jobId: string }>('POST', '/jobs', body)).jobId;
	};
	const inState = async (jobId: string, state: string) =>
		await until(async () => ((await fleet.job(jobId)).state === state ? true : undefined), {
			deadlineMs: 20_000,
			what: () => `job ${jobId} to be ${state}`,
		});

	test('a robot loses its power while a workflow is on that reacts to it', async () => {
		watching = (await import_('react-to-a-lost-robot.json')).id;
		await fleet.n8n.activate(watching);
		await crew.start('oslo-1', { site: 'oslo' });
		// It works for a while: one that was hardly seen is not missed either.
		const spec = { command: 'sleep', args: ['3'] };
		const jobId = await submit(spec, { target: { robot: 'oslo-1' } });
		await inState(jobId, 'completed');
		crew.lose('oslo-1');
	}, 60_000);

	test('a nightly job ends as one report, whether it worked or not', async () => {
		const good = await clicked('nightly-job-with-report.json');
		expect(json(good, 'It worked')).toMatchObject([
			{ subject: expect.stringMatching(/^Nightly job: done on (berlin|paris)-1$/) },
		]);
		const [report] = Fleet.output(good, 'Send it') as unknown as {
			binary: { data: { fileName: string } };
		}[];
		expect(report!.binary.data.fileName).toMatch(/^nightly-[\d-]+\.txt$/);
		const bad = await clicked('nightly-job-with-report.json', (nodes) => {
			parametersOf(nodes, 'Nightly job').shell = 'echo "no space left" >&2; exit 9';
		});
		expect(json(bad, 'It failed')).toMatchObject([
			{
				subject: 'Nightly job FAILED: The command ended with exit code 9',
				text: 'no space left\n',
			},
		]);
		expect(Fleet.output(bad, 'Send it')).toHaveLength(1);
	}, 60_000);

	test('waves go out to all robots, and the step behind the barrier runs once', async () => {
		const execution = await clicked('deploy-in-waves.json', (nodes) => {
			parametersOf(nodes, 'Deploy').shell = 'echo "$ROBOT_FLEET_VAR_VERSION"';
		});
		expect(json(execution, 'Released')).toEqual([
			{ text: 'Release 1.4.2 is on 2 robots: release 1.4.2 answers' },
		]);
		expect(json(execution, 'Tell somebody')).toEqual([]);
	}, 60_000);

	test('a wave that fails stops what comes after it, and somebody is told', async () => {
		const execution = await clicked('deploy-in-waves.json', (nodes) => {
			parametersOf(nodes, 'Deploy').shell = 'exit 1';
		});
		expect(json(execution, 'Released')).toEqual([]);
		expect(json(execution, 'Tell somebody')).toMatchObject([
			{ text: expect.stringMatching(/^Release 1\.4\.2 was stopped: /), completed: 0, total: 2 },
		]);
	}, 60_000);

	test('only what has failed is retried, and each that failed again says why', async () => {
		const marker = join(fleet.folder, 'mended');
		const flaky = await submit({ shell: `test -e "${marker}"` });
		const broken = await submit({ shell: 'echo "still broken" >&2; exit 4' });
		await inState(flaky, 'failed');
		await inState(broken, 'failed');
		writeFileSync(marker, '');
		const execution = await clicked('retry-failed-only.json');
		expect(json(execution, 'Mended').map(({ retryOf }) => retryOf)).toContain(flaky);
		expect(json(execution, 'Failed again')).toContainEqual(
			expect.objectContaining({
				retryOf: broken,
				reason: 'The command ended with exit code 4',
				stderr: 'still broken\n',
			}),
		);
	}, 60_000);

	test('kiosks that show their page are told from those that need a look', async () => {
		const page = (url: string) => (nodes: Node[]) => {
			const text = JSON.stringify(parametersOf(nodes, 'Page that must open'));
			const changed = JSON.parse(text.replace('http://localhost:5678/healthz', url)) as object;
			Object.assign(parametersOf(nodes, 'Page that must open'), changed);
		};
		const good = await clicked('kiosk-check.json', page(`${fleet.n8n.baseUrl}/healthz`));
		expect(json(good, 'Fine').map(({ text }) => text)).toEqual([
			'berlin-1 shows its page',
			'paris-1 shows its page',
		]);
		const bad = await clicked('kiosk-check.json', page('http://127.0.0.1:9/'));
		expect(json(bad, 'Fine')).toEqual([]);
		expect(json(bad, 'Needs a look').map(({ text }) => text)).toEqual([
			expect.stringMatching(/^berlin-1: curl: /),
			expect.stringMatching(/^paris-1: curl: /),
		]);
	}, 60_000);

	test('a file of each robot ends in one zip', async () => {
		const execution = await clicked('collect-files-from-all-robots.json');
		expect(json(execution, 'Take them home').map(({ path }) => path)).toEqual([
			'report/berlin-1.txt',
			'report/paris-1.txt',
		]);
		const [item] = Fleet.output(execution, 'One zip') as unknown as {
			binary: { zip: { fileName: string; mimeType: string; bytes: number } };
		}[];
		expect(item!.binary.zip).toMatchObject({
			fileName: expect.stringMatching(/^robots-.*\.zip$/),
			mimeType: 'application/zip',
		});
	}, 60_000);

	test('the logs of a day are packed, one file for each job', async () => {
		const jobId = await submit({ shell: 'seq 1 1000' });
		await inState(jobId, 'completed');
		const execution = await clicked('keep-the-logs.json');
		const kept = Fleet.output(execution, 'Your archive') as unknown as {
			json: { jobId: string };
			binary: { data: { fileName: string } };
		}[];
		expect(kept.find((item) => item.json.jobId === jobId)!.binary.data.fileName).toBe(
			`${jobId}.txt.gz`,
		);
	}, 60_000);

	test('one job on all robots becomes one line of each', async () => {
		const execution = await clicked('one-line-per-robot.json', (nodes) => {
			parametersOf(nodes, 'On every robot').shell = 'echo ready';
		});
		expect(json(execution, 'Report')).toEqual([
			{ text: 'berlin-1: ready\nparis-1: ready', robots: 2 },
		]);
	}, 60_000);

	test('each row of a table runs where its labels fit, and keeps its place', async () => {
		const execution = await clicked('hosts-from-a-table.json');
		expect(json(execution, 'Row and result')).toMatchObject([
			{ site: 'berlin', robot: 'berlin-1', printed: expect.stringMatching(/^\w+$/) },
			{ site: 'paris', robot: 'paris-1' },
		]);
	}, 60_000);

	test('jobs that share a lock run one after the other', async () => {
		const execution = await clicked('one-deploy-at-a-time.json');
		expect(json(execution, 'What happened')).toMatchObject([
			{ service: 'web', printed: 'web begins\nweb is out' },
			{ service: 'api', printed: 'api begins\napi is out' },
			{ service: 'worker', printed: 'worker begins\nworker is out' },
		]);
		const jobs = await Promise.all(
			json(execution, 'Deploy').map(({ jobId }) => fleet.job(jobId as string)),
		);
		jobs.sort((a, b) => a.startedAt! - b.startedAt!);
		for (const [i, job] of jobs.slice(1).entries()) {
			expect(job.startedAt).toBeGreaterThanOrEqual(jobs[i]!.endedAt!);
		}
	}, 60_000);

	test('what runs on a robot is stopped from a form', async () => {
		const jobId = await submit({ shell: 'sleep 600' }, { target: { robot: 'paris-1' } });
		await inState(jobId, 'running');
		const { id } = await import_('stop-what-runs-on-a-robot.json');
		await fleet.n8n.activate(id);
		await fillIn('/form/robot-fleet-stop', 'paris-1');
		await inState(jobId, 'cancelled');
	}, 60_000);

	test('what a program asks is answered in a form, and typed once', async () => {
		const { id } = await import_('prompt-answered-from-a-form.json');
		await fleet.n8n.activate(id);
		await fillIn('/form/robot-fleet-deploy', '7.0');
		const asking = await fleet.n8n.waitForExecution(
			(each) => each.workflowId === id && each.status === 'waiting',
			20_000,
		);
		expect(asking.data.resultData.lastNodeExecuted).toBe('Ask the person');
		const [stands] = json(asking, 'How it stands') as Job[];
		expect(stands!.waitingFor!.text).toContain('Deploy 7.0 to production? [y/N]');
		await fillIn(`/form-waiting/${asking.id}?signature=${asking.data.resumeToken}`, 'y');
		const job = await until(
			async () => {
				const now = await fleet.job(stands!.jobId);
				return now.state === 'completed' ? now : undefined;
			},
			{ deadlineMs: 20_000, what: () => 'the job to go on with the answer' },
		);
		expect(job.result!.stdout).toContain('deployed 7.0');
	}, 60_000);

	test('an agent looks up the robots, runs a program on one, and answers with what it has read', async () => {
		const heard: unknown[][] = [];
		await using model = await OpenAiStandIn.open((asked) => {
			const answers = toolAnswers(asked);
			heard.push(answers);
			const named = (part: string) =>
				asked.tools!.find((tool) => tool.function.name.includes(part))!.function.name;
			if (answers.length === 0) return [{ tool: named('List'), args: {} }];
			if (answers.length === 1) {
				const args = { robot: 'paris-1', program: 'uname', args: '-s\n-n' };
				return [{ tool: named('Run'), args }];
			}
			if (answers.length === 2) {
				// An empty text is no argument: uname would refuse one that is empty.
				const args = { robot: 'paris-1', program: 'uname', args: '' };
				return [{ tool: named('Run'), args }];
			}
			const [, two, none] = answers.map((answer) => JSON.stringify(answer));
			return `It is ${/Linux \S/.test(two!) && /Linux[^ ]/.test(none!) ? 'Linux' : 'unknown'}`;
		});
		const credential = await fleet.n8n.createCredential({
			name: 'A model',
			type: 'openAiApi',
			data: { apiKey: 'none', url: model.url },
		});
		const execution = await clicked('ai-agent-with-fleet-tools.json', (nodes) => {
			nodes.find(({ name }) => name === 'Chat model')!.credentials = { openAiApi: credential };
		});
		expect(JSON.stringify(heard.at(-1)![0])).toContain('berlin-1');
		expect(json(execution, 'Agent')).toMatchObject([{ output: 'It is Linux' }]);
	}, 60_000);

	test('a robot that was lost has started one execution, and its message says what it worked on', async () => {
		const execution = await fleet.n8n.waitForExecution(
			(each) => each.workflowId === watching && ['success', 'error'].includes(each.status),
			130_000,
		);
		expect(execution.data.resultData.error).toBeUndefined();
		const text = /^oslo-1 is away since 20\S+Z\. Its last jobs: \S+ \(completed\)$/;
		expect(json(execution, 'Tell somebody')).toMatchObject([{ text: expect.stringMatching(text) }]);
		expect(await fleet.n8n.executions({ workflowId: watching })).toHaveLength(1);
	}, 150_000);

	test('doctor finds nothing to mend behind all of this, and knows whose service it is', () => {
		const args = [doctor, 'doctor', '--json', '--data', fleet.dataFolder];
		const found = JSON.parse(String(spawnSync(process.execPath, args).stdout)) as Finding[];
		expect(found.filter(({ ok }) => !ok)).toEqual([]);
		const about = (check: string) => found.find((finding) => finding.check === check)!.text;
		expect(about('n8n')).toContain('in n8n starts the service');
		expect(about('n8n key')).toContain('may submit, read, cancel');
		expect(about('robots')).toContain('2 may get jobs');
	});

	test('no example is left out', () => {
		const there = readdirSync(folder).filter((file) => file.endsWith('.json'));
		expect([...ran, ...elsewhere].sort()).toEqual(there.sort());
	});
});

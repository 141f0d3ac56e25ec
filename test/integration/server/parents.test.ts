/** One job for several robots, over real sockets: the whole service in this process, robots that are played. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FleetClient } from '../../../client';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { addressOf } from '../../../dispatcher/cli/terminal';
import { httpSend } from '../../../dispatcher/cli/transport';
import { readConfig } from '../../../dispatcher/config';
import { type Service, startService } from '../../../dispatcher/startup';
import { enrolProof, helloProof, type JobAssignment, type Submit } from '../../../protocol';
import { helloOf, makeRobot, RawLink, signText } from './house';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const command: Submit = { kind: 'command', spec: { command: 'uptime' } };

let folder: string;
let service: Service;
let client: FleetClient;
let links: RawLink[];

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-parents-'));
	service = await startService({
		config: readConfig({ flags: { data: folder, port: '0' } }),
		log: silent,
		onFatal(error) {
			throw error;
		},
	});
	client = new FleetClient(httpSend(addressOf(world().world, folder)));
	links = [];
});
afterEach(async () => {
	for (const link of links) await link[Symbol.asyncDispose]();
	await service.close();
	rmSync(folder, { recursive: true });
});

function world() {
	const said = { out: '', err: '' };
	const one: ProgramWorld = {
		version: '0.0.0',
		env: { ROBOT_FLEET_DATA: folder },
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => 0,
		sleep: async () => undefined,
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		serve: async () => 0,
		upkeep: {
			backup: () => Promise.reject(new Error('not here')),
			preview: () => {
				throw new Error('not here');
			},
			restore: () => Promise.reject(new Error('not here')),
		},
	};
	return { world: one, said };
}

/** Runs one command of the CLI to its end. */
async function cli(...args: string[]) {
	const { world: one, said } = world();
	const code = await runProgram(args, one);
	return { code, ...said };
}

class Robot {
	readonly robotId: string;
	readonly #link: RawLink;

	constructor(robotId: string, link: RawLink) {
		this.robotId = robotId;
		this.#link = link;
	}

	static async enrol(name: string, labels: Record<string, string> = {}): Promise<Robot> {
		const key = makeRobot();
		const { token } = await client.createToken({ labels });
		const answer = await fetch(`${service.url}/api/v1/robots/enrol`, {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify({
				token,
				name,
				publicKey: key.publicKey,
				signature: signText(key.privateKey, enrolProof(token, key.publicKey)),
			}),
		});
		const { robotId, hubId } = (await answer.json()) as { robotId: string; hubId: string };
		const link = new RawLink(service.url);
		links.push(link);
		const { payload } = await link.next('connected');
		const signature = signText(key.privateKey, helloProof(hubId, robotId, payload.nonce));
		link.say('hello', helloOf({ ...key, robotId }, payload.nonce, { signature }));
		await link.next('robot_registered');
		return new Robot(robotId, link);
	}

	async assigned(): Promise<JobAssignment> {
		return (await this.#link.next('job_assignment')).payload as JobAssignment;
	}

	/** Takes the next job and ends it. */
	async work(exitCode: number, stdout = ''): Promise<void> {
		const { job_id, attempt, epoch, token } = await this.assigned();
		const ref = { job_id, attempt, epoch, token };
		this.#link.say('job_accepted', { ...ref, started_at: '2026-01-01T00:00:00Z' });
		this.#link.say('job_result', {
			...ref,
			state: exitCode === 0 ? 'completed' : 'failed',
			cause: exitCode === 0 ? null : 'exit_code',
			output: { stdout: 0, stderr: 0 },
			result: {
				exit_code: exitCode,
				signal: null,
				stdout,
				stderr: '',
				truncated: false,
				outputs: {},
				duration_ms: 1,
				error: null,
				process_gone: true,
			},
		});
		await this.#link.next('result_ack');
	}
}

test('three robots do one job: the parent is read, listed and waited for as one', async () => {
	const robots = [await Robot.enrol('a'), await Robot.enrol('b'), await Robot.enrol('c')];
	const { jobId, state } = await client.submit({ ...command, target: { mode: 'all' } });
	expect(state).toBe('running');
	const waiting = client.job(jobId, 30_000);
	const [a, b, c] = robots as [Robot, Robot, Robot];
	await a.work(0);
	await b.work(3);
	expect(await client.job(jobId)).toMatchObject({
		state: 'running',
		progress: 66,
		children: { total: 3, dispatched: 1, completed: 1, failed: 1 },
	});
	expect((await client.why(jobId)).text).toBe(
		'The job waits for 1 of its 3 children: 1 dispatched.',
	);
	await c.work(0);
	expect(await waiting).toMatchObject({
		state: 'failed',
		cause: 'dependency',
		error: { message: 'Not all children completed: 2 completed, 1 failed.' },
		result: { outputs: { children: { completed: 2, failed: 1 }, cellsLeftOut: 0 } },
	});
	const first = await client.jobs({ parent: jobId, limit: 2 });
	const rest = await client.jobs({ parent: jobId, limit: 2, cursor: first.cursor });
	const cells = [...first.items, ...rest.items].map(({ cell }) => cell);
	expect(cells.toSorted()).toEqual(robots.map(({ robotId }) => robotId).toSorted());
	expect((await client.jobs({ parent: jobId, state: 'failed' })).items).toMatchObject([
		{ parentId: jobId, cell: b.robotId, robotId: b.robotId },
	]);
	const wait = await client.createWait({ jobIds: [jobId] });
	expect((await client.wait(wait.waitId)).jobs).toMatchObject([{ jobId, state: 'failed' }]);
});

test('what cannot be met is refused in one sentence', async () => {
	await Robot.enrol('a', { site: 'berlin' });
	const refused = async (target: unknown) =>
		client.submit({ ...command, target } as Submit).then(
			() => 'taken',
			({ message }: Error) => message,
		);
	expect(await refused({ mode: 'all', labels: { site: 'rome' } })).toBe(
		'0 of 1 robots match (label site=rome), but target.mode asks for all; see what they offer with: robot-fleet robots list.',
	);
	expect(await refused({ mode: 'some' })).toBe('target.mode: must be "one", "all" or an object.');
	expect(await refused({ mode: { count: 0 } })).toBe('target.mode.count: must be at least 1.');
});

test('submit --all --wait prints what each robot printed behind its name, and fails when one did', async () => {
	const [a, b] = [await Robot.enrol('alpha'), await Robot.enrol('beta')];
	const good = cli('submit', '--all', '--wait', '--', 'uptime');
	await Promise.all([a.work(0, 'up 1 day\nload 0\n'), b.work(0, 'up 2 days')]);
	expect(await good).toEqual({
		code: 0,
		out: 'alpha: up 1 day\nalpha: load 0\nbeta: up 2 days\n',
		err: '',
	});
	const bad = cli('submit', '--count', '2', '--wait', '--', 'uptime');
	await Promise.all([a.work(0, 'up\n'), b.work(3)]);
	expect(await bad).toEqual({
		code: 1,
		out: 'alpha: up\n',
		err: 'beta: failed (The command ended with exit code 3.)\nThe job ended: failed (Not all children completed: 1 completed, 1 failed).\n',
	});
});

test('jobs show, list and cancel know children', async () => {
	const robot = await Robot.enrol('alpha');
	const { out } = await cli('submit', '--all', '--', 'uptime');
	const jobId = out.trim();
	const { job_id: child } = await robot.assigned();
	const shown = await cli('jobs', 'show', jobId);
	expect(shown.out).toMatch(/^children +1: 1 dispatched$/m);
	expect(shown.out).toMatch(new RegExp(`^alpha +dispatched +- +- +- +- +${child}$`, 'm'));
	const listed = await cli('jobs', 'list', '--parent', jobId);
	expect(listed.out.split('\n')[1]).toMatch(new RegExp(`^${child} .* alpha `));
	expect((await cli('jobs', 'cancel', jobId)).out).toBe('running, cancel requested\n');
	expect(await client.job(child)).toMatchObject({ cancelRequestedAt: expect.any(Number) });
});

test('--all and --count are a choice', async () => {
	const { code, err } = await cli('submit', '--all', '--count', '2', '--', 'uptime');
	expect({ code, err }).toEqual({
		code: 2,
		err: "error: option '--all' cannot be used with option '--count <number>'\n",
	});
});

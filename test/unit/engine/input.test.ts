import { Problem } from '../../../protocol';
import { admin, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let robot: PlayedRobot;
let jobId: string;

beforeEach(async () => {
	h = await house();
	robot = await h.robot('anna', { features: ['input'] });
	jobId = await h.submit({ spec: { command: 'cat', interactive: true } });
	await robot.accept();
});
afterEach(() => h.close());

function ref() {
	const { job_id, attempt, epoch, token } = robot.last;
	return { job_id, attempt, epoch, token };
}

function acknowledge(have: number, state: 'open' | 'ended' | 'closed' = 'open', terminal = false) {
	robot.session.inputAck({ ...ref(), have, state, terminal });
	return settled();
}

function ask(text: string | null, offset = 0) {
	robot.session.prompt({
		...ref(),
		prompt:
			text === null
				? null
				: {
						kind: 'question',
						text,
						hidden: false,
						asked_at: new Date(h.clock.now()).toISOString(),
						offset,
					},
	});
	return settled();
}

/** What became of a call. */
function typing(input: Parameters<House['engine']['input']>[1]) {
	const call: { answer?: unknown } = {};
	h.engine.input(jobId, input).then(
		(answer) => (call.answer = answer),
		(error: unknown) => (call.answer = error instanceof Problem ? error.code : error),
	);
	return call;
}

const sent = () =>
	robot.inputs.map(({ offset, data_b64, eof }) => [
		offset,
		Buffer.from(data_b64, 'base64').toString(),
		...(eof ? ['eof'] : []),
	]);

test('a call waits until its robot has all of it', async () => {
	await acknowledge(0);
	const call = typing({ text: 'hello' });
	await settled();
	expect(sent()).toEqual([[0, 'hello']]);
	await acknowledge(3);
	expect(call.answer).toBeUndefined();
	await acknowledge(5, 'open', true);
	expect(call.answer).toEqual({ have: 5, open: true, terminal: true });
});

test('nothing is sent before the robot has said where the input is', async () => {
	typing({ text: 'hello' });
	await settled();
	expect(sent()).toEqual([]);
	await acknowledge(0);
	expect(sent()).toEqual([[0, 'hello']]);
});

test('on a new line it goes on from where the robot is, and an answered part is not said again', async () => {
	await acknowledge(0);
	const call = typing({ text: 'hello world' });
	await settled();
	robot.session.closed();
	await robot.connect({
		features: ['input'],
		attempts: [{ ...ref(), state: 'running', output: { stdout: 0, stderr: 0 } }],
	});
	expect(sent()).toHaveLength(1);
	await acknowledge(6);
	expect(sent()).toEqual([
		[0, 'hello world'],
		[6, 'world'],
	]);
	await acknowledge(11);
	expect(call.answer).toMatchObject({ have: 11 });
});

test('a word that moves nothing makes it say the rest again', async () => {
	await acknowledge(0);
	typing({ text: 'abc' });
	await settled();
	await acknowledge(0);
	expect(sent()).toEqual([
		[0, 'abc'],
		[0, 'abc'],
	]);
});

test('only so much is under way; the rest follows what was taken', async () => {
	await acknowledge(0);
	for (let i = 0; i < 4; i++) typing({ text: 'x'.repeat(60_000) });
	await settled();
	const underWay = () =>
		robot.inputs.reduce((sum, { data_b64 }) => sum + Buffer.from(data_b64, 'base64').length, 0);
	expect(underWay()).toBeLessThanOrEqual(128 * 1024 + 16 * 1024);
	await acknowledge(100_000);
	expect(underWay()).toBeGreaterThan(200_000);
});

test('a program that does not read is not waited for with ever more memory', async () => {
	await acknowledge(0);
	const calls = Array.from({ length: 18 }, () => typing({ text: 'x'.repeat(65_536) }));
	await settled();
	expect(calls.map(({ answer }) => answer).filter(Boolean)).toEqual(['input-full', 'input-full']);
});

test('a call that nobody answers ends, and its repetition types nothing twice', async () => {
	await acknowledge(0);
	const call = typing({ text: 'once', from: 0 });
	await settled();
	await h.clock.advance(20_000);
	expect(call.answer).toBe('input-late');
	const again = typing({ text: 'once', from: 0 });
	await acknowledge(4);
	expect(again.answer).toMatchObject({ have: 4 });
	expect(sent()).toEqual([[0, 'once']]);
});

test('after a restart of the service a repetition is known by its offset', async () => {
	await acknowledge(0);
	typing({ text: 'abc', from: 0 });
	await acknowledge(3);
	const before = ref();
	await h.restart();
	robot = robot.reconnectable(() => h.engine);
	await robot.connect({
		features: ['input'],
		attempts: [{ ...before, state: 'running', output: { stdout: 0, stderr: 0 } }],
	});
	robot.session.inputAck({ ...before, have: 3, state: 'open', terminal: false });
	await settled();
	const again = typing({ text: 'abcd', from: 0 });
	await settled();
	expect(sent()).toEqual([[3, 'd']]);
	robot.session.inputAck({ ...before, have: 4, state: 'open', terminal: false });
	await settled();
	expect(again.answer).toMatchObject({ have: 4 });
});

test('eof goes with the last bytes, and again by itself until it is taken', async () => {
	await acknowledge(0);
	const call = typing({ text: 'end', eof: true });
	await settled();
	expect(sent()).toEqual([[0, 'end', 'eof']]);
	await acknowledge(3);
	expect(sent()).toEqual([
		[0, 'end', 'eof'],
		[3, '', 'eof'],
	]);
	expect(typing({ text: 'more' })).toEqual({});
	await acknowledge(3, 'ended');
	expect(call.answer).toEqual({ have: 3, open: false, terminal: false });
});

test('a program that closed its input is told to who types', async () => {
	await acknowledge(0);
	const call = typing({ text: 'hello' });
	await settled();
	await acknowledge(2, 'closed');
	expect(call.answer).toBe('input-closed');
});

test('two who type at the same place: the second is refused, and may type behind the first', async () => {
	await acknowledge(0);
	typing({ text: 'ann', from: 0, writer: 'a' });
	const ben = typing({ text: 'ben', from: 0, writer: 'b' });
	await settled();
	expect(ben.answer).toBe('input-taken');
	typing({ text: 'ben', from: 3, writer: 'b' });
	await settled();
	expect(sent()).toEqual([
		[0, 'ann'],
		[3, 'ben'],
	]);
});

test('the size of the window is told, and again on a new line', async () => {
	await acknowledge(0);
	typing({ size: { cols: 80, rows: 25 } });
	await settled();
	robot.session.closed();
	await robot.connect({
		features: ['input'],
		attempts: [{ ...ref(), state: 'running', output: { stdout: 0, stderr: 0 } }],
	});
	await acknowledge(0);
	expect(robot.resizes.map(({ cols, rows }) => [cols, rows])).toEqual([
		[80, 25],
		[80, 25],
	]);
});

describe('is refused', () => {
	test('when the agent is too old for it', async () => {
		robot.takesInput = false;
		robot.session.closed();
		await robot.connect({
			attempts: [{ ...ref(), state: 'running', output: { stdout: 0, stderr: 0 } }],
		});
		const call = typing({ text: 'x' });
		await settled();
		expect(call.answer).toBe('input-unsupported');
	});

	test('when its robot is away', async () => {
		robot.session.closed();
		const call = typing({ text: 'x' });
		await settled();
		expect(call.answer).toBe('robot-away');
	});

	test('when the attempt ends meanwhile', async () => {
		await acknowledge(0);
		const call = typing({ text: 'x' });
		await settled();
		await robot.end();
		expect(call.answer).toBe('not-running');
	});
});

describe('a prompt', () => {
	const prompts = async () => {
		const { epoch } = await h.engine.subscribe(
			'p',
			{ filter: { event: 'job.prompt' }, from: 'start' },
			admin,
		);
		return h.engine.events('p', epoch, admin, 0);
	};
	const asks = async () =>
		(await h.engine.timeline(jobId)).filter(({ reason }) => reason.startsWith('asks'));

	test('shows in the job while it is open, in the timeline and as an event', async () => {
		await ask('Name?');
		expect((await h.engine.job(jobId)).waitingFor).toEqual({
			kind: 'question',
			text: 'Name?',
			hidden: false,
			askedAt: h.clock.now(),
			offset: 0,
		});
		expect((await h.engine.jobs({ limit: 10 })).items[0]!.waitingFor?.text).toBe('Name?');
		expect(await asks()).toMatchObject([{ reason: 'asks: Name?', from: 'running', to: 'running' }]);
		expect(await prompts()).toMatchObject([{ type: 'job.prompt', data: { jobId, text: 'Name?' } }]);
		await ask(null);
		expect((await h.engine.job(jobId)).waitingFor).toBeNull();
	});

	test('that is said again on a new line is one prompt', async () => {
		await ask('Name?');
		await ask('Name?');
		expect(await asks()).toHaveLength(1);
		expect(await prompts()).toHaveLength(1);
		await ask('Name?', 5);
		expect(await asks()).toHaveLength(2);
	});

	test('is gone with its attempt', async () => {
		await ask('Name?');
		await robot.end();
		expect((await h.engine.job(jobId)).waitingFor).toBeNull();
	});

	test('asked for ever does not make the timeline endless', async () => {
		for (let i = 0; i < 80; i++) await ask('Name?', i);
		expect(await asks()).toHaveLength(50);
	});

	test('asked for ever writes no end of events, and is seen in the job all the same', async () => {
		for (let i = 0; i <= 1_000; i++) await ask('Name?', i);
		const { epoch } = await h.engine.subscribe(
			'p',
			{ filter: { event: 'job.prompt' }, from: 'start' },
			admin,
		);
		let count = 0;
		for (;;) {
			const events = await h.engine.events('p', epoch, admin, 0);
			if (events.length === 0) break;
			count += events.length;
			await h.engine.acknowledge('p', epoch, events.at(-1)!.cursor, admin);
		}
		expect(count).toBe(1_000);
		expect((await h.engine.job(jobId)).waitingFor).toMatchObject({ offset: 1_000 });
	});

	test('of an attempt that is over changes nothing', async () => {
		await robot.end();
		await ask('Name?');
		expect(await prompts()).toEqual([]);
	});
});

test('how long a prompt may wait is told to the robot', async () => {
	await robot.end();
	await h.submit({ timeouts: { inputMs: 7_000 } });
	expect(robot.last.timeouts.input_ms).toBe(7_000);
});

/** Typing into running jobs, and what they ask: the real service and a real robot over real sockets. */
import { isFinal, type Job, Problem, type Submit } from '../../../protocol';
import { filesWith } from '../../support/files-with';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(60_000);

let house: WholeHouse;
beforeEach(async () => {
	house = await WholeHouse.open();
	await house.robot('anna');
});
afterEach(() => house[Symbol.asyncDispose]());

async function submit(shell: string, more: Partial<Submit> = {}, interactive = true) {
	const spec = { shell, ...(interactive ? { interactive } : {}) };
	return (await house.client.submit({ kind: 'command', spec, ...more })).jobId;
}

async function until<T>(what: string, look: () => Promise<T | false | null | undefined>) {
	const lateAt = Date.now() + 20_000;
	for (;;) {
		const found = await look();
		if (found) return found;
		if (Date.now() > lateAt) throw new Error(`there never was ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

const running = (jobId: string) =>
	until('a running job', async () => (await house.client.job(jobId)).state === 'running');

const asked = (jobId: string) =>
	until('a prompt', async () => (await house.client.job(jobId)).waitingFor);

async function ended(jobId: string): Promise<Job> {
	const job = await house.client.job(jobId, 30_000);
	return { ...job, result: { ...job.result!, durationMs: 0 } };
}

async function refusal(typed: Promise<unknown>): Promise<string> {
	try {
		await typed;
	} catch (error) {
		if (error instanceof Problem) return error.code;
		throw error;
	}
	return 'taken';
}

test('what is typed reaches the program in order, and the call answers when the robot has it', async () => {
	const jobId = await submit('read a; read b; echo "$b$a"; exit 7');
	await running(jobId);
	expect(await house.client.input(jobId, { text: 'one\n' })).toEqual({
		have: 4,
		open: true,
		terminal: false,
	});
	expect(
		(await house.client.input(jobId, { dataB64: Buffer.from('two\n').toString('base64') })).have,
	).toBe(8);
	expect(await ended(jobId)).toMatchObject({
		state: 'failed',
		result: { exitCode: 7, stdout: 'twoone\n' },
	});
});

test('a call that is repeated by its offset types nothing twice, and one that would leave a gap is refused', async () => {
	const jobId = await submit('cat');
	await running(jobId);
	const first = { text: 'abc', from: 0 };
	await house.client.input(jobId, first);
	expect((await house.client.input(jobId, first)).have).toBe(3);
	expect((await house.client.input(jobId, { text: 'bcd', from: 1 })).have).toBe(4);
	expect(await refusal(house.client.input(jobId, { text: 'x', from: 5 }))).toBe('input-gap');
	expect(await house.client.input(jobId, { text: '\n', eof: true })).toMatchObject({
		have: 5,
		open: false,
	});
	expect((await house.client.input(jobId, { eof: true })).open).toBe(false);
	expect((await ended(jobId)).result!.stdout).toBe('abcd\n');
});

test('of two who answer the same prompt one is heard and the other is told', async () => {
	const jobId = await submit('printf "Sure? [y/n] "; read answer; echo "$answer"');
	const { offset: from } = await asked(jobId);
	const texts = ['yes\n', 'no\n'];
	const answers = await Promise.all(
		texts.map((text, i) =>
			refusal(house.client.input(jobId, { text, from, writer: `person ${i}` })),
		),
	);
	// Which of two connections is read first is nobody's promise.
	expect(answers.toSorted()).toEqual(['input-taken', 'taken']);
	const heard = texts[answers.indexOf('taken')];
	expect((await ended(jobId)).result!.stdout).toBe(`Sure? [y/n] ${heard}`);
});

test('eof closes the input, and nothing more can be typed', async () => {
	const jobId = await submit('wc -c; exec sleep 30');
	await running(jobId);
	await house.client.input(jobId, { text: 'four', eof: true });
	expect(await refusal(house.client.input(jobId, { text: 'more' }))).toBe('input-closed');
	// A program that is cancelled before it has counted says nothing.
	await until('a count', async () => (await house.client.job(jobId)).output.stdout > 0);
	await house.client.cancel(jobId);
	expect((await ended(jobId)).result!.stdout).toMatch(/^\s*4\n$/);
});

test('the input that the spec brings comes first, and what is typed behind it', async () => {
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'cat', stdin: 'first ', interactive: true },
	});
	await running(jobId);
	expect((await house.client.input(jobId, { text: 'second', eof: true })).have).toBe(6);
	expect((await ended(jobId)).result!.stdout).toBe('first second');
});

describe('is refused with a sentence', () => {
	test('typing into a job that is not interactive', async () => {
		const jobId = await submit('sleep 30', {}, false);
		await running(jobId);
		expect(await refusal(house.client.input(jobId, { text: 'x' }))).toBe('not-interactive');
		await house.client.cancel(jobId);
	});

	test('typing into a job that waits, or has ended', async () => {
		const jobId = await submit('cat', { target: { labels: { moon: 'full' } } });
		expect(await refusal(house.client.input(jobId, { text: 'x' }))).toBe('not-yet-running');
		await house.client.cancel(jobId);
		expect(await refusal(house.client.input(jobId, { text: 'x' }))).toBe('not-running');
		expect(await refusal(house.client.input('0192ffff-0000-7000-8000-000000000000', {}))).toBe(
			'no-such-job',
		);
	});

	test('more than one call may type, and text beside bytes', async () => {
		const jobId = await submit('cat');
		await running(jobId);
		const large = { text: 'é'.repeat(40_000) };
		expect(await refusal(house.client.input(jobId, large))).toBe('too-large');
		expect(await refusal(house.client.input(jobId, { text: 'x', dataB64: 'eA==' }))).toBe(
			'bad-field',
		);
		await house.client.input(jobId, { eof: true });
		await ended(jobId);
	});
});

test('a prompt shows in the job, its timeline and its event; the answer ends it', async () => {
	const subscription = await house.client.subscribe('prompts', { filter: { event: 'job.prompt' } });
	const jobId = await submit('printf "Your name: "; read n; echo; echo "hello $n"');
	expect(await asked(jobId)).toMatchObject({
		kind: 'question',
		text: 'Your name:',
		hidden: false,
		offset: 0,
	});
	const [event] = await house.client.events('prompts', subscription.epoch, 5_000);
	expect(event).toMatchObject({
		type: 'job.prompt',
		data: { jobId, attempt: 1, kind: 'question', text: 'Your name:', offset: 0 },
	});
	await house.client.input(jobId, { text: 'Ada\n', from: 0 });
	expect(await ended(jobId)).toMatchObject({ state: 'completed', waitingFor: null });
	const reasons = (await house.client.timeline(jobId)).map(({ reason }) => reason);
	expect(reasons).toEqual(['submitted', 'assigned', 'accepted', 'asks: Your name:', 'completed']);
	expect((await house.client.job(jobId)).waitingFor).toBeNull();
});

test('a typed password is in no file of the service and of the robot, not even when it is echoed', async () => {
	const secret = 'correct-horse-7315';
	const jobId = await submit(
		'printf "Password: "; read -r p; printf "%s\\n" "$p"; echo "${#p} characters"; printf "Again: "; read -r q; echo done',
	);
	expect(await asked(jobId)).toMatchObject({ kind: 'password', hidden: true, offset: 0 });
	await house.client.input(jobId, { text: `${secret}\n`, from: 0 });
	await until('the second question', async () => {
		const { waitingFor } = await house.client.job(jobId);
		return waitingFor?.text === 'Again:';
	});
	// While it runs and after its end; base64 is what it looks like on its way.
	const forms = [secret, Buffer.from(`${secret}\n`).toString('base64').slice(0, 20)];
	expect(forms.flatMap((form) => filesWith(house.folder, form))).toEqual([]);
	await house.client.input(jobId, { text: '\n' });
	const job = await ended(jobId);
	expect(job.result!.stdout).toBe(
		`Password: ${'*'.repeat(secret.length)}\n18 characters\nAgain: done\n`,
	);
	expect(forms.flatMap((form) => filesWith(house.folder, form))).toEqual([]);
	// The search itself finds what is there.
	expect(filesWith(house.folder, '18 characters').length).toBeGreaterThan(0);
});

test('while a program waits for an answer its silence does not count; afterwards it does', async () => {
	// On a busy machine one may be stopped before it has asked: then once more.
	const asking = async () => {
		for (;;) {
			const jobId = await submit('printf "Continue? [y/N] "; read a; sleep 30', {
				timeouts: { silenceMs: 1_500 },
			});
			const { waitingFor } = await until('a prompt, or the end', async () => {
				const job = await house.client.job(jobId);
				return (job.waitingFor !== null || isFinal(job.state)) && job;
			});
			if (waitingFor) return { jobId, askedAt: waitingFor.askedAt };
		}
	};
	const { jobId, askedAt } = await asking();
	await until('more silence than it may have', async () => Date.now() - askedAt > 2_500);
	expect((await house.client.job(jobId)).state).toBe('running');
	await house.client.input(jobId, { text: 'y\n' });
	expect(await ended(jobId)).toMatchObject({ state: 'timeout', cause: 'silence_timeout' });
});

test('a program whose question nobody answers is stopped after inputMs, and the job says so', async () => {
	const jobId = await submit('printf "Continue? [y/N] "; read a', {
		timeouts: { inputMs: 300 },
	});
	expect(await ended(jobId)).toMatchObject({
		state: 'timeout',
		cause: 'silence_timeout',
		error: { message: expect.stringContaining('nobody answered in time') as string },
	});
});

test('marker lines become progress, message and outputs, and stay in the output', async () => {
	const lines = [
		'::fleet:progress 40 compiling',
		'::fleet:output {"version":"1.4","n":1}',
		'::fleet:output {"n":2}',
		'::fleet:output {broken',
		'::fleet:progress 80 testing',
	];
	const jobId = await submit(`printf '%s\\n' '${lines.join("' '")}'; read go`);
	await until('the last of the progress', async () => {
		const { progress, message } = await house.client.job(jobId);
		return progress === 80 && message === 'testing';
	});
	await house.client.input(jobId, { eof: true });
	const job = await ended(jobId);
	expect(job.result).toMatchObject({
		outputs: { version: '1.4', n: 2 },
		stdout: `${lines.join('\n')}\n`,
		logs: [expect.stringContaining('not JSON') as string],
	});
});

test('who follows the output hears of a prompt, of its answer, and of the next line while the program goes on', async () => {
	const jobId = await submit('printf "Name? "; read n; echo "$n"; read end');
	const { address } = house;
	const answer = await fetch(`${address.url}/api/v1/jobs/${jobId}/output`, {
		headers: { accept: 'text/event-stream', authorization: `Bearer ${address.key}` },
	});
	const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
	let heard = '';
	const hear = async (pattern: RegExp) => {
		while (!pattern.test(heard)) heard += (await reader.read()).value ?? '';
	};
	await hear(/event: prompt\nid: .*\ndata: \{"waitingFor":\{"kind":"question","text":"Name\?"/);
	await house.client.input(jobId, { text: 'Ada\n' });
	await hear(/"text":"Ada\\n"/);
	expect((await house.client.job(jobId)).state).toBe('running');
	await hear(/data: \{"waitingFor":null\}/);
	await house.client.input(jobId, { eof: true });
	await hear(/event: end/);
});

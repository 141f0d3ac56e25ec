/** `robot-fleet attach` and `jobs input`: the command line over a real service and a real robot. */
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Keyboard } from '../../../dispatcher/cli/keyboard';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(60_000);

let house: WholeHouse;
beforeEach(async () => {
	house = await WholeHouse.open();
	await house.robot('anna');
});
afterEach(() => house[Symbol.asyncDispose]());

type Listener = Parameters<Keyboard['open']>[0];

/** Keys are pressed by the test. */
class Keys implements Keyboard {
	readonly isTerminal: boolean;
	readonly size = { cols: 100, rows: 30 };
	isRaw = false;
	#listener: Listener | undefined;
	#early: ((listener: Listener) => void)[] = [];

	constructor({ isTerminal = true } = {}) {
		this.isTerminal = isTerminal;
	}

	raw(on: boolean): void {
		this.isRaw = on;
	}

	open(on: Listener): void {
		this.#listener = on;
		for (const one of this.#early.splice(0)) one(on);
	}

	close(): void {
		this.isRaw = false;
		this.#listener = undefined;
	}

	get isOpen(): boolean {
		return this.#listener !== undefined;
	}

	press(keys: string | Uint8Array): void {
		this.#say((on) => on.typed(Buffer.from(keys)));
	}

	end(): void {
		this.#say((on) => on.ended());
	}

	#say(word: (listener: Listener) => void): void {
		if (this.#listener) word(this.#listener);
		else this.#early.push(word);
	}
}

/** One call of the program; what it prints can be waited for. */
class Call {
	out = '';
	err = '';
	readonly keys: Keys;
	readonly code: Promise<number>;
	#isOver = false;

	constructor(args: string[], keys = new Keys(), pause: (ms: number) => Promise<void> = sleep) {
		this.keys = keys;
		const { url, key } = house.address;
		const world: ProgramWorld = {
			version: '0',
			env: { ROBOT_FLEET_URL: url, ROBOT_FLEET_KEY: key },
			out: (text) => void (this.out += Buffer.from(text).toString()),
			err: (text) => void (this.err += Buffer.from(text).toString()),
			now: () => Date.now(),
			keyboard: keys,
			sleep: pause,
			nodeIsTooOld: () => false,
			sqliteIsSafe: () => true,
			upkeep: {} as ProgramWorld['upkeep'],
			serve: async () => 0,
		};
		this.code = runProgram(args, world).finally(() => (this.#isOver = true));
	}

	async until(what: string, look: () => boolean): Promise<void> {
		const lateAt = Date.now() + 20_000;
		while (!look()) {
			if (this.#isOver || Date.now() > lateAt) {
				throw new Error(`there never was ${what}: ${this.out}${this.err}`);
			}
			await sleep(10);
		}
	}

	async prints(text: string): Promise<void> {
		await this.until(text, () => this.out.includes(text));
	}
}

const interactive = async (shell: string) =>
	(await house.client.submit({ kind: 'command', spec: { shell, interactive: true } })).jobId;

test('submit --interactive --attach is the program here: its output, our lines, its exit code', async () => {
	const script = 'printf "Name? "; read n; echo "hello $n"; echo told >&2; exit 7';
	const call = new Call(['submit', '--interactive', '--attach', '--', 'sh', '-c', script]);
	await call.prints('Name? ');
	call.keys.press('Ada\n');
	expect(await call.code).toBe(7);
	expect(call.out).toBe('Name? hello Ada\n');
	expect(call.err).toBe('told\n');
	expect(call.keys.isOpen).toBe(false);
});

test('who attaches late reads from the first byte, with --tail only what comes from then on', async () => {
	const jobId = await interactive('echo early; read go; echo late; read end');
	const first = new Call(['attach', jobId]);
	await first.prints('early\n');
	const second = new Call(['attach', jobId, '--tail']);
	await second.until('an open keyboard', () => second.keys.isOpen);
	first.keys.press('\n');
	await Promise.all([first.prints('late\n'), second.prints('late\n')]);
	second.keys.press('\n');
	expect(await Promise.all([first.code, second.code])).toEqual([0, 0]);
	expect([first.out, second.out]).toEqual(['early\nlate\n', 'late\n']);
});

test('Ctrl+] leaves, sends what was typed before it, and the job goes on', async () => {
	const jobId = await interactive('read a; echo "$a"; read b; exit 3');
	while ((await house.client.job(jobId)).state !== 'running') await sleep(10);
	// From here on it can be typed into; who leaves waits two seconds for that, which do not go by here.
	await house.client.input(jobId, {});
	const call = new Call(['attach', jobId], new Keys(), () => new Promise(() => undefined));
	await call.until('an open keyboard', () => call.keys.isOpen);
	call.keys.press('one\n\u001dnot this\n');
	expect(await call.code).toBe(0);
	expect(call.err).toContain(`robot-fleet attach ${jobId}`);
	const back = new Call(['attach', jobId]);
	await back.prints('one\n');
	back.keys.press('two\n');
	expect(await back.code).toBe(3);
});

test('a secret is typed unseen, can be corrected, and then keys are shown again', async () => {
	const jobId = await interactive('printf "Password: "; read p; echo; echo "${#p}"; read end');
	const call = new Call(['attach', jobId]);
	await call.until('a hidden prompt', () => call.keys.isRaw);
	call.keys.press('secreT\u007ft!!\u007f\r');
	await call.prints('\n7\n');
	expect(call.keys.isRaw).toBe(false);
	call.keys.press('\n');
	expect(await call.code).toBe(0);
});

test('what stands in a pipe is typed whole and closes the input', async () => {
	const bytes = randomBytes(300_000);
	const jobId = await interactive('sha256sum');
	const keys = new Keys({ isTerminal: false });
	const call = new Call(['attach', jobId], keys);
	for (let at = 0; at < bytes.length; at += 65_536) keys.press(bytes.subarray(at, at + 65_536));
	keys.end();
	expect(await call.code).toBe(0);
	expect(call.out).toContain(createHash('sha256').update(bytes).digest('hex'));
});

test('jobs input answers a prompt with a line, and - with what stands in a pipe', async () => {
	const jobId = await interactive('read a; echo "$a"; cat');
	await house.client.input(jobId, {}).catch(() => undefined);
	const line = new Call(['attach', jobId, '--no-input']);
	const answer = new Call(['jobs', 'input', jobId, 'yes', '--from', '0']);
	expect(await answer.code).toBe(0);
	expect(answer.out).toBe('4 bytes typed in all\n');
	const keys = new Keys({ isTerminal: false });
	keys.press('from a pipe');
	keys.end();
	const piped = new Call(['jobs', 'input', jobId, '-', '--eof'], keys);
	expect(await piped.code).toBe(0);
	expect(piped.out).toBe('15 bytes typed in all, closed\n');
	expect(await line.code).toBe(0);
	expect(line.out).toBe('yes\nfrom a pipe');
});

test('attaching to a job that has ended prints it all and gives its exit code', async () => {
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { shell: 'echo gone; exit 5' },
	});
	await house.client.job(jobId, 20_000);
	const call = new Call(['attach', jobId]);
	expect(await call.code).toBe(5);
	expect(call.out).toBe('gone\n');
	const late = new Call(['jobs', 'input', jobId, 'x']);
	expect(await late.code).toBe(1);
	expect(late.err).toContain('[not-interactive]');
});

test('in a real terminal the program sees the window, a secret is not echoed, and Ctrl+D ends the input', async () => {
	await house.robot('bert', { terminals: true });
	const shell =
		'test -t 0 && stty size; read -p "Name? " n; read -s -p "Password: " p; echo; cat; exit 9';
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'bash', args: ['-c', shell], interactive: true },
		target: { robot: 'bert' },
	});
	const call = new Call(['attach', jobId]);
	await call.prints('Name? ');
	call.keys.press('Ada\r');
	await call.prints('Password: ');
	call.keys.press('s3cr3t-in-a-terminal\r');
	// Until bash has read it the terminal echoes nothing.
	await call.prints('Password: \r\n');
	call.keys.press('last words\r');
	await call.prints('last words\r\nlast words');
	call.keys.press('\x04');
	expect(await call.code).toBe(9);
	expect(call.out).not.toContain('s3cr3t');
	expect(call.out).toContain('Name? Ada\r\n');
});

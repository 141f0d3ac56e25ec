/** Real processes and the real /proc; only the time between two looks is the test's. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { type Pulse, pulsesOf } from '../../../agent/drivers/pulse';
import { Watch } from '../../../agent/watcher/watch';
import { Watching } from '../../../agent/watcher/watching';
import { commandClasses, commandClassOf } from '../../../kinds/command-class';
import type { AttemptHealth, WireWatch } from '../../../protocol';

const onLinux = process.platform === 'linux' ? describe : describe.skip;

/** A clock that stands still until it is told to go on. */
function standingClock() {
	let now = 1_000;
	return {
		now: () => now,
		monotonic: () => now,
		chance: () => 0,
		sleep: async () => await new Promise<boolean>(() => undefined),
		pass: (ms: number) => (now += ms),
	};
}

onLinux('a real process', () => {
	const children: ChildProcess[] = [];
	afterEach(() => {
		for (const child of children.splice(0)) process.kill(-child.pid!, 'SIGKILL');
	});

	function watch(command: string, ...args: string[]) {
		const clock = standingClock();
		const watching = new Watching(clock);
		const told: AttemptHealth[] = [];
		const mark = randomBytes(8).toString('hex');
		const watched = watching.begin({ kind: 'command', spec: { command, args } }, mark, (health) =>
			told.push(health),
		);
		const child = spawn(command, args, {
			detached: true,
			stdio: ['ignore', 'pipe', 'ignore'],
			env: { PATH: process.env.PATH, ROBOT_FLEET_ATTEMPT_MARK: mark },
		});
		children.push(child);
		watched.started(child.pid!);
		const tree = { mark, group: child.pid! };
		return {
			told,
			states: () => told.map(({ state }) => state),
			child,
			watched,
			/** So many looks, five seconds apart; between them the tree computes at least `cpuMs`. */
			async looks(count: number, cpuMs = 0) {
				for (let n = 0; n < count; n++) {
					await used(tree, cpuMs);
					clock.pass(5_000);
					watching.look();
				}
			},
		};
	}

	const total = ([pulse]: Pulse[]) => [...pulse!.cpuMs.values()].reduce((sum, ms) => sum + ms, 0);

	async function used(tree: { mark: string; group: number }, cpuMs: number): Promise<void> {
		const before = total(pulsesOf([tree])!);
		const late = Date.now() + 10_000;
		while (total(pulsesOf([tree])!) < before + cpuMs) {
			if (Date.now() > late) throw new Error(`the tree never computed for ${cpuMs} ms`);
			await new Promise((resolve) => setImmediate(resolve));
		}
	}

	test('sleep 120 starts, is idle, and then hangs; each is told once', async () => {
		const { looks, states, told } = watch('sleep', '120');
		await looks(12);
		expect(states()).toEqual(['starting', 'idle', 'hanging']);
		expect(told.at(-1)).toMatchObject({ processes: 1, output_bytes: 0, cpu_percent: 0 });
		expect(told.at(-1)!.quiet_ms).toBeGreaterThan(30_000);
	});

	test('a silent busy loop is idle and never hangs', async () => {
		const { looks, states, told } = watch('sh', '-c', 'while :; do :; done');
		await looks(12, 100);
		expect(states()).toEqual(expect.arrayContaining(['idle']));
		expect(states()).not.toContain('hanging');
		expect(told.at(-1)!.cpu_percent).toBeGreaterThanOrEqual(1);
	});

	test('the loop of a grandchild in a session of its own counts as the work of the tree', async () => {
		const { looks, states } = watch(
			...(['sh', '-c', 'setsid sh -c "while :; do :; done" & wait'] as const),
		);
		await looks(12, 100);
		expect(states()).toContain('idle');
		expect(states()).not.toContain('hanging');
		// It left the group: the mark finds it.
		process.kill(Number(await loneChild(children[0]!.pid!)), 'SIGKILL');
	});

	async function loneChild(group: number): Promise<string> {
		const found = await new Promise<string>((resolve) => {
			let text = '';
			spawn('ps', ['-o', 'pid=,ppid=', '-e'])
				.stdout.on('data', (chunk) => (text += chunk))
				.on('end', () => resolve(text));
		});
		return new RegExp(`^\\s*(\\d+)\\s+${group}$`, 'm').exec(found)![1]!;
	}

	test('yes is healthy for as long as it prints', async () => {
		const { looks, states, child, watched } = watch('yes');
		for (let n = 0; n < 10; n++) {
			const chunk = await new Promise<Buffer>((resolve) => child.stdout!.once('data', resolve));
			watched.heard('stdout', chunk);
			await looks(1);
		}
		expect(states()).toEqual(['healthy']);
	});
});

describe('by what it prints', () => {
	const atRest: Pulse = {
		processes: 1,
		memoryBytes: 1,
		cpuMs: new Map([[1, 0]]),
		roots: new Set([1]),
	};

	function after(text: string, ms: number) {
		const watch = new Watch(null, {}, 0);
		watch.look(atRest, 0);
		watch.heard('stdout', Buffer.from(text), 1_000);
		return watch.look(atRest, 1_000 + ms).state;
	}

	test.each([
		'Password: ',
		'Enter passphrase for key /id: ',
		'Overwrite? [y/N] ',
		'Do you want to continue? ',
		'Press any key to go on: ',
	])('a question at the end, and rest behind it, waits for input: %j', (text) => {
		expect(after(`working\n${text}`, 2_000)).toBe('waiting_for_input');
		// However long nobody answers.
		expect(after(`working\n${text}`, 3_600_000)).toBe('waiting_for_input');
	});

	test('a question that was answered, or a line that ended, waits for nothing', () => {
		expect(after('Password: \nwelcome\n', 2_000)).toBe('healthy');
		expect(after('Password: \nwelcome\n', 60_000)).toBe('hanging');
	});

	test('the same error again and again is a loop, whatever numbers are in it', () => {
		const lines = Array.from(
			{ length: 30 },
			(_, n) => `12:00:${n} connection refused (try ${n})\n`,
		);
		expect(after(lines.join(''), 2_000)).toBe('error_loop');
		const good = Array.from({ length: 30 }, (_, n) => `12:00:${n} copied file ${n}\n`);
		expect(after(good.join(''), 2_000)).toBe('healthy');
		expect(after('error: once\n'.repeat(3) + good.join(''), 2_000)).toBe('healthy');
	});

	test('where nobody can tell what a tree computes, nothing is said to hang', () => {
		const watch = new Watch(null, {}, 0);
		expect(watch.look(undefined, 3_600_000)).toMatchObject({ state: 'idle', cpu_percent: null });
	});
});

describe('by what sort of command it is', () => {
	test.each([
		[{ command: 'uname', args: ['-a'] }, 'info'],
		[{ command: '/usr/bin/df' }, 'info'],
		[{ shell: 'sudo systemctl restart nginx' }, 'services'],
		[{ shell: 'tar czf a.tgz dir' }, 'files'],
		[{ command: 'curl', args: ['http://x'] }, 'network'],
		[{ shell: 'git clone http://x' }, 'network'],
		[{ shell: 'DEBIAN_FRONTEND=noninteractive apt-get install -y jq' }, 'packages'],
		[{ command: 'npm', args: ['ci'] }, 'packages'],
		[{ command: 'make', args: ['-j2'] }, 'compile'],
		[{ shell: 'npm run build' }, 'compile'],
		[{ shell: 'docker build .' }, 'compile'],
		[{ shell: 'docker ps' }, 'services'],
		[{ command: 'psql' }, 'interactive'],
		[{ command: './deploy.sh' }, null],
	])('%j is %s', (spec, expected) => {
		expect(commandClassOf(spec)).toBe(expected);
	});

	test('silent or running for longer than its class does is reported, and ends nothing', () => {
		const watch = new Watch('info', commandClasses.info, 0);
		expect(watch.look(undefined, 9_000).overdue).toBeUndefined();
		expect(watch.look(undefined, 11_000)).toMatchObject({
			overdue: 'no_output',
			command_class: 'info',
		});
		watch.heard('stdout', Buffer.from('at last\n'), 12_000);
		expect(watch.look(undefined, 13_000).overdue).toBeUndefined();
		expect(watch.look(undefined, 31_000).overdue).toBe('total');
	});

	/** What is told of a silent command that rests, by the second at which it was. */
	function toldOf(spec: object, watch: WireWatch | undefined, seconds: number) {
		const clock = standingClock();
		const atRest: Pulse = {
			processes: 1,
			memoryBytes: 1,
			cpuMs: new Map([[1, 0]]),
			roots: new Set([1]),
		};
		const watching = new Watching(clock, (trees) => trees.map(() => atRest));
		const told: [number, string, string | undefined][] = [];
		let second = 0;
		const watched = watching.begin({ kind: 'command', spec, watch }, 'mark', (health) =>
			told.push([second, health.state, health.overdue]),
		);
		for (; second <= seconds; second += 5) {
			watching.look();
			clock.pass(5_000);
		}
		watched.end();
		return told;
	}

	test('what the job says of itself counts more than its class, and a class more than its name', () => {
		const info = { command: 'uname' };
		expect(toldOf(info, undefined, 40)).toContainEqual([15, 'idle', 'no_output']);
		expect(toldOf(info, { no_output_ms: 20_000 }, 40)).toContainEqual([25, 'idle', 'no_output']);
		expect(toldOf(info, { total_ms: 600_000, no_output_ms: 500_000 }, 60)).not.toContainEqual(
			expect.arrayContaining(['total']),
		);
		const compiling = toldOf(info, { class: 'compile' }, 130);
		expect(compiling.filter(([, , overdue]) => overdue)).toEqual([[125, 'hanging', 'no_output']]);
		// Of a newer service: its name is all there is to go by.
		expect(toldOf(info, { class: 'cooking' }, 40)).toContainEqual([15, 'idle', 'no_output']);
		expect(toldOf({ command: './deploy.sh' }, { total_ms: 10_000 }, 20)).toContainEqual([
			15,
			'idle',
			'total',
		]);
	});

	test('how long a job may rest before it counts as hanging is its own to say', () => {
		const spec = { command: './deploy.sh' };
		const hangsAt = (watch?: WireWatch) =>
			toldOf(spec, watch, 120).find(([, state]) => state === 'hanging')?.[0];
		expect(hangsAt()).toBe(35);
		expect(hangsAt({ idle_ms: 60_000 })).toBe(65);
		expect(hangsAt({ idle_ms: 10_000 })).toBe(15);
	});
});

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { exitCodeOf } from '../../../dispatcher/cli/follow';
import { jobOf } from '../../../dispatcher/cli/submit';
import { durationOf, momentOf, pairOf, table } from '../../../dispatcher/cli/terminal';
import type { Job } from '../../../protocol';

function world(more: Partial<ProgramWorld> = {}) {
	const said = { out: '', err: '' };
	const served: unknown[] = [];
	const one: ProgramWorld = {
		version: '1.2.3',
		env: { ROBOT_FLEET_DATA: '/nonexistent' },
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => 0,
		sleep: async () => undefined,
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		upkeep: {
			backup: () => Promise.reject(new Error('no data folder here')),
			preview: () => {
				throw new Error('no backup here');
			},
			restore: () => Promise.reject(new Error('no backup here')),
		},
		serve: async (flags) => {
			served.push(flags);
			return 0;
		},
		...more,
	};
	return { world: one, said, served };
}

test('serve hands its flags on as they were typed', async () => {
	const { world: one, served } = world();
	expect(await runProgram(['serve', '--port', '0', '--data', '/d', '--insecure'], one)).toBe(0);
	expect(served).toEqual([{ port: '0', data: '/d', insecure: true }]);
});

test.each([
	[['dance']],
	[['jobs', 'dance']],
	[['jobs', 'show']],
	[['submit']],
	[['submit', '--timeout', '5', '--', 'x']],
	[['submit', '--label', 'os', '--', 'x']],
	[['submit', '--all', '--count', '2', '--', 'x']],
	[['submit', '--cap', 'memory=512', '--', 'x']],
	[['submit', '--cap', 'disk=1G', '--', 'x']],
	[['submit', '--watch', 'loud=1m', '--', 'x']],
	[['submit', '--watch', 'class=cooking', '--', 'x']],
	[['submit', '--watch', 'silent=5', '--', 'x']],
	[['submit', '--offline-then', 'ask', '--', 'x']],
	[['submit', '--offline-for', '2h', '--offline-then', 'pray', '--', 'x']],
	[['submit', '--offline-until', 'tomorrow', '--', 'x']],
	[['robots', 'pause']],
	[['robots', 'pause', 'a', '--label', 'os=linux']],
	[['robots', 'pause', 'a', '--for', '2h', '--until', '18:00']],
	[['robots', 'pause', 'a', '--dry-run']],
	[['robots', 'quarantine', 'a']],
	[['jobs', 'answer', 'id', 'perhaps']],
	[['key', 'create', '--name', 'x']],
	[['serve', '--prot', '1']],
	[['simulate', '--failures', '5']],
	[['simulate', '--latency', '200ms..20ms']],
	[['simulate', 'dance']],
	[['simulate', 'load', '--rate', '5/s', '--every', '1s']],
	[['simulate', 'load', '--from', 'a.csv', '--rate', '5/s']],
])('%j is a mistake of use: exit 2 and a word on stderr', async (args) => {
	const { world: one, said } = world();
	expect(await runProgram(args, one)).toBe(2);
	expect(said.err).not.toBe('');
	expect(said.out).toBe('');
});

test('every command has a help text with an example', async () => {
	const commands = [
		'serve',
		'submit',
		'doctor',
		'jobs list',
		'jobs show',
		'jobs cancel',
		'jobs retry',
		'jobs retarget',
		'jobs hold',
		'jobs release',
		'jobs rank',
		'jobs answer',
		'dead list',
		'dead show',
		'dead replay',
		'dead dismiss',
		'queue stats',
		'jobs output',
		'jobs timeline',
		'jobs why',
		'robots list',
		'robots show',
		'robots pause',
		'robots drain',
		'robots maintenance',
		'robots quarantine',
		'robots resume',
		'robots probe',
		'robots remove',
		'schedules list',
		'schedules show',
		'schedules pause',
		'schedules resume',
		'schedules remove',
		'schedules add',
		'schedules update',
		'schedules run',
		'schedules backfill',
		'schedules occurrences',
		'schedules upcoming',
		'schedules forecast',
		'calendars list',
		'calendars show',
		'calendars put',
		'calendars remove',
		'token create',
		'token list',
		'token revoke',
		'key create',
		'key list',
		'key revoke',
		'simulate',
		'simulate load',
		'simulate clear',
	];
	for (const command of commands) {
		const { world: one, said } = world();
		expect(await runProgram([...command.split(' '), '--help'], one)).toBe(0);
		expect(said.out).toContain(`$ robot-fleet ${command}`);
	}
});

test('help says defaults as people write them', async () => {
	for (const [command, ...defaults] of [
		['token create', '15m'],
		['robots drain', '1h'],
		['simulate', '1s..10s', 'none', '1s..30s', '1'],
		['simulate load', '30s'],
	]) {
		const { world: one, said } = world();
		expect(await runProgram([...command!.split(' '), '--help'], one)).toBe(0);
		const help = said.out.replaceAll(/\s+/g, ' ');
		for (const text of defaults) expect(help).toContain(`(default: ${text})`);
	}
});

test('every command that a page names is there', async () => {
	const docs = join(__dirname, '../../../docs');
	const named = new Map<string, Set<string>>();
	for (const page of readdirSync(docs).filter((name) => name.endsWith('.md'))) {
		const text = readFileSync(join(docs, page), 'utf8');
		for (const [, group, verb] of text.matchAll(
			/robot-fleet (schedules|jobs|robots|dead|files|token|key) ([a-z-]+)/g,
		)) {
			named.set(group!, (named.get(group!) ?? new Set()).add(verb!));
		}
	}
	expect(named.size).toBeGreaterThan(4);
	for (const [group, verbs] of named) {
		const { world: one, said } = world();
		expect(await runProgram([group, '--help'], one)).toBe(0);
		const known = [...said.out.matchAll(/^ {2}([a-z|-]+)/gm)].flatMap(([, names]) =>
			names!.split('|'),
		);
		expect([...verbs].filter((verb) => !known.includes(verb))).toEqual([]);
	}
});

test('without a service the sentence says how to start one', async () => {
	const { world: one, said } = world();
	expect(await runProgram(['jobs', 'list'], one)).toBe(2);
	expect(said.err).toContain('start it with: robot-fleet serve');
});

test('a service that does not answer is one sentence and its code, exit 1', async () => {
	const { world: one, said } = world({
		env: { ROBOT_FLEET_URL: 'http://127.0.0.1:1', ROBOT_FLEET_KEY: 'k' },
	});
	expect(await runProgram(['jobs', 'list'], one)).toBe(1);
	expect(said.err).toBe(
		'The Robot Fleet service at http://127.0.0.1:1 does not answer (nothing listens there); is it running? [service-away]\n',
	);
});

test('doctor names the command that mends each ✗ and exits 1', async () => {
	const data = mkdtempSync(join(tmpdir(), 'rf-doctor-'));
	const { world: one, said } = world({ sqliteIsSafe: () => false });
	expect(await runProgram(['doctor', '--data', data], one)).toBe(1);
	rmSync(data, { recursive: true });
	const lines = said.out.split('\n');
	for (const [i, line] of lines.entries()) {
		if (line.startsWith('✗')) expect(lines[i + 1]).toContain('mend it with: ');
	}
	expect(said.out).toContain('✗ SQLite');
	expect(said.out).toContain('✗ service');
});

test('where n8n has the service it is n8n that is started, after a restore too', async () => {
	const data = mkdtempSync(join(tmpdir(), 'rf-n8n-'));
	const manifest = {
		format: 1,
		at: 0,
		version: '1.2.3',
		store: { schema: 1, jobs: {}, robots: 0, schedules: 0 },
		files: [],
	};
	const { world: one, said } = world({
		sqliteIsSafe: () => false,
		upkeep: {
			...world().world.upkeep,
			restore: async () => ({ manifest, replaced: null }) as never,
		},
	});
	expect(await runProgram(['restore', 'b.tar', '--data', data], one)).toBe(0);
	expect(said.out).toContain('next: robot-fleet serve (or n8n start, when it lives inside n8n), ');
	writeFileSync(join(data, 'autostart'), '1.2.3\n');
	said.out = '';
	expect(await runProgram(['restore', 'b.tar', '--data', data], one)).toBe(0);
	expect(said.out).toContain('next: n8n start (the service starts with it), let the robots');
	expect(await runProgram(['doctor', '--data', data], one)).toBe(1);
	expect(said.out).toContain('✗ SQLite');
	expect(said.out).not.toContain('robot-fleet serve');
	rmSync(data, { recursive: true });
});

test('words after -- become a command, or shell text when asked', () => {
	expect(jobOf(['uname', '-a'], {}, 0)).toEqual({
		kind: 'command',
		spec: { command: 'uname', args: ['-a'] },
	});
	expect(
		jobOf(
			['df -h |', 'tail'],
			{
				shell: true,
				label: { os: 'linux' },
				priority: '3',
				timeout: 1000,
				delay: 5_000,
				var: { a: 'b' },
				idempotencyKey: 'k',
				share: 'team-a',
				dedupe: 5,
				client: 'phone',
				watch: { class: 'compile', silent: '10m', total: '2h', idle: '45s' },
				cap: { memory: '1.5G', cpu: '1500ms', processes: '20', output: '64KiB' },
			},
			1_000,
		),
	).toEqual({
		kind: 'command',
		spec: { shell: 'df -h | tail' },
		target: { labels: { os: 'linux' }, client: 'phone' },
		watch: { class: 'compile', noOutputMs: 600_000, totalMs: 7_200_000, idleMs: 45_000 },
		caps: { memoryBytes: 1_610_612_736, cpuSeconds: 2, processes: 20, outputBytes: 65_536 },
		priority: 3,
		timeouts: { runMs: 1000 },
		notBefore: 6_000,
		variables: { a: 'b' },
		idempotencyKey: 'k',
		shareKey: 'team-a',
		dedupe: { windowMs: 5 },
	});
	expect(jobOf(['uptime'], { all: true, robot: 'a' }, 0).target).toEqual({
		robot: 'a',
		mode: 'all',
	});
	expect(jobOf(['uptime'], { count: 3 }, 0).target).toEqual({ mode: { count: 3 } });
});

test('our exit code is the command’s', () => {
	const ended = (state: string, result?: object) =>
		exitCodeOf({ state, result: result ?? null } as Job);
	expect(ended('completed', { exitCode: 0 })).toBe(0);
	expect(ended('failed', { exitCode: 3 })).toBe(3);
	expect(ended('cancelled', { exitCode: null, signal: 'SIGTERM' })).toBe(143);
	expect(ended('failed')).toBe(1);
	expect(ended('timeout', { exitCode: 0 })).toBe(1);
	// Windows has longer numbers, of which a shell would see a zero.
	expect(ended('failed', { exitCode: 0x100 })).toBe(1);
	expect(ended('failed', { exitCode: 0xc0000005 })).toBe(0xc0000005);
});

test.each([
	['waits', 'list', '--limit', 'all'],
	['jobs', 'list', '--created-after', '1..5h'],
	['schedules', 'backfill', 'nightly', '--from', '1..5h'],
])('a word that %s %s reads by itself is refused with a sentence', async (...words) => {
	const { world: one, said } = world({
		env: { ROBOT_FLEET_URL: 'http://127.0.0.1:1', ROBOT_FLEET_KEY: 'k' },
	});
	expect(await runProgram(words, one)).toBe(2);
	expect(said.err).toMatch(/^Write a .+\n$/);
});

test.each(['ROBOT_FLEET_PORT', 'ORCHESTRATOR_PORT'])(
	'doctor says what is wrong with the port that %s sets, and all the rest',
	async (variable) => {
		const { world: one, said } = world({
			env: { ROBOT_FLEET_DATA: '/nonexistent', [variable]: 'abc' },
		});
		expect(await runProgram(['doctor', '--json'], one)).toBe(1);
		expect(JSON.parse(said.out)).toContainEqual(
			expect.objectContaining({
				check: 'port',
				ok: false,
				text: expect.stringContaining(`${variable} is "abc"`),
				mend: `unset ${variable}`,
			}),
		);
	},
);

test('a key that was read from a file may have its line end; one with other characters is none', async () => {
	const asks = async (key: string) => {
		const { world: one, said } = world({
			env: { ROBOT_FLEET_URL: 'http://127.0.0.1:1', ROBOT_FLEET_KEY: key },
		});
		return [await runProgram(['jobs', 'list'], one), said.err];
	};
	expect(await asks('rfk_1_a\n')).toEqual([1, expect.stringContaining('[service-away]')]);
	expect(await asks('rfk_1_“a”')).toEqual([2, expect.stringContaining('copy it again')]);
});

test('a job says how long it waits for a robot that is away, and what then', () => {
	const offline = (flags: Parameters<typeof jobOf>[1]) => jobOf(['true'], flags, 1_000).offline;
	expect(offline({})).toBeUndefined();
	expect(offline({ offlineFor: 7_200_000 })).toEqual({ forMs: 7_200_000 });
	expect(offline({ offlineUntil: '1970-01-01T00:00:05Z', offlineThen: 'ask' })).toEqual({
		until: 5_000,
		then: 'ask',
	});
});

test('a time of day is the next one, and a date is itself', () => {
	const noon = new Date(2026, 4, 1, 12).getTime();
	expect(momentOf('18:00', noon)).toBe(new Date(2026, 4, 1, 18).getTime());
	expect(momentOf('9:30', noon)).toBe(new Date(2026, 4, 2, 9, 30).getTime());
	expect(momentOf('12:00', noon)).toBe(new Date(2026, 4, 2, 12).getTime());
	expect(momentOf('2026-05-01T18:00:00Z', noon)).toBe(Date.UTC(2026, 4, 1, 18));
	for (const bad of ['25:00', '2h', 'soon', ''])
		expect(() => momentOf(bad, noon)).toThrow('not a time');
});

test('durations need a unit, pairs need a name, and neither guesses', () => {
	expect(['500ms', '30s', '1.5m', '2h', '1d'].map(durationOf)).toEqual([
		500, 30_000, 90_000, 7_200_000, 86_400_000,
	]);
	for (const bad of ['15', '', '5 m', '-1s', '1w']) expect(() => durationOf(bad)).toThrow('unit');
	expect(pairOf('a=b=c')).toEqual({ a: 'b=c' });
	expect(() => pairOf('=b')).toThrow('NAME=VALUE');
	expect(() => pairOf('a=2', { a: '1' })).toThrow('twice');
});

test('a robot’s name cannot drive the terminal', () => {
	expect(table(['NAME'], [['\u001b[2Jevil']])).toBe('NAME\n�[2Jevil\n');
});

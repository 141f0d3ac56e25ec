import { execFileSync, spawnSync } from 'node:child_process';
import {
	chmodSync,
	chownSync,
	existsSync,
	mkdirSync,
	readFileSync,
	realpathSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { apply, StepFailed } from '../../../agent/install/apply';
import { Machine } from '../../../agent/install/machine';
import {
	type InstallOrder,
	installPlan,
	placesOf,
	sentenceOf,
	type Step,
	uninstallPlan,
} from '../../../agent/install/plan';
import { install, uninstall } from '../../../agent/install/verbs';
import { readConfig } from '../../../agent/config';
import { temporaryFolder } from './temporary-folder';

const freshFolder = temporaryFolder();

const orderOf = (more: Partial<InstallOrder> = {}): InstallOrder => {
	const manager = more.manager ?? 'systemd';
	const scope = more.scope ?? 'system';
	return {
		manager,
		scope,
		places: placesOf(manager, scope, { home: '/home/ada', env: {} }),
		program: ['/usr/bin/node', '/usr/lib/node_modules/robot-fleet-agent/dist/agent.js'],
		account: { name: 'robot-fleet-agent', exists: false },
		settings: { server: 'https://fleet.example:8765', slots: '2' },
		token: 'rf1.id.secret.-',
		data: '/var/lib/robot-fleet-agent',
		stopGraceMs: 10_000,
		harden: false,
		uid: 501,
		...more,
	};
};

const written = (steps: Step[], ending: string) => {
	const found = steps.find((step) => step.do === 'write' && step.path.endsWith(ending));
	if (found?.do !== 'write') throw new Error(`nothing is written to …${ending}`);
	return found;
};
const commands = (steps: Step[]) =>
	steps.flatMap((step) => (step.do === 'run' ? [step.command.join(' ')] : []));

describe('for systemd', () => {
	test('the unit stops only the agent, starts it again for ever, and runs it as its own user', () => {
		const { text, mode } = written(installPlan(orderOf()), '.service');
		const lines = text.split('\n');
		expect(mode).toBe(0o644);
		for (const line of [
			'User=robot-fleet-agent',
			'KillMode=process',
			'Restart=always',
			'StartLimitIntervalSec=0',
			'RestartPreventExitStatus=0 2 3',
			'OOMPolicy=continue',
			'TimeoutStopSec=40',
			'WantedBy=multi-user.target',
			'EnvironmentFile=-/etc/robot-fleet-agent/environment',
			'ExecStart=/usr/bin/node /usr/lib/node_modules/robot-fleet-agent/dist/agent.js --config /etc/robot-fleet-agent/agent.json --leave-jobs',
		]) {
			expect(lines).toContain(line);
		}
		expect(text).not.toContain('rf1.');
	});

	test('jobs keep their rights by default, and lose them with --harden', () => {
		expect(written(installPlan(orderOf()), '.service').text).not.toMatch(
			/NoNewPrivileges|ProtectSystem|PrivateTmp/,
		);
		const hard = written(installPlan(orderOf({ harden: true })), '.service').text;
		expect(hard).toMatch(/^NoNewPrivileges=yes$/m);
		expect(hard).toMatch(/^ProtectSystem=full$/m);
		// V8 writes code and runs it.
		expect(hard).not.toContain('MemoryDenyWriteExecute');
		// systemd removes it at every restart, under the jobs that go on.
		expect(hard).not.toContain('PrivateTmp');
	});

	test('the token stands only in a file that its owner alone may read', () => {
		const steps = installPlan(orderOf());
		const holding = steps.filter((step) => JSON.stringify(step).includes('rf1.'));
		expect(holding).toEqual([
			{
				do: 'write',
				path: '/etc/robot-fleet-agent/environment',
				text: 'API_KEY=rf1.id.secret.-\n',
				mode: 0o600,
			},
		]);
		expect(steps.map(sentenceOf).join()).not.toContain('rf1.');
	});

	test('who installs again without a token keeps the one that is there', () => {
		const steps = installPlan(orderOf({ token: undefined }));
		expect(steps.some((step) => 'path' in step && step.path.endsWith('environment'))).toBe(false);
	});

	test('a user of its own is made once, before anything belongs to it', () => {
		const steps = installPlan(orderOf());
		expect(steps[0]).toEqual({
			do: 'make-user',
			name: 'robot-fleet-agent',
			home: '/var/lib/robot-fleet-agent/home',
		});
		const again = installPlan(orderOf({ account: { name: 'robot-fleet-agent', exists: true } }));
		expect(again.some((step) => step.do === 'make-user')).toBe(false);
	});

	test('jobs begin in a home of their own, and not among the files of the agent', () => {
		const home = {
			do: 'folder',
			path: '/var/lib/robot-fleet-agent/home',
			mode: 0o700,
			owner: 'robot-fleet-agent',
		};
		expect(installPlan(orderOf())).toContainEqual(home);
		// The first try may have ended between the two.
		const again = orderOf({ account: { name: 'robot-fleet-agent', exists: true } });
		expect(installPlan(again)).toContainEqual(home);
		// Or he is of an earlier installation, whose data lay elsewhere.
		const moved = orderOf({ ...again, data: '/srv/a "b"\\c$d%e' });
		expect(written(installPlan(moved), '.service').text).toContain(
			'\nEnvironment="HOME=/srv/a \\"b\\"\\\\c$d%%e/home"\n',
		);
		const ada = installPlan(orderOf({ account: { name: 'ada', exists: true } }));
		expect(ada.some((step) => 'path' in step && step.path.endsWith('/home'))).toBe(false);
		expect(written(ada, '.service').text).not.toContain('HOME=');
	});

	test('a user unit needs no user, and lives in the home of its owner', () => {
		const steps = installPlan(
			orderOf({ scope: 'user', account: undefined, data: '/home/ada/.robot-fleet-agent' }),
		);
		const unit = written(steps, '.service');
		expect(unit.path).toBe('/home/ada/.config/systemd/user/robot-fleet-agent.service');
		expect(unit.text).not.toMatch(/^User=/m);
		expect(unit.text).toMatch(/^WantedBy=default.target$/m);
		expect(commands(steps)).toContain('systemctl --user enable robot-fleet-agent.service');
		expect(commands(steps)).toContain('loginctl enable-linger');
	});

	const verify = existsSync('/usr/bin/systemd-analyze') ? test : test.skip;
	verify.each([
		['as it is', { odd: false, harden: false }],
		['hardened', { odd: false, harden: true }],
		['with blanks, dollars and percents in its paths', { odd: true, harden: false }],
		['hardened, with those in its paths', { odd: true, harden: true }],
	])('systemd itself finds nothing wrong with the unit, %s', (_, { odd, harden }) => {
		const folder = freshFolder();
		// What the unit names has to be there.
		const home = join(folder, odd ? 'a b%c' : 'plain');
		mkdirSync(home);
		const script = join(home, odd ? 'agent $1 "x".js' : 'agent.js');
		writeFileSync(script, '');
		const order = orderOf({
			data: home,
			harden,
			program: [process.execPath, script],
			account: { name: 'root', exists: true },
			places: { ...orderOf().places, settings: join(home, 'agent.json') },
		});
		const unit = join(folder, 'robot-fleet-agent.service');
		writeFileSync(unit, written(installPlan(order), '.service').text);
		const { stderr, status } = spawnSync('systemd-analyze', ['verify', '--man=no', unit], {
			encoding: 'utf8',
		});
		// It also grumbles about the other units of this machine.
		expect(stderr.split('\n').filter((line) => line.includes('robot-fleet-agent'))).toEqual([]);
		expect(status).toBe(0);
	});
});

describe('for launchd', () => {
	test('the property list keeps it alive, and leaves its jobs alone when it stops', () => {
		const steps = installPlan(
			orderOf({ manager: 'launchd', account: { name: 'ada', exists: true } }),
		);
		const { path, text } = written(steps, '.plist');
		expect(path).toBe('/Library/LaunchDaemons/dev.robot-fleet.agent.plist');
		const value = (key: string) => new RegExp(`<key>${key}</key>\\s*(\\S.*)`).exec(text)?.[1];
		expect(value('KeepAlive')).toBe('<dict><key>SuccessfulExit</key><false/></dict>');
		expect(value('AbandonProcessGroup')).toBe('<true/>');
		expect(value('UserName')).toBe('<string>ada</string>');
		expect(value('ExitTimeOut')).toBe('<integer>40</integer>');
		expect(text).not.toContain('rf1.');
		expect(commands(steps)).toEqual([
			'launchctl bootout system/dev.robot-fleet.agent',
			`launchctl bootstrap system ${path}`,
		]);
	});

	test('jobs find what Homebrew has installed', () => {
		const { text } = written(installPlan(orderOf({ manager: 'launchd' })), '.plist');
		expect(text).toContain('<key>PATH</key><string>/opt/homebrew/bin:/usr/local/bin:/usr/bin:');
	});

	/** A launchctl that can all but start what is to be started. */
	const starting = (body: string) => {
		const here = machineWith({ launchctl: `test "$1" = bootstrap || exit 0\n${body}` });
		const order = orderOf({ manager: 'launchd', account: { name: 'ada', exists: true } });
		const steps = installPlan(order).filter((step) => step.do === 'run');
		const pause = jest.spyOn(here.machine, 'pause').mockReturnValue();
		return { run: () => apply(steps, here.machine), pause, calls: here.calls };
	};

	test('the one before may take its time to end: the next one starts then', () => {
		const { run, pause, calls } = starting(
			'test -e "$HOME/gone" && exit 0\ntouch "$HOME/gone"\necho "Bootstrap failed: 5: Input/output error" >&2; exit 5',
		);
		run();
		expect(calls().map((call) => call.split(' ')[1])).toEqual([
			'bootout',
			'bootstrap',
			'bootstrap',
		]);
		expect(pause).toHaveBeenCalledTimes(1);
	});

	test('the one before has the time that it was installed with, not that of the next one', () => {
		const here = machineWith({ launchctl: 'exit 0' });
		Object.assign(here.machine, { platform: 'darwin' });
		const installing = (stopGrace: string) => {
			const configured = readConfig(
				{ server: 'http://127.0.0.1:8765', token: 't', stopGrace },
				{},
				() => '',
			);
			if (!configured.ok) throw new Error();
			return install({
				flags: { user: true },
				config: configured.config,
				said: configured.said,
				program: [process.execPath, '/opt/agent.js'],
				machine: here.machine,
				terminal: said().terminal,
			});
		};
		expect(installing('20')).toBe(0);
		writeFileSync(
			join(here.home, '../bin/launchctl'),
			'#!/bin/sh\ntest "$1" != bootstrap || { echo "Bootstrap failed: 5: Input/output error" >&2; exit 5; }\n',
		);
		const pause = jest.spyOn(here.machine, 'pause').mockReturnValue();
		installing('0');
		const waitedMs = pause.mock.calls.reduce((sum, [ms]) => sum + ms, 0);
		expect(waitedMs).toBe(50_000);
	});

	test('what cannot be started is said at once', () => {
		const { run, pause } = starting(
			'echo "Domain does not support specified action" >&2; exit 125',
		);
		expect(run).toThrow(/does not support/);
		expect(pause).not.toHaveBeenCalled();
	});

	test('the token is in the settings, which only the user of the agent may read', () => {
		const steps = installPlan(
			orderOf({ manager: 'launchd', account: { name: 'ada', exists: true } }),
		);
		expect(written(steps, 'agent.json')).toMatchObject({ mode: 0o600, owner: 'ada' });
		expect(JSON.parse(written(steps, 'agent.json').text)).toMatchObject({
			token: 'rf1.id.secret.-',
			server: 'https://fleet.example:8765',
		});
	});

	test('what means something in XML is written so that it means nothing', () => {
		const { text } = written(
			installPlan(orderOf({ manager: 'launchd', data: '/Users/a&b/<data>' })),
			'.plist',
		);
		expect(text).toContain('<string>/Users/a&amp;b/&lt;data&gt;</string>');
	});
});

describe('for Windows', () => {
	const steps = installPlan(
		orderOf({
			manager: 'task-scheduler',
			account: undefined,
			program: ['C:\\Program Files\\nodejs\\node.exe', 'C:\\Program Files\\agent\\agent.js'],
			data: 'C:\\ProgramData\\robot-fleet-agent\\data',
		}),
	);

	test('the task starts with the machine, comes back whatever ended it, and is never ended for its age', () => {
		const { text, encoding } = written(steps, 'task.xml');
		expect(encoding).toBe('utf16le');
		expect(text).toContain('<BootTrigger>');
		// That of a boot would begin with the next one.
		const [, every] = /<TimeTrigger>([^]*)<\/TimeTrigger>/.exec(text) ?? [];
		expect(every).toContain('<Interval>PT5M</Interval>');
		expect(every).toContain('<StartBoundary>');
		expect(text).toContain('<MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>');
		expect(text).toContain('<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>');
		expect(text).toContain('<UserId>S-1-5-19</UserId>');
		expect(text).toContain('<Command>C:\\Program Files\\nodejs\\node.exe</Command>');
		expect(text).toContain(
			'<Arguments>&quot;C:\\Program Files\\agent\\agent.js&quot; --config C:\\ProgramData\\robot-fleet-agent\\agent.json</Arguments>',
		);
	});

	test('an agent in the profile of whoever installs it is no agent for the whole machine', () => {
		const machine = Object.assign(new Machine({ USERPROFILE: 'C:\\Users\\ada' }), {
			platform: 'win32' as const,
		});
		const configured = readConfig({ server: 'https://fleet.example', token: 't' }, {}, () => '');
		if (!configured.ok) throw new Error();
		const installing = (script: string, user = false) => {
			const { lines, terminal } = said();
			const code = install({
				flags: { dryRun: true, user },
				config: configured.config,
				said: configured.said,
				program: ['C:\\Program Files\\nodejs\\node.exe', script],
				machine,
				terminal,
			});
			return { code, ...lines };
		};
		// Where npm install -g puts it.
		const own =
			'C:\\Users\\Ada\\AppData\\Roaming\\npm\\node_modules\\robot-fleet-agent\\dist\\agent.js';
		const { code, err } = installing(own);
		expect(code).toBe(2);
		expect(err).toMatch(
			/^The agent would run as Local Service, which may not read C:.*--user\.\n$/,
		);
		expect(installing(own, true)).toMatchObject({ code: 0, err: '' });
		expect(installing('C:\\agent\\agent.js')).toMatchObject({ code: 0, err: '' });
	});

	test('its folder is closed to other users before the token is in it', () => {
		const closed = steps.findIndex((step) => step.do === 'run' && step.command[0] === 'icacls');
		const secret = steps.findIndex((step) => JSON.stringify(step).includes('rf1.'));
		expect(closed).toBeGreaterThan(-1);
		expect(secret).toBeGreaterThan(closed);
	});

	test('for one user it needs no administrator and starts when they log in', () => {
		const own = installPlan(
			orderOf({
				manager: 'task-scheduler',
				scope: 'user',
				account: undefined,
				person: 'HOME\\ada & co',
			}),
		);
		const { text } = written(own, 'task.xml');
		// When anybody logs on at all, only an administrator may say.
		expect(text).toMatch(
			/<LogonTrigger>[^]*<UserId>HOME\\ada &amp; co<\/UserId>[^]*<\/LogonTrigger>/,
		);
		expect(text).toMatch(/<Principal [^]*<UserId>HOME\\ada &amp; co<\/UserId>[^]*<\/Principal>/);
		expect(commands(own).some((line) => line.startsWith('icacls'))).toBe(false);
	});
});

test('uninstalling keeps the data folder, and takes it and the user made for it only when told to', () => {
	const base = {
		manager: 'systemd',
		scope: 'system',
		places: orderOf().places,
		data: '/var/lib/robot-fleet-agent',
		madeUser: 'robot-fleet-agent',
		uid: 0,
	} as const;
	const keeps = uninstallPlan({ ...base, purge: false });
	expect(keeps.some((step) => step.do === 'purge')).toBe(false);
	expect(commands(keeps)[0]).toBe('systemctl disable --now robot-fleet-agent.service');
	expect(commands(keeps).some((line) => line.includes('userdel'))).toBe(false);
	const purges = uninstallPlan({ ...base, purge: true });
	expect(purges).toContainEqual({ do: 'purge', path: '/var/lib/robot-fleet-agent' });
	expect(commands(purges)).toContain('userdel robot-fleet-agent');
	// Asked twice it ends its jobs; asked once, as by a restart, it would leave them. What is left then is killed.
	expect(commands(purges).slice(0, 3)).toEqual([
		'systemctl kill --kill-who=main --signal=SIGINT robot-fleet-agent.service',
		'systemctl disable --now robot-fleet-agent.service',
		'systemctl kill --signal=SIGKILL robot-fleet-agent.service',
	]);
	expect(commands(keeps).join()).not.toContain('kill');
	expect(purges.at(-2)).toMatchObject({
		orElse: expect.stringContaining('then run: userdel robot-fleet-agent'),
	});
	// It may fail, and no other try would come to what stands behind it.
	expect(purges.at(-1)).toMatchObject({ do: 'purge' });
	// While the unit is there another try goes on: it is the last file to go.
	const files = keeps.flatMap((step) => (step.do === 'remove' ? [step.path] : []));
	expect(files.at(-1)).toBe(orderOf().places.service);
});

/** A machine whose service manager writes down what it is told; all files are real, below one folder. */
function machineWith(programs: Record<string, string>, more: Record<string, string> = {}) {
	const folder = freshFolder();
	const bin = join(folder, 'bin');
	mkdirSync(bin);
	const calls = join(folder, 'calls');
	writeFileSync(calls, '');
	for (const [name, body] of Object.entries(programs)) {
		writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >> "$CALLS"\n${body}\n`);
		chmodSync(join(bin, name), 0o755);
	}
	const home = join(folder, 'home');
	mkdirSync(home);
	const machine = new Machine({
		PATH: `${bin}:/usr/bin:/bin`,
		HOME: home,
		CALLS: calls,
		...more,
	});
	return {
		machine,
		home,
		calls: () => readFileSync(calls, 'utf8').trim().split('\n').filter(Boolean),
		forget: () => writeFileSync(calls, ''),
	};
}

function said() {
	const lines = { out: '', err: '' };
	return {
		lines,
		terminal: {
			out: (text: string) => void (lines.out += text),
			err: (text: string) => void (lines.err += text),
		},
	};
}

const onLinux = process.platform === 'linux' ? describe : describe.skip;
const asRoot = process.getuid?.() === 0 ? test : test.skip;

onLinux('on this machine', () => {
	const unit = '.config/systemd/user/robot-fleet-agent.service';
	const settings = '.config/robot-fleet-agent/agent.json';
	const secrets = '.config/robot-fleet-agent/environment';

	function installing(
		{ machine }: { machine: Machine },
		flags: Record<string, unknown> = {},
		env: Record<string, string> = {},
	) {
		const configured = readConfig(
			{ server: 'http://127.0.0.1:8765', slots: '2', ...flags },
			env,
			() => '',
		);
		if (!configured.ok) throw new Error(configured.mistakes.join());
		const { lines, terminal } = said();
		const code = install({
			flags: { user: true, ...flags },
			config: configured.config,
			said: configured.said,
			program: [process.execPath, '/opt/agent.js'],
			machine,
			terminal,
		});
		return { code, ...lines };
	}

	const servant = { systemctl: 'exit 0', loginctl: 'exit 1' };

	test('installing writes unit, settings and token, starts it, and says where to look', () => {
		const here = machineWith(servant);
		const { code, out, err } = installing(here, { token: 'rf1.a.b.-', name: 'r1' });
		expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining('enable-linger') });
		expect(out).toContain('robot-fleet-agent status');
		expect(out).not.toContain('rf1.');
		expect(JSON.parse(readFileSync(join(here.home, settings), 'utf8'))).toEqual({
			server: 'http://127.0.0.1:8765',
			name: 'r1',
			slots: '2',
			data: join(here.home, '.robot-fleet-agent'),
		});
		expect(readFileSync(join(here.home, secrets), 'utf8')).toBe('API_KEY=rf1.a.b.-\n');
		expect(statSync(join(here.home, secrets)).mode & 0o777).toBe(0o600);
		expect(here.calls()).toEqual([
			'systemctl --user show-environment',
			'systemctl --user daemon-reload',
			'systemctl --user enable robot-fleet-agent.service',
			'systemctl --user restart robot-fleet-agent.service',
			'systemctl --user start robot-fleet-agent.service',
			'loginctl enable-linger',
		]);
	});

	test('what it writes the agent reads back as the same settings', () => {
		const here = machineWith(servant);
		const flags = { token: 'rf1.a.b.-', label: ['os=linux', 'site=b'], capability: ['gpu'] };
		installing(here, flags, { HEARTBEAT_INTERVAL: '7' });
		const read = readConfig({ config: join(here.home, settings) }, {}, (path) =>
			readFileSync(path, 'utf8'),
		);
		expect(read).toMatchObject({
			ok: true,
			config: {
				server: 'http://127.0.0.1:8765',
				labels: { os: 'linux', site: 'b' },
				capabilities: ['gpu'],
				slots: 2,
				heartbeatMs: 7_000,
				token: undefined,
			},
		});
	});

	test('installing again with the same settings restarts nothing; with others it does', () => {
		const here = machineWith(servant);
		installing(here, { token: 'rf1.a.b.-' });
		here.forget();
		expect(installing(here).code).toBe(0);
		expect(here.calls().some((call) => call.includes(' restart '))).toBe(false);
		expect(readFileSync(join(here.home, secrets), 'utf8')).toBe('API_KEY=rf1.a.b.-\n');
		here.forget();
		expect(installing(here, { slots: '3' }).code).toBe(0);
		expect(here.calls().some((call) => call.includes(' restart '))).toBe(true);
	});

	test('installing again keeps a token that stands among the settings', () => {
		const here = machineWith({ launchctl: 'exit 0' });
		Object.assign(here.machine, { platform: 'darwin' });
		const token = () => {
			const file = join(here.home, 'Library/Application Support/robot-fleet-agent/agent.json');
			return (JSON.parse(readFileSync(file, 'utf8')) as { token?: string }).token;
		};
		expect(installing(here, { token: 'rf1.a.b.-' }).code).toBe(0);
		expect(installing(here, { slots: '3' }).code).toBe(0);
		expect(token()).toBe('rf1.a.b.-');
		installing(here, { token: 'rf1.c.d.-' });
		expect(token()).toBe('rf1.c.d.-');
	});

	test('a dry run shows the files and commands, hides the token, and touches nothing', () => {
		const here = machineWith(servant);
		const { code, out } = installing(here, { token: 'rf1.a.b.-', dryRun: true });
		expect(code).toBe(0);
		expect(out).toContain(`write ${join(here.home, unit)}`);
		expect(out).toContain('| KillMode=process');
		expect(out).toContain('systemctl --user enable robot-fleet-agent.service');
		expect(out).not.toContain('rf1.');
		expect(existsSync(join(here.home, '.config'))).toBe(false);
		expect(here.calls()).toEqual([]);
	});

	test('a proxy goes on into the settings, and a dry run hides how one logs in there', () => {
		const here = machineWith(servant);
		const proxy = { HTTPS_PROXY: 'http://ada:secret@proxy:3128' };
		const { code, out } = installing(
			here,
			{ server: 'https://fleet.example', token: 'rf1.a.b.-', dryRun: true },
			proxy,
		);
		expect(code).toBe(0);
		expect(out).toContain('"proxy": "http://…@proxy:3128"');
		expect(out).not.toContain('secret');
	});

	test('without systemd it is one sentence, and nothing is touched', () => {
		const here = machineWith({ systemctl: 'exit 1' });
		const { code, err } = installing(here, { token: 'rf1.a.b.-' });
		expect(code).toBe(2);
		expect(err.trim().split('\n')).toEqual([expect.stringMatching(/^No systemd serves/)]);
		expect(existsSync(join(here.home, '.config'))).toBe(false);
	});

	test('a new robot without a token is told where to get one', () => {
		const { code, err } = installing(machineWith(servant));
		expect(code).toBe(2);
		expect(err).toContain('robot-fleet token create');
	});

	test('a step that fails is one sentence with the command, and the next try goes on', () => {
		const broken = machineWith({ systemctl: 'test "$2" != enable || { echo no >&2; exit 1; }' });
		const { code, err } = installing(broken, { token: 'rf1.a.b.-' });
		expect(code).toBe(1);
		expect(err).toBe(
			'Could not start it with the machine: systemctl --user enable robot-fleet-agent.service: no.\n',
		);
		writeFileSync(join(broken.home, '../bin/systemctl'), '#!/bin/sh\nexit 0\n');
		expect(installing(broken).code).toBe(0);
	});

	function uninstalling({ machine }: { machine: Machine }, flags: Record<string, unknown> = {}) {
		const { lines, terminal } = said();
		const code = uninstall({ flags: { user: true, ...flags }, machine, terminal });
		return { code, ...lines };
	}

	test('uninstalling removes what installing made, keeps the data, and is harmless when repeated', () => {
		const here = machineWith(servant);
		installing(here, { token: 'rf1.a.b.-' });
		const data = join(here.home, '.robot-fleet-agent');
		writeFileSync(join(data, 'identity.json'), '{}');
		expect(uninstalling(here)).toMatchObject({ code: 0, err: '' });
		for (const file of [unit, settings, secrets]) {
			expect(existsSync(join(here.home, file))).toBe(false);
		}
		expect(existsSync(join(data, 'identity.json'))).toBe(true);
		const again = uninstalling(here);
		expect(again).toEqual({
			code: 0,
			out: 'not installed; there is nothing to remove\n',
			err: '',
		});
	});

	test('uninstalling names the jobs that run on without it', () => {
		const here = machineWith(servant);
		installing(here, { token: 'rf1.a.b.-' });
		const data = join(here.home, '.robot-fleet-agent');
		const agent = { pid: process.pid, birth: null, jobs: ['job-1', 'job-2'] };
		writeFileSync(join(data, 'status.json'), JSON.stringify(agent));
		expect(uninstalling(here).err).toBe(
			'Still running without the agent: job-1, job-2. Their results are kept, and will be delivered when it is installed again.\n',
		);
	});

	test('a purge is shown first, and done only with --yes', () => {
		const here = machineWith(servant);
		installing(here, { token: 'rf1.a.b.-' });
		const data = join(here.home, '.robot-fleet-agent');
		writeFileSync(join(data, 'identity.json'), '{}');
		const asked = uninstalling(here, { purge: true });
		expect(asked.code).toBe(2);
		expect(asked.out).toContain(`remove ${data} with everything in it`);
		expect(asked.err).toContain('--yes');
		expect(existsSync(join(here.home, unit))).toBe(true);
		expect(uninstalling(here, { purge: true, yes: true }).code).toBe(0);
		expect(existsSync(data)).toBe(false);
	});

	test('a Node of Homebrew is called by a path that the next version has, too', () => {
		const here = machineWith(servant);
		const prefix = realpathSync(freshFolder());
		const keg = join(prefix, 'Cellar/node@22/22.16.0');
		mkdirSync(join(keg, 'bin'), { recursive: true });
		mkdirSync(join(prefix, 'opt'));
		symlinkSync(keg, join(prefix, 'opt/node@22'));
		const node = join(keg, 'bin/node');
		writeFileSync(node, '');
		const { terminal } = said();
		const configured = readConfig({ server: 'https://fleet.example', token: 't' }, {}, () => '');
		if (!configured.ok) throw new Error();
		install({
			flags: { user: true },
			config: configured.config,
			said: configured.said,
			program: [node, '/opt/agent.js'],
			machine: here.machine,
			terminal,
		});
		expect(readFileSync(join(here.home, unit), 'utf8')).toContain(
			`\nExecStart=${prefix}/opt/node@22/bin/node /opt/agent.js `,
		);
		// A link that means another one says nothing of this one.
		const other = node.replace('22.16.0', '22.15.0');
		expect(here.machine.lasting(other)).toBe(other);
	});

	test('a certificate that was named from where one stood is found by the service, too', () => {
		const here = machineWith(servant);
		const { lines, terminal } = said();
		const configured = readConfig({ server: 'https://fleet.example', token: 't' }, {}, () => '');
		if (!configured.ok) throw new Error();
		install({
			flags: { user: true },
			config: configured.config,
			said: { ...configured.said, ca: 'certs/ca.pem' },
			program: [process.execPath, '/opt/agent.js'],
			machine: here.machine,
			terminal,
		});
		expect(lines.err).not.toContain('certs');
		expect(JSON.parse(readFileSync(join(here.home, settings), 'utf8')).ca).toBe(
			resolve('certs/ca.pem'),
		);
	});

	test('a purge never removes a folder that no agent made', () => {
		const here = machineWith(servant);
		installing(here, { token: 'rf1.a.b.-', data: here.home });
		const { code, err } = uninstalling(here, { purge: true, yes: true });
		expect(code).toBe(2);
		expect(err).toContain('does not look like the data folder');
		expect(existsSync(join(here.home, unit))).toBe(true);
	});

	/** Installed for an agent that runs as somebody else. Answers with its data folder. */
	function installedFor(uid: number, here: ReturnType<typeof machineWith>): string {
		installing(here, { token: 'rf1.a.b.-' });
		const data = join(here.home, '.robot-fleet-agent');
		const key = join(data, 'identity.json');
		writeFileSync(key, '{}');
		for (const path of [data, key, join(here.home, settings)]) chownSync(path, uid, uid);
		for (const path of [join(here.home, '..'), here.home]) chmodSync(path, 0o755);
		return data;
	}
	const purging = { purge: true, yes: true };

	asRoot('a purge removes no folder of others that jobs have written into the settings', () => {
		const here = machineWith(servant);
		installedFor(12_345, here);
		const theirs = join(here.home, 'theirs');
		mkdirSync(theirs);
		writeFileSync(join(theirs, 'identity.json'), '{}');
		writeFileSync(join(here.home, settings), JSON.stringify({ data: theirs }));
		const { code, err } = uninstalling(here, purging);
		expect(code).toBe(2);
		expect(err).toContain('does not belong to the user that the agent runs as');
		expect(existsSync(join(theirs, 'identity.json'))).toBe(true);
		expect(existsSync(join(here.home, unit))).toBe(true);
	});

	asRoot('a purge has the rights of the user that the agent ran as, and no more', () => {
		const here = machineWith(servant);
		const data = installedFor(12_345, here);
		const others = join(data, 'others');
		mkdirSync(others);
		writeFileSync(join(others, 'file'), '');
		const { code, err } = uninstalling(here, purging);
		expect(code).toBe(1);
		expect(err).toContain('what other users have put there is still in it');
		expect(existsSync(join(data, 'identity.json'))).toBe(false);
		expect(existsSync(join(others, 'file'))).toBe(true);
	});

	asRoot('a purge believes settings that root has put there itself', () => {
		const here = machineWith(servant);
		const data = installedFor(12_345, here);
		chownSync(join(here.home, settings), 0, 0);
		expect(uninstalling(here, purging)).toMatchObject({ code: 0, err: '' });
		expect(existsSync(data)).toBe(false);
	});

	asRoot('of a folder of that user alone nothing is left', () => {
		const here = machineWith(servant);
		const data = installedFor(12_345, here);
		// As Go leaves its modules: closed to whoever they belong to.
		const closed = join(data, 'closed');
		mkdirSync(closed);
		writeFileSync(join(closed, 'file'), '');
		for (const path of [closed, join(closed, 'file')]) chownSync(path, 12_345, 12_345);
		chmodSync(closed, 0o555);
		expect(uninstalling(here, purging)).toMatchObject({ code: 0, err: '' });
		expect(existsSync(data)).toBe(false);
	});
});

onLinux('files for the whole machine', () => {
	asRoot('belong to the user that the agent runs as, and to nobody else', () => {
		const folder = freshFolder();
		const { machine } = machineWith({ systemctl: 'exit 0' });
		const places = {
			service: join(folder, 'systemd/robot-fleet-agent.service'),
			settings: join(folder, 'etc/agent.json'),
			secrets: join(folder, 'etc/environment'),
			data: join(folder, 'data'),
		};
		apply(
			installPlan(
				orderOf({ places, data: places.data, account: { name: 'nobody', exists: true } }),
			),
			machine,
		);
		const nobody = Number(execFileSync('id', ['-u', 'nobody'], { encoding: 'utf8' }));
		const shown = (path: string) => {
			const { mode, uid } = statSync(path);
			return [(mode & 0o777).toString(8), uid];
		};
		expect(shown(places.data)).toEqual(['700', nobody]);
		expect(shown(places.settings)).toEqual(['600', nobody]);
		expect(shown(places.secrets)).toEqual(['600', 0]);
		expect(shown(places.service)).toEqual(['644', 0]);
	});

	test('a user that cannot be made ends it before anything is written', () => {
		const folder = freshFolder();
		const { machine } = machineWith({ useradd: 'echo "useradd: no room" >&2; exit 1' });
		const data = join(folder, 'data');
		const account = { name: 'nobody-has-this-name', exists: false };
		expect(() => apply(installPlan(orderOf({ data, account })), machine)).toThrow(StepFailed);
		expect(existsSync(data)).toBe(false);
	});

	test('a Node in somebody’s closed home is found out before anything is made', () => {
		const folder = freshFolder();
		const home = join(folder, 'closed');
		mkdirSync(join(home, 'node/bin'), { recursive: true });
		writeFileSync(join(home, 'node/bin/node'), '', { mode: 0o755 });
		chmodSync(folder, 0o755);
		chmodSync(home, 0o700);
		const node = join(home, 'node/bin/node');
		const { uid, gid } = statSync(home);
		const stranger = { uid: uid + 1, gid: gid + 1, home };
		expect(new Machine({}).closedTo(undefined, node)).toBe(home);
		expect(new Machine({}).closedTo(stranger, node)).toBe(home);
		// Whose home it is goes in, and who is of its group where that may.
		expect(new Machine({}).closedTo({ ...stranger, uid }, node)).not.toBe(home);
		expect(new Machine({}).closedTo({ ...stranger, gid }, node)).toBe(home);
		chmodSync(home, 0o710);
		expect(new Machine({}).closedTo({ ...stranger, gid }, node)).not.toBe(home);
		chmodSync(home, 0o755);
		expect(new Machine({}).closedTo(undefined, node)).not.toBe(home);
		chmodSync(node, 0o700);
		expect(new Machine({}).closedTo(stranger, node)).toBe(node);
		expect(new Machine({}).closedTo({ ...stranger, uid: 0 }, node)).toBeUndefined();
	});

	asRoot('a folder that is made on the way to that of an owner lets him through', () => {
		const folder = freshFolder();
		const data = join(folder, 'robots', 'r1');
		expect(new Machine({}).folder(data, 0o700, { uid: 12_345, gid: 12_345, home: data })).toBe(
			true,
		);
		chmodSync(folder, 0o755);
		expect(statSync(data)).toMatchObject({ uid: 12_345, mode: 0o40700 });
		expect(new Machine({}).closedTo({ uid: 12_345, gid: 12_345, home: data }, data)).not.toBe(
			join(folder, 'robots'),
		);
	});

	asRoot('a link in a folder of the agent gives nothing else away', () => {
		const folder = freshFolder();
		const [own, theirs] = [join(folder, 'data'), join(folder, 'secret')];
		mkdirSync(theirs, { mode: 0o755 });
		mkdirSync(own);
		chownSync(own, 12_345, 12_345);
		symlinkSync(theirs, join(own, 'home'));
		const owner = { uid: 12_345, gid: 12_345, home: own };
		expect(() => new Machine({}).folder(join(own, 'home'), 0o700, owner)).toThrow(/ENOTDIR|ELOOP/);
		expect(statSync(theirs)).toMatchObject({ uid: 0, mode: 0o40755 });
		// A data folder on another disk is the administrator's own link.
		symlinkSync(theirs, join(folder, 'link'));
		new Machine({}).folder(join(folder, 'link'), 0o700, owner);
		expect(statSync(theirs)).toMatchObject({ uid: 12_345, mode: 0o40700 });
	});

	const inUse = 'echo "userdel: user robot-fleet-agent is currently used by process 7" >&2; exit 8';
	const purged = (userdel: string) => {
		const { machine } = machineWith({ systemctl: 'exit 0', userdel });
		const pause = jest.spyOn(machine, 'pause').mockReturnValue();
		const { remarks } = apply(
			uninstallPlan({
				manager: 'systemd',
				scope: 'system',
				places: { ...orderOf().places, service: join(freshFolder(), 'unit') },
				data: join(freshFolder(), 'data'),
				purge: true,
				madeUser: 'robot-fleet-agent',
				uid: 0,
			}).filter((step) => step.do === 'run'),
			machine,
		);
		return { remarks, pauses: pause.mock.calls.length };
	};

	asRoot('a user that still has programs running is told of, and stays', () => {
		expect(purged(inUse).remarks).toEqual([
			expect.stringMatching(/^The user robot-fleet-agent could not be removed;/),
		]);
	});

	asRoot('a user whose programs were killed a moment ago is removed when they are gone', () => {
		const soon = `test -e "$HOME/gone" && exit 0\ntouch "$HOME/gone"\n${inUse}`;
		expect(purged(soon)).toEqual({ remarks: [], pauses: 1 });
	});
});

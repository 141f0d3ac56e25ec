/** The unit for systemd. */
import type { InstallOrder } from './plan';

export const unitName = 'robot-fleet-agent.service';

/**
 * Jobs are children of the agent and inherit whatever is taken away here. So by default nothing is, except what a user
 * of its own entails: a job that may not call sudo or write outside of /home is a surprise at three in the morning.
 * `--harden` takes more, but no PrivateTmp: it would be removed at every restart, from under the jobs that go on.
 */
const hardening = [
	'NoNewPrivileges=yes',
	'ProtectSystem=full',
	'ProtectControlGroups=yes',
	'ProtectKernelModules=yes',
	'ProtectKernelTunables=yes',
	'ProtectKernelLogs=yes',
	'ProtectClock=yes',
	'RestrictSUIDSGID=yes',
	'LockPersonality=yes',
	'RestrictRealtime=yes',
];

/** `home`: where jobs begin, when it is not the home that the system gives the user. */
export function systemdUnit(order: InstallOrder, home?: string): string {
	const { scope, account, places, program, data, stopGraceMs, harden } = order;
	// Together with KillMode=process below: jobs do not notice a restart, for an update say.
	const command = [...program, '--config', places.settings, '--leave-jobs'].map(word).join(' ');
	const lines = [
		'# Made by: robot-fleet-agent install. The next one overwrites it;',
		`# put changes of your own into: systemctl ${scope === 'user' ? '--user ' : ''}edit robot-fleet-agent`,
		'[Unit]',
		'Description=Robot Fleet agent',
		...(scope === 'system' ? ['Wants=network-online.target', 'After=network-online.target'] : []),
		'# However often it fails, it is started again.',
		'StartLimitIntervalSec=0',
		'',
		'[Service]',
		'Type=exec',
		...(scope === 'system' && account !== undefined ? [`User=${account.name}`] : []),
		...(home === undefined ? [] : [`Environment=${setting(`HOME=${home}`)}`]),
		`WorkingDirectory=${path(data)}`,
		`EnvironmentFile=-${path(places.secrets!)}`,
		`ExecStart=${command}`,
		'Restart=always',
		'RestartSec=5',
		'# Asked to stop (0) is asked to stay down. Wrong settings (2) and a robot that was removed (3) do not',
		'# go away by trying again.',
		'RestartPreventExitStatus=0 2 3',
		'# Only the agent is stopped: jobs that still run are its own business, and survive an update.',
		'KillMode=process',
		`TimeoutStopSec=${Math.ceil(stopGraceMs / 1_000) + 30}`,
		'# A job that eats all memory ends; the agent, which must report it, does not end with it.',
		'OOMPolicy=continue',
		...(harden ? ['# --harden: of the agent and of all its jobs.', ...hardening] : []),
		...(harden ? [`ReadWritePaths=${listed(data)}`] : []),
		'',
		'[Install]',
		`WantedBy=${scope === 'user' ? 'default.target' : 'multi-user.target'}`,
	];
	return `${lines.join('\n')}\n`;
}

/** One word of a command line: `%` and `$` mean something to systemd, and so do quotes. */
function word(text: string): string {
	const escaped = text
		.replaceAll('\\', '\\\\')
		.replaceAll('"', '\\"')
		.replaceAll('%', '%%')
		.replaceAll('$', '$$$$');
	return /^[\w@+=:,./-]+$/.test(text) ? text : `"${escaped}"`;
}

/** A variable with its value: unlike in a command line, `$` means nothing. */
function setting(text: string): string {
	return `"${path(text.replaceAll('\\', '\\\\').replaceAll('"', '\\"'))}"`;
}

/** A path in a list of them: quoted, with nothing in it escaped. */
function listed(text: string): string {
	const quote = text.includes('"') ? "'" : '"';
	return /[\s"']/.test(text) ? `${quote}${path(text)}${quote}` : path(text);
}

/** A path that stands alone: taken as it is to the end of the line. */
function path(text: string): string {
	return text.replaceAll('%', '%%');
}

/**
 * The class of a command, as far as its name tells, and how long such commands are normally silent and run.
 * Longer is worth telling people, but no reason to end anything: that is up to the limits of the job.
 */
import type { CommandClass } from '../protocol';
import type { CommandSpec } from './command';

export interface ClassLimits {
	noOutputMs: number;
	totalMs: number;
}

const limitsOf = (noOutputS: number, totalS: number): ClassLimits => ({
	noOutputMs: noOutputS * 1_000,
	totalMs: totalS * 1_000,
});

export const commandClasses = {
	info: limitsOf(10, 30),
	services: limitsOf(30, 120),
	files: limitsOf(30, 300),
	network: limitsOf(45, 300),
	packages: limitsOf(60, 600),
	compile: limitsOf(120, 1_800),
	interactive: limitsOf(300, 1_800),
} as const satisfies Record<CommandClass, ClassLimits>;

/** In this order: `docker build` compiles, any other `docker` looks after services. */
const programs: [CommandClass, RegExp][] = [
	[
		'compile',
		/^(make|cmake|ninja|gcc|g\+\+|clang|cc|mvn|gradle|javac|tsc|webpack)\b|^(cargo|go|docker|podman|dotnet|swift) (build|test|install)\b|^(npm|pnpm|yarn) (run )?build\b/,
	],
	[
		'packages',
		/^(apt|apt-get|aptitude|dnf|yum|zypper|apk|pacman|brew|snap|dpkg|rpm|choco|winget)\b|^(npm|pnpm|yarn|pip3?|gem|composer|cargo) (ci|install|update|upgrade|add|sync)\b/,
	],
	['services', /^(systemctl|service|launchctl|sc|docker|podman|kubectl|pm2|supervisorctl)\b/],
	[
		'network',
		/^(curl|wget|ping|ssh|scp|sftp|rsync|dig|nslookup|traceroute|nc|ftp)\b|^git (clone|fetch|pull|push)\b/,
	],
	[
		'interactive',
		/^(vi|vim|nano|emacs|top|htop|less|more|psql|mysql|sqlite3|bash|sh|zsh|python3?|node|irb)$/,
	],
	['files', /^(cp|mv|rm|tar|zip|unzip|gzip|gunzip|xz|find|dd|du|chmod|chown|sha256sum|md5sum)\b/],
	[
		'info',
		/^(ls|cat|head|tail|uname|hostname|whoami|id|date|uptime|df|free|ps|pwd|env|printenv|which|echo|printf|lscpu|ip|ifconfig|ver|systeminfo)\b/,
	],
];

/** Null = nothing is known of it. Shell text is judged by its first command. */
export function commandClassOf(spec: CommandSpec): CommandClass | null {
	const words =
		spec.shell === undefined
			? [spec.command ?? '', ...(spec.args ?? [])]
			: spec.shell.trim().split(/\s+/, 8);
	const from = words.findIndex((word) => !/^(sudo|env|nohup|time|nice|\w+=\S*)$/.test(word));
	const [program = '', ...rest] = words.slice(from < 0 ? 0 : from);
	const line = [program.replace(/^.*[/\\]/, '').replace(/\.(exe|cmd)$/i, ''), ...rest].join(' ');
	return programs.find(([, pattern]) => pattern.test(line))?.[0] ?? null;
}

/**
 * Looks at this machine in depth: system, disks, and which shells, runtimes, browsers and tools there are,
 * with their versions. Costs megabytes and a second, so a child process does it (`robot-fleet-agent facts`)
 * and is gone again; what it found is kept by facts.ts.
 */
import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import { constants, existsSync, readdirSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { networkInterfaces } from 'node:os';
import type { Systeminformation } from 'systeminformation';
import { currentBoot } from './drivers/process';

/** What was found, as it goes into the robot's record. Holds nothing that changes by itself all the time. */
export interface Survey {
	os_distro: string | null;
	os_version: string | null;
	cpu_model: string | null;
	cpu_cores: number | null;
	disks: { mount: string; type: string; size_bytes: number }[];
	macs: string[];
	/** By name: path, or version where it has one. */
	shells: Record<string, string>;
	runtimes: Record<string, string>;
	browsers: Record<string, string>;
	tools: Record<string, string>;
}

interface Wanted {
	name: string;
	/** Tried in this order. */
	programs: readonly string[];
	/** How it is asked for its version. Default --version. */
	args?: readonly string[];
	/** On Windows it opens a window, whatever it is asked. */
	opens?: true;
}

const named = (...names: string[]): Wanted[] => names.map((name) => ({ name, programs: [name] }));

const wanted: Record<'runtimes' | 'browsers' | 'tools', readonly Wanted[]> = {
	runtimes: [
		...named('node', 'ruby', 'php', 'perl', 'deno', 'bun', 'dotnet'),
		{ name: 'python', programs: ['python3', 'python'] },
		{ name: 'java', programs: ['java'], args: ['-version'] },
		{ name: 'go', programs: ['go'], args: ['version'] },
		{ name: 'rust', programs: ['rustc'] },
	],
	browsers: [
		{ name: 'chromium', programs: ['chromium', 'chromium-browser'], opens: true },
		{
			name: 'chrome',
			opens: true,
			programs: [
				'google-chrome',
				'google-chrome-stable',
				'/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
				'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
			],
		},
		{
			name: 'firefox',
			programs: [
				'firefox',
				'firefox-esr',
				'/Applications/Firefox.app/Contents/MacOS/firefox',
				'C:\\Program Files\\Mozilla Firefox\\firefox.exe',
			],
		},
		{
			name: 'edge',
			opens: true,
			programs: [
				'microsoft-edge',
				'/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
				'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe',
			],
		},
	],
	tools: [
		...named('git', 'docker', 'podman', 'kubectl', 'terraform', 'ansible', 'make', 'cmake'),
		...named('gcc', 'curl', 'rsync', 'jq', 'adb'),
		{ name: 'ffmpeg', programs: ['ffmpeg'], args: ['-version'] },
		{ name: 'ssh', programs: ['ssh'], args: ['-V'] },
	],
};

const shells = ['sh', 'bash', 'zsh', 'fish', 'pwsh', 'powershell', 'cmd'];

/** A program that says nothing by then is there, but has no version. */
const versionMs = 5_000;
/** A machine with two processors has other things to do. */
const atATime = 4;

/** `unwanted`: nobody waits for it any more; what it has started is ended. */
export async function survey(
	env: Readonly<Record<string, string | undefined>>,
	si: Pick<typeof import('systeminformation'), 'osInfo' | 'cpu' | 'fsSize'>,
	unwanted: AbortSignal,
): Promise<Survey> {
	const [system, cpu, disks] = await Promise.all([
		si.osInfo().catch(() => undefined),
		si.cpu().catch(() => undefined),
		si.fsSize().catch(() => []),
	]);
	return {
		os_distro: textOf(system?.distro),
		os_version: textOf(system?.release),
		cpu_model: textOf([cpu?.manufacturer, cpu?.brand].filter(Boolean).join(' ')),
		cpu_cores: cpu?.physicalCores || null,
		disks: disksOf(disks),
		macs: macs(),
		shells: await pathsOf(shells, env),
		runtimes: await versionsOf(wanted.runtimes, env, unwanted),
		browsers: await versionsOf(wanted.browsers, env, unwanted),
		tools: await versionsOf(wanted.tools, env, unwanted),
	};
}

/**
 * Changes as soon as a survey may find something else: a program came, went or was replaced, or the machine was
 * restarted. Starts nothing, and keeps nobody waiting: a folder of the PATH may be on a slow disk, or on one that is
 * away. A disk, or a version behind a shim, may change unnoticed.
 */
export async function signOf(env: Readonly<Record<string, string | undefined>>): Promise<string> {
	const names = Object.values(wanted).flatMap((list) => list.flatMap(({ programs }) => programs));
	const programs: unknown[] = [];
	for (const name of [...shells, ...names]) {
		const path = await locate(name, env);
		const found = path && (await stat(path));
		programs.push(found ? [path, found.ino, found.size, found.mtimeMs] : null);
	}
	const known = [env.PATH ?? env.Path, process.version, currentBoot(), macs(), programs];
	return hash('sha256', JSON.stringify(known), 'base64url');
}

/** The same disk is often mounted at many places; the shortest of them is the one people mean. */
function disksOf(disks: readonly Systeminformation.FsSizeData[]): Survey['disks'] {
	const byDevice = new Map<string, Systeminformation.FsSizeData>();
	for (const disk of disks) {
		const known = byDevice.get(disk.fs);
		if (known === undefined || disk.mount.length < known.mount.length) byDevice.set(disk.fs, disk);
	}
	return [...byDevice.values()]
		.map(({ mount, type, size }) => ({ mount, type, size_bytes: size }))
		.sort((a, b) => (a.mount < b.mount ? -1 : 1))
		.slice(0, 32);
}

function macs(): string[] {
	const found = Object.values(networkInterfaces())
		.flatMap((entries) => entries ?? [])
		.filter(({ internal, mac }) => !internal && mac !== '00:00:00:00:00:00')
		.map(({ mac }) => mac);
	return [...new Set(found)].sort();
}

async function pathsOf(
	names: readonly string[],
	env: Readonly<Record<string, string | undefined>>,
): Promise<Record<string, string>> {
	const found: Record<string, string> = {};
	for (const name of names) {
		const path = await locate(name, env);
		if (path !== undefined) found[name] = path;
	}
	return found;
}

async function versionsOf(
	list: readonly Wanted[],
	env: Readonly<Record<string, string | undefined>>,
	unwanted: AbortSignal,
): Promise<Record<string, string>> {
	const found: Record<string, string> = {};
	const left = [...list];
	const look = async () => {
		for (let one = left.shift(); one !== undefined && !unwanted.aborted; one = left.shift()) {
			let path: string | undefined;
			for (const program of one.programs) path ??= await locate(program, env);
			if (path !== undefined && !isMacStub(path)) {
				found[one.name] =
					one.opens && process.platform === 'win32'
						? versionBeside(path)
						: await versionOf(path, one.args ?? ['--version'], env, unwanted);
			}
		}
	};
	await Promise.all(Array.from({ length: atATime }, look));
	return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Where the system would find it; undefined when there is none. */
async function locate(
	program: string,
	env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
	const onWindows = process.platform === 'win32';
	const endings = onWindows ? (env.PATHEXT ?? '.EXE;.CMD;.BAT').split(';') : [''];
	const absolute = /^(\/|[A-Z]:\\)/.test(program);
	const folders = absolute ? [''] : (env.PATH ?? env.Path ?? '').split(delimiter).filter(Boolean);
	for (const folder of folders) {
		for (const ending of absolute ? [''] : endings) {
			const path = folder === '' ? program : join(folder, program + ending.toLowerCase());
			try {
				await access(path, constants.X_OK);
				if ((await stat(path)).isFile()) return path;
			} catch {
				// Not here.
			}
		}
	}
	return undefined;
}

/** When called, these open a window that asks a person to install the real ones. */
function isMacStub(path: string): boolean {
	if (process.platform !== 'darwin') return false;
	if (path === '/usr/bin/java') {
		const folder = '/Library/Java/JavaVirtualMachines';
		return !existsSync(folder) || readdirSync(folder).length === 0;
	}
	const ofXcode = ['git', 'python3', 'make', 'gcc'].some((name) => path === `/usr/bin/${name}`);
	return ofXcode && !existsSync('/Library/Developer/CommandLineTools');
}

/** A browser has a folder beside it that is named after its version; after an update there are two. */
function versionBeside(path: string): string {
	let beside: string[];
	try {
		beside = readdirSync(dirname(path));
	} catch {
		return '';
	}
	return (
		beside
			.filter((name) => /^\d+(\.\d+){3}$/.test(name))
			.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
			.at(-1) ?? ''
	);
}

async function versionOf(
	path: string,
	args: readonly string[],
	env: Readonly<Record<string, string | undefined>>,
	unwanted: AbortSignal,
): Promise<string> {
	// Without a shell Windows starts no .cmd, and with one the path would be shell text.
	if (/\.(cmd|bat)$/i.test(path)) return '';
	return await new Promise((resolve) => {
		const child = execFile(
			path,
			[...args],
			{
				env: env as NodeJS.ProcessEnv,
				timeout: versionMs,
				killSignal: 'SIGKILL',
				signal: unwanted,
				windowsHide: true,
			},
			// Some write it to stderr, some end with an exit code of their own.
			(_error, stdout, stderr) => {
				const [version] = /\d+(\.\d+)+[\w.+-]*/.exec(`${stdout}\n${stderr}`) ?? [''];
				resolve(version.slice(0, 60));
			},
		);
		child.stdin?.end();
	});
}

function textOf(text: string | undefined): string | null {
	return text === undefined || text.trim() === '' ? null : text.trim();
}

/** What an installation touches on this machine, and what it finds out about it beforehand. */
import { execFileSync } from 'node:child_process';
import {
	chmodSync,
	chownSync,
	closeSync,
	constants,
	existsSync,
	fchmodSync,
	fchownSync,
	lstatSync,
	mkdirSync,
	openSync,
	readFileSync,
	realpathSync,
	renameSync,
	rmdirSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, parse } from 'node:path';

export interface Rights {
	uid: number;
	gid: number;
}

export interface Owner extends Rights {
	home: string;
}

export interface Ran {
	code: number;
	/** What it said last, in one line. */
	said: string;
}

export class Machine {
	readonly platform: NodeJS.Platform = process.platform;
	readonly env: Readonly<Record<string, string | undefined>>;

	constructor(env: Readonly<Record<string, string | undefined>> = process.env) {
		this.env = env;
	}

	get home(): string {
		return this.env.HOME || this.env.USERPROFILE || homedir();
	}

	get uid(): number {
		return process.getuid?.() ?? 0;
	}

	/** Whether the whole machine may be changed. */
	get isAdministrator(): boolean {
		if (this.platform === 'win32') return this.run(['net', 'session']).code === 0;
		return this.uid === 0;
	}

	/** Whether systemd runs this machine (`system`), or this person's session. */
	hasSystemd(scope: 'system' | 'user'): boolean {
		if (scope === 'system') return existsSync('/run/systemd/system');
		return this.run(['systemctl', '--user', 'show-environment']).code === 0;
	}

	run([program, ...args]: readonly string[]): Ran {
		try {
			execFileSync(program!, args, {
				env: this.env as NodeJS.ProcessEnv,
				stdio: ['ignore', 'ignore', 'pipe'],
				encoding: 'utf8',
				timeout: 120_000,
				windowsHide: true,
			});
			return { code: 0, said: '' };
		} catch (error) {
			const { status, stderr, message } = error as Error & {
				status?: number | null;
				stderr?: string;
			};
			const lines = (stderr || message).trim().split('\n');
			return { code: status ?? 127, said: lines.at(-1)!.slice(0, 300) };
		}
	}

	pause(ms: number): void {
		Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
	}

	/** Of a user of this machine; undefined when there is none by this name. */
	account(name: string): Owner | undefined {
		if (this.platform === 'win32') return undefined;
		const entry = this.#entry(name);
		if (entry === undefined) return undefined;
		return { uid: Number(entry[2]), gid: Number(entry[3]), home: entry[5] ?? '' };
	}

	#entry(name: string): string[] | undefined {
		const ask = (command: string, args: string[]) => {
			try {
				return execFileSync(command, args, {
					env: this.env as NodeJS.ProcessEnv,
					stdio: ['ignore', 'pipe', 'ignore'],
					encoding: 'utf8',
				}).trim();
			} catch {
				return undefined; // there is none, or no such command
			}
		};
		if (this.platform === 'darwin') {
			const number = (flag: string) => ask('id', [flag, name]);
			const uid = number('-u');
			return uid === undefined ? undefined : [name, '', uid, number('-g') ?? uid];
		}
		return ask('getent', ['passwd', name])?.split(':');
	}

	read(path: string): string | undefined {
		try {
			return readFileSync(path, 'utf8');
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
			throw error;
		}
	}

	has(path: string): boolean {
		return existsSync(path);
	}

	/** True when it was not there. */
	folder(path: string, mode: number, owner?: Owner): boolean {
		const parent = dirname(path);
		// Its owner must be able to get there, whatever the umask.
		if (!existsSync(parent)) this.folder(parent, 0o755);
		const isNew = mkdirSync(path, { recursive: true, mode }) !== undefined;
		if (this.platform === 'win32' || (!isNew && owner === undefined)) return isNew;
		// In somebody else's folder there may be a link, planted to make us give away something else.
		const links = statSync(parent).uid === this.uid ? 0 : constants.O_NOFOLLOW;
		const folder = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | links);
		try {
			if (owner !== undefined) fchownSync(folder, owner.uid, owner.gid);
			fchmodSync(folder, mode);
		} finally {
			closeSync(folder);
		}
		return isNew;
	}

	/** Whole or not at all, and never readable by others for a moment. True when it changed. */
	write(path: string, bytes: Buffer, mode: number, owner?: Owner): boolean {
		const same = existsSync(path) && readFileSync(path).equals(bytes);
		if (!same) {
			const partial = `${path}.new`;
			rmSync(partial, { force: true });
			writeFileSync(partial, bytes, { mode });
			renameSync(partial, path);
		}
		if (this.platform !== 'win32') chmodSync(path, mode);
		if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
		return !same;
	}

	/** A file; with `folder`, the folder it is in too, when nothing else is. */
	remove(path: string, folder = false): void {
		rmSync(path, { force: true });
		if (!folder) return;
		try {
			rmdirSync(dirname(path));
		} catch {
			// Something else is in it, or it is gone already.
		}
	}

	/** Whose file or folder it is; undefined when it is not there. */
	ownerOf(path: string): Rights | undefined {
		const found = lstatSync(path, { throwIfNoEntry: false });
		return found && { uid: found.uid, gid: found.gid };
	}

	/**
	 * With the rights of `as` alone: whatever that user puts in the way, and whenever, say a link to somebody else's
	 * folder, nothing is removed that they could not have removed themselves.
	 */
	purge(path: string, as: Rights | undefined): void {
		if (as === undefined || as.uid === this.uid) {
			rmSync(path, { recursive: true, force: true });
			return;
		}
		// Some folders are closed even to their owner, as Go leaves those of its modules.
		const twice = 'rm -rf -- "$1" || { chmod -R -- u+rwX "$1"; rm -rf -- "$1"; }';
		try {
			const env = this.env as NodeJS.ProcessEnv;
			const { uid, gid } = as;
			execFileSync('sh', ['-c', twice, 'sh', path], { uid, gid, env, cwd: '/', stdio: 'ignore' });
		} catch {
			// The folder above is not theirs, as a rule: then all is gone but the folder itself.
		}
		try {
			rmdirSync(path);
		} catch (error) {
			const { code } = error as NodeJS.ErrnoException;
			if (code === 'ENOENT') return;
			if (code !== 'ENOTEMPTY') throw error;
			throw new Error('what other users have put there is still in it', { cause: error });
		}
	}

	/** Whether an agent made this folder: a typo must not destroy anything else. */
	isDataFolder(path: string): boolean {
		if (!existsSync(path) || parse(path).root === path || path === this.home) return false;
		if (!lstatSync(path).isDirectory()) return false;
		return existsSync(join(path, 'identity.json')) || existsSync(join(path, 'journal.db'));
	}

	/**
	 * The same file by a path that outlives an update: where Homebrew or snap has put Node, it knows itself by a folder
	 * named after its version, which goes away with the next one.
	 */
	lasting(path: string): string {
		const link = path
			.replace(/\/Cellar\/([^/]+)\/[^/]+\//, '/opt/$1/')
			.replace(/^\/snap\/([^/]+)\/x?\d+\//, '/snap/$1/current/');
		try {
			return realpathSync(link) === path ? link : path;
		} catch {
			return path; // there is no such link
		}
	}

	/**
	 * The first folder or file on the way that `somebody` (undefined = a user still to be made) may not enter or read:
	 * the Node of a version manager is often in a home.
	 */
	closedTo(somebody: Owner | undefined, path: string): string | undefined {
		if (this.platform === 'win32' || somebody?.uid === 0) return undefined;
		const { root } = parse(path);
		for (let at = path, right = 0o4; ; at = dirname(at), right = 0o1) {
			const { mode, uid, gid } = statSync(at);
			const shift = uid === somebody?.uid ? 6 : gid === somebody?.gid ? 3 : 0;
			if (((mode >> shift) & right) === 0) return at;
			if (at === root) return undefined;
		}
	}
}

/** The Docker of this machine: containers, volumes and images that are removed along with their maker. */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
	chmodSync,
	copyFileSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	rmSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** What people's Dockerfile starts from. */
const published = 'node:24-slim';
/** What the base of a machine without a registry has beside Node. */
const tools = ['sh', 'cat', 'chown', 'env', 'id', 'mkdir', 'sleep', 'uname'];
/** What test/docker/systemd.Dockerfile installs. */
const systemd = ['systemd', 'systemd-sysv', 'dbus', 'libstdc++6', 'procps'];

export interface Said {
	out: string;
	err: string;
}

export class Docker implements AsyncDisposable {
	/** Of all that is made here, so that two runs do not meet. */
	readonly #prefix = `rf-test-${randomBytes(4).toString('hex')}`;
	readonly #undo: string[][] = [];

	/** Resolves with what was printed; rejects with what Docker said. */
	run(...args: string[]): Promise<Said> {
		return call('docker', ...args);
	}

	/** A container that runs until it is removed or stops; answers its name. */
	async container(name: string, ...args: string[]): Promise<string> {
		const full = `${this.#prefix}-${name}`;
		this.#undo.unshift(['rm', '-f', '-v', full]);
		await this.run('run', '-d', '--name', full, ...args);
		return full;
	}

	async volume(name: string): Promise<string> {
		const full = `${this.#prefix}-${name}`;
		await this.run('volume', 'create', full);
		this.#undo.push(['volume', 'rm', '-f', full]);
		return full;
	}

	async build(name: string, dockerfile: string, context: string, node: string): Promise<string> {
		const tag = `${this.#prefix}-${name}`;
		await this.run('build', '-f', dockerfile, '-t', tag, '--build-arg', `NODE=${node}`, context);
		this.#undo.push(['image', 'rm', '-f', tag]);
		return tag;
	}

	/** An image with Node: the published one, or where no registry is reached one of this machine's own files. */
	async nodeImage(): Promise<string> {
		try {
			await this.run('image', 'inspect', published).catch(() => this.run('pull', '-q', published));
			return published;
		} catch {
			return this.#ownImage();
		}
	}

	/** A machine that is run by systemd: by its Dockerfile, or where no registry is reached by debootstrap. */
	async systemdImage(dockerfile: string): Promise<string> {
		const tag = `${this.#prefix}-systemd`;
		try {
			await this.run('build', '-f', dockerfile, '-t', tag, dirname(dockerfile));
		} catch {
			const root = mkdtempSync(join(tmpdir(), 'robot-fleet-image-'));
			try {
				const include = `--include=${systemd.join(',')}`;
				await call('debootstrap', '--variant=minbase', include, 'bookworm', root);
				await this.#import(root, tag);
			} finally {
				rmSync(root, { recursive: true, force: true });
			}
		}
		this.#undo.push(['image', 'rm', '-f', tag]);
		return tag;
	}

	/** It is switched on. */
	machine(name: string, image: string, ...mounts: string[]): Promise<string> {
		return this.container(
			name,
			// What systemd asks for; not `--privileged`, which asks for more than some machines have.
			...['--cap-add=ALL', '--cap-drop=SYS_RESOURCE', '--security-opt', 'seccomp=unconfined'],
			...['--cgroupns=host', '-v', '/sys/fs/cgroup:/sys/fs/cgroup:rw', '-e', 'container=docker'],
			...['--tmpfs', '/run', '--tmpfs', '/tmp', ...mounts, image, '/sbin/init'],
		);
	}

	/** Where the container is found by this machine, and where it finds this machine. */
	async addresses(container: string): Promise<{ own: string; host: string }> {
		const { IPAddress: own, Gateway: host } = JSON.parse(
			(await this.run('inspect', '-f', '{{json .NetworkSettings.Networks.bridge}}', container)).out,
		) as { IPAddress: string; Gateway: string };
		return { own, host };
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const args of this.#undo) await this.run(...args).catch(() => undefined);
	}

	async #ownImage(): Promise<string> {
		const root = mkdtempSync(join(tmpdir(), 'robot-fleet-image-'));
		try {
			const put = (from: string, to = from) => {
				mkdirSync(join(root, dirname(to)), { recursive: true });
				if (!existsSync(join(root, to))) copyFileSync(from, join(root, to));
			};
			const found = tools.map((tool) => which(tool));
			put(process.execPath, '/usr/local/bin/node');
			for (const tool of found) put(tool, `/bin/${tool.split('/').at(-1)}`);
			for (const program of [process.execPath, ...found]) {
				for (const library of librariesOf(program)) put(library);
			}
			for (const folder of ['etc', 'tmp', 'home/node', 'proc', 'sys', 'dev']) {
				mkdirSync(join(root, folder), { recursive: true });
			}
			const people = ['root:x:0:0::/root:/bin/sh', 'node:x:1000:1000::/home/node:/bin/sh', ''];
			writeFileSync(join(root, 'etc/passwd'), people.join('\n'));
			writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnode:x:1000:\n');
			const tag = `${this.#prefix}-node`;
			await this.#import(root, tag);
			this.#undo.push(['image', 'rm', '-f', tag]);
			return tag;
		} finally {
			rmSync(root, { recursive: true, force: true });
		}
	}

	async #import(root: string, tag: string): Promise<void> {
		const tar = `${root}.tar`;
		try {
			// It becomes the image's root, which everybody may enter.
			chmodSync(root, 0o755);
			await call('tar', '-C', root, '-cf', tar, '.');
			await this.run('import', tar, tag);
		} finally {
			rmSync(tar, { force: true });
		}
	}
}

/** Resolves with what was printed; rejects with what it said of its failure. */
function call(program: string, ...args: string[]): Promise<Said> {
	return new Promise((resolve, reject) => {
		execFile(program, args, { maxBuffer: 64 * 1024 * 1024 }, (error, out, err) =>
			error ? reject(new Error(err.trim() || error.message)) : resolve({ out, err }),
		);
	});
}

function which(tool: string): string {
	return execFileSync('sh', ['-c', `command -v "$1"`, 'sh', tool], { encoding: 'utf8' }).trim();
}

function librariesOf(program: string): string[] {
	const text = execFileSync('ldd', [program], { encoding: 'utf8' });
	return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path!);
}

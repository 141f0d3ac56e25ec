/**
 * A way to the API of a service on another host: it listens on loopback there, out of reach of this process.
 * A small process beside it passes on connections to a socket file.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import http from 'node:http';
import type { Send } from '../../client';
import { programEnv } from './programs';
import type { Host } from './hosts';

const script = `
const { connect, createServer } = require('node:net');
const [socket, port] = process.argv.slice(1);
createServer((here) => {
	const there = connect(Number(port), '127.0.0.1');
	here.pipe(there).pipe(here);
	for (const end of [here, there]) end.on('error', () => [here, there].forEach((one) => one.destroy()));
}).listen(socket, () => console.log('open'));
`;

export class Portal {
	readonly #socket: string;
	readonly #child: ChildProcess;

	private constructor(socket: string, child: ChildProcess) {
		this.#socket = socket;
		this.#child = child;
	}

	static async open(host: Host, port: number, socket: string): Promise<Portal> {
		const [program, ...args] = [...host.through, process.execPath, '-e', script, socket, `${port}`];
		const child = spawn(program!, args, {
			env: programEnv(),
			stdio: ['ignore', 'pipe', 'inherit'],
		});
		await new Promise<void>((resolve, reject) => {
			child.stdout!.once('data', () => resolve());
			child.once('exit', (code) => reject(new Error(`the portal ended with ${code}`)));
		});
		return new Portal(socket, child);
	}

	/** With this key; it is asked for at each call, for there may be none yet. */
	send(key: () => string): Send {
		return ({ method, path, body, signal }) =>
			new Promise((resolve, reject) => {
				const request = http.request({
					socketPath: this.#socket,
					method,
					path,
					signal,
					headers: {
						host: 'localhost',
						authorization: `Bearer ${key()}`,
						...(body !== undefined && { 'content-type': 'application/json' }),
					},
				});
				request.on('error', reject);
				request.on('response', (response) => {
					let text = '';
					response.on('data', (piece) => (text += piece));
					response.on('end', () =>
						resolve({
							status: response.statusCode!,
							body: text === '' ? undefined : JSON.parse(text),
						}),
					);
				});
				request.end(body === undefined ? undefined : JSON.stringify(body));
			});
	}

	async close(): Promise<void> {
		if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
		const gone = new Promise((resolve) => this.#child.once('exit', resolve));
		this.#child.kill('SIGKILL');
		await gone;
	}
}

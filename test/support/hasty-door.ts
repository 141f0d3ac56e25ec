/**
 * A door in front of the service that makes nodes park at once: a wait in memory that may take ten seconds is
 * answered immediately. Everything else passes unchanged.
 */
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export class HastyDoor implements AsyncDisposable {
	readonly #server: Server;

	private constructor(service: string) {
		this.#server = createServer((request, response) => {
			const path = request.url!.replace(/^(.*\/waits\/[^/?]+)\?waitMs=10000$/, '$1?waitMs=0');
			const onward = httpRequest(
				new URL(path, service),
				{ method: request.method, headers: request.headers },
				(answer) => {
					response.writeHead(answer.statusCode!, answer.headers);
					answer.pipe(response);
				},
			);
			onward.on('error', () => response.destroy());
			response.on('close', () => onward.destroy());
			request.pipe(onward);
		});
	}

	static async before(service: string): Promise<HastyDoor> {
		const door = new HastyDoor(service);
		await new Promise<void>((resolve) => door.#server.listen(0, '127.0.0.1', resolve));
		return door;
	}

	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#server.closeAllConnections();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}

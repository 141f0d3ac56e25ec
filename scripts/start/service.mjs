/** Asks the embedded service, as an operator with the admin key in its data folder would. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { request } from '../n8n/loopback.mjs';
import { until } from '../n8n/until.mjs';

export class Service {
	#folder;

	/** @param {string} url @param {string} folder its data */
	constructor(url, folder) {
		this.url = url;
		this.#folder = folder;
	}

	/** @param {number} deadlineMs */
	async ready(deadlineMs) {
		const look = () => request(`${this.url}/readyz`).catch(() => undefined);
		await until(async () => (await look())?.status === 200, {
			deadlineMs,
			what: () => `the Robot Fleet service at ${this.url} to be ready`,
		});
	}

	/**
	 * @param {string} method
	 * @param {string} path below /api/v1
	 * @param {unknown} [body]
	 * @returns {Promise<any>} undefined if there is no such thing
	 */
	async ask(method, path, body) {
		const key = (await readFile(join(this.#folder, 'admin.key'), 'utf8')).trim();
		const headers = { authorization: `Bearer ${key}` };
		const answer = await request(`${this.url}/api/v1${path}`, { method, body, headers });
		if (answer.status === 404) return undefined;
		if (answer.status >= 400) {
			throw new Error(`${method} ${path} answered ${answer.status}: ${answer.text}`);
		}
		return answer.text === '' ? undefined : JSON.parse(answer.text);
	}
}

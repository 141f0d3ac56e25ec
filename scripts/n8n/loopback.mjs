/**
 * Plain HTTP to a program on this machine, and free ports for it. No proxy setting reaches these
 * calls: they have an agent of their own.
 */
import http from 'node:http';
import net from 'node:net';

// A port of the range the system hands out for outgoing connections could be taken by one of those
// in the seconds until our child listens on it, so we choose below that range.
// Each of jest's two workers has its own: an n8n that was killed by a neighbour will want its port back.
const portCount = 5_000;
const firstPort = 20_000 + ((Number(process.env.JEST_WORKER_ID ?? 1) - 1) % 2) * portCount;
const agent = new http.Agent({ keepAlive: false });

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {http.IncomingHttpHeaders} headers
 * @property {string} text
 */

/**
 * @param {string} url
 * @param {object} [options]
 * @param {string} [options.method]
 * @param {unknown} [options.body] a string goes as it is, anything else as JSON
 * @param {Record<string, string>} [options.headers]
 * @param {number} [options.timeoutMs] how long silence is tolerated
 * @returns {Promise<Answer>}
 */
export function request(url, { method = 'GET', body, headers = {}, timeoutMs = 60_000 } = {}) {
	const isText = typeof body === 'string';
	const payload = body === undefined || isText ? body : JSON.stringify(body);
	const type = body === undefined || isText ? {} : { 'content-type': 'application/json' };
	return new Promise((resolve, reject) => {
		const call = http.request(
			url,
			{ method, agent, headers: { ...type, ...headers } },
			(answer) => {
				const chunks = /** @type {Buffer[]} */ ([]);
				answer.on('data', (chunk) => chunks.push(chunk));
				answer.on('error', reject);
				answer.on('end', () =>
					resolve({
						status: answer.statusCode ?? 0,
						headers: answer.headers,
						text: Buffer.concat(chunks).toString(),
					}),
				);
			},
		);
		call.setTimeout(timeoutMs, () =>
			call.destroy(new Error(`${method} ${url}: no answer within ${timeoutMs / 1000} s`)),
		);
		call.on('error', reject);
		call.end(payload);
	});
}

/** @param {number} count @returns {Promise<number[]>} different ports nobody listens on now */
export async function freePorts(count) {
	const servers = /** @type {net.Server[]} */ ([]);
	try {
		while (servers.length < count) servers.push(await listenSomewhere());
		return servers.map((server) => /** @type {net.AddressInfo} */ (server.address()).port);
	} finally {
		await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
	}
}

/** @returns {Promise<net.Server>} */
async function listenSomewhere() {
	for (let attempt = 0; attempt < 100; attempt++) {
		const port = firstPort + Math.floor(Math.random() * portCount);
		const server = net.createServer();
		const free = await new Promise((resolve) => {
			server.once('error', () => resolve(false));
			server.listen(port, '127.0.0.1', () => resolve(true));
		});
		if (free) return server;
	}
	throw new Error(`No free port found between ${firstPort} and ${firstPort + portCount - 1}`);
}

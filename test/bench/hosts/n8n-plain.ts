/**
 * A hook of n8n (EXTERNAL_HOOK_FILES) for W10: the plain call of the API from n8n's own thread, without n8n. It answers
 * `GET /?count=N` on a port of its own with the milliseconds of N submits, one after the other.
 */
import { readFileSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';
import { join } from 'node:path';

const agent = new Agent({ keepAlive: true, maxSockets: 1 });

/** What the node asks for the same job. */
function submit(base: string, key: string): Promise<number> {
	const body = JSON.stringify({ jobs: [{ kind: 'command', spec: { command: 'true' } }] });
	const from = performance.now();
	return new Promise((resolve, reject) => {
		const call = request(`${base}/api/v1/jobs`, {
			method: 'POST',
			agent,
			headers: {
				authorization: `Bearer ${key}`,
				'content-type': 'application/json',
				'content-length': Buffer.byteLength(body),
			},
		});
		call.on('error', reject).on('response', (response) => {
			let text = '';
			response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
			response.on('end', () => {
				const { jobs } = JSON.parse(text) as { jobs?: { jobId?: string }[] };
				if (jobs?.[0]?.jobId === undefined) return reject(new Error(text));
				resolve(performance.now() - from);
			});
		});
		call.end(body);
	});
}

/** Where the service is, as it says in its data folder. */
function service() {
	const folder = process.env['ROBOT_FLEET_DATA']!;
	const read = (name: string) => readFileSync(join(folder, name), 'utf8');
	return {
		url: (JSON.parse(read('service.json')) as { url: string }).url,
		key: read('n8n.key').trim(),
	};
}

/** The form that n8n expects of a hook file. */
export const n8n = {
	ready: [
		async () => {
			const server = createServer((asked, answer) => {
				const count = Number(new URL(asked.url!, 'http://x').searchParams.get('count'));
				void (async () => {
					const { url, key } = service();
					const samples: number[] = [];
					while (samples.length < count) samples.push(await submit(url, key));
					answer.end(JSON.stringify(samples));
				})().catch((error: unknown) => answer.writeHead(500).end(String(error)));
			});
			await new Promise<void>((resolve) =>
				server.listen(Number(process.env['BENCH_PLAIN_PORT']), '127.0.0.1', resolve),
			);
			server.unref();
		},
	],
};

/**
 * M simulated robots in a process of their own: real sockets, real enrolment, real keys, real frames; the
 * work itself is nothing, and nothing is journalled (peers' workers keep no journal either). Says
 * over IPC how long each probe took from submit to start, and how many results were acknowledged.
 */
import { generateKeyPairSync, sign } from 'node:crypto';
import type { Duplex } from 'node:stream';
import WebSocket from 'ws';
import { enrolProof, helloProof, paths } from '../../protocol';

const [url, token, count] = process.argv.slice(2) as [string, string, string];
let acknowledged = 0;
let wanted = Infinity;
let lastId = 0;

process.on('message', ({ expect }: { expect: number }) => {
	acknowledged = 0;
	wanted = expect;
});

for (let i = 0; i < Number(count); i += 1) await connect(`bench-${i}`);
process.send!({ ready: 1 });

async function connect(name: string): Promise<void> {
	const { publicKey, privateKey } = generateKeyPairSync('ed25519');
	const key = publicKey.export({ type: 'spki', format: 'der' }).toString('base64url');
	const proof = (text: string) => sign(null, Buffer.from(text), privateKey).toString('base64url');
	const enrolled = await fetch(url + paths.robotEnrol, {
		method: 'POST',
		headers: { 'content-type': 'application/json' },
		body: JSON.stringify({ token, publicKey: key, signature: proof(enrolProof(token, key)), name }),
	});
	const { robotId, hubId } = (await enrolled.json()) as { robotId: string; hubId: string };
	const socket = new WebSocket(url.replace('http', 'ws') + paths.robotLink, {
		perMessageDeflate: false,
	});
	const send = (type: string, payload: object) =>
		socket.send(
			JSON.stringify({
				type,
				id: String(++lastId),
				timestamp: '2026-01-01T00:00:00.000Z',
				payload,
			}),
		);
	let wire: Duplex | undefined;
	socket.on('upgrade', (response) => (wire = response.socket));
	const together = (say: () => void) => {
		wire!.cork();
		say();
		wire!.uncork();
	};
	await new Promise<void>((resolve, reject) => {
		socket.on('error', reject);
		socket.on('message', (data: Buffer) => {
			const { type, payload } = JSON.parse(data.toString()) as { type: string; payload: never };
			answer(type, payload, send, { robotId, hubId, proof, resolve, together });
		});
	});
}

interface Self {
	robotId: string;
	hubId: string;
	proof(text: string): string;
	resolve(): void;
	/** What is sent meanwhile leaves as one packet. */
	together(say: () => void): void;
}

function answer(
	type: string,
	payload: {
		nonce: string;
		job_id: string;
		attempt: number;
		epoch: number;
		token: string;
		variables: { sentAt?: string };
	},
	send: (type: string, payload: object) => void,
	self: Self,
): void {
	if (type === 'job_assignment') {
		const { job_id, attempt, epoch, token: attemptToken, variables } = payload;
		if (variables.sentAt !== undefined) {
			process.send!({ latencyNs: Number(process.hrtime.bigint() - BigInt(variables.sentAt)) });
		}
		const ref = { job_id, attempt, epoch, token: attemptToken };
		self.together(() => {
			send('job_accepted', { ...ref, started_at: '2026-01-01T00:00:00.000Z' });
			send('job_result', {
				...ref,
				state: 'completed',
				cause: null,
				output: { stdout: 0, stderr: 0 },
				result: {
					exit_code: 0,
					signal: null,
					stdout: '',
					stderr: '',
					truncated: false,
					outputs: {},
					duration_ms: 0,
					error: null,
					process_gone: true,
				},
			});
		});
	} else if (type === 'result_ack') {
		acknowledged += 1;
		if (acknowledged === wanted) process.send!({ done: wanted });
	} else if (type === 'connected') {
		send('hello', {
			robot_id: self.robotId,
			protocol: 1,
			features: [],
			version: 'bench',
			journal_id: 'bench',
			boot_id: 'bench',
			signature: self.proof(helloProof(self.hubId, self.robotId, payload.nonce)),
			slots: 1,
			labels: {},
			capabilities: [],
			info: {},
			attempts: [],
		});
	} else if (type === 'robot_registered') self.resolve();
}

/** The doors to robots, waits, subscriptions, tokens and keys. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { deviceUrlMistake, enrolProof, limits, Problem } from '../../protocol';
import {
	acknowledge,
	answers,
	broadcastRequest,
	closeRequest,
	collectedRequest,
	collectRequest,
	enrolRequest,
	eventsQuery,
	keyRequest,
	quarantineRequest,
	robotRequest,
	robotsBulkRequest,
	shutdownRequest,
	subscriptionRequest,
	tokenRequest,
	waitQuery,
	waitRequest,
	waitsQuery,
} from '../../protocol/schemas';
import type { Caller } from '../engine';
import { type Door, door } from './door';
import { waitOf } from './job-doors';
import { isPlainlyInside } from './outbound';

const { listOf } = answers;
const checkSignature = promisify(verify);

export const fleetDoors = {
	robots: door({
		answer: listOf(answers.robot),
		run: async (_ask, { engine }) => ({ items: await engine.robots() }),
	}),
	robot: door({ answer: answers.robot, run: ({ id }, { engine }) => engine.robot(id) }),
	robotRegister: door({
		body: robotRequest,
		answer: answers.robot,
		status: 201,
		run({ body, caller }, { engine }) {
			if (body.serverUrl !== undefined) checkAddress(body.serverUrl, caller);
			return engine.registerRobot(body, caller);
		},
	}),
	robotConnect: door({
		answer: answers.robot,
		run: ({ id, caller }, { engine }) => engine.connectRobot(id, caller),
	}),
	robotEnrol: door({
		body: enrolRequest,
		maxBodyBytes: limits.maxStrangerBodyBytes,
		answer: answers.enrolAnswer,
		async run({ body }, { engine }) {
			const { token, publicKey, signature, name } = body;
			if (!(await proves(publicKey, enrolProof(token, publicKey), signature)))
				throw new Problem('bad-proof');
			return engine.enrol(token, publicKey, name);
		},
	}),
	robotLink: door({
		run() {
			throw new Problem('bad-message', {
				reason: 'this is a WebSocket; open it with ws:// or wss://',
			});
		},
	}),
	robotPause: door({
		body: closeRequest,
		bodyOptional: true,
		answer: answers.robot,
		run: ({ id, body, caller }, { engine }) => engine.pauseRobot(id, caller, body),
	}),
	robotMaintenance: door({
		body: closeRequest,
		bodyOptional: true,
		answer: answers.robot,
		run: ({ id, body, caller }, { engine }) => engine.maintainRobot(id, caller, body),
	}),
	robotQuarantine: door({
		body: quarantineRequest,
		answer: answers.robot,
		run: ({ id, body, caller }, { engine }) => engine.quarantineRobot(id, body, caller),
	}),
	robotProbe: door({
		answer: answers.robot,
		run: ({ id, caller }, { engine }) => engine.probeRobot(id, caller),
	}),
	robotsBulk: door({
		body: robotsBulkRequest,
		answer: answers.robotsBulkResult,
		run: ({ body, caller }, { engine }) => engine.changeRobots(body, caller),
	}),
	robotResume: door({
		answer: answers.robot,
		run: ({ id, caller }, { engine }) => engine.resumeRobot(id, caller),
	}),
	robotDrain: door({
		query: waitQuery,
		body: closeRequest,
		bodyOptional: true,
		answer: answers.robot,
		run: ({ id, query, body, caller, signal }, { engine }) =>
			engine.drainRobot(id, waitOf(query.waitMs) ?? 0, caller, signal(), body),
	}),
	robotPing: door({ answer: answers.ping, run: ({ id }, { engine }) => engine.pingRobot(id) }),
	robotRefresh: door({
		answer: answers.robot,
		run: ({ id }, { engine }) => engine.refreshRobot(id),
	}),
	robotDisconnect: door({
		answer: answers.robot,
		run: ({ id, caller }, { engine }) => engine.disconnectRobot(id, caller),
	}),
	robotShutdown: door({
		body: shutdownRequest,
		bodyOptional: true,
		answer: answers.robot,
		run: ({ id, body, caller }, { engine }) =>
			engine.shutdownRobot(id, body.atOnce ?? false, caller),
	}),
	robotsBroadcast: door({
		body: broadcastRequest,
		answer: answers.broadcast,
		run({ body, caller }, { engine }) {
			if ((body.action ?? 'note') === 'note' && body.text === undefined) {
				throw new Problem('bad-field', { path: 'text', reason: 'a note needs a text' });
			}
			return engine.broadcast(body, caller);
		},
	}),
	robotRemove: door({ run: ({ id, caller }, { engine }) => engine.removeRobot(id, caller) }),
	robotAllowMove: door({
		answer: answers.robot,
		run: ({ id, caller }, { engine }) => engine.allowMove(id, caller),
	}),

	tokens: door({
		answer: listOf(answers.token),
		run: async (_ask, { engine }) => ({ items: await engine.tokens() }),
	}),
	tokenCreate: door({
		body: tokenRequest,
		bodyOptional: true,
		answer: answers.tokenCreated,
		status: 201,
		async run({ body, caller }, { engine, pin, doors }) {
			return { ...(await engine.createToken(body, caller, pin())), dial: doors().dial };
		},
	}),
	tokenRevoke: door({ run: ({ id, caller }, { engine }) => engine.revokeToken(id, caller) }),
	keys: door({
		answer: listOf(answers.key),
		run: async (_ask, { engine }) => ({ items: await engine.keys() }),
	}),
	keyCreate: door({
		body: keyRequest,
		answer: answers.keyCreated,
		status: 201,
		run: ({ body, caller }, { engine }) => engine.createKey(body, caller),
	}),
	keyRevoke: door({
		async run({ id, caller }, { engine, waiting }) {
			await engine.revokeKey(id, caller);
			// Ends what it asked for earlier, too, however long that would have gone on.
			const over = new Problem('bad-key');
			for (const [answer, keyId] of waiting) if (keyId === id) answer.abort(over);
		},
	}),

	waitCreate: door({
		body: waitRequest,
		answer: answers.waitCreated,
		status: 201,
		run: ({ body, caller }, { engine }) => engine.createWait(body, caller),
	}),
	waits: door({
		query: waitsQuery,
		answer: answers.pageOf(answers.waitRecord),
		run: ({ query: { limit = 100, ...rest } }, { engine }) => engine.waits({ limit, ...rest }),
	}),
	wait: door({
		query: waitQuery,
		answer: answers.wait,
		run({ id, query, signal }, { engine }) {
			const waitMs = waitOf(query.waitMs);
			return waitMs === undefined ? engine.wait(id) : engine.wait(id, waitMs, signal());
		},
	}),
	waitClose: door({ run: ({ id }, { engine }) => engine.closeWait(id) }),
	waitDeliver: door({ run: ({ id }, { engine }) => engine.deliverWait(id) }),
	// These two need no key: whoever knows the secret of a wait may fetch its pokes, and nothing else.
	collect: door({
		body: collectRequest,
		maxBodyBytes: limits.maxStrangerBodyBytes,
		answer: answers.collectAnswer,
		run: ({ body: { collector, waitMs = 0 }, signal }, { engine }) =>
			waitMs === 0
				? engine.collect(collector, 0)
				: engine.collect(collector, waitOf(waitMs) ?? 0, signal()),
	}),
	collected: door({
		body: collectedRequest,
		run: ({ body }, { engine }) => engine.collected(body.collector, body.answers),
	}),

	subscriptionPut: door({
		body: subscriptionRequest,
		answer: answers.subscriptionAnswer,
		run: ({ id, body, caller }, { engine }) => engine.subscribe(id, body, caller),
	}),
	subscriptionRemove: door({
		run: ({ id, caller }, { engine }) => engine.unsubscribe(id, caller),
	}),
	subscriptionEvents: door({
		query: eventsQuery,
		answer: listOf(answers.fleetEvent),
		run: async ({ id, query: { epoch, waitMs, after }, caller, signal }, { engine }) => ({
			items: await engine.events(id, epoch, caller, waitOf(waitMs) ?? 0, signal(), after),
		}),
	}),
	subscriptionAck: door({
		body: acknowledge,
		run: ({ id, body: { epoch, cursor }, caller }, { engine }) =>
			engine.acknowledge(id, epoch, cursor, caller),
	}),
} as const satisfies Record<string, Door>;

/** Says at once what is plainly not allowed, instead of when it is dialled. */
function checkAddress(serverUrl: string, { scopes }: Caller): void {
	const mistake = deviceUrlMistake(serverUrl);
	if (mistake !== undefined) throw new Problem('bad-field', { path: 'serverUrl', reason: mistake });
	const url = new URL(serverUrl);
	if (isPlainlyInside(url) && !scopes.includes('admin')) {
		throw new Problem('address-refused', { origin: `${url.protocol}//${url.host}` });
	}
}

/** Whether `signature` over `text` was made with the private half of this Ed25519 key. */
export async function proves(publicKey: string, text: string, signature: string): Promise<boolean> {
	let key: KeyObject;
	try {
		key = createPublicKey({
			key: Buffer.from(publicKey, 'base64url'),
			format: 'der',
			type: 'spki',
		});
	} catch {
		return false;
	}
	if (key.asymmetricKeyType !== 'ed25519') return false;
	// In a thread of the pool: a fleet that comes back must not hold up those who are here.
	return checkSignature(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'));
}

/**
 * Rows 39, 40 and 42: a token makes as many robots as it says, whoever races; a copied key is seen and
 * proves nothing twice; what is revoked ends within a second. One real service, many sockets.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import http from 'node:http';
import { join } from 'node:path';
import { FleetClient } from '../../client';
import { httpSend, outputEvents } from '../../dispatcher/cli/transport';
import {
	closeCodes,
	enrolProof,
	type EnrolAnswer,
	helloProof,
	limits,
	paths,
} from '../../protocol';
import { filesWith } from '../support/files-with';
import { howMany, percentile, say, thorough } from '../support/proof';
import { WholeHouse } from '../support/whole-house';
import { RawLink, within } from '../integration/server/house';

jest.setTimeout(thorough ? 1_800_000 : 120_000);

/**
 * What takes effect at once is over before the service has answered so many calls of somebody else: a machine
 * that stands still for a moment keeps both waiting. In a second it answers many times as many.
 */
const mostAnswers = 100;

async function atOnce<T>(house: WholeHouse, what: string, promise: Promise<T>): Promise<T> {
	let isOver = false;
	const over = () => void (isOver = true);
	promise.then(over, over);
	for (let answers = 0; !isOver; answers += 1) {
		if (answers === mostAnswers) throw new Error(`${answers} calls were answered before ${what}`);
		await house.client.me();
	}
	return await promise;
}

interface Key {
	publicKey: string;
	privateKey: KeyObject;
}

function newKey(): Key {
	const { publicKey, privateKey } = generateKeyPairSync('ed25519');
	return {
		publicKey: publicKey.export({ format: 'der', type: 'spki' }).toString('base64url'),
		privateKey,
	};
}

const signed = (key: Key, text: string) =>
	sign(null, Buffer.from(text), key.privateKey).toString('base64url');

const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });
afterAll(() => agent.destroy());

interface Enrolled {
	status: number;
	body: EnrolAnswer & { error?: { code: string } };
}

function enrol(url: string, token: string, key: Key): Promise<Enrolled> {
	const { publicKey } = key;
	const signature = signed(key, enrolProof(token, publicKey));
	return new Promise((resolve, reject) => {
		const request = http.request(url + paths.robotEnrol, {
			method: 'POST',
			agent,
			headers: { 'content-type': 'application/json' },
		});
		request.on('error', reject);
		request.on('response', (response) => {
			let text = '';
			response.on('data', (piece) => (text += piece));
			response.on('end', () => resolve({ status: response.statusCode!, body: JSON.parse(text) }));
		});
		request.end(JSON.stringify({ token, publicKey, signature, name: 'racer' }));
	});
}

class Robot {
	readonly house: WholeHouse;
	readonly key: Key;
	readonly id: string;
	readonly hubId: string;

	private constructor(house: WholeHouse, key: Key, { robotId, hubId }: EnrolAnswer) {
		this.house = house;
		this.key = key;
		this.id = robotId;
		this.hubId = hubId;
	}

	static async enrol(house: WholeHouse, token: string): Promise<Robot> {
		const key = newKey();
		return new Robot(house, key, (await enrol(house.service.url, token, key)).body);
	}

	hello(nonce: string, bootId: string) {
		return {
			robot_id: this.id,
			protocol: 2,
			features: [],
			version: '0.1.0',
			journal_id: this.id,
			boot_id: bootId,
			signature: signed(this.key, helloProof(this.hubId, this.id, nonce)),
			slots: 1,
			labels: {},
			capabilities: [],
			info: {},
			attempts: [],
		};
	}

	/** Says hello on a socket of its own. */
	async dial(bootId = 'boot'): Promise<RawLink> {
		const link = new RawLink(this.house.service.url);
		const { payload } = await link.next('connected');
		link.say('hello', this.hello(payload.nonce, bootId));
		return link;
	}

	async connect(): Promise<RawLink> {
		const link = await this.dial();
		await link.next('robot_registered');
		return link;
	}
}

async function manyRobots(house: WholeHouse, count: number): Promise<Robot[]> {
	const { token } = await house.client.createToken({ uses: count });
	return Promise.all(Array.from({ length: count }, () => Robot.enrol(house, token)));
}

test('row 39: a token used in parallel enrolls as many robots as it says, and its secret is kept nowhere', async () => {
	const tries = howMany(1_000, 10_000);
	const uses = 3;
	const logged: string[] = [];
	const log = (text: string, facts?: object) =>
		void logged.push(`${text} ${JSON.stringify(facts)}`);
	await using house = await WholeHouse.open({}, { debug: log, info: log, warn: log, error: log });
	const { token, tokenId } = await house.client.createToken({ uses });
	const { url } = house.service;
	// Every key asks twice: an answer may get lost, and be asked for again.
	const keys = Array.from({ length: tries / 2 }, newKey);
	const answers = await Promise.all(
		[...keys, ...keys].map(async (key) => ({ key, ...(await enrol(url, token, key)) })),
	);
	const taken = answers.filter(({ status }) => status === 200);
	const refused = answers.filter(({ status }) => status !== 200);
	const robots = new Set(taken.map(({ body }) => body.robotId));
	expect(robots.size).toBe(uses);
	expect(taken).toHaveLength(2 * uses);
	expect(new Set(taken.map(({ key, body }) => `${key.publicKey} ${body.robotId}`)).size).toBe(uses);
	expect(new Set(refused.map(({ body }) => body.error?.code))).toEqual(new Set(['bad-token']));
	expect((await house.client.robots()).map(({ robotId }) => robotId).sort()).toEqual(
		[...robots].sort(),
	);

	const [late] = keys;
	await house.client.revokeToken(tokenId);
	expect((await enrol(url, token, newKey())).body.error?.code).toBe('bad-token');
	expect((await enrol(url, token, late!)).body.error?.code).toBe('bad-token');
	const secret = token.split('.')[2]!;
	expect(logged.filter((line) => line.includes(secret))).toEqual([]);
	expect(filesWith(join(house.folder, 'service'), secret)).toEqual([]);
	expect(filesWith(join(house.folder, 'service'), tokenId)).not.toEqual([]);
	say(39, { tries: answers.length, uses, robots: robots.size, 'places with the secret': 0 });
});

test('row 40: an answer to a challenge is good once, and only for that challenge', async () => {
	const tries = howMany(200, 10_000);
	await using house = await WholeHouse.open();
	const [robot] = await manyRobots(house, 1);
	await using first = new RawLink(house.service.url);
	const { payload } = await first.next('connected');
	const overheard = robot!.hello(payload.nonce, 'boot');
	first.say('hello', overheard);
	await first.next('robot_registered');
	let accepted = 0;
	for (let left = tries; left > 0;) {
		const some = Math.min(left, 50);
		left -= some;
		await Promise.all(
			Array.from({ length: some }, async () => {
				await using thief = new RawLink(house.service.url);
				await thief.next('connected');
				thief.say('hello', overheard);
				const { code } = await within('the close', thief.closed);
				if (code !== closeCodes.badKey) accepted += 1;
			}),
		);
	}
	expect(accepted).toBe(0);
	expect(first.socket.readyState).toBe(first.socket.OPEN);
	say(40, { replays: tries, accepted });
});

test('row 40: a second live session with the same key is held off and flagged, the first goes on', async () => {
	const count = howMany(20, 100);
	await using house = await WholeHouse.open();
	const robots = await manyRobots(house, count);
	const took: number[] = [];
	for (const robot of robots) {
		await using original = await robot.connect();
		const from = performance.now();
		await using copy = await robot.dial('boot of the copy');
		expect((await copy.next('error')).payload.code).toBe('robot-elsewhere');
		expect((await within('the close', copy.closed)).code).toBe(closeCodes.tooMany);
		took.push(performance.now() - from);
		const beat = original.say('heartbeat', {});
		expect(await original.next('heartbeat')).toMatchObject({ correlation_id: beat });
		expect((await house.client.robot(robot.id)).clone).toMatchObject({
			how: 'twin',
			address: '127.0.0.1',
			times: 1,
		});
	}
	say(40, { clones: count, 'held after ms, the slowest': Math.round(Math.max(...took)) });
});

test('row 42: a removed robot is out within a second, and does not come back', async () => {
	const count = howMany(50, 1_000);
	await using house = await WholeHouse.open();
	const robots = await manyRobots(house, count);
	const took: number[] = [];
	for (const robot of robots) {
		await using link = await robot.connect();
		const from = performance.now();
		await house.client.removeRobot(robot.id);
		expect(await atOnce(house, 'the close', link.closed)).toMatchObject({
			code: closeCodes.badKey,
		});
		took.push(performance.now() - from);
		await using again = await robot.dial();
		expect((await again.next('error')).payload.code).toBe('robot-revoked');
		expect((await within('the close', again.closed)).code).toBe(closeCodes.badKey);
	}
	say(42, { robots: count, 'out after ms, 99 of 100': Math.round(percentile(took, 99)) });
});

test('row 42: a robot that does not hear its close is deaf at once, and cut soon after', async () => {
	await using house = await WholeHouse.open();
	const [robot] = await manyRobots(house, 1);
	await using link = await robot!.connect();
	// As a program of somebody else's that wants to stay: it does not answer the close.
	(
		link.socket as unknown as { _receiver: { removeAllListeners(event: string): void } }
	)._receiver.removeAllListeners('conclude');
	await house.client.removeRobot(robot!.id);
	link.say('heartbeat', {});
	// Long before one that is silent is given up.
	expect((await within('the cut', link.closed, limits.heartbeatMs)).code).toBe(1006);
});

test('row 42: a revoked key is refused, and what waits for it ends, within a second', async () => {
	const count = howMany(20, 1_000);
	await using house = await WholeHouse.open();
	const { url } = house.service;
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'true' },
		target: { labels: { nobody: 'has it' } },
	});
	const took: number[] = [];
	for (let n = 0; n < count; n += 1) {
		const { key, keyId } = await house.client.createKey({ name: `k${n}`, scopes: ['read'] });
		const client = new FleetClient(httpSend({ url, key }));
		await client.job(jobId);
		const waits = client.job(jobId, 30_000).then(
			() => 'answered',
			(error: { code?: string }) => error.code,
		);
		const live = outputEvents({ url, key }, `/api/v1/jobs/${jobId}/output`)[Symbol.asyncIterator]();
		const followed = live.next();
		// Both are under way when a later call has been answered.
		await client.job(jobId);
		const from = performance.now();
		await house.client.revokeKey(keyId);
		await expect(client.job(jobId)).rejects.toMatchObject({ code: 'bad-key' });
		expect(await atOnce(house, 'the long poll ended', waits)).toBe('bad-key');
		expect(await atOnce(house, 'the stream ended', followed)).toMatchObject({ done: true });
		took.push(performance.now() - from);
	}
	say(42, { keys: count, 'over after ms, 99 of 100': Math.round(percentile(took, 99)) });
});

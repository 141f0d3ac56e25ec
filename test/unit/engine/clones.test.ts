/** One identity is one robot on one machine; whoever else comes with it is turned away, and told of. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { limits } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';

let h: House;
let folder: string;

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-clones-'));
	h = await house({ file: join(folder, 'store.db') });
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true });
});

const clone = async (robot: string) => (await h.engine.robot(robot)).clone;

describe('a second agent with the same key', () => {
	test('is held off while the first one answers, and both are flagged', async () => {
		const robot = await h.robot('r1');
		await expect(robot.connect({ boot_id: 'copy' })).rejects.toMatchObject({
			code: 'robot-elsewhere',
		});
		expect(await clone('r1')).toMatchObject({ how: 'twin', times: 1, firstAt: h.clock.now() });
		await expect(robot.connect({ boot_id: 'copy' })).rejects.toThrow();
		expect(await clone('r1')).toMatchObject({ times: 2 });
		expect(robot.closedWith).toBeUndefined();
	});

	test('is no clone when the first one is gone and we did not know it yet', async () => {
		const robot = await h.robot('r1');
		robot.answers = false;
		await expect(robot.connect({ boot_id: 'after a power cut' })).rejects.toMatchObject({
			code: 'robot-elsewhere',
		});
		expect(await clone('r1')).toBeNull();
		await h.clock.advance(2 * limits.heartbeatMs);
		await robot.connect({ boot_id: 'after a power cut' });
		expect(await clone('r1')).toBeNull();
	});
});

describe('a machine', () => {
	test('is the one that came first, and stays so over restarts of the service', async () => {
		const robot = await h.robot('r1', { machine_id: 'home' });
		robot.session.closed();
		await h.engine.flush();
		await h.restart();
		const again = robot.reconnectable(() => h.engine);
		await expect(again.connect({ machine_id: 'elsewhere' })).rejects.toMatchObject({
			code: 'robot-moved',
			message: expect.stringContaining('robots allow-move r1'),
		});
		expect(await clone('r1')).toMatchObject({ how: 'moved', times: 1 });
		await h.engine.flush();
		await h.restart();
		expect(await clone('r1')).toMatchObject({ how: 'moved', times: 1 });
		await robot.reconnectable(() => h.engine).connect({ machine_id: 'home' });
	});

	test('that says no name is let in, as agents of before are', async () => {
		const robot = await h.robot('r1', { machine_id: 'home' });
		robot.session.closed();
		await robot.connect({ machine_id: undefined });
		robot.session.closed();
		await expect(robot.connect({ machine_id: 'elsewhere' })).rejects.toMatchObject({
			code: 'robot-moved',
		});
	});

	test('may change when an operator says so, and the one of before is then the stranger', async () => {
		const robot = await h.robot('r1', { machine_id: 'old' });
		robot.session.closed();
		await expect(h.engine.allowMove('r1', admin)).rejects.toMatchObject({ code: 'not-moved' });
		await expect(robot.connect({ machine_id: 'new' })).rejects.toThrow();
		expect((await h.engine.allowMove('r1', admin)).clone).toBeNull();
		await h.restart();
		const moved = robot.reconnectable(() => h.engine);
		await moved.connect({ machine_id: 'new' });
		moved.session.closed();
		await expect(moved.connect({ machine_id: 'old' })).rejects.toMatchObject({
			code: 'robot-moved',
		});
	});

	test('what a stranger reports of attempts is not looked at', async () => {
		const robot = await h.robot('r1', { machine_id: 'home' });
		const jobId = await h.submit({ target: { robot: 'r1' } });
		await expect(robot.connect({ machine_id: 'elsewhere', journal_id: 'other' })).rejects.toThrow();
		expect(await h.outcomes(jobId)).toEqual([null]);
		expect((await h.engine.robot('r1')).connected).toBe(true);
	});
});

describe('a token', () => {
	test('asked with one key many times at once is one use, and one robot', async () => {
		const { token, tokenId } = await h.engine.createToken({}, admin);
		const answers = await Promise.all(
			Array.from({ length: 20 }, () => h.engine.enrol(token, 'the key', 'r1')),
		);
		expect(new Set(answers.map(({ robotId }) => robotId)).size).toBe(1);
		expect((await h.engine.tokens()).find((one) => one.tokenId === tokenId)?.used).toBe(1);
		expect(await h.engine.robots()).toHaveLength(1);
	});

	test('used by many at once gives each a name of its own', async () => {
		const { token } = await h.engine.createToken({ uses: 20 }, admin);
		const answers = await Promise.all(
			Array.from({ length: 20 }, (_, n) => h.engine.enrol(token, `key ${n}`, 'r1')),
		);
		expect(new Set(answers.map(({ name }) => name)).size).toBe(20);
	});

	test('ends with the fingerprint that its robots shall find', async () => {
		const { token } = await h.engine.createToken({}, admin, 'ab'.repeat(32));
		expect(token).toMatch(/^rf1\.[0-9a-f]{12}\.[\w-]{32}\.(ab){32}$/);
		await h.engine.enrol(token, 'key', 'r1');
		expect((await h.engine.createToken({}, admin)).token).toMatch(/\.-$/);
	});
});

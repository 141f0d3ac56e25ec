/** Who may come in: keys and tokens. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { admin, house, type House } from '../../support/engine';

let h: House;
let folder: string;

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-access-'));
	h = await house({ file: join(folder, 'store.db') });
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true });
});

test('a key works until it is revoked or expires, across restarts, and admin has every scope', async () => {
	const { key, keyId } = await h.engine.createKey({ name: 'ops', scopes: ['admin'] }, admin);
	const { key: short } = await h.engine.createKey(
		{ name: 'short', scopes: ['read'], expiresAt: h.clock.now() + 1_000 },
		admin,
	);
	await h.restart();
	expect(h.engine.verifyKey(key).scopes).toContain('submit');
	expect(h.engine.verifyKey(short).scopes).toEqual(['read']);
	h.clock.jump(1_000);
	expect(() => h.engine.verifyKey(short)).toThrow('unknown, expired or revoked');
	await h.engine.revokeKey(keyId, admin);
	expect(() => h.engine.verifyKey(key)).toThrow('unknown, expired or revoked');
	await h.restart();
	expect(() => h.engine.verifyKey(key)).toThrow('unknown, expired or revoked');
});

test('a key that is used while it is being revoked stays revoked, across restarts too', async () => {
	const { key, keyId } = await h.engine.createKey({ name: 'ops', scopes: ['read'] }, admin);
	h.engine.verifyKey(key);
	// The disk takes its time with it; meanwhile a duty writes down which keys were used.
	const slow = Promise.withResolvers<void>();
	const commit = h.store.commit.bind(h.store);
	jest.spyOn(h.store, 'commit').mockImplementationOnce(async (deeds) => {
		await slow.promise;
		return commit(deeds);
	});
	const revoked = h.engine.revokeKey(keyId, admin);
	await h.clock.advance(61_000);
	slow.resolve();
	await revoked;
	await h.clock.advance(1_000);
	await h.restart();
	expect(() => h.engine.verifyKey(key)).toThrow('unknown, expired or revoked');
	const [record] = await h.engine.keys();
	expect(record).toMatchObject({ keyId, lastUsedAt: expect.any(Number) as number });
});

test('a key that is almost right is refused like any other', async () => {
	const { key } = await h.engine.createKey({ name: 'k', scopes: ['read'] }, admin);
	for (const wrong of [
		'',
		'rfk_',
		key.slice(0, -1),
		`${key}x`,
		key.toUpperCase(),
		key.replace('rfk_', ''),
	]) {
		expect(() => h.engine.verifyKey(wrong)).toThrow('unknown, expired or revoked');
	}
});

test('nobody hands out more than they have', async () => {
	const small = { ...admin, scopes: ['submit'] as const };
	await expect(h.engine.createKey({ name: 'k', scopes: ['operate'] }, small)).rejects.toMatchObject(
		{ code: 'no-scope' },
	);
});

test('secrets of keys and tokens are not in the store', async () => {
	const { key } = await h.engine.createKey({ name: 'k', scopes: ['read'] }, admin);
	const { token } = await h.engine.createToken({}, admin);
	for (const file of ['store.db', 'store.db-wal']) {
		const bytes = readFileSync(join(folder, file));
		// A secret may itself hold the sign that parts the key.
		expect(bytes.includes(key.split('_').slice(2).join('_'))).toBe(false);
		expect(bytes.includes(token.split('.')[2]!)).toBe(false);
	}
});

test('a revoked token enrolls nobody', async () => {
	const { token, tokenId } = await h.engine.createToken({ uses: 5 }, admin);
	await h.engine.revokeToken(tokenId, admin);
	await expect(h.engine.enrol(token, 'key', 'r')).rejects.toMatchObject({ code: 'bad-token' });
});

test('labels of a token stay, whatever the robot claims', async () => {
	const { token } = await h.engine.createToken({ labels: { site: 'berlin' } }, admin);
	const { robotId } = await h.engine.enrol(token, 'key', 'r');
	const sink = {
		assign() {},
		cancel() {},
		revoke() {},
		resultAck() {},
		outputAck() {},
		outputCredit() {},
		transport: 'websocket' as const,
		takesInput: false,
		input() {},
		resize() {},
		fileInfo() {},
		fileWant() {},
		fileKept() {},
		fileRefused() {},
		fileBytes: async () => {},
		control: () => '',
		refuse() {},
		ping() {},
		close() {},
	};
	await h.engine.connect(
		{
			robot_id: robotId,
			protocol: 1,
			features: [],
			version: '0',
			journal_id: 'j',
			boot_id: 'b',
			signature: '',
			slots: 1,
			labels: { site: 'rome', os: 'linux' },
			capabilities: [],
			info: {},
			attempts: [],
		},
		sink,
		1,
	);
	expect((await h.engine.robot(robotId)).labels).toEqual({ site: 'berlin', os: 'linux' });
});

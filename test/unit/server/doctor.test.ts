/** What doctor makes of what the service says of itself. */
import { dialFindings, serviceFindings } from '../../../dispatcher/cli/doctor';
import type { Dial, Robot, ServiceStatus } from '../../../protocol';

const dayMs = 86_400_000;
const now = 1_800_000_000_000;
const well: ServiceStatus = {
	version: '1.0.0',
	readiness: 'ready',
	startedAt: now - 1000,
	schema: 2,
	hubFingerprint: '4f'.repeat(32),
	attempts: 0,
	robots: 1,
	disk: { level: 'ample', freeBytes: 5 * 2 ** 30, minFreeBytes: 2 ** 30, storeBytes: 2 ** 20 },
	retention: { lastAt: now - 1000, purged: 3, backlog: 0 },
	lastBackup: { at: now - dayMs, bytes: 2 ** 20 },
	restored: null,
	doors: {
		api: 'http://127.0.0.1:8765',
		robots: null,
		dial: 'http://127.0.0.1:8765',
		inTheOpen: false,
		certificate: null,
	},
};
const certificate = {
	file: '/etc/fleet.crt',
	selfMade: false,
	fingerprint: 'ab'.repeat(32),
	expiresAt: now + 90 * dayMs,
};
const secure = {
	api: 'http://127.0.0.1:8765',
	robots: 'https://10.0.0.1:8766',
	dial: 'https://fleet.test:8766',
	inTheOpen: false,
	certificate,
};
const wrong = (status: Partial<ServiceStatus>, since = now - 100 * dayMs) =>
	serviceFindings({ ...well, ...status }, since, now)
		.filter(({ ok }) => !ok)
		.map(({ check, mend }) => `${check}: ${mend}`);

test('a service that is well gives nothing to mend', () => {
	expect(wrong({})).toEqual([]);
	expect(serviceFindings(well, now, now).map(({ text }) => text)).toContain(
		'5120 MiB free, 1024 MiB wanted, the store has 1 MiB',
	);
});

test.each<[string, Partial<ServiceStatus>, string]>([
	['a disk that runs full', { disk: { ...well.disk, level: 'low' } }, 'disk: robot-fleet purge'],
	[
		'an old backup',
		{ lastBackup: { at: now - 8 * dayMs, bytes: 1 } },
		'backup: robot-fleet backup',
	],
	['no backup of an old fleet', { lastBackup: null }, 'backup: robot-fleet backup'],
	[
		'old records that nobody forgets',
		{ retention: { lastAt: now - 2 * dayMs, purged: 0, backlog: 0 } },
		'retention: robot-fleet purge',
	],
	[
		'restored jobs that wait',
		{ restored: { at: now, backupAt: now, waiting: 3 } },
		'restored: robot-fleet jobs release --all',
	],
	[
		'a certificate that ends soon',
		{ doors: { ...secure, certificate: { ...certificate, expiresAt: now + 3 * dayMs } } },
		'certificate: renew /etc/fleet.crt',
	],
	[
		'a door that other machines use without TLS',
		{ doors: { ...well.doors, dial: 'http://10.0.0.1:8766', inTheOpen: true } },
		'doors: robot-fleet serve --robots-listen',
	],
	['a drain somebody forgot', { readiness: 'draining' }, 'drain: robot-fleet drain --undo'],
])('%s is named, with the command that mends it', (_, status, expected) => {
	expect(wrong(status)).toHaveLength(1);
	expect(wrong(status)[0]).toContain(expected);
});

test('what robots dial is said, and by which fingerprint they know us', () => {
	expect(wrong({ doors: secure })).toEqual([]);
	const texts = serviceFindings({ ...well, doors: secure }, now, now).map(({ text }) => text);
	expect(texts).toContain(
		'the API is at http://127.0.0.1:8765, robots dial https://fleet.test:8766',
	);
	expect(texts).toContain(`/etc/fleet.crt, good for 90 days, SHA-256 ${'ab'.repeat(32)}`);
	// A proxy in front speaks TLS for us.
	expect(wrong({ doors: { ...secure, inTheOpen: true } })).toEqual([]);
});

test('a young fleet may be without a backup yet', () => {
	expect(wrong({ lastBackup: null }, now - dayMs)).toEqual([]);
});

test('robots that are dialled and cannot be reached are told with the reason', () => {
	const robot = (name: string, connected: boolean, dial: Partial<Dial> | null) =>
		({ name, connected, device: { dial } }) as Robot;
	expect(dialFindings([robot('dials', false, null)])).toEqual([]);
	const fine = [robot('a', true, { state: 'connected' }), robot('b', false, { state: 'off' })];
	expect(dialFindings(fine)).toMatchObject([{ ok: true, text: '2 of 2 as they should be' }]);
	const reason = 'a:1: nothing listens there';
	expect(dialFindings([...fine, robot('c', false, { state: 'failed', reason })])).toMatchObject([
		{
			ok: false,
			text: `2 of 3 as they should be; c: ${reason}`,
			mend: 'robot-fleet robots connect c (robot-fleet robots show says more)',
		},
	]);
});

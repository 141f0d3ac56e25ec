import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../../agent/clock';
import { enrol } from '../../../agent/enrol';
import type { VitalSigns } from '../../../agent/facts';
import { Identity } from '../../../agent/identity';
import { type Crew, Link } from '../../../agent/link';
import { limits } from '../../../protocol';
import { FakeClock } from '../../support/fake-clock';
import { ScriptedHub } from '../../support/scripted-hub';

const quiet = () => undefined;
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

test('a silent service is left when three heartbeats are over, not at the beat after them', async () => {
	const hub = await ScriptedHub.start();
	const folder = mkdtempSync(join(tmpdir(), 'rf-link-'));
	const fake = new FakeClock();
	const clock: Clock = {
		now: () => fake.now(),
		monotonic: () => fake.monotonic(),
		chance: () => 0.5,
		sleep: async (ms, signal) => {
			await fake.sleep(ms, signal);
			return !signal?.aborted;
		},
	};
	const live = Promise.withResolvers<void>();
	let silentMs: number | undefined;
	const left = Promise.withResolvers<void>();
	const crew: Crew = {
		held: [],
		status: { status: 'online', active_jobs: [] },
		attach: quiet,
		detach: (ms) => {
			silentMs = ms;
			left.resolve();
		},
		receive: quiet,
		receiveFile: quiet,
		tick: quiet,
	};
	const identity = Identity.open(folder);
	const { signal } = new AbortController();
	await enrol({ server: hub.url, token: hub.token, name: 'r1', identity, clock, log, signal });
	const link = new Link({
		server: hub.url,
		identity,
		self: {
			version: '0.0.0',
			journal_id: 'journal',
			boot_id: 'boot',
			features: [],
			slots: 1,
			labels: {},
		},
		facts: { now: { capabilities: [], info: {} }, refresh: async () => undefined },
		// The real ones take real time, which a beat on a virtual clock does not have.
		vitals: { read: async () => ({}) } as unknown as VitalSigns,
		heartbeatMs: undefined,
		crew,
		clock,
		log,
		onLive: () => live.resolve(),
		canRejoin: () => false,
	});
	hub.alive = false;
	const running = link.run();
	await live.promise;
	await fake.advance(limits.missedHeartbeats * limits.heartbeatMs - 1);
	expect(silentMs).toBeUndefined();
	await fake.advance(1);
	// The socket's own end takes a moment of real time.
	await left.promise;
	expect(silentMs).toBe(limits.missedHeartbeats * limits.heartbeatMs);
	const closing = link.close();
	await fake.advance(1_000);
	await Promise.all([closing, running]);
	await hub.close();
	rmSync(folder, { recursive: true });
});

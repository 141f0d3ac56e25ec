import { closedBy, tellClosed, tellQuarantine, utc } from '../../../dispatcher/core/control';
import { patienceOf, renewed } from '../../../dispatcher/core/patience';
import type { Closed } from '../../../protocol';

const noon = Date.UTC(2026, 4, 1, 12);
const closed: Closed = {
	as: 'maintenance',
	reason: 'disk swap',
	by: 'anna',
	since: noon,
	until: noon + 6 * 3_600_000,
};

test('a closed robot says how, until when, why and by whom', () => {
	expect(tellClosed(closed)).toBe(
		'is in maintenance until 2026-05-01 18:00 UTC: disk swap (by anna)',
	);
	expect(tellClosed({ as: 'paused', reason: null, by: null, since: null, until: null })).toBe(
		'is paused',
	);
	expect(
		tellQuarantine({
			reason: '3 jobs failed',
			by: 'dispatcher',
			since: 0,
			probes: 0,
			nextProbeAt: noon,
			lastProbe: null,
		}),
	).toBe(`is in quarantine (3 jobs failed) and is probed at ${utc(noon)}`);
});

test('the same said again without more changes nothing; with more, or otherwise, it is what counts', () => {
	const again = (wish: Parameters<typeof closedBy>[1]) => closedBy(closed, wish, 'ben', noon + 1);
	expect(again({ as: 'maintenance' })).toBeUndefined();
	expect(again({ as: 'maintenance', reason: 'disk swap', until: closed.until! })).toBeUndefined();
	expect(again({ as: 'maintenance', reason: 'new disk' })).toEqual({
		as: 'maintenance',
		reason: 'new disk',
		by: 'ben',
		since: noon,
		until: null,
	});
	expect(again({ as: 'paused' })).toEqual({
		as: 'paused',
		reason: null,
		by: 'ben',
		since: noon + 1,
		until: null,
	});
});

test('how long a job waits for a robot that is away is said in one way, for jobs of one robot', () => {
	const one = { robot: 'r1' };
	expect(patienceOf({ forMs: 5 }, one, 100)).toEqual({ until: 105, forMs: 5, then: 'expire' });
	expect(patienceOf({ until: 200, then: 'ask' }, one, 100)).toEqual({ until: 200, then: 'ask' });
	const wrong = [
		patienceOf({}, one, 100),
		patienceOf({ forMs: 1, until: 200 }, one, 100),
		patienceOf({ until: 100 }, one, 100),
		patienceOf({ forMs: 1 }, {}, 100),
		patienceOf({ forMs: 1 }, { labels: { os: 'linux' } }, 100),
		patienceOf({ forMs: 1, then: 'other' }, { mode: 'all' }, 100),
	];
	for (const mistake of wrong) expect(mistake).toMatchObject({ reason: expect.any(String) });
	expect(patienceOf({ forMs: 1, then: 'ask' }, { mode: 'all' }, 100)).toMatchObject({ until: 101 });
});

test('another try by hand has as long once more, and no time that has passed', () => {
	expect(renewed({ until: 105, forMs: 5, then: 'ask', asked: true }, 1_000)).toEqual({
		until: 1_005,
		forMs: 5,
		then: 'ask',
	});
	expect(renewed({ until: 105, then: 'other' }, 1_000)).toBeUndefined();
	expect(renewed({ until: 2_000, then: 'other' }, 1_000)).toEqual({ until: 2_000, then: 'other' });
});

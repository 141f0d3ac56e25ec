/** A job that comes just when a robot becomes free does not pass those that wait for that robot under other targets. */
import { house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => (h = await house()));
afterEach(() => h.close());

test('of two targets that one robot fits, a robot that becomes free goes to the older job, not to the newest submit', async () => {
	const robot = await h.robot('r1', { labels: { a: '1', b: '1' } });
	await h.submit({ target: { labels: { a: '1' } } });
	const older = await h.submit({ target: { labels: { a: '1' } } });
	// The result and the new job meet in one turn, the result first.
	const ended = robot.end();
	const newest = await h.submit({ target: { labels: { b: '1' } } });
	await ended;
	expect([await h.state(older), await h.state(newest)]).toEqual(['dispatched', 'queued']);
	await robot.end();
	expect(await h.state(newest)).toBe('dispatched');
});

test('where there is room for both, both go out', async () => {
	const robot = await h.robot('r1', { labels: { a: '1', b: '1' }, slots: 2 });
	await h.submit({ target: { labels: { a: '1' } } });
	await h.submit({ target: { labels: { a: '1' } } });
	const older = await h.submit({ target: { labels: { a: '1' } } });
	const ended = robot.assigned.map((job) => robot.end({}, job));
	const newest = await h.submit({ target: { labels: { b: '1' } } });
	await Promise.all(ended);
	await settled();
	expect([await h.state(older), await h.state(newest)]).toEqual(['dispatched', 'dispatched']);
});

test('a job that its robot refused for now does not keep that robot from those who come behind it', async () => {
	const robot = await h.robot('r1');
	const refused = await h.submit();
	await robot.reject('paused');
	const next = await h.submit();
	await settled();
	expect([await h.state(refused), await h.state(next)]).toEqual(['queued', 'dispatched']);
});

test('a job whose assignment the full disk refused is not passed by one behind it when there is room again', async () => {
	const robot = await h.robot('r1', { labels: { a: '1', b: '1' } });
	await h.submit({ target: { labels: { a: '1' } } });
	const first = await h.submit({ target: { labels: { a: '1' } }, priority: 'high' });
	const second = await h.submit({ target: { labels: { b: '1' } }, priority: 'low' });
	// The end of what ran and the start of the first share a commit, which finds no room.
	h.store.fullAt('settle', 0);
	await robot.end();
	await robot.end();
	await h.clock.advance(2_000);
	expect([await h.state(first), await h.state(second)]).toEqual(['dispatched', 'queued']);
});

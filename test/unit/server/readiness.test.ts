/** n8n is told that a wait is over only when it can take it without losing it again. */
import { type Answer, Readiness } from '../../../dispatcher/server/readiness';
import { FakeClock } from '../../support/fake-clock';

const resumeUrl = new URL('https://n8n.example.com/under/webhook-waiting/17/node-1?signature=s');
const refused = () => {
	throw new Error('connect ECONNREFUSED');
};
const starting = (): Answer => ({ status: 503, body: { status: 'error' } });
const ready = (): Answer => ({ status: 200, body: { status: 'ok' } });

function setup() {
	const clock = new FakeClock();
	const asked: string[] = [];
	let now: () => Answer = ready;
	const readiness = new Readiness(clock, async (url) => {
		asked.push(url.href);
		return now();
	});
	return {
		clock,
		asked,
		is: (state: () => Answer) => (now = state),
		/** `undefined` = it may be called. */
		wanted: async () =>
			await readiness.wanted(resumeUrl).then(
				() => undefined,
				(error: Error) => error.message,
			),
	};
}

test('an n8n that is ready is called at once, and asked once a second at most', async () => {
	const { clock, asked, wanted } = setup();
	expect(await Promise.all([wanted(), wanted(), wanted()])).toEqual([
		undefined,
		undefined,
		undefined,
	]);
	expect(await wanted()).toBeUndefined();
	expect(asked).toEqual(['https://n8n.example.com/under/healthz/readiness']);
	await clock.advance(1_001);
	expect(await wanted()).toBeUndefined();
	expect(asked).toHaveLength(2);
});

test('one that starts is not called before it says that it is ready, and then at once', async () => {
	const { clock, is, wanted } = setup();
	is(refused);
	expect(await wanted()).toContain('ECONNREFUSED');
	is(starting);
	expect(await wanted()).toBe('n8n is starting up');
	await clock.advance(2_000);
	is(ready);
	expect(await wanted()).toBeUndefined();
});

test.each([
	['one that says "ready" too early', ready],
	['one whose readiness a proxy hides', (): Answer => ({ status: 404, body: undefined })],
])('%s gets a while after it was away', async (_which, state) => {
	const { clock, is, wanted } = setup();
	for (const away of [refused, (): Answer => ({ status: 502, body: undefined })]) {
		is(away);
		expect(await wanted()).toMatch(/ECONNREFUSED|away/);
		is(state);
		expect(await wanted()).toBe('n8n has just come up');
		await clock.advance(4_000);
		expect(await wanted()).toBe('n8n has just come up');
		await clock.advance(1_001);
		expect(await wanted()).toBeUndefined();
		await clock.advance(1_001);
	}
});

test('one whose readiness a proxy hides is called when it was never away', async () => {
	const { is, wanted } = setup();
	is(() => ({ status: 401, body: undefined }));
	expect(await wanted()).toBeUndefined();
});

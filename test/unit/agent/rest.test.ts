import { Rest } from '../../../agent/rest';
import type { Clock } from '../../../agent/clock';

/** Time that passes when it is told to. */
class Hand implements Clock {
	at = 0;
	readonly #sleepers: { until: number; wake: () => void }[] = [];

	now = () => this.at;
	monotonic = () => this.at;
	chance = () => 0;

	async sleep(ms: number): Promise<boolean> {
		await new Promise<void>((wake) => this.#sleepers.push({ until: this.at + ms, wake }));
		return true;
	}

	async pass(ms: number): Promise<void> {
		for (const stop = this.at + ms; this.at < stop;) {
			this.at += 1_000;
			for (const sleeper of this.#sleepers.splice(0)) {
				if (sleeper.until <= this.at) sleeper.wake();
				else this.#sleepers.push(sleeper);
			}
			await new Promise((turn) => setImmediate(turn));
		}
	}
}

function resting() {
	const clock = new Hand();
	const state = { idle: true, collected: 0 };
	const rest = new Rest(
		clock,
		() => state.idle,
		() => void (state.collected += 1),
	);
	return { clock, state, rest };
}

test('memory is given back once when it has been quiet for a while, and again only after something was done', async () => {
	const { clock, state, rest } = resting();
	rest.stir();
	await clock.pass(14_000);
	expect(state.collected).toBe(0);
	rest.stir();
	await clock.pass(14_000);
	expect(state.collected).toBe(0);
	await clock.pass(2_000);
	expect(state.collected).toBe(1);
	await clock.pass(600_000);
	expect(state.collected).toBe(1);
	rest.stir();
	await clock.pass(16_000);
	expect(state.collected).toBe(2);
});

test('while a job runs nothing is collected, however quiet it is', async () => {
	const { clock, state, rest } = resting();
	state.idle = false;
	rest.stir();
	await clock.pass(600_000);
	expect(state.collected).toBe(0);
	state.idle = true;
	await clock.pass(16_000);
	expect(state.collected).toBe(1);
});

test('an agent of today’s Node can be asked for it', () => {
	const clock = new Hand();
	const rest = new Rest(clock, () => true);
	rest.stir();
	return expect(clock.pass(16_000)).resolves.toBeUndefined();
});

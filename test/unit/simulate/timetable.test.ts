import { Timetable } from '../../../dispatcher/cli/simulate/timetable';
import { dice } from '../../support/dice';
import { FakeClock, settled } from '../../support/fake-clock';

test('whatever is planned and dropped, calls are made in the order in which they are due', async () => {
	const clock = new FakeClock();
	const timetable = new Timetable(clock);
	const chance = dice(3);
	const made: number[] = [];
	const wanted: number[] = [];
	for (let i = 0; i < 500; i += 1) {
		const ms = Math.floor(chance() * 1_000);
		const planned = timetable.in(ms, () => made.push(ms));
		if (chance() < 0.3) timetable.drop(planned);
		else wanted.push(ms);
	}
	await clock.advance(1_000);
	expect(made).toEqual(wanted.sort((a, b) => a - b));
});

test('of two that are due at the same moment the one planned first is called first', async () => {
	const clock = new FakeClock();
	const timetable = new Timetable(clock);
	const made: string[] = [];
	for (const name of 'abcdef') timetable.in(10, () => made.push(name));
	await clock.advance(10);
	expect(made.join('')).toBe('abcdef');
});

test('something earlier wakes it up; what a call plans is called in its turn; cleared, nothing is left', async () => {
	const clock = new FakeClock();
	const timetable = new Timetable(clock);
	const made: string[] = [];
	timetable.in(100, () => made.push('late'));
	await settled();
	timetable.in(10, () => {
		made.push('early');
		timetable.in(5, () => made.push('then'));
	});
	await settled();
	await clock.advance(20);
	expect(made).toEqual(['early', 'then']);
	timetable.clear();
	await clock.advance(200);
	expect(made).toEqual(['early', 'then']);
	timetable.in(1, () => made.push('again'));
	await clock.advance(1);
	expect(made).toEqual(['early', 'then', 'again']);
});

import { Seats } from '../../../dispatcher/server/seats';

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

function setup(more: Partial<ConstructorParameters<typeof Seats>[0]> = {}) {
	const seats = new Seats({
		seats: 8,
		seatsPerAddress: 2,
		isTrusted: (address) => address === 'proxy',
		inLine: 100,
		lineMs: 8_000,
		perTurn: 1_000,
		...more,
	});
	const entered: string[] = [];
	const turnedAway: string[] = [];
	const come = (address: string, since = 0) => {
		const guest = {
			address,
			since,
			enter: () => void entered.push(address),
			turnAway: () => void turnedAway.push(address),
		};
		return { guest, taken: seats.ask(guest) };
	};
	const comeMany = (address: string, count: number) => {
		for (let i = 0; i < count; i += 1) come(address);
	};
	return { seats, entered, turnedAway, come, comeMany };
}

test('while half of the seats are free one address may have more than its own', () => {
	const { entered, comeMany, seats } = setup();
	comeMany('a', 10);
	expect(entered).toHaveLength(4);
	expect(seats.waiting).toBe(6);
});

test('one address alone never gets the last seats: others still enter at once', () => {
	const { entered, comeMany } = setup();
	comeMany('flood', 50);
	comeMany('b', 1);
	comeMany('c', 1);
	expect(entered.filter((address) => address !== 'flood')).toEqual(['b', 'c']);
});

test('the addresses of IPv6 that one machine has are one, however they are written', async () => {
	const { seats, entered, come } = setup();
	for (let one = 1; one <= 50; one += 1) come(`2001:db8:0:7::${one.toString(16)}`);
	come('2001:db8::7:1:2:3:4');
	come('2001:db8:0:8::1');
	expect(entered).toHaveLength(5);
	expect(entered.at(-1)).toBe('2001:db8:0:8::1');
	// Whoever leaves gives back the seat of all of them.
	while (seats.waiting > 0) {
		seats.leave('2001:db8:0:7::1');
		await nextTurn();
	}
	expect(entered).toHaveLength(52);
});

test('a trusted address may fill all seats, for many stand behind it', () => {
	const { entered, comeMany } = setup();
	comeMany('proxy', 20);
	expect(entered).toHaveLength(8);
});

test('a seat that is given back goes to the next in line, and all of a crowd get in', async () => {
	const { seats, entered, comeMany } = setup();
	comeMany('a', 50);
	while (seats.waiting > 0) {
		seats.leave('a');
		await nextTurn();
	}
	expect(entered).toHaveLength(50);
});

test('addresses take turns: a long line of one does not stand before another', () => {
	const { seats, entered, comeMany } = setup({ seats: 4, seatsPerAddress: 4 });
	comeMany('x', 4);
	comeMany('a', 3);
	comeMany('b', 3);
	for (let i = 0; i < 4; i += 1) seats.leave('x');
	expect(entered.slice(4)).toEqual(['a', 'b', 'a', 'b']);
});

test('only so many enter in one turn of the event loop', async () => {
	const { entered, comeMany } = setup({ seats: 100, seatsPerAddress: 100, perTurn: 3 });
	comeMany('a', 7);
	expect(entered).toHaveLength(3);
	await nextTurn();
	expect(entered).toHaveLength(6);
	await nextTurn();
	expect(entered).toHaveLength(7);
});

test('who waited too long is turned away, and takes no seat later', () => {
	const { seats, entered, turnedAway, come, comeMany } = setup({ seats: 2 });
	comeMany('proxy', 2);
	come('late', 1_000);
	come('later', 5_000);
	seats.sweep(9_001);
	expect(turnedAway).toEqual(['late']);
	seats.leave('proxy');
	expect(entered.at(-1)).toBe('later');
});

test('who left the line by itself is not let in', () => {
	const { seats, entered, come, comeMany } = setup({ seats: 1 });
	comeMany('proxy', 1);
	const { guest } = come('gone');
	seats.goAway(guest);
	seats.goAway(guest);
	seats.leave('proxy');
	expect(entered).toEqual(['proxy']);
	expect(seats.waiting).toBe(0);
});

test('a full line refuses', () => {
	const { come, comeMany } = setup({ seats: 1, inLine: 2 });
	comeMany('proxy', 3);
	expect(come('proxy').taken).toBe(false);
});

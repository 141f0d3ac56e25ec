import { Leftovers } from '../../../dispatcher/store/leftovers';

const MiB = 1024 * 1024;

test('bytes that pass do not pile up outside the heap', () => {
	const leftovers = new Leftovers();
	const before = process.memoryUsage().external;
	let most = 0;
	for (let i = 0; i < 1_000; i += 1) {
		const piece = new Uint8Array(256 * 1024).fill(i);
		leftovers.add(piece.length);
		most = Math.max(most, process.memoryUsage().external - before);
	}
	expect(most).toBeLessThan(16 * MiB);
});

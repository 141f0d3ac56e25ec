import fc from 'fast-check';
import { Onlooker } from '../../../agent/onlooker';
import { type AttemptSpool, Spool } from '../../../agent/spool';
import { type Stream, streams } from '../../../protocol';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
let epoch = 0;

/** A spool, and all that was seen of it. */
function watched(maxBytes = 1_000_000, open = newSpool(maxBytes)) {
	const seen: Record<Stream, string> = { stdout: '', stderr: '' };
	const onlooker = new Onlooker(open, (stream, chunk) => {
		seen[stream] += Buffer.from(chunk).toString('latin1');
	});
	return { spool: open, seen, onlooker };
}

function newSpool(maxBytes: number): AttemptSpool {
	const limits = { maxBytes, reserveBytes: 0 };
	return new Spool(folder(), limits).open('01890000-0000-7000-8000-000000000001', ++epoch);
}

test('every byte is seen once and in order, whatever is written while it looks', async () => {
	await fc.assert(
		fc.asyncProperty(
			fc.array(
				fc.tuple(
					fc.constantFrom(...streams),
					fc.string({ minLength: 1, unit: 'grapheme-ascii' }),
					fc.boolean(),
				),
				{ maxLength: 12 },
			),
			async (steps) => {
				const { spool, seen, onlooker } = watched();
				const printed: Record<Stream, string> = { stdout: '', stderr: '' };
				for (const [stream, text, patient] of steps) {
					await spool.append(stream, Buffer.from(text, 'latin1'));
					printed[stream] += text;
					const looking = onlooker.look();
					if (patient) await looking;
				}
				await onlooker.look();
				expect(seen).toEqual(printed);
				await spool.remove();
			},
		),
		{ numRuns: 100 },
	);
});

test('what comes in the same breath as the end of a look is seen by the next one', async () => {
	const { spool, seen, onlooker } = watched();
	await spool.append('stdout', Buffer.from('one'));
	// Behind the last glance, before anybody who waited for the look goes on.
	const again = onlooker.look().then(async () => {
		await spool.append('stdout', Buffer.from('two'));
		await onlooker.look();
	});
	await again;
	expect(seen.stdout).toBe('onetwo');
	await spool.remove();
});

test('what a flood brings behind it is not waited for', async () => {
	let reads = 0;
	let stdout = 10;
	const flood: Pick<AttemptSpool, 'lengths' | 'read'> = {
		get lengths() {
			return { stdout, stderr: 0 };
		},
		async read(_stream, offset) {
			// Faster than it is read, but not for ever.
			if (++reads < 1_000) stdout += 20;
			return { offset, data: Buffer.alloc(10) };
		},
	};
	await new Onlooker(flood, () => undefined).look();
	expect(reads).toBeLessThan(10);
});

test('a look that finds nothing is not the last one', async () => {
	const { spool, seen, onlooker } = watched();
	await onlooker.look();
	await spool.append('stderr', Buffer.from('now'));
	await onlooker.look();
	expect(seen.stderr).toBe('now');
	await spool.remove();
});

test('a hole is passed over, and what lies behind it is seen', async () => {
	const { spool, seen, onlooker } = watched(1_600);
	const line = 'x'.repeat(99);
	for (let n = 0; n < 100; n++) await spool.append('stdout', Buffer.from(`${line}\n`));
	await spool.append('stdout', Buffer.from('the end'));
	await onlooker.look();
	expect(spool.holes('stdout')).toHaveLength(1);
	expect(seen.stdout.endsWith('the end')).toBe(true);
	expect(seen.stdout.length).toBeLessThan(spool.lengths.stdout);
	await spool.remove();
});

test('in a later life of the agent it begins at the beginning', async () => {
	const { spool, onlooker } = watched();
	await spool.append('stdout', Buffer.from('::fleet:progress 40\n'));
	await onlooker.look();
	const { seen, onlooker: later } = watched(0, spool);
	await later.look();
	expect(seen.stdout).toBe('::fleet:progress 40\n');
	await spool.remove();
});

/** Whose word counts when several say which certificate is the right one. */
import { machineId } from '../../../agent/machine';
import { fingerprintIn, latestWord, readToken } from '../../../agent/trust';

const [a, b, c] = ['aa', 'bb', 'cc'].map((two) => two.repeat(32)) as [string, string, string];
const token = (id: string, pin: string) => `rf1.${id}.secret_-.${pin}`;

test('a token says its id and the fingerprint, and its secret to nobody', () => {
	expect(readToken(token('0a', a))).toEqual({ id: '0a', pin: a });
	expect(readToken(token('0a', '-'))).toEqual({ id: '0a' });
	expect(readToken('rubbish')).toEqual({});
});

test('a fingerprint is understood as people copy it, and nothing else is', () => {
	const shown = a.toUpperCase().replace(/(..)(?=.)/g, '$1:');
	expect(fingerprintIn(shown)).toBe(a);
	expect(fingerprintIn(a.slice(2))).toBeUndefined();
	expect(fingerprintIn(`${a.slice(1)}g`)).toBeUndefined();
});

test.each<[string, Parameters<typeof latestWord>, string | undefined, boolean]>([
	['a first token', [{ token: token('01', a) }, {}], a, true],
	['nothing new: what was trusted before', [{}, { pin: a, tokenId: '01' }], a, false],
	['the same token again', [{ token: token('01', b) }, { pin: a, tokenId: '01' }], a, false],
	['a new token', [{ token: token('02', b) }, { pin: a, tokenId: '01' }], b, true],
	[
		'a new token of a service with an authority',
		[{ token: token('02', '-') }, { pin: a, tokenId: '01' }],
		undefined,
		true,
	],
	['the flag, above all', [{ fingerprint: c, token: token('02', b) }, { pin: a }], c, true],
	[
		'"none": the usual checks',
		[{ fingerprint: 'none' }, { pin: a, tokenId: '01' }],
		undefined,
		false,
	],
])('what counts: %s', (_, [said, before], pin, isNew) => {
	const word = latestWord(said, before);
	expect([word.vouched.pin, word.isNew]).toEqual([pin, isNew]);
});

test('a machine has one name, which does not tell what the system calls it', () => {
	const name = machineId();
	expect(machineId()).toBe(name);
	if (name !== undefined) expect(name).toMatch(/^[\w-]{43}$/);
});

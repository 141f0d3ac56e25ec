import fc from 'fast-check';
import { EchoGuard } from '../../../agent/echo';

function after(typed: readonly string[], printed: readonly string[]): string {
	const guard = new EchoGuard();
	for (const keys of typed) guard.typed(Buffer.from(keys));
	return printed
		.map((text) => Buffer.from(guard.pass('stdout', Buffer.from(text))).toString())
		.join('');
}

test('an echo becomes stars of the same length, and the rest stays', () => {
	expect(after(['hunter2\n'], ['hunter2\r\nWelcome'])).toBe('*******\r\nWelcome');
	expect(after(['hunter2\n'], ['you said hunter2, twice hunter2!'])).toBe(
		'you said *******, twice *******!',
	);
});

test('a secret of one letter is hidden where an echo begins, and nowhere else', () => {
	expect(after(['x\n'], ['x\nextra'])).toBe('*\nextra');
});

test('keys that are echoed one by one are hidden one by one', () => {
	expect(after(['h', 'unt', 'er2\n'], ['h', 'u', 'nter', '2', '\r\nok'])).toBe('*******\r\nok');
});

test('other output is left as it is', () => {
	expect(after(['hunter2\n'], ['hunting season', ' is open'])).toBe('hunting season is open');
	expect(after([], ['hunter2'])).toBe('hunter2');
});

test('a new secret takes the place of the one before', () => {
	expect(after(['first-one\n', 'other-one\n'], ['first-one other-one'])).toBe(
		'first-one *********',
	);
});

test('wherever the echo is cut, nothing of it of any length is left behind', () => {
	const secret = 'correct-horse';
	fc.assert(
		fc.property(fc.nat({ max: secret.length }), (cut) => {
			const left = after([`${secret}\n`], [secret.slice(0, cut), secret.slice(cut)]);
			expect(left).toBe('*'.repeat(secret.length));
		}),
	);
});

/** Placeholders: what they become, and what they cost whoever judges or fills them. */
import { command, type CommandSpec, fillSpec } from '../../../kinds/command';
import { limits, type Variables } from '../../../protocol';

const check = (spec: Partial<CommandSpec>, variables: Variables = {}) =>
	command.check({ ...(spec.shell === undefined && { command: 'true' }), ...spec }, variables)
		?.message;

test('a placeholder may have blanks and line ends around its name', () => {
	const spec = { command: 'x', args: ['{{a}}-{{ \n a\t}}', '{{b}} {{ {{a}} }}'], cwd: '{{ a }}' };
	expect(fillSpec(spec, { a: 1 })).toEqual({
		command: 'x',
		args: ['1-1', '{{b}} {{ 1 }}'],
		cwd: '1',
	});
	expect(check({ args: ['{{ no-such }}'] })).toContain('no-such');
	expect(check({ shell: 'echo {{ build-id }}' })).toContain('"$ROBOT_FLEET_VAR_BUILD_ID"');
	expect(check({ shell: 'echo {{' })).toContain('"$ROBOT_FLEET_VAR_NAME"');
});

test('braces with any number of blanks behind them are looked through at once', () => {
	for (const blanks of [' '.repeat(limits.maxCommandBytes - 8), '\n\t'.repeat(30_000)]) {
		for (const text of [`{{${blanks}`, `{{ x${blanks}`, '{{ '.repeat(20_000)]) {
			const startedAt = performance.now();
			expect(check({ stdin: text })).toBeUndefined();
			expect(check({ shell: text })).toBeDefined();
			fillSpec({ command: 'x', stdin: text }, {});
			expect(performance.now() - startedAt).toBeLessThan(1_000);
		}
	}
});

test('few words do not become more than a machine can hold', () => {
	const stdin = '{{x}}'.repeat(13_000);
	const value = 'x'.repeat(60_000);
	expect(check({ stdin }, { x: 'small' })).toBeUndefined();
	expect(check({ stdin }, { x: value })).toMatch(
		/^spec\.stdin: with its variables in place, the job has more than 2097152 bytes/,
	);
	const env = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`A${i}`, '{{x}}']));
	expect(check({ env }, { x: value })).toContain('more than 2097152 bytes');
	expect(check({ env: { ...env, A1: 'é' } }, { x: 1 })).toBeUndefined();
});

test('a NUL byte is refused in values too: where a program is called, it would end them there', () => {
	expect(check({}, { a: 'x', b: 'y\0z' })).toBe('variables.b: must not hold a NUL byte.');
});

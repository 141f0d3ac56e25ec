import fc from 'fast-check';
import { LastLine, questionIn } from '../../../agent/prompts';

test.each([
	'Password: ',
	'password:',
	'[sudo] password for bob: ',
	"bob@build-01's password: ",
	"Enter passphrase for key '/home/bob/.ssh/id_rsa': ",
	'Enter PIN: ',
	'Verification code: ',
	'One-time password: ',
	'API key: ',
	'Mot de passe : ',
	'Passwort: ',
	'Vault token> ',
])('%j asks for something that must not be shown', (line) => {
	expect(questionIn(line)).toMatchObject({ kind: 'password', hidden: true, text: line.trim() });
});

test.each([
	'Continue? [y/N] ',
	'Do you want to continue? [Y/n]',
	'Are you sure you want to continue connecting (yes/no/[fingerprint])? ',
	'Overwrite existing file? (y/n): ',
	'Proceed with install? ',
	'Press any key to continue . . . ',
	'Hit ENTER to go on',
	'Save the password? [y/n] ',
	'Really delete everything? yes/no ',
])('%j asks for a confirmation', (line) => {
	expect(questionIn(line)).toMatchObject({ kind: 'confirmation', hidden: false });
});

test.each([
	'Your name: ',
	'What is your quest?',
	'Project name [app]: ',
	'Username for https://x: ',
])('%j is a question', (line) => {
	expect(questionIn(line)).toMatchObject({ kind: 'question', hidden: false });
});

test.each([
	'',
	'   ',
	'bob@host:~$ ',
	'root@host:/# ',
	'$ ',
	'>>> ',
	'mysql> ',
	'In [3]: ',
	'12:30: ',
	'main.c:10: ',
	'Downloading 45%',
	'compiling main.c ...',
	'done',
])('%j asks nothing', (line) => {
	expect(questionIn(line)).toBeUndefined();
});

test('what looks secret is believed sooner than what may only be a label', () => {
	expect(questionIn('Password: ')!.quietMs).toBeLessThan(questionIn('Reading: ')!.quietMs);
});

test('of a long line the end is shown', () => {
	const { text } = questionIn(`${'a '.repeat(400)}which one?`)!;
	expect(text).toMatch(/^….*which one\?$/);
	expect(text).toHaveLength(200);
});

describe('the last line', () => {
	const after = (...chunks: string[]) => {
		const line = new LastLine();
		for (const chunk of chunks) line.push('stdout', Buffer.from(chunk));
		return line.text;
	};

	test('is what a person sees: no colours, nothing that was taken back', () => {
		expect(after('\u001b[1;32mName\u001b[0m: ')).toBe('Name: ');
		expect(after('\u001b]0;a title\u0007Name: ')).toBe('Name: ');
		expect(after('10%\r20%\rName: ')).toBe('Name: ');
		expect(after('Nane\b\bme: ')).toBe('Name: ');
		expect(after('Name: \r')).toBe('Name: ');
	});

	test('is put together from chunks, characters that were split too', () => {
		const bytes = Buffer.from('Größe: ');
		const line = new LastLine();
		for (const byte of bytes) line.push('stdout', Buffer.of(byte));
		expect(line.text).toBe('Größe: ');
	});

	test('belongs to the stream that printed last', () => {
		const line = new LastLine();
		line.push('stdout', Buffer.from('out: '));
		line.push('stderr', Buffer.from('Password: '));
		expect(line.text).toBe('Password: ');
		expect(line.push('stdout', Buffer.from('\n'))).toBe(true);
		expect(line.text).toBe('');
	});

	test('begins anew when it was answered', () => {
		const line = new LastLine();
		line.push('stdout', Buffer.from('Name? '));
		line.restart();
		line.push('stdout', Buffer.from('Age? '));
		expect(line.text).toBe('Age? ');
	});

	test('never throws and stays small, whatever is printed', () => {
		fc.assert(
			fc.property(fc.array(fc.uint8Array({ maxLength: 3_000 }), { maxLength: 5 }), (chunks) => {
				const line = new LastLine();
				for (const chunk of chunks) line.push('stdout', chunk);
				expect(line.text.length).toBeLessThanOrEqual(1_024);
				questionIn(line.text);
			}),
		);
	});
});

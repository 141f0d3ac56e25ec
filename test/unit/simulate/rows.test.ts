import { rowsOf } from '../../../dispatcher/cli/simulate/rows';

test('a spreadsheet is read as its program writes it: separators, quotes, its own columns, numbers as seconds', () => {
	const text =
		'\uFEFFCharacter;Number;Command;Wait Time\r\nAna;3;"echo ""hello; there""";2\r\n;;"two\nlines";0,5\r\n;;;\r\nBob;sim-01;date;500ms\r\n';
	expect(rowsOf('show.csv', text)).toEqual({
		mistakes: [],
		rows: [
			{ robot: '3', command: 'echo "hello; there"', waitMs: 2_000 },
			{ command: 'two\nlines', waitMs: 500 },
			{ robot: 'sim-01', command: 'date', waitMs: 500 },
		],
	});
});

test('one JSON object a line is as good', () => {
	const text =
		'{"robot": 2, "command": "date", "wait": 1.5}\n\n{"command": "uptime", "wait": "2s"}\n';
	expect(rowsOf('show.jsonl', text)).toEqual({
		mistakes: [],
		rows: [
			{ robot: '2', command: 'date', waitMs: 1_500 },
			{ command: 'uptime', waitMs: 2_000 },
		],
	});
});

test('everything that is wrong is told at once, each with its line', () => {
	const text = 'robot,command,wait\nr1,,1\nr2,"a\nb",soon\nr3,date,-1\n';
	expect(rowsOf('show.csv', text).mistakes).toEqual([
		'line 2: command is empty',
		'line 3: wait is "soon", it must be seconds, or a duration: 500ms, 2s, 1m',
		'line 5: wait is "-1", it must be seconds, or a duration: 500ms, 2s, 1m',
	]);
	expect(rowsOf('a.csv', 'robot,text\nr1,date\n').mistakes[0]).toMatch(/no column is called "comm/);
	expect(rowsOf('a.csv', '').mistakes).toEqual(['there is no row in it']);
	expect(rowsOf('a.jsonl', '[]\n{"command": {}}').mistakes).toEqual([
		'line 1: it is not a JSON object',
		'line 2: command must be text or a number',
		'line 2: command is empty',
	]);
});

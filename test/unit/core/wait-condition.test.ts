import { type Tally, verdictOf, type WaitCondition } from '../../../dispatcher/core/wait-condition';

const open: Tally = { total: 1, ended: 0, completed: 0 };
const good: Tally = { total: 1, ended: 1, completed: 1 };
const bad: Tally = { total: 1, ended: 1, completed: 0 };
/** On three robots, one of them done. */
const three: Tally = { total: 3, ended: 1, completed: 1 };
const notStarted: Tally = { ...open, unsure: true };

const ended = (until: WaitCondition['until']): WaitCondition => ({ until, counts: 'ended' });
const completed = (until: WaitCondition['until']): WaitCondition => ({
	until,
	counts: 'completed',
});

test.each<[string, WaitCondition, Tally[], string]>([
	['all, one open', ended('all'), [good, open], 'open'],
	['all, however they ended', ended('all'), [good, bad], 'met'],
	['any, none', ended('any'), [open, open], 'open'],
	['any, a failed one', ended('any'), [open, bad], 'met'],
	['two of three', ended({ count: 2 }), [good, open, bad], 'met'],
	['two of three, one', ended({ count: 2 }), [good, open, open], 'open'],
	['more than there are', ended({ count: 9 }), [good, bad], 'met'],
	['all completed', completed('all'), [good, good], 'met'],
	['all completed, one failed', completed('all'), [bad, open], 'failed'],
	['any completed, one failed', completed('any'), [bad, open], 'open'],
	['any completed, all failed', completed('any'), [bad, bad], 'failed'],
	['two completed, out of reach', completed({ count: 2 }), [bad, bad, open], 'failed'],
	['two completed, in reach', completed({ count: 2 }), [bad, good, open], 'open'],
	['each robot: two of four', ended({ count: 2 }), [three, open], 'open'],
	['each robot: two of four, two', ended({ count: 2 }), [three, good], 'met'],
	['nobody knows how many', ended('all'), [good, notStarted], 'open'],
	['nobody knows how many, any', ended('any'), [good, notStarted], 'met'],
	['nobody knows how many, in reach', completed({ count: 3 }), [bad, notStarted], 'open'],
])('%s', (_name, condition, tallies, verdict) => {
	expect(verdictOf(condition, tallies)).toBe(verdict);
});

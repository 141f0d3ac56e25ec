/** What went wrong most often stands first, wherever the service has it. */
import { allDeadLetters } from '../../../dispatcher/cli/job-changes';
import type { DeadLetterGroup } from '../../../protocol';

test('the most frequent failure of all pages is the first of the list', async () => {
	const counts = [3, 1, 9_000, 2, 7];
	const deadLetters = ({ cursor = '0' }: { cursor?: string } = {}) => {
		const at = Number(cursor);
		const group = { fingerprint: cursor, count: counts[at], lastAt: 0 } as DeadLetterGroup;
		const more = at + 1 < counts.length ? { cursor: String(at + 1) } : {};
		return Promise.resolve({ items: [group], ...more });
	};
	const { items } = await allDeadLetters({ deadLetters });
	expect(items.map(({ count }) => count)).toEqual([9_000, 7, 3, 2, 1]);
});

/** One stretch of the jobs that a query may find; commits go on between two of them. */
import type { JobQuery, Scan, Store } from '../store/store';
import { firstIdOf } from './ids';

/** A few milliseconds of the store's time. */
const scan = 2_000;
/** A clock that was set back makes ids that are ahead of it. */
const clockSlackMs = 86_400_000;

export function nextStretch(
	store: Store,
	query: JobQuery,
	{ order, after, want, idBefore }: Pick<Scan, 'order' | 'after' | 'want' | 'idBefore'>,
): Promise<{ ids: string[]; next?: string }> {
	const { createdAfter, createdBefore } = query;
	const end = createdBefore === undefined ? undefined : firstIdOf(createdBefore + clockSlackMs);
	const before = [idBefore, end].filter((id) => id !== undefined).sort()[0];
	return store.read('scan', {
		query,
		order,
		after,
		scan,
		...(want === undefined ? {} : { want }),
		...(createdAfter === undefined ? {} : { idFrom: firstIdOf(createdAfter) }),
		...(before === undefined ? {} : { idBefore: before }),
	});
}

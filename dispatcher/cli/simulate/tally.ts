/** What came of the simulated robots' work so far. */
import type { JobResultMessage } from '../../../protocol';

type Ending = JobResultMessage['state'];

export class Tally {
	connected = 0;
	running = 0;
	readonly ended: Record<Ending, number> = { completed: 0, failed: 0, timeout: 0, cancelled: 0 };
	/** Jobs that were not taken. */
	refused = 0;
	/** Lines cut as planned, and lines lost. */
	cuts = 0;
	losses = 0;

	get total(): number {
		const { completed, failed, timeout, cancelled } = this.ended;
		return completed + failed + timeout + cancelled;
	}
}

/** What a robot says of an attempt that was never its own: it counts for nothing, and is told and logged. */
import { type AttemptRef, Problem } from '../../protocol';
import type { Context } from './context';
import type { Session } from './fleet';
import { Sparing } from './sparing';

export function refuseStranger(
	{ clock, log }: Context,
	robotId: string,
	session: Session,
	named: Pick<AttemptRef, 'job_id' | 'epoch'> & { attempt?: number },
): void {
	const { job_id: jobId, epoch, attempt = 0 } = named;
	const problem = new Problem('not-your-attempt', { jobId, attempt, epoch });
	const line = (session.strangers ??= new Sparing()).line(clock.monotonic());
	if (line) {
		const facts = { robotId, ...problem.details, ...line };
		log.warn('a robot spoke of an attempt that is not its own', facts);
	}
	session.sink.refuse(problem);
}

/**
 * Counts what the engine does by looking at each commit: a deed that the store took is what happened, so
 * nothing is counted that is not on disk, and no other code has to remember to count. Only increments
 * here, one look per deed: thousands of them pass in a second.
 */
import {
	causes,
	type Cause,
	type FinalState,
	finalStates,
	isFinal,
	occurrenceStates,
	type OccurrenceState,
	series,
	type SeriesName,
	seriesNames,
} from '../../protocol';
import { kinds } from '../../kinds';
import { Histogram } from '../core/histogram';
import { inLineSince } from '../core/rank';
import type { Deed, DeedAnswer, NewAttempt, NewOccurrence } from '../store/store';
import type { Clock } from './clock';
import type { Fleet } from './fleet';

type SumName = {
	[N in SeriesName]: (typeof series)[N]['how'] extends 'sum' ? N : never;
}[SeriesName];
export const sumNames = seriesNames.filter((name): name is SumName => series[name].how === 'sum');

/** How an attempt may end: as its robot says, or as we have to say. */
const outcomes = [...finalStates, 'refused', 'not-started', 'lost', 'forced'] as const;

/** Seconds. */
const shortTimes = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
const waitTimes = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300, 1_800, 7_200];
const runTimes = [0.1, 0.5, 1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 14_400];

const zeroes = <N extends string>(names: readonly N[]) =>
	Object.fromEntries(names.map((name) => [name, 0])) as Record<N, number>;

export class Meter {
	readonly #clock: Clock;
	readonly #fleet: Fleet;
	/** Since the start of the service. */
	readonly totals = zeroes(sumNames);
	readonly submittedByKind: Record<string, number> = zeroes([...kinds.keys()]);
	readonly ended: Record<FinalState, number> = zeroes(finalStates);
	readonly causes: Record<Cause, number> = zeroes(Object.keys(causes) as Cause[]);
	readonly occurrences: Record<OccurrenceState, number> = zeroes(occurrenceStates);
	/** Attempts that ended. All start at 0: in a series that begins with its first attempt, no rate sees that one. */
	readonly attempts: Record<string, number> = zeroes(outcomes);
	deadWaits = 0;
	/** Robots put into quarantine. */
	quarantines = 0;
	outputBytes = 0;
	deeds = 0;
	readonly commit = new Histogram(shortTimes);
	/** From ready to given to a robot. */
	readonly dispatch = new Histogram(waitTimes);
	/** From start to end of an attempt. */
	readonly run = new Histogram(runTimes);

	constructor(clock: Clock, fleet: Fleet) {
		this.#clock = clock;
		this.#fleet = fleet;
	}

	/** A commit is on disk, and memory does not know it yet. */
	committed(deeds: readonly Deed[], answers: readonly DeedAnswer[], tookMs: number): void {
		this.commit.observe(tookMs / 1000);
		this.deeds += deeds.length;
		for (let i = 0; i < deeds.length; i += 1) this.#count(deeds[i]!, answers[i]!);
	}

	/** Memory has followed: what was given away is held. */
	settled(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void {
		for (let i = 0; i < deeds.length; i += 1) {
			const deed = deeds[i]!;
			if (deed.do === 'assign' && answers[i] !== null) {
				this.#assigned(deed.with.jobId, deed.with.attempt);
			}
		}
	}

	#count(deed: Deed, answer: DeedAnswer): void {
		switch (deed.do) {
			case 'insertJob': {
				if (answer !== null) return;
				const { job, attempt, occurrence } = deed.with;
				this.#submitted(job.kind);
				if (occurrence) this.#planned(occurrence);
				if (!attempt) return;
				this.totals.assigned += 1;
				this.dispatch.observe((attempt.at - Math.max(job.createdAt, job.readyAt)) / 1000);
				return;
			}
			case 'startParent': {
				if (answer !== true) return;
				for (const child of deed.with.children) {
					this.#submitted(deed.with.common.kind);
					if (child.attempt) this.totals.assigned += 1;
				}
				return;
			}
			case 'settle': {
				if (answer !== true) return;
				const { jobId, epoch, outcome, next, at, startedAt, countLoss } = deed.with;
				this.attempts[outcome] = (this.attempts[outcome] ?? 0) + 1;
				if (countLoss) this.totals.lost += 1;
				const live = this.#fleet.live(jobId);
				if (live?.epoch === epoch && live.startedAt !== null) {
					this.run.observe((this.#clock.monotonic() - live.startedAt) / 1000);
				} else if (startedAt !== undefined) this.run.observe((at - startedAt) / 1000);
				if (isFinal(next.to)) this.#over(next.to, 'cause' in next ? next.cause : null);
				return;
			}
			case 'moveJob':
				if (answer === true && isFinal(deed.with.to)) this.#over(deed.with.to, deed.with.cause);
				return;
			case 'settleParent': {
				if (typeof answer !== 'string') return;
				const ending = Object.values(deed.with.endings).find(({ to }) => to === answer);
				this.#over(answer as FinalState, ending?.cause ?? null);
				return;
			}
			case 'fire':
				if (answer === true) this.#planned(deed.with);
				return;
			case 'moveWait':
				if (answer === true && deed.with.state === 'dead') this.deadWaits += 1;
				return;
			case 'changeRobot':
				if (deed.with.event?.type === 'robot.closed' && deed.with.quarantine) this.quarantines += 1;
				return;
			case 'appendOutput':
				if ((answer as { taken: boolean }).taken) this.outputBytes += deed.with.data.length;
		}
	}

	#submitted(kind: string): void {
		this.totals.submitted += 1;
		this.submittedByKind[kind] = (this.submittedByKind[kind] ?? 0) + 1;
	}

	#over(state: FinalState, cause: Cause | null): void {
		this.totals[state] += 1;
		this.ended[state] += 1;
		if (cause !== null) this.causes[cause] += 1;
	}

	#planned({ state }: NewOccurrence): void {
		this.occurrences[state] += 1;
		if (state === 'ran' || state === 'made_up') this.totals.runs += 1;
		else if (state === 'missed' || state === 'refused') this.totals.missed += 1;
	}

	#assigned(jobId: string, { epoch, at }: NewAttempt): void {
		this.totals.assigned += 1;
		const live = this.#fleet.live(jobId);
		if (live?.epoch !== epoch) return;
		this.dispatch.observe((at - inLineSince(live.rank, live.priority)) / 1000);
	}
}

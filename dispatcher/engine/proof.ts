/**
 * Whether what is stored of an attempt's output is what its robot delivered. The robot says the SHA-256 of
 * each stream with its result; we make our own while the bytes pass, or, when we did not see all of
 * them pass (a restart, a hole), by reading back what is stored. Only then is the output complete, and the
 * robot may forget it. A stream that differs is forgotten and sent again; one that differs again and
 * again is kept as damaged, and never handed out.
 */
import { createHash, type Hash } from 'node:crypto';
import {
	between,
	type JobResultMessage,
	type OutputLengths,
	type Stream,
	streams,
	type WireHole,
} from '../../protocol';
import type { OutputFrame } from '../../protocol/frames';
import { policyOf } from '../core/retry';
import type { Deeds, StoredAttempt } from '../store/store';
import type { Context } from './context';
import type { Session } from './fleet';

const pieceBytes = 256 * 1024;
/** How often a stream that differs is asked for again. */
const maxRepeats = 2;

interface Told {
	output: OutputLengths;
	holes: Partial<Record<Stream, WireHole[]>>;
	sha256: Partial<Record<Stream, string>>;
}

/** What is known of the output of one attempt; lives as long as its robot's connection. */
interface Entry {
	jobId: string;
	epoch: number;
	/** Over the bytes from 0 to `at`, as they were stored. */
	passed: Partial<Record<Stream, { hash: Hash; at: number }>>;
	repeats: Record<Stream, number>;
	told?: Told;
	/** A look is under way; another one is wanted after it. */
	looking: boolean;
	again: boolean;
}

export class Proof {
	readonly #context: Context;
	readonly #entries = new WeakMap<Session, Map<string, Entry>>();
	/** The last reading of each robot. */
	readonly #readings = new WeakMap<Session, Promise<unknown>>();

	constructor(context: Context) {
		this.#context = context;
	}

	/** A frame was committed. */
	stored(session: Session, frame: OutputFrame, answer: Deeds['appendOutput']['out']): void {
		const { jobId, epoch, stream, offset, data } = frame;
		const entry = this.#entry(session, jobId, epoch);
		if (answer.taken) {
			const passed =
				entry.passed[stream] ?? (offset === 0 ? { hash: createHash('sha256'), at: 0 } : undefined);
			if (passed?.at === offset) {
				passed.hash.update(data);
				passed.at += data.length;
				entry.passed[stream] = passed;
			} else delete entry.passed[stream];
		}
		if (answer.whole) this.#look(session, entry);
	}

	/** A result was committed that did not prove its output itself. */
	told(session: Session, message: JobResultMessage): void {
		const entry = this.#entry(session, message.job_id, message.epoch);
		const { output, holes = {}, sha256 = {} } = message;
		entry.told = { output, holes, sha256 };
		this.#look(session, entry);
	}

	#entry(session: Session, jobId: string, epoch: number): Entry {
		let entries = this.#entries.get(session);
		if (!entries) this.#entries.set(session, (entries = new Map()));
		const key = keyOf({ jobId, epoch });
		let entry = entries.get(key);
		if (!entry) {
			const repeats = { stdout: 0, stderr: 0 };
			entry = { jobId, epoch, passed: {}, repeats, looking: false, again: false };
			entries.set(key, entry);
		}
		return entry;
	}

	#look(session: Session, entry: Entry): void {
		entry.again = true;
		if (entry.looking || !entry.told) return;
		entry.looking = true;
		void (async () => {
			try {
				while (entry.again) {
					entry.again = false;
					await this.#close(session, entry, entry.told!);
				}
			} catch (error) {
				// A broken store ends the service elsewhere; a full one is asked again with the next result.
				const { message } = error as Error;
				this.#context.log.warn('output cannot be closed', { jobId: entry.jobId, error: message });
			} finally {
				entry.looking = false;
			}
		})();
	}

	async #close(session: Session, entry: Entry, told: Told): Promise<void> {
		const { store, turns, watchers } = this.#context;
		const { jobId, epoch } = entry;
		const attempt = await store.read('attempt', { jobId, epoch });
		if (!attempt || !isWhole(attempt)) return;
		for (const stream of streams) {
			if (await this.#equal(session, entry, attempt, stream, told)) continue;
			if (entry.repeats[stream] < maxRepeats) {
				await this.#repeat(session, entry, stream);
				return;
			}
			await this.#giveUp(entry, attempt, stream);
		}
		await this.#cut(attempt, told);
		await turns.deed('closeOutput', { jobId, epoch });
		this.#entries.get(session)?.delete(keyOf(entry));
		session.sink.resultAck({
			job_id: jobId,
			epoch,
			output: { stdout: attempt.stdoutHave, stderr: attempt.stderrHave },
			complete: true,
		});
		watchers.hint('output', jobId);
	}

	/** A job may have less kept than others: what its robot dropped for that goes here too. */
	async #cut({ jobId, number }: StoredAttempt, told: Told): Promise<void> {
		const { store, turns } = this.#context;
		const cuts = streams.flatMap((stream) =>
			(told.holes[stream] ?? []).filter(isCut).map((hole) => ({ jobId, number, stream, hole })),
		);
		if (cuts.length === 0) return;
		const job = await store.read('job', { id: jobId });
		if (!job || policyOf(job.policy).caps?.outputBytes === undefined) return;
		for (const { hole, ...name } of cuts) {
			await turns.deed('markOutput', { ...name, hole: asHole(hole) });
		}
	}

	/** True also when there is nothing to compare, or when we keep less than the robot does. */
	async #equal(
		session: Session,
		entry: Entry,
		attempt: StoredAttempt,
		stream: Stream,
		told: Told,
	): Promise<boolean> {
		const sha256 = told.sha256[stream];
		if (sha256 === undefined) return true;
		const length = told.output[stream];
		const holes = told.holes[stream] ?? [];
		const passed = entry.passed[stream];
		if (holes.length === 0 && passed?.at === length) {
			return passed.hash.copy().digest('hex') === sha256;
		}
		const kept = between(holes.map(asHole), length);
		return this.#inTurn(session, () => this.#isStored(attempt, stream, kept, sha256));
	}

	/** One reading per robot at a time: each takes the store's time and ours, and a result may be repeated endlessly. */
	#inTurn<T>(session: Session, read: () => Promise<T>): Promise<T> {
		const reading = (this.#readings.get(session) ?? Promise.resolve()).then(read);
		this.#readings.set(
			session,
			reading.catch(() => undefined),
		);
		return reading;
	}

	async #isStored(
		{ jobId, number }: StoredAttempt,
		stream: Stream,
		kept: ReturnType<typeof between>,
		sha256: string,
	): Promise<boolean> {
		const hash = createHash('sha256');
		for (const { from, to } of kept) {
			for (let at = from; at < to;) {
				const piece = await this.#context.store.read('output', {
					jobId,
					number,
					stream,
					from: at,
					to,
					maxBytes: pieceBytes,
				});
				// The robot still has what is damaged here.
				if (piece.hole) return !piece.found;
				hash.update(piece.data);
				at += piece.data.length;
			}
		}
		return hash.digest('hex') === sha256;
	}

	async #repeat(session: Session, entry: Entry, stream: Stream): Promise<void> {
		const { turns, watchers, log } = this.#context;
		const { jobId, epoch } = entry;
		entry.repeats[stream] += 1;
		delete entry.passed[stream];
		log.warn('stored output differs from what the robot delivered; it is sent again', {
			jobId,
			epoch,
			stream,
		});
		await turns.deed('rewindOutput', { jobId, epoch, stream });
		session.sink.outputAck({ job_id: jobId, epoch, stream, have: 0 });
		watchers.hint('output', jobId);
	}

	async #giveUp(entry: Entry, attempt: StoredAttempt, stream: Stream): Promise<void> {
		const { jobId, number } = attempt;
		this.#context.log.error('output differs from its digest however often it is sent', {
			jobId,
			epoch: entry.epoch,
			stream,
		});
		const to = stream === 'stdout' ? attempt.stdoutHave : attempt.stderrHave;
		await this.#context.turns.deed('markOutput', {
			jobId,
			number,
			stream,
			hole: { from: 0, to, reason: 'damaged' },
		});
	}
}

/**
 * What a result says of its own output: `proved` = all of it came along and is what the digests say;
 * `differs` = it is not; `open` = not all of it came along.
 */
export function provedInline(message: JobResultMessage): 'proved' | 'differs' | 'open' {
	for (const stream of streams) {
		const length = message.output[stream];
		if (length === 0) continue;
		const piece = message.inline?.[stream];
		if (piece?.offset !== 0 || message.holes?.[stream]?.length) return 'open';
		const data = Buffer.from(piece.data_b64, 'base64');
		if (data.length !== length) return 'open';
		const sha256 = message.sha256?.[stream];
		if (sha256 === undefined) continue;
		if (createHash('sha256').update(data).digest('hex') !== sha256) return 'differs';
	}
	return 'proved';
}

function isWhole({ stdoutHave, stderrHave, stdoutLength, stderrLength }: StoredAttempt): boolean {
	return (
		stdoutLength !== null &&
		stderrLength !== null &&
		stdoutHave >= stdoutLength &&
		stderrHave >= stderrLength
	);
}

const isCut = ({ reason }: WireHole) => reason === 'limit';

function asHole({ from, to }: WireHole) {
	return { from, to, reason: 'limit' } as const;
}

function keyOf({ jobId, epoch }: { jobId: string; epoch: number }): string {
	return `${jobId}/${epoch}`;
}

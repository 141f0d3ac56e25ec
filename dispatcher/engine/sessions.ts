/**
 * A robot comes, and goes. On coming, hub and robot compare what each believes of every attempt and
 * agree before anything else is said. Being away is not an event of the job: only the loss clock of
 * its attempt starts to run.
 */
import type {
	Hello,
	HeldAttempt,
	JobAccepted,
	JobRejected,
	JobResultMessage,
	StatusUpdate,
	Verdict,
	VerdictAct,
} from '../../protocol';
import { limits, Problem } from '../../protocol';
import type { OutputFrame } from '../../protocol/frames';
import type { StoredAttempt } from '../store/store';
import type { Attempts } from './attempts';
import type { Context } from './context';
import type { Live, RobotEntry, Session } from './fleet';
import type { RobotSession, RobotSink } from './index';

export class Sessions {
	readonly #context: Context;
	readonly #attempts: Attempts;

	constructor(context: Context, attempts: Attempts) {
		this.#context = context;
		this.#attempts = attempts;
	}

	async connect(hello: Hello, sink: RobotSink): Promise<RobotSession> {
		const { fleet, turns, clock, log } = this.#context;
		const entry = fleet.get(hello.robot_id);
		if (!entry) throw new Problem('robot-revoked');
		this.#displace(entry, hello);
		const forgot = entry.stored.journalId !== null && entry.stored.journalId !== hello.journal_id;
		const said = {
			labels: JSON.stringify(hello.labels),
			capabilities: JSON.stringify(hello.capabilities),
			slots: hello.slots,
			info: JSON.stringify(hello.info),
			agentVersion: hello.version,
			journalId: hello.journal_id,
			lastSeenAt: clock.now(),
		};
		await turns.deed('putRobot', { ...entry.stored, ...said });
		const known = await this.#known(hello);
		// From here to the end nothing is awaited: what is compared is what is.
		if (!fleet.get(hello.robot_id)) throw new Problem('robot-revoked');
		this.#displace(entry, hello);
		const { labels, capabilities } = entry.stored;
		const robot = fleet.put({ ...entry.stored, ...said });
		// Matching it with every lane anew would make a whole fleet's return expensive.
		const changed = labels !== said.labels || capabilities !== said.capabilities;
		if (changed) this.#context.lanes.putRobot(robot);
		const session = new OpenSession(this.#context, this.#attempts, robot, hello.boot_id, sink);
		robot.session = session;
		session.verdicts = this.#compare(robot, hello, known, forgot);
		fleet.review(robot);
		turns.nudge();
		log.info('robot connected', { robotId: robot.robotId, name: robot.stored.name });
		return session;
	}

	/** One identity, one connection. The same process may replace its own dead socket at once. */
	#displace(entry: RobotEntry, hello: Hello): void {
		const old = entry.session;
		if (!old) return;
		const silentMs = this.#context.clock.monotonic() - old.seenAt;
		if (old.bootId !== hello.boot_id && silentMs < 2 * limits.heartbeatMs) {
			throw new Problem('robot-elsewhere');
		}
		entry.session = undefined;
		old.sink.close(1000, 'replaced by a newer connection of the same robot');
	}

	async #known(hello: Hello): Promise<Map<string, StoredAttempt>> {
		const known = new Map<string, StoredAttempt>();
		for (const held of hello.attempts) {
			const attempt = await this.#context.store.read('attempt', {
				jobId: held.job_id,
				epoch: held.epoch,
			});
			if (attempt?.token === held.token && attempt.robotId === hello.robot_id) {
				known.set(held.job_id, attempt);
			}
		}
		return known;
	}

	#compare(
		robot: RobotEntry,
		hello: Hello,
		known: Map<string, StoredAttempt>,
		forgot: boolean,
	): Verdict[] {
		const held = new Map(hello.attempts.map((attempt) => [attempt.job_id, attempt]));
		for (const live of [...robot.held.values()]) {
			const theirs = held.get(live.jobId);
			if (theirs?.epoch === live.epoch) this.#goOn(live, theirs);
			else if (forgot || live.state === 'running') {
				this.#attempts.lost(live, 'The robot came back without any memory of the attempt');
			} else this.#attempts.neverStarted(live);
		}
		return hello.attempts.map((theirs) => {
			const ours = known.get(theirs.job_id);
			return {
				job_id: theirs.job_id,
				epoch: theirs.epoch,
				act: this.#verdict(theirs, ours),
				output: { stdout: ours?.stdoutHave ?? 0, stderr: ours?.stderrHave ?? 0 },
			};
		});
	}

	#goOn(live: Live, theirs: HeldAttempt): void {
		live.lossLeftMs = live.policy.onLoss.waitMs;
		if (live.state === 'dispatched' && theirs.state === 'running') {
			this.#attempts.accepted(live.robotId, { ...theirs, started_at: '' });
		}
	}

	#verdict(theirs: HeldAttempt, ours: StoredAttempt | undefined): VerdictAct {
		if (!ours) return 'hold';
		const live = this.#context.fleet.live(theirs.job_id);
		if (live?.epoch === theirs.epoch) {
			if (theirs.state === 'ended') return 'send_result';
			return live.cancelRequestedAt === null ? 'continue' : 'kill';
		}
		if (ours.result !== null || ours.lateResult !== null) {
			const whole =
				ours.stdoutHave >= (ours.stdoutLength ?? 0) && ours.stderrHave >= (ours.stderrLength ?? 0);
			return whole ? 'forget' : 'continue';
		}
		if (theirs.state === 'ended') return 'send_result';
		// Given up as lost and not tried again: what it still finds out is kept as a late result.
		return ours.outcome === 'lost' && live === undefined ? 'continue' : 'kill';
	}
}

const noVerdicts: Verdict[] = [];
const noMetrics: Record<string, number> = {};

/**
 * One robot's open session. There are thousands, nearly all of them idle: no closures, and nothing
 * of its own until there is something to keep.
 */
class OpenSession implements Session, RobotSession {
	readonly bootId: string;
	readonly sink: RobotSink;
	verdicts = noVerdicts;
	metrics = noMetrics;
	stopping = false;
	seenAt: number;
	readonly #context: Context;
	readonly #attempts: Attempts;
	readonly #robot: RobotEntry;

	constructor(
		context: Context,
		attempts: Attempts,
		robot: RobotEntry,
		bootId: string,
		sink: RobotSink,
	) {
		this.#context = context;
		this.#attempts = attempts;
		this.#robot = robot;
		this.bootId = bootId;
		this.sink = sink;
		this.seenAt = context.clock.monotonic();
	}

	get robotId(): string {
		return this.#robot.robotId;
	}

	get name(): string {
		return this.#robot.stored.name;
	}

	seen(): void {
		this.seenAt = this.#context.clock.monotonic();
	}

	accepted(message: JobAccepted): void {
		if (this.#isCurrent()) this.#attempts.accepted(this.robotId, message);
	}

	rejected(message: JobRejected): void {
		if (this.#isCurrent()) this.#attempts.rejected(this.robotId, message);
	}

	result(message: JobResultMessage): void {
		if (this.#isCurrent()) this.#attempts.result(this.robotId, this, message);
	}

	status(message: StatusUpdate): void {
		if (this.#isCurrent()) this.#attempts.status(this.robotId, message);
	}

	output(frame: OutputFrame): void {
		if (this.#isCurrent()) this.#attempts.output(this.robotId, this, frame);
	}

	heartbeat(metrics: Record<string, number>): void {
		this.metrics = metrics;
	}

	takesNoMore(): void {
		this.stopping = true;
		this.#context.fleet.review(this.#robot);
	}

	closed(): void {
		if (!this.#isCurrent()) return;
		const { fleet, clock, log, turns } = this.#context;
		const { robotId, name } = this;
		this.#robot.session = undefined;
		fleet.review(this.#robot);
		log.info('robot disconnected', { robotId, name });
		void turns.deed('robotsSeen', { ids: [robotId], at: clock.now() }).catch(() => undefined);
	}

	#isCurrent(): boolean {
		return this.#robot.session === this;
	}
}

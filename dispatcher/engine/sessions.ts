/**
 * A robot comes, and goes. On coming, hub and robot compare what each believes of every attempt and
 * agree before anything else is said. Being away is not an event of the job: only the loss clock of
 * its attempt starts to run.
 */
import type {
	Facts,
	FileOffer,
	FileRead,
	Hello,
	HeldAttempt,
	InputAck,
	JobAccepted,
	JobRejected,
	JobResultMessage,
	PromptMessage,
	StatusUpdate,
	Verdict,
	VerdictAct,
} from '../../protocol';
import { isFinal, limits, Problem } from '../../protocol';
import type { FileFrame, OutputFrame } from '../../protocol/frames';
import { busyOf } from '../core/strategy';
import type { StoredAttempt } from '../store/store';
import type { Attempts } from './attempts';
import { noteClone } from './clones';
import type { Context } from './context';
import type { FileTransfers } from './file-transfers';
import type { Live, RobotEntry, Session } from './fleet';
import type { RobotSession, RobotSink } from './index';
import type { Inputs } from './input';
import type { OutputFlow } from './output-flow';

export class Sessions {
	readonly #context: Context;
	readonly #attempts: Attempts;
	readonly #parts: SessionParts;
	/** What each robot said of its attempts when it last came, live ones left out. */
	readonly #reported = new Map<string, HeldAttempt[]>();
	readonly #knownHere = new WeakSet<HeldAttempt>();

	constructor(
		context: Context,
		attempts: Attempts,
		outputFlow: OutputFlow,
		inputs: Inputs,
		transfers: FileTransfers,
	) {
		this.#context = context;
		this.#attempts = attempts;
		this.#parts = { context, attempts, outputFlow, inputs, transfers };
	}

	/** An attempt of this job that a robot holds and the store has never heard of. */
	unknownAttempt(jobId: string): (HeldAttempt & { robotId: string }) | undefined {
		return this.#find((held) => held.job_id === jobId && !this.#knownHere.has(held));
	}

	/** Whether a robot said that it holds this attempt, which is over here. */
	reports(jobId: string, epoch: number): boolean {
		return this.#find((held) => held.job_id === jobId && held.epoch === epoch) !== undefined;
	}

	#find(wanted: (held: HeldAttempt) => boolean) {
		for (const [robotId, reported] of this.#reported) {
			const held = reported.find(wanted);
			if (held) return { ...held, robotId };
		}
		return undefined;
	}

	async connect(
		hello: Hello,
		sink: RobotSink,
		socket: number,
		address = 'an unknown address',
	): Promise<RobotSession> {
		const { fleet, turns, clock, log } = this.#context;
		const entry = fleet.get(hello.robot_id);
		if (!entry) throw new Problem('robot-revoked');
		// The key it has proved; a device that is to have another one from now on has none yet.
		const key = entry.stored.publicKey;
		if (key === '') throw new Problem('bad-proof');
		this.#newest(entry, socket);
		this.#atHome(entry, hello, address);
		this.#displace(entry, hello, address);
		entry.newestSocket = socket;
		const forgot = entry.stored.journalId !== null && entry.stored.journalId !== hello.journal_id;
		const said = {
			labels: JSON.stringify(hello.labels),
			capabilities: JSON.stringify(hello.capabilities),
			slots: hello.slots,
			clients: JSON.stringify([...new Set(hello.clients)]),
			info: JSON.stringify(hello.info),
			agentVersion: hello.version,
			// A robot without its memory counts as such until its losses are on disk: were the new journal known
			// before them, a crash in between would take silence for proof that nothing was started.
			journalId: forgot ? entry.stored.journalId : hello.journal_id,
			lastSeenAt: clock.now(),
		};
		await turns.deed('changeRobot', { id: entry.robotId, ...said });
		const known = await this.#known(hello);
		const lastWords = await this.#lastWords(known);
		// From here to the end nothing is awaited: what is compared is what is.
		if (!fleet.get(hello.robot_id)) throw new Problem('robot-revoked');
		if (entry.stored.publicKey !== key) throw new Problem('bad-proof');
		this.#newest(entry, socket);
		this.#atHome(entry, hello, address);
		this.#displace(entry, hello, address);
		const { labels, capabilities, clients, slots } = entry.stored;
		const robot = fleet.put({ ...entry.stored, ...said });
		// Matching it with every lane anew would make a whole fleet's return expensive.
		const changed =
			labels !== said.labels ||
			capabilities !== said.capabilities ||
			clients !== said.clients ||
			slots !== said.slots;
		if (changed) this.#context.lanes.putRobot(robot);
		const session = new OpenSession(this.#parts, robot, hello, sink);
		robot.session = session;
		const { verdicts, losses } = this.#compare(robot, hello, known, lastWords, forgot);
		session.verdicts = verdicts;
		if (forgot) void this.#believe(robot, hello.journal_id, losses);
		if (robot.stored.machine === null) void this.#settle(robot, hello.machine_id);
		fleet.review(robot);
		turns.nudge();
		log.info('robot connected', { robotId: robot.robotId, name: robot.stored.name });
		return session;
	}

	/**
	 * What a robot said on a socket older than its newest is no longer so: were it believed, the robot would seem
	 * not to know an attempt that it was given since.
	 */
	#newest(entry: RobotEntry, socket: number): void {
		if (socket < entry.newestSocket) throw new Problem('robot-elsewhere');
	}

	/** One identity, one machine: the first one that said which it is. */
	#atHome(entry: RobotEntry, { machine_id: machine }: Hello, address: string): void {
		const home = entry.stored.machine;
		if (home === null || machine === undefined || machine === home) return;
		noteClone(this.#context, entry, { how: 'moved', address, machine });
		throw new Problem('robot-moved', { name: entry.stored.name });
	}

	async #settle(robot: RobotEntry, machine: string | undefined): Promise<void> {
		if (machine === undefined) return;
		const { fleet, turns, log } = this.#context;
		fleet.put({ ...robot.stored, machine });
		try {
			await turns.deed('changeRobot', { id: robot.robotId, machine });
		} catch (error) {
			log.warn('the machine of a robot could not be recorded', { robotId: robot.robotId, error });
		}
	}

	/** One identity, one connection. The same process may replace its own dead socket at once. */
	#displace(entry: RobotEntry, hello: Hello, address: string): void {
		const old = entry.session;
		if (!old) return;
		const silentMs = this.#context.clock.monotonic() - old.seenAt;
		if (old.bootId !== hello.boot_id && silentMs < 2 * limits.heartbeatMs) {
			// There are two only if the old one answers now: it may have gone without our knowing it yet.
			old.sink.ping(() => {
				if (entry.session === old) noteClone(this.#context, entry, { how: 'twin', address });
			});
			throw new Problem('robot-elsewhere');
		}
		leave(entry, old, this.#parts);
		old.sink.close(1000, 'replaced by a newer connection of the same robot');
	}

	/** What is stored of the attempts it names, if it names them as they were given to it. */
	async #known(hello: Hello): Promise<Map<string, StoredAttempt>> {
		const { store, fleet } = this.#context;
		const known = new Map<string, StoredAttempt>();
		for (const held of hello.attempts) {
			const { job_id: jobId, epoch, token } = held;
			const read = () => store.read('attempt', { jobId, epoch });
			let attempt = await read();
			// Read while it was being settled: by now that is done, and the next look shows how.
			if (attempt?.outcome === null && fleet.live(jobId)?.epoch !== epoch) attempt = await read();
			if (attempt?.token === token && attempt.robotId === hello.robot_id) {
				known.set(keyOf(held), attempt);
			}
		}
		return known;
	}

	/**
	 * Attempts that were given up as lost, and with them their jobs: nobody tried again and nobody
	 * cancelled, so they may still come to their end. A job that has ended stays ended: this cannot go stale.
	 */
	async #lastWords(known: Map<string, StoredAttempt>): Promise<Set<StoredAttempt>> {
		const found = new Set<StoredAttempt>();
		for (const attempt of known.values()) {
			if (attempt.outcome !== 'lost' && attempt.outcome !== 'restored') continue;
			const job = await this.#context.store.read('job', { id: attempt.jobId });
			// After a restore nobody tries again before a person says so.
			const waits = attempt.outcome === 'restored' && job?.cause === 'restored';
			if (job?.epoch !== attempt.epoch || !(waits || isFinal(job.state))) continue;
			if (job.cancelRequestedAt === null) found.add(attempt);
		}
		return found;
	}

	#compare(
		robot: RobotEntry,
		hello: Hello,
		known: Map<string, StoredAttempt>,
		lastWords: Set<StoredAttempt>,
		forgot: boolean,
	): { verdicts: Verdict[]; losses: Promise<void>[] } {
		const losses: Promise<void>[] = [];
		const held = new Map(hello.attempts.map((attempt) => [keyOf(attempt), attempt]));
		for (const live of [...robot.held.values()]) {
			const key = keyOf({ job_id: live.jobId, epoch: live.epoch });
			const theirs = known.has(key) ? held.get(key) : undefined;
			if (theirs) this.#goOn(live, theirs);
			else if (forgot || live.state === 'running' || live.acceptance || held.has(key)) {
				const reason = 'The robot came back without any memory of the attempt';
				const loss = this.#attempts.lost(live, reason, true);
				// The duties say it again.
				loss.catch(() => undefined);
				losses.push(loss);
			} else this.#attempts.neverStarted(live);
		}
		const over = hello.attempts.filter(
			({ job_id, epoch }) => this.#context.fleet.live(job_id)?.epoch !== epoch,
		);
		for (const theirs of over) {
			if (known.has(keyOf(theirs))) this.#knownHere.add(theirs);
			// Only an attempt that a robot holds can still write, and it is named here before it does.
			else this.#context.epochs.seen(theirs.epoch);
		}
		if (over.length > 0) this.#reported.set(robot.robotId, over);
		else this.#reported.delete(robot.robotId);
		const verdicts = hello.attempts.map((theirs) => {
			const ours = known.get(keyOf(theirs));
			const act = this.#verdict(theirs, ours, ours !== undefined && lastWords.has(ours));
			if (act === 'hold') {
				this.#context.log.warn(
					'a robot holds an attempt that is not known here; the robot keeps it',
					{
						robotId: robot.robotId,
						jobId: theirs.job_id,
						epoch: theirs.epoch,
					},
				);
			}
			return {
				job_id: theirs.job_id,
				epoch: theirs.epoch,
				act,
				output: { stdout: ours?.stdoutHave ?? 0, stderr: ours?.stderrHave ?? 0 },
			};
		});
		return { verdicts, losses };
	}

	/** Everything that the old journal may have known is settled: from now on the new one is proof. */
	async #believe(robot: RobotEntry, journalId: string, losses: Promise<void>[]): Promise<void> {
		const { fleet, turns, log } = this.#context;
		try {
			await Promise.all(losses);
			if (fleet.get(robot.robotId) !== robot) return;
			await turns.deed('changeRobot', { id: robot.robotId, journalId });
			// A robot that was removed meanwhile must not come back by being put.
			if (fleet.get(robot.robotId) === robot) fleet.put({ ...robot.stored, journalId });
		} catch (error) {
			// Until its next hello its silence proves nothing, which is safe.
			log.warn('a new journal could not be recorded', { robotId: robot.robotId, error });
		}
	}

	#goOn(live: Live, theirs: HeldAttempt): void {
		const now = this.#context.clock.monotonic();
		live.lossLeftMs = live.policy.onLoss.waitMs;
		delete live.lostBecause;
		// It could not answer while it was away: its time to do so starts anew. A verdict to kill is a cancel.
		live.revokedAt = null;
		live.remindedAt = live.cancelRequestedAt === null ? null : now;
		if (live.state !== 'dispatched') return;
		live.assignedAt = now;
		if (theirs.state === 'running') this.#attempts.started(live);
	}

	#verdict(theirs: HeldAttempt, ours: StoredAttempt | undefined, lastWord: boolean): VerdictAct {
		if (!ours) return 'hold';
		const live = this.#context.fleet.live(theirs.job_id);
		if (live?.epoch === theirs.epoch) {
			if (theirs.state === 'ended') return 'send_result';
			return live.cancelRequestedAt === null ? 'continue' : 'kill';
		}
		if (ours.result !== null || ours.lateResult !== null) {
			const whole =
				ours.stdoutHave >= (ours.stdoutLength ?? 0) && ours.stderrHave >= (ours.stderrLength ?? 0);
			return whole && ours.outputDone === 1 ? 'forget' : 'continue';
		}
		if (theirs.state === 'ended') return 'send_result';
		// What an attempt that nobody followed still finds out is kept as a late result.
		return lastWord ? 'continue' : 'kill';
	}
}

/** What all sessions share. */
interface SessionParts {
	context: Context;
	attempts: Attempts;
	outputFlow: OutputFlow;
	inputs: Inputs;
	transfers: FileTransfers;
}

function leave(
	entry: RobotEntry,
	session: Session,
	{ context, outputFlow, transfers }: SessionParts,
): void {
	entry.session = undefined;
	entry.awaySince = context.clock.monotonic();
	outputFlow.forget(session);
	transfers.forget(session);
	for (const tell of session.waiting?.values() ?? []) tell('gone');
}

/** For one robot, after facts that changed something: each such change is a write, and a look at every lane. */
const factsPauseMs = 1_000;

const noVerdicts: Verdict[] = [];
const noMetrics: Record<string, number> = {};

/**
 * One robot's open session. There are thousands, nearly all of them idle: no closures, and nothing
 * of its own until there is something to keep.
 */
class OpenSession implements Session, RobotSession {
	readonly bootId: string;
	readonly sink: RobotSink;
	readonly tellsFacts: boolean;
	readonly takesFiles: boolean;
	declare waiting?: Session['waiting'];
	declare strangers?: Session['strangers'];
	verdicts = noVerdicts;
	metrics = noMetrics;
	busy = 0;
	stopping = false;
	seenAt: number;
	readonly #parts: SessionParts;
	readonly #robot: RobotEntry;
	/** Not looked at yet, and who waits for it. */
	#news: { facts: Facts; asked: Set<string> } | undefined;
	#learning = false;

	constructor(
		parts: SessionParts,
		robot: RobotEntry,
		{ boot_id, features }: Hello,
		sink: RobotSink,
	) {
		this.#parts = parts;
		this.#robot = robot;
		this.bootId = boot_id;
		this.sink = sink;
		this.tellsFacts = features.includes('facts');
		this.takesFiles = features.includes('files');
		this.seenAt = parts.context.clock.monotonic();
	}

	get robotId(): string {
		return this.#robot.robotId;
	}

	get name(): string {
		return this.#robot.stored.name;
	}

	seen(): void {
		this.seenAt = this.#parts.context.clock.monotonic();
	}

	accepted(message: JobAccepted): void {
		if (this.#isCurrent()) this.#parts.attempts.accepted(this.robotId, this, message);
	}

	rejected(message: JobRejected): void {
		if (this.#isCurrent()) this.#parts.attempts.rejected(this.robotId, this, message);
	}

	result(message: JobResultMessage): void {
		if (this.#isCurrent()) this.#parts.attempts.result(this.robotId, this, message);
	}

	status(message: StatusUpdate): void {
		if (this.#isCurrent()) this.#parts.attempts.status(this.robotId, this, message);
	}

	inputAck(message: InputAck): void {
		if (this.#isCurrent()) this.#parts.inputs.acknowledged(this.robotId, this, message);
	}

	prompt(message: PromptMessage): void {
		if (this.#isCurrent()) this.#parts.inputs.prompted(this.robotId, this, message);
	}

	output(frame: OutputFrame): void {
		const { context, outputFlow } = this.#parts;
		// On a full disk the room is for results; the robot keeps its output and sends it again.
		if (this.#isCurrent() && !context.diskFull()) outputFlow.take(this.robotId, this, frame);
	}

	fileRead(message: FileRead): void {
		if (this.#isCurrent()) this.#parts.transfers.read(this.robotId, this, message);
	}

	fileOffer(message: FileOffer): void {
		if (this.#isCurrent()) this.#parts.transfers.offer(this.robotId, this, message);
	}

	fileBytes(frame: FileFrame): void {
		if (this.#isCurrent()) this.#parts.transfers.frame(this, frame);
	}

	heartbeat(metrics: Record<string, number>): void {
		this.metrics = metrics;
		this.busy = busyOf(metrics['cpu_percent']);
	}

	facts(facts: Facts, answers?: string): void {
		if (!this.#isCurrent()) return;
		const asked = this.#news?.asked ?? new Set<string>();
		if (answers !== undefined && this.waiting?.has(answers)) asked.add(answers);
		// Only the last ones are true by then.
		this.#news = { facts, asked };
		if (!this.#learning) void this.#learnAll();
	}

	pong(answers: string): void {
		this.waiting?.get(answers)?.('answered');
	}

	async #learnAll(): Promise<void> {
		this.#learning = true;
		while (this.#news) {
			const { facts, asked } = this.#news;
			this.#news = undefined;
			const learnt = await this.#learn(facts);
			if (learnt !== 'not noted') {
				for (const id of asked) this.waiting?.get(id)?.('answered');
			}
			if (learnt !== 'known') await this.#parts.context.clock.sleep(factsPauseMs);
			if (!this.#isCurrent()) return;
		}
		this.#learning = false;
	}

	/** New facts are stored like those of `hello`, and waiting jobs may fit now. */
	async #learn({ capabilities, info }: Facts): Promise<'known' | 'new' | 'not noted'> {
		const { turns, fleet, lanes, log } = this.#parts.context;
		const { robotId, name } = this;
		const said = { capabilities: JSON.stringify(capabilities), info: JSON.stringify(info) };
		const { stored } = this.#robot;
		if (stored.capabilities === said.capabilities && stored.info === said.info) return 'known';
		try {
			await turns.deed('changeRobot', { id: robotId, ...said });
		} catch (error) {
			// It says them again with its next hello.
			log.warn('new facts of a robot could not be recorded', { robotId, name, error });
			return 'not noted';
		}
		// It may have been removed, or have said hello anew with facts of its own.
		if (!this.#isCurrent() || fleet.get(robotId) !== this.#robot) return 'not noted';
		const changed = this.#robot.stored.capabilities !== said.capabilities;
		const robot = fleet.put({ ...this.#robot.stored, ...said });
		if (changed) lanes.putRobot(robot);
		fleet.review(robot);
		turns.nudge();
		return 'new';
	}

	takesNoMore(): void {
		this.stopping = true;
		this.#parts.context.fleet.review(this.#robot);
	}

	takenUp(): Promise<void> {
		return this.#parts.context.turns.takenUp();
	}

	closed(): void {
		if (!this.#isCurrent()) {
			// For a robot that was removed, what it has under way is let go of all the same.
			this.#parts.outputFlow.forget(this);
			this.#parts.transfers.forget(this);
			return;
		}
		const { fleet, clock, log, turns } = this.#parts.context;
		const { robotId, name } = this;
		leave(this.#robot, this, this.#parts);
		fleet.review(this.#robot);
		log.info('robot disconnected', { robotId, name });
		void turns.deed('robotsSeen', { ids: [robotId], at: clock.now() }).catch(() => undefined);
	}

	#isCurrent(): boolean {
		return this.#robot.session === this;
	}
}

function keyOf({ job_id, epoch }: Pick<HeldAttempt, 'job_id' | 'epoch'>): string {
	return `${job_id}/${epoch}`;
}

/**
 * A robot that keeps every rule of the protocol, and does each step only when the test says so: it
 * journals before it starts, repeats what was not taken, and forgets only what was. Its journal
 * outlives its connection, its agent and the service.
 */
import type {
	Hello,
	JobAssignment,
	JobResultMessage,
	Problem,
	ResultAck,
	Verdict,
} from '../../protocol';
import type { Engine, RobotSession, RobotSink } from '../../dispatcher/engine';
import { exit, heldAs, ref, resultOf } from './engine';
import { settled } from './fake-clock';

/** starting → running → ended → over; or never. */
export type Phase = 'starting' | 'running' | 'ended' | 'over' | 'never';

export interface Entry {
	assignment: JobAssignment;
	phase: Phase;
	/** How often its program was called. */
	starts: number;
	/** The service wants it to end. */
	stopping: boolean;
	/** Nobody here knows what the service wants of it. */
	kept: boolean;
	result: JobResultMessage | undefined;
}

export type Ending = 'completed' | 'exit 3' | 'exit 75' | 'unknown';

const endings: Record<Ending, Parameters<typeof resultOf>[1]> = {
	completed: {},
	'exit 3': exit(3),
	'exit 75': exit(75),
	unknown: { state: 'failed', cause: 'unknown', result: { exit_code: null, process_gone: true } },
};
const cancelled = { state: 'cancelled', cause: 'cancelled' } as const;

let sockets = 0;

export class HonestRobot {
	readonly entries = new Map<string, Entry>();
	readonly refusals: Problem[] = [];
	readonly robotId: string;
	readonly slots: number;
	readonly clients: readonly string[];
	/** So far. */
	connections = 0;
	readonly #engine: () => Engine;
	#session: RobotSession | undefined;
	#boots = 0;
	#journals = 0;

	constructor(engine: () => Engine, robotId: string, slots = 1, clients: readonly string[] = []) {
		this.#engine = engine;
		this.robotId = robotId;
		this.slots = slots;
		this.clients = clients;
	}

	get connected(): boolean {
		return this.#session !== undefined;
	}

	of(...phases: Phase[]): Entry[] {
		return [...this.entries.values()].filter(({ phase }) => phases.includes(phase));
	}

	async connect(): Promise<void> {
		this.connections += 1;
		const open: { session?: RobotSession } = {};
		const here = () => open.session !== undefined && this.#session === open.session;
		// What the service says before its verdicts comes after them.
		let early: (() => void)[] | undefined = [];
		const hear = (word: () => void) => {
			if (early) early.push(word);
			else if (here()) word();
		};
		const sink: RobotSink = {
			assign: (assignment) => hear(() => this.#assign(assignment)),
			cancel: (cancel) => hear(() => this.#cancel(this.#entry(cancel), cancel)),
			revoke: (revoke) => hear(() => this.#revoke(this.#entry(revoke), revoke)),
			resultAck: (ack) => hear(() => this.#taken(ack)),
			outputAck: () => undefined,
			outputCredit: () => undefined,
			transport: 'websocket',
			takesInput: false,
			input: () => undefined,
			resize: () => undefined,
			fileInfo: () => undefined,
			fileWant: () => undefined,
			fileKept: () => undefined,
			fileRefused: () => undefined,
			fileBytes: async () => undefined,
			control: () => '',
			refuse: (problem) => void this.refusals.push(problem),
			ping: (then) => hear(then),
			close: () => {
				if (here()) this.#session = undefined;
				open.session?.closed();
			},
		};
		const session = await this.#engine().connect(this.#hello(), sink, (sockets += 1));
		open.session = session;
		this.#session = session;
		for (const verdict of session.verdicts) this.#obey(verdict);
		for (const word of early) word();
		early = undefined;
		await settled();
	}

	/** The line is cut; the service hears of it. */
	async cut(): Promise<void> {
		const session = this.#session;
		this.#session = undefined;
		session?.closed();
		await settled();
	}

	/** The service died: the line is gone without a word. */
	abandoned(): void {
		this.#session = undefined;
	}

	/** The agent is killed and started again: what ran, nobody can know; what did not start, never will. */
	async crash(): Promise<void> {
		await this.cut();
		this.#boots += 1;
		for (const [key, entry] of this.entries) {
			if (entry.phase === 'starting') this.entries.delete(key);
			if (entry.phase === 'running') this.#end(entry, endings.unknown);
		}
	}

	/** The disk was replaced: identity kept, journal gone. Whatever ran is gone too. */
	async forget(): Promise<void> {
		await this.cut();
		this.#boots += 1;
		this.#journals += 1;
		this.forgotten.push(...this.entries.values());
		this.entries.clear();
	}
	/** What former journals knew, for those who count. */
	readonly forgotten: Entry[] = [];

	/** Journals and starts. */
	async begin(entry: Entry): Promise<void> {
		entry.phase = 'running';
		entry.starts += 1;
		this.#tell(entry);
		await settled();
	}

	async refuse(entry: Entry, permanent = false): Promise<void> {
		entry.phase = 'never';
		this.#reject(entry.assignment, 'paused', permanent);
		await settled();
	}

	/** The program ends; if it was told to stop, because of that. */
	async finish(entry: Entry, how: Ending): Promise<void> {
		this.#end(entry, entry.stopping ? cancelled : endings[how]);
		this.#tell(entry);
		await settled();
	}

	/** Says again what the service has not taken, as with every second heartbeat. */
	async repeat(): Promise<void> {
		for (const entry of this.of('ended')) this.#tell(entry);
		await settled();
	}

	#hello(): Hello {
		return {
			robot_id: this.robotId,
			protocol: 1,
			features: [],
			version: '0.0.0',
			journal_id: `journal ${this.#journals}`,
			boot_id: `boot ${this.#boots}`,
			signature: '',
			slots: this.slots,
			...(this.clients.length === 0 ? {} : { clients: [...this.clients] }),
			labels: {},
			capabilities: [],
			info: {},
			attempts: this.of('starting', 'running', 'ended').map(({ assignment, phase }) =>
				heldAs(phase === 'starting' ? 'accepted' : (phase as 'running' | 'ended'), assignment),
			),
		};
	}

	#obey({ act, ...named }: Verdict): void {
		const entry = this.#entry(named);
		if (!entry) return;
		entry.kept = act === 'hold';
		if (act === 'forget' && entry.phase === 'ended') entry.phase = 'over';
		else if (act === 'kill' || act === 'forget') this.#cancel(entry, entry.assignment);
		else this.#tell(entry);
	}

	#assign(assignment: JobAssignment): void {
		const entry = this.#entry(assignment);
		if (entry?.phase === 'never') return this.#reject(assignment, 'not-started');
		if (entry) return this.#tell(entry);
		this.entries.set(keyOf(assignment), {
			assignment,
			phase: 'starting',
			starts: 0,
			stopping: false,
			kept: false,
			result: undefined,
		});
		const working = this.of('starting', 'running').map((one) => one.assignment.client);
		const sharing = working.filter((client) => client !== undefined);
		if (working.length > this.slots || new Set(sharing).size < sharing.length) {
			const late = this.#entry(assignment)!;
			late.phase = 'never';
			this.#reject(assignment, 'no-slot');
		}
	}

	#cancel(entry: Entry | undefined, named: Named): void {
		if (!entry) return this.#disown(named);
		if (entry.phase === 'running') entry.stopping = true;
		else if (entry.phase === 'starting') {
			// A stop that comes before the start starts nothing.
			this.#end(entry, cancelled);
			this.#tell(entry);
		} else if (entry.phase === 'never') this.#reject(entry.assignment, 'not-started');
		else this.#tell(entry);
	}

	#revoke(entry: Entry | undefined, named: Named): void {
		if (!entry) return this.#disown(named);
		if (entry.phase === 'starting') entry.phase = 'never';
		if (entry.phase === 'never') this.#reject(entry.assignment, 'not-started');
		else this.#tell(entry);
	}

	/** Not held here: promised never to start, and said. */
	#disown(named: Named): void {
		const assignment = named as JobAssignment;
		this.entries.set(keyOf(named), {
			assignment,
			phase: 'never',
			starts: 0,
			stopping: false,
			kept: false,
			result: undefined,
		});
		this.#reject(assignment, 'not-started');
	}

	#taken({ job_id, epoch }: ResultAck): void {
		const entry = this.entries.get(`${job_id}/${epoch}`);
		if (entry?.phase === 'ended') entry.phase = 'over';
	}

	#end(entry: Entry, how: Parameters<typeof resultOf>[1]): void {
		entry.phase = 'ended';
		entry.result = resultOf(entry.assignment, how);
	}

	#tell({ phase, assignment, result, kept }: Entry): void {
		if (kept) return;
		if (phase === 'running') this.#session?.accepted({ ...ref(assignment), started_at: '' });
		if (phase === 'ended') this.#session?.result(result!);
	}

	#reject(
		assignment: JobAssignment,
		reason: 'not-started' | 'paused' | 'no-slot',
		permanent = false,
	): void {
		this.#session?.rejected({ ...ref(assignment), reason, message: '', permanent });
	}

	#entry(named: Pick<Named, 'job_id' | 'epoch'>): Entry | undefined {
		return this.entries.get(keyOf(named));
	}
}

type Named = ReturnType<typeof ref>;

function keyOf({ job_id, epoch }: Pick<Named, 'job_id' | 'epoch'>): string {
	return `${job_id}/${epoch}`;
}

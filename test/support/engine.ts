/** A real engine on a real SQLite store in this thread, with robots that are played by the test. */
import type {
	Control,
	FileInfo,
	FileKept,
	FileRefused,
	FileWant,
	HeldAttempt,
	Hello,
	InputMessage,
	JobAssignment,
	JobResultMessage,
	JobState,
	OutputAck,
	Resize,
	ResultAck,
	Submit,
	SubmitAnswer,
	WireResult,
} from '../../protocol';
import { limits, Problem, scopes } from '../../protocol';
import type { FileFrame } from '../../protocol/frames';
import type { FileShelf } from '../../dispatcher/store/shelf';
import type { FileLimits } from '../../dispatcher/engine/kept-files';
import type { Caller, Engine, RobotSession } from '../../dispatcher/engine';
import { createEngine } from '../../dispatcher/engine/create';
import type { RetentionSettings, Settings } from '../../dispatcher/engine/context';
import type { Disk } from '../../dispatcher/engine/intake';
import type { Callbacks } from '../../dispatcher/engine/waits';
import { openStore } from '../../dispatcher/store/open';
import { FakeClock, settled } from './fake-clock';
import { MortalStore } from './mortal-store';

export const admin: Caller = { keyId: 'k', name: 'test', scopes };

const ampleDisk: Disk = {
	freeBytes: () => 1e12,
	storeBytes: () => 0,
	reserve: { held: true, bytes: 1_000, hold: () => true },
};

const dayMs = 86_400_000;

const silent = { debug() {}, info() {}, warn() {}, error() {} };

export interface House {
	engine: Engine;
	store: MortalStore;
	clock: FakeClock;
	/** What the engine warned of. */
	warnings: { text: string; facts?: object }[];
	/** The engine dies as by kill -9 and comes back from what it had committed. */
	restart(): Promise<void>;
	robot(name: string, options?: Partial<Hello>): Promise<PlayedRobot>;
	/** The id of a new robot, not yet connected. */
	enrol(name: string): Promise<string>;
	submit(job?: Partial<Submit>): Promise<string>;
	state(jobId: string): Promise<JobState>;
	/** The states the job went through. */
	path(jobId: string): Promise<string>;
	/** How its attempts ended; null = it lives. */
	outcomes(jobId: string): Promise<(string | null)[]>;
	close(): Promise<void>;
}

export interface HouseOptions {
	/** Default: in memory, where it outlives the engine too. */
	file?: string;
	callbacks?: Callbacks;
	chance?: () => number;
	acceptGatherMs?: number;
	disk?: Disk;
	clock?: FakeClock;
	retention?: Partial<RetentionSettings>;
	settings?: Partial<Settings>;
	shelf?: FileShelf;
	fileLimits?: FileLimits;
	/** Output kept of one job. */
	maxOutputBytes?: number;
	maxWaitingJobs?: number;
	maxWaitingBytes?: number;
}

export async function house(options: HouseOptions = {}): Promise<House> {
	const clock = options.clock ?? new FakeClock();
	const { file = ':memory:', maxOutputBytes } = options;
	const openNear = () => openStore({ file, ...(maxOutputBytes && { maxOutputBytes }) });
	const warnings: House['warnings'] = [];
	let near = await openNear();
	let lives = 0;
	const open = async () => {
		const store = new MortalStore(near, near.term + lives);
		const engine = await createEngine({
			store,
			clock,
			chance: options.chance ?? (() => 0.5),
			log: { ...silent, warn: (text, facts) => void warnings.push({ text, facts }) },
			settings: {
				defaultJobTimeoutMs: 3_600_000,
				acceptGatherMs: options.acceptGatherMs ?? 0,
				sweepMs: 1_000,
				maxWaitingJobs: options.maxWaitingJobs ?? limits.maxWaitingJobs,
				maxWaitingBytes: options.maxWaitingBytes ?? limits.maxWaitingBytes,
				recoveryGraceMs: 90_000,
				minFreeBytes: 1_000,
				retention: {
					jobsMs: 30 * dayMs,
					maxJobs: 1_000_000,
					occurrencesMs: 90 * dayMs,
					eventsMs: 30 * dayMs,
					...options.retention,
				},
				keepOutputMs: 7 * 86_400_000,
				keepOutputBytes: 10 * 2 ** 30,
				...options.settings,
			},
			disk: options.disk ?? ampleDisk,
			shelf: options.shelf,
			fileLimits: options.fileLimits,
			callbacks: options.callbacks ?? {
				check: () => undefined,
				post: async () => ({ status: 200, body: { resumed: true } }),
			},
			fatal: (error) => {
				if (!store.isDead) throw error;
			},
		});
		return { store, engine };
	};
	let { store, engine } = await open();
	const enrol = async (name: string) => {
		const { token } = await engine.createToken({}, admin);
		return (await engine.enrol(token, `key of ${name}`, name)).robotId;
	};
	return {
		clock,
		warnings,
		enrol,
		get engine() {
			return engine;
		},
		get store() {
			return store;
		},
		async restart() {
			store.die();
			if (file === ':memory:') lives += 1;
			else {
				await near.close();
				near = await openNear();
			}
			({ store, engine } = await open());
			await settled();
		},
		async robot(name, hello = {}) {
			const robot = new PlayedRobot(() => engine, await enrol(name), hello);
			await robot.connect();
			return robot;
		},
		async submit(job = {}) {
			const [answer] = await engine.submit(
				[{ kind: 'command', spec: { command: 'true' }, ...job }],
				admin,
			);
			if (answer instanceof Problem) throw answer;
			return (answer as SubmitAnswer).jobId;
		},
		state: async (jobId) => (await engine.job(jobId)).state,
		path: async (jobId) => (await engine.timeline(jobId)).map(({ to }) => to).join(' '),
		outcomes: async (jobId) => (await engine.attempts(jobId)).map(({ outcome }) => outcome),
		async close() {
			await engine.stop();
			await store.close();
		},
	};
}

/** Sockets opened so far, all robots together. */
let sockets = 0;

/** A robot whose every move the test makes. */
export class PlayedRobot {
	readonly robotId: string;
	readonly assigned: JobAssignment[] = [];
	readonly cancels: { jobId: string; reason: string }[] = [];
	readonly revokes: string[] = [];
	readonly acks: ResultAck[] = [];
	readonly outputAcks: OutputAck[] = [];
	readonly credits: number[] = [];
	takesInput = true;
	readonly inputs: InputMessage[] = [];
	readonly resizes: Resize[] = [];
	/** What was said and sent of files, in order. */
	readonly files: {
		info?: FileInfo;
		want?: FileWant;
		kept?: FileKept;
		refused?: FileRefused;
		bytes?: FileFrame;
	}[] = [];
	/** What it was told to do, and how each is named in an answer. */
	readonly orders: (Control & { id: string })[] = [];
	readonly refusals: Problem[] = [];
	closedWith: number | undefined;
	/** Pings; false = it is gone, and the service does not know it yet. */
	answers = true;
	session!: RobotSession;
	readonly #engine: () => Engine;
	readonly #hello: Partial<Hello>;

	constructor(engine: () => Engine, robotId: string, hello: Partial<Hello>) {
		this.#engine = engine;
		this.robotId = robotId;
		this.#hello = hello;
	}

	/** The same robot, for another life of the service. */
	reconnectable(engine: () => Engine): PlayedRobot {
		return new PlayedRobot(engine, this.robotId, this.#hello);
	}

	connect(hello: Partial<Hello> = {}): Promise<RobotSession> {
		return this.dial()(hello);
	}

	/** Opens a socket; the hello on it is said when the test says so. */
	dial(): (hello?: Partial<Hello>) => Promise<RobotSession> {
		const socket = (sockets += 1);
		return async (hello = {}) => {
			const session = await this.#engine().connect(
				{
					robot_id: this.robotId,
					protocol: 1,
					features: [],
					version: '0.0.0',
					journal_id: 'journal',
					boot_id: 'boot',
					signature: '',
					slots: 1,
					labels: {},
					capabilities: [],
					info: {},
					attempts: [],
					...this.#hello,
					...hello,
				},
				{
					assign: (assignment) => void this.assigned.push(assignment),
					cancel: ({ job_id: jobId, reason }) => void this.cancels.push({ jobId, reason }),
					revoke: ({ job_id }) => void this.revokes.push(job_id),
					resultAck: (ack) => void this.acks.push(ack),
					outputAck: (ack) => void this.outputAcks.push(ack),
					outputCredit: ({ window }) => void this.credits.push(window),
					transport: 'websocket',
					takesInput: this.takesInput,
					input: (input) => void this.inputs.push(input),
					resize: (resize) => void this.resizes.push(resize),
					fileInfo: (info) => void this.files.push({ info }),
					fileWant: (want) => void this.files.push({ want }),
					fileKept: (kept) => void this.files.push({ kept }),
					fileRefused: (refused) => void this.files.push({ refused }),
					fileBytes: async (bytes) => void this.files.push({ bytes }),
					control: (order) => {
						const id = `order-${this.orders.length + 1}`;
						this.orders.push({ ...order, id });
						return id;
					},
					refuse: (problem) => void this.refusals.push(problem),
					ping: (then) => {
						if (this.answers) then();
					},
					close: (code) => {
						this.closedWith = code;
						session?.closed();
					},
				},
				socket,
			);
			this.session = session;
			await settled();
			return session;
		};
	}

	get last(): JobAssignment {
		const last = this.assigned.at(-1);
		if (!last) throw new Error('nothing was assigned to this robot');
		return last;
	}

	async accept(job = this.last): Promise<void> {
		this.session.accepted({ ...ref(job), started_at: '' });
		await settled();
	}

	async reject(
		reason: 'not-started' | 'paused' | 'unsupported-kind',
		permanent = false,
		job = this.last,
	): Promise<void> {
		this.session.rejected({ ...ref(job), reason, message: '', permanent });
		await settled();
	}

	/** Ends the job; by default with exit code 0. */
	async end(
		ending: Partial<Omit<JobResultMessage, 'result'>> & { result?: Partial<WireResult> } = {},
		job = this.last,
	): Promise<void> {
		this.session.result(resultOf(job, ending));
		await settled();
	}

	async vanish(): Promise<void> {
		this.session.closed();
		await settled();
	}
}

export function ref(job: JobAssignment) {
	const { job_id, attempt, epoch, token } = job;
	return { job_id, attempt, epoch, token };
}

/** How a robot names it in a hello. */
export function heldAs(
	state: HeldAttempt['state'],
	job: JobAssignment,
	output = { stdout: 0, stderr: 0 },
): HeldAttempt {
	return { ...ref(job), state, output };
}

export function resultOf(
	job: JobAssignment,
	ending: Partial<Omit<JobResultMessage, 'result'>> & { result?: Partial<WireResult> } = {},
): JobResultMessage {
	return {
		...ref(job),
		state: 'completed',
		cause: null,
		output: { stdout: 0, stderr: 0 },
		...ending,
		result: {
			exit_code: 0,
			signal: null,
			stdout: '',
			stderr: '',
			truncated: false,
			outputs: {},
			duration_ms: 1,
			error: null,
			process_gone: true,
			...ending.result,
		},
	};
}

export const exit = (code: number) =>
	({ state: 'failed', cause: 'exit_code', result: { exit_code: code } }) as const;

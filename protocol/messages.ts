/**
 * What hub and robot say to each other over one WebSocket. JSON text frames carry an envelope;
 * output travels in binary frames (frames.ts). The seven messages of the seed keep their names
 * and, like all others here, speak snake_case with ISO-8601 instants.
 *
 * The opening: socket opens → hub `connected` (nonce) → robot `hello` (signature, what it holds) → hub
 * `robot_registered` (a verdict for every attempt held). Nothing else may be said before that.
 *
 * Every message of a robot about an attempt names job, attempt, epoch and token, and is ignored if the
 * attempt is over.
 *
 * Output is stored before it is acknowledged, and a robot keeps it until `result_ack` says `complete`: only
 * then has the stored output been compared with its digests. Bytes that differ are asked for again by an
 * `output_ack` that goes back.
 *
 * Input is addressed by byte offset too: the robot takes only what begins where the last piece ended, and reports
 * how far that is on every new line (`input_ack`). So a piece that is repeated after a cut is typed once. Input is
 * exchanged only when both sides have the feature `input`.
 *
 * Files travel by byte offset in binary frames, both ways (feature `files`). Files that the job brings along are pulled by the robot,
 * a window at a time: `file_read` → `file_info`, then frames. Files that it collects are offered by the robot: `file_offer` →
 * `file_want {have}` → frames, each acknowledged by another `file_want` → `file_kept`, or `file_refused`. After a cut the
 * robot reads or offers again and continues from what is there. `transfer` is the robot's number for one file of one attempt.
 */
import type { WireCaps } from './caps';
import type { OutputLengths, Stream } from './output';

import type { ProtocolRange } from './version';
import type { WireWatch } from './watch';

export interface Envelope<T extends string = string, P = unknown> {
	type: T;
	id: string;
	/** ISO-8601; wall time, for people. */
	timestamp: string;
	payload: P;
	/** Id of the message this one answers. */
	correlation_id?: string;
}

/** Names one attempt. `epoch` never repeats; `token` is random and known to hub and robot only. */
export interface AttemptRef {
	job_id: string;
	attempt: number;
	epoch: number;
	token: string;
}

export interface Connected {
	hub_id: string;
	protocol: ProtocolRange;
	/** What this hub can do; absent before version 2. */
	features?: string[];
	/** To be signed: see `helloProof`. base64url. */
	nonce: string;
	/** Only where the hub has dialled. */
	dialled?: Dialled;
}

/**
 * A hub that dials a robot says which robot it means, and proves who it is itself: the robot, which answered the upgrade
 * with a nonce of its own (header `nonceHeader`), trusts one key and says nothing until this checks out.
 */
export interface Dialled {
	robot_id: string;
	name: string;
	/** Ed25519, SPKI, base64url of the DER. */
	hub_key: string;
	/** Over `dialProof(…)`, base64url. */
	signature: string;
}

export const nonceHeader = 'robot-fleet-nonce';

/** One attempt the robot still knows of. */
export interface HeldAttempt extends AttemptRef {
	state: 'accepted' | 'running' | 'ended';
	/** Bytes produced so far, kept or not. */
	output: OutputLengths;
}

export interface Hello {
	robot_id: string;
	/** The version the robot wants to speak, chosen from the hub's range. */
	protocol: number;
	/** All it could speak; absent before version 2. */
	protocol_range?: ProtocolRange;
	features: string[];
	version: string;
	/** Made with the journal; a different one means the robot has lost its memory. */
	journal_id: string;
	/** Made at each start of the agent. */
	boot_id: string;
	/** Names the machine and reveals nothing about it; absent where a machine has no name. */
	machine_id?: string;
	/** Ed25519 over `helloProof(…)`, base64url. */
	signature: string;
	/** Sent to a hub that has dialled, which knows only its fingerprint: Ed25519, SPKI, base64url of the DER. */
	public_key?: string;
	slots: number;
	/** Names of its clients; absent = it has none. Both sides speak of them with the feature `clients`. */
	clients?: string[];
	labels: Record<string, string>;
	capabilities: string[];
	info: Record<string, unknown>;
	attempts: HeldAttempt[];
}

/** The bytes a robot signs to prove its key: bound to this hub, this robot and this connection. */
export function helloProof(hubId: string, robotId: string, nonce: string): string {
	return `robot-fleet hello v1\n${hubId}\n${robotId}\n${nonce}`;
}

/**
 * The bytes a hub signs to prove itself to a robot that it has dialled: valid for this robot, this connection, and
 * the way it was dialled. A proof given in plain is useless to somebody who passes it on over TLS.
 */
export function dialProof(
	hubId: string,
	robotId: string,
	robotFingerprint: string,
	nonce: string,
	over: 'tls' | 'plain',
): string {
	return `robot-fleet dial v1\n${hubId}\n${robotId}\n${robotFingerprint}\n${nonce}\n${over}`;
}

/** The bytes a robot signs when it enrolls: proves that it holds the key it registers. */
export function enrolProof(token: string, publicKey: string): string {
	return `robot-fleet enrol v1\n${token}\n${publicKey}`;
}

/**
 * - `continue`     it is yours, go on (and send output from `output`)
 * - `send_result`  it is yours, I wait for the result
 * - `kill`         it is over; stop it, then report
 * - `forget`       I have all of it
 * - `hold`         unknown here: keep it running, keep the result
 */
export type VerdictAct = 'continue' | 'send_result' | 'kill' | 'forget' | 'hold';

export interface Verdict {
	job_id: string;
	epoch: number;
	act: VerdictAct;
	/** Bytes stored at the hub; the robot sends from there. */
	output: OutputLengths;
}

export interface RobotRegistered {
	robot_id: string;
	name: string;
	hub_id: string;
	/** The version both speak from here on. */
	protocol: number;
	/** What both can do; absent before version 2. */
	features?: string[];
	/** Seconds. */
	heartbeat_interval: number;
	limits: {
		max_output_frame: number;
		max_control_frame: number;
		/** See `output_credit`. */
		output_window: number;
	};
	verdicts: Verdict[];
}

export interface Heartbeat {
	status?: string;
	active_jobs?: string[];
	cpu_percent?: number;
	memory_percent?: number;
	disk_percent?: number;
	/** From the last heartbeat to the hub's answer. */
	round_trip_ms?: number;
	/** Share of the time since the last heartbeat in which the agent itself was busy. */
	agent_busy_percent?: number;
	/** True = jobs do not outlive the agent, because it cannot start a keeper. */
	keeper_missing?: boolean;
}

export interface JobAssignment extends AttemptRef {
	kind: string;
	spec: unknown;
	variables: Record<string, unknown>;
	/** The client of the robot that does it. A robot with clients that is told none takes any free one. */
	client?: string;
	timeouts: {
		/** Milliseconds; absent = no limit. */
		run_ms?: number;
		silence_ms?: number;
		/** How long an open prompt waits for its answer. */
		input_ms?: number;
		grace_ms: number;
	};
	on_disconnect: 'continue' | 'stop';
	/** Absent = report. */
	on_hang?: 'report' | 'stop';
	/** What is normal for it; absent = as the class of its command says. */
	watch?: WireWatch;
	/** What it may use; absent = no such limit. */
	caps?: WireCaps;
}

export interface JobAccepted extends AttemptRef {
	started_at: string;
}

/** `not-started` answers a revoke; the other reasons are refusals. */
export interface JobRejected extends AttemptRef {
	reason:
		'not-started' | 'paused' | 'no-slot' | 'unsupported-kind' | 'invalid' | 'policy' | 'stopping';
	message: string;
	/** True = never ask this robot again for this job. */
	permanent: boolean;
}

/** The remainder of a stream that was not sent in frames, addressed like them. */
export interface InlineOutput {
	offset: number;
	data_b64: string;
}

export interface WireCollectedFile {
	path: string;
	bytes: number;
	sha256: string | null;
	file_id?: string;
	error?: string;
}

export interface WireResult {
	exit_code: number | null;
	signal: string | null;
	stdout: string;
	stderr: string;
	truncated: boolean;
	outputs: Record<string, unknown>;
	duration_ms: number;
	error: { type: string; message: string } | null;
	process_gone: boolean;
	/** What the agent has to report about the run; absent = nothing. */
	logs?: string[];
	/** What the job collects; absent = nothing was asked for. */
	files?: WireCollectedFile[];
}

export interface JobResultMessage extends AttemptRef {
	state: 'completed' | 'failed' | 'timeout' | 'cancelled';
	cause: string | null;
	result: WireResult;
	/** Whole length of each stream as it was produced, in bytes. */
	output: OutputLengths;
	/** The parts of it that the robot does not have. */
	holes?: Partial<Record<Stream, WireHole[]>>;
	/** SHA-256 of what lies between the holes, hex; only for streams that are not empty. */
	sha256?: Partial<Record<Stream, string>>;
	inline?: Partial<Record<Stream, InlineOutput>>;
}

/** As `Hole`; a robot of a newer version may know further reasons. */
export interface WireHole {
	from: number;
	to: number;
	reason: string;
}

export interface ResultAck {
	job_id: string;
	epoch: number;
	/** Bytes stored; while that is less than the announced length, the robot sends the rest. */
	output: OutputLengths;
	/** All of it is stored and equals what the robot delivered: it may forget the attempt. */
	complete: boolean;
}

export interface OutputAck {
	job_id: string;
	epoch: number;
	stream: Stream;
	/** Bytes stored; the next frame must start here. Less than before = send again from there. */
	have: number;
}

/**
 * How much output of all attempts of the robot together may be under way, unacknowledged. 0 = send none;
 * what comes anyway is thrown away. After a 0 the robot resumes from what was acknowledged.
 */
export interface OutputCredit {
	window: number;
}

export interface CancelJob extends AttemptRef {
	/** `cancelled` = a person; `run_timeout`, `deadline` = a limit; `over` = the attempt has ended elsewhere. */
	reason: 'cancelled' | 'run_timeout' | 'silence_timeout' | 'deadline' | 'over';
	grace_ms: number;
}

/**
 * "Do not start it, if you have not." Names the whole attempt, so that a robot which never saw the
 * assignment can answer `not-started` for it.
 */
export type Revoke = AttemptRef;

export interface StatusUpdate extends AttemptRef {
	progress?: number;
	message?: string;
	/** Sent when it changes. */
	health?: AttemptHealth;
}

/** How an attempt looks from outside: what it prints, and what its whole process tree uses. */
export interface AttemptHealth {
	state: 'starting' | 'healthy' | 'idle' | 'hanging' | 'waiting_for_input' | 'error_loop';
	/** Of one processor; null where it cannot be measured. */
	cpu_percent: number | null;
	memory_bytes: number | null;
	processes: number | null;
	/** Since the last output, or the start. */
	quiet_ms: number;
	output_bytes: number;
	/** The class of its command, where the name tells. */
	command_class?: string;
	/** Silent or running for longer than is normal for commands of its class. */
	overdue?: 'no_output' | 'total';
}

/** To be typed into the program, after the bytes that were typed before. */
export interface InputMessage extends AttemptRef {
	/** Of the first byte; taken only if it equals what the robot has. */
	offset: number;
	data_b64: string;
	/** Nothing comes after these bytes. */
	eof?: boolean;
}

/** How much input was taken; sent when the program can be typed into, after each piece, and on every new line. */
export interface InputAck extends AttemptRef {
	have: number;
	/** `ended` = closed as asked; `closed` = the program reads no more. */
	state: 'open' | 'ended' | 'closed';
	/** The program has a real terminal; else plain pipes. */
	terminal: boolean;
}

/** The window of the person watching. Without a terminal it means nothing. */
export interface Resize extends AttemptRef {
	cols: number;
	rows: number;
}

export interface WirePrompt {
	kind: 'password' | 'confirmation' | 'question';
	/** The unfinished line after which the program waits. */
	text: string;
	/** The answer looks like a secret: do not show it. */
	hidden: boolean;
	/** ISO-8601, by the robot's clock. */
	asked_at: string;
	/** Where in the input the answer begins. */
	offset: number;
}

/** The program seems to wait for an answer, or (null) no longer does. Repeated on every new line. */
export interface PromptMessage extends AttemptRef {
	prompt: WirePrompt | null;
}

/** Asks for bytes of a file that the spec of the attempt names; `length` 0 = only for its `file_info`. */
export interface FileRead extends AttemptRef {
	transfer: number;
	file_id: string;
	from: number;
	length: number;
}

export interface FileInfo {
	job_id: string;
	epoch: number;
	transfer: number;
	bytes: number;
	sha256: string;
}

/** Offers a file that the attempt collected. The same path with the same digest, offered twice, is one file. */
export interface FileOffer extends AttemptRef {
	transfer: number;
	/** Its path in the workspace. */
	path: string;
	bytes: number;
	sha256: string;
	/** Permissions, 0 to 0o777. */
	mode: number;
}

/** Answers an offer, and acknowledges what arrived. */
export interface FileWant {
	job_id: string;
	epoch: number;
	transfer: number;
	/** Bytes that the hub has. */
	have: number;
	/** What was sent beyond these was not taken: start again from there. True in the answer to an offer. */
	again?: boolean;
}

/** The file is whole, on disk, and has its id. */
export interface FileKept {
	job_id: string;
	epoch: number;
	transfer: number;
	file_id: string;
}

/** It can be neither read nor kept, for this reason; `retry` = perhaps later. */
export interface FileRefused {
	job_id: string;
	epoch: number;
	transfer: number;
	code: string;
	text: string;
	retry: boolean;
}

export interface Control {
	action: 'ping' | 'pong' | 'pause' | 'resume' | 'shutdown' | 'refresh' | 'note' | 'goodbye';
	text?: string;
	/** With a hub's `goodbye`: come back at a random moment within this time. */
	reconnect_within_ms?: number;
	/** With a hub's `shutdown`: do not wait for what runs. */
	at_once?: boolean;
}

/** What a robot found out about its machine since `hello`; needs the feature `facts`. */
export interface Facts {
	capabilities: string[];
	info: Record<string, unknown>;
}

export interface ErrorMessage {
	code: string;
	text: string;
	retry: boolean;
	details: Record<string, unknown>;
}

export interface HubMessages {
	connected: Connected;
	robot_registered: RobotRegistered;
	heartbeat: Heartbeat;
	job_assignment: JobAssignment;
	cancel_job: CancelJob;
	revoke: Revoke;
	result_ack: ResultAck;
	output_ack: OutputAck;
	output_credit: OutputCredit;
	input: InputMessage;
	resize: Resize;
	file_info: FileInfo;
	file_want: FileWant;
	file_kept: FileKept;
	file_refused: FileRefused;
	control: Control;
	error: ErrorMessage;
}

export interface RobotMessages {
	hello: Hello;
	heartbeat: Heartbeat;
	job_accepted: JobAccepted;
	job_rejected: JobRejected;
	job_result: JobResultMessage;
	status_update: StatusUpdate;
	input_ack: InputAck;
	prompt: PromptMessage;
	facts: Facts;
	file_read: FileRead;
	file_offer: FileOffer;
	control: Control;
	error: ErrorMessage;
}

/** Close codes of the robots' socket. For each the agent tells its owner what to do; only `badKey` ends it. */
export const closeCodes = {
	badKey: 4001,
	badMachine: 4002,
	notYours: 4003,
	tooMany: 4004,
	badProtocol: 4005,
	goodbye: 1001,
} as const;

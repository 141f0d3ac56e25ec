/**
 * Reads what the service says. Whatever arrives, the answer is a message of a known shape or a
 * reason why not; nothing is cast on trust and nothing throws. Written by hand, not with schemas,
 * so that a robot is connected before the schema library would be loaded.
 */
import type { AttemptRef, HubMessages, JobAssignment } from '../protocol';

export type HubMessage = {
	[T in keyof HubMessages]: { type: T; id: string; payload: HubMessages[T] };
}[keyof HubMessages];

export type Heard =
	| { ok: true; message: HubMessage }
	| {
			ok: false;
			code: 'bad-message' | 'unknown-message';
			/** Id of the message, to answer it. */
			id: string | undefined;
			type: string | undefined;
			reason: string;
	  };

type Is = (value: unknown) => boolean;

const isSwitch: Is = (value) => typeof value === 'boolean';
const isText: Is = (value) => typeof value === 'string' && value.length <= 4_096;
const isCount: Is = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
/** Of a window, in characters. */
const isSide: Is = (value) =>
	isCount(value) && (value as number) >= 1 && (value as number) <= 4_096;
const isDuration: Is = (value) => typeof value === 'number' && value >= 0 && value < 1e15;
/** Becomes a file name and 16 bytes of a frame, so nothing but a UUID will do. */
const isJobId: Is = (value) =>
	typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
const oneOf =
	(...known: string[]): Is =>
	(value) =>
		known.includes(value as string);
const optional =
	(is: Is): Is =>
	(value) =>
		value === undefined || value === null || is(value);
const shape =
	(fields: Record<string, Is>): Is =>
	(value) =>
		firstWrong(fields, value) === undefined;
const listOf =
	(is: Is): Is =>
	(value) =>
		Array.isArray(value) && value.every(is);

const isRecord: Is = (value) =>
	typeof value === 'object' && value !== null && !Array.isArray(value);
const isLengths = shape({ stdout: isCount, stderr: isCount });

const attempt = { job_id: isJobId, epoch: isCount };

/** Fields we rely on; more may be there. */
const shapes: Record<keyof HubMessages, Record<string, Is>> = {
	connected: {
		hub_id: isText,
		protocol: shape({ min: isCount, max: isCount }),
		nonce: isText,
		features: optional(listOf(isText)),
		dialled: optional(
			shape({ robot_id: isText, name: isText, hub_key: isText, signature: isText }),
		),
	},
	robot_registered: {
		robot_id: isText,
		name: isText,
		hub_id: isText,
		protocol: isCount,
		features: optional(listOf(isText)),
		heartbeat_interval: (value) => isDuration(value) && (value as number) > 0,
		limits: shape({
			max_output_frame: isCount,
			max_control_frame: isCount,
			output_window: isCount,
		}),
		verdicts: listOf(
			shape({
				...attempt,
				act: oneOf('continue', 'send_result', 'kill', 'forget', 'hold'),
				output: isLengths,
			}),
		),
	},
	heartbeat: {},
	// `wrongIn` checks the rest of it, so that a job that is wrong can be refused by name.
	job_assignment: { ...attempt, attempt: isCount, token: isText },
	cancel_job: {
		...attempt,
		attempt: isCount,
		token: isText,
		reason: oneOf('cancelled', 'run_timeout', 'silence_timeout', 'deadline', 'over'),
		grace_ms: isDuration,
	},
	revoke: { ...attempt, attempt: isCount, token: isText },
	result_ack: {
		...attempt,
		output: isLengths,
		complete: isSwitch,
	},
	output_ack: { ...attempt, stream: oneOf('stdout', 'stderr'), have: isCount },
	output_credit: { window: isCount },
	input: {
		...attempt,
		attempt: isCount,
		token: isText,
		offset: isCount,
		data_b64: (value) => typeof value === 'string',
		eof: optional((value) => typeof value === 'boolean'),
	},
	resize: { ...attempt, attempt: isCount, token: isText, cols: isSide, rows: isSide },
	file_info: { ...attempt, transfer: isCount, bytes: isCount, sha256: isText },
	file_want: { ...attempt, transfer: isCount, have: isCount, again: optional(isSwitch) },
	file_kept: { ...attempt, transfer: isCount, file_id: isText },
	file_refused: { ...attempt, transfer: isCount, code: isText, text: isText, retry: isSwitch },
	control: {
		action: isText,
		reconnect_within_ms: optional(isDuration),
		at_once: optional(isSwitch),
	},
	error: { code: isText, text: isText },
};

const assignmentShape: Record<keyof Omit<JobAssignment, keyof AttemptRef | 'spec'>, Is> = {
	kind: isText,
	variables: (value) =>
		isRecord(value) &&
		Object.values(value as object).every(
			(held) => held === null || ['string', 'number', 'boolean'].includes(typeof held),
		),
	timeouts: shape({
		run_ms: optional(isDuration),
		silence_ms: optional(isDuration),
		input_ms: optional(isDuration),
		grace_ms: isDuration,
	}),
	client: optional((value) => typeof value === 'string' && value.length <= 256),
	on_disconnect: oneOf('continue', 'stop'),
	caps: optional(
		(value) => isRecord(value) && Object.values(value as object).every((cap) => isCount(cap)),
	),
	on_hang: optional(oneOf('report', 'stop')),
	watch: optional(
		shape({
			class: optional(isText),
			no_output_ms: optional(isDuration),
			total_ms: optional(isDuration),
			idle_ms: optional(isDuration),
		}),
	),
};

export function readHubMessage(text: string): Heard {
	let envelope: unknown;
	try {
		envelope = JSON.parse(text);
	} catch {
		return wrong(undefined, undefined, 'it is not JSON');
	}
	if (!isRecord(envelope)) return wrong(undefined, undefined, 'it is not an object');
	const { type, id, payload } = envelope as Record<string, unknown>;
	const name = typeof type === 'string' ? type : undefined;
	const answers = typeof id === 'string' && id.length <= 256 ? id : undefined;
	if (name === undefined) return wrong(answers, name, '"type" is missing');
	if (!Object.hasOwn(shapes, name)) {
		return {
			ok: false,
			code: 'unknown-message',
			id: answers,
			type: name.slice(0, 100),
			reason: `no message type is called "${name.slice(0, 100)}"`,
		};
	}
	const known = name as keyof HubMessages;
	if (!isRecord(payload)) return wrong(answers, known, '"payload" is not an object');
	const field = firstWrong(shapes[known], payload);
	if (field !== undefined) return wrong(answers, known, `payload.${field} is missing or wrong`);
	return { ok: true, message: { type: known, id: answers ?? '', payload } as HubMessage };
}

/** What is wrong with an assignment whose attempt can be named; `undefined` = nothing. */
export function wrongIn(assignment: JobAssignment): string | undefined {
	const field = firstWrong(assignmentShape, assignment);
	return field === undefined ? undefined : `${field} is missing or wrong`;
}

function firstWrong(fields: Record<string, Is>, value: unknown): string | undefined {
	if (!isRecord(value)) return 'it';
	return Object.keys(fields).find((name) => !fields[name]!((value as never)[name]));
}

function wrong(id: string | undefined, type: string | undefined, reason: string): Heard {
	return { ok: false, code: 'bad-message', id, type, reason };
}

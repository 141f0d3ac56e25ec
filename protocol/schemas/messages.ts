/**
 * What a robot may say. Tolerant where it costs nothing: a field we do not know comes from a newer
 * agent and is ignored. What we read is checked: the first old agent in the field must not become
 * the schema.
 */
import { type Static, Type } from 'typebox';
import { limits } from '../limits';
import type {
	Control,
	Facts,
	FileOffer,
	FileRead,
	Heartbeat,
	Hello,
	InputAck,
	JobAccepted,
	JobRejected,
	JobResultMessage,
	PromptMessage,
	RobotMessages,
	StatusUpdate,
} from '../messages';
import type { Same } from './words';

const shortText = Type.String({ maxLength: limits.maxIdBytes });
const longText = Type.String({ maxLength: limits.maxCommandBytes });
const whole = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** In a stream. */
const position = Type.Integer({ minimum: 0, maximum: limits.maxStreamBytes });
const perStream = Type.Object({ stdout: position, stderr: position });

const attemptRef = {
	job_id: Type.String({ minLength: 1, maxLength: limits.maxIdBytes }),
	attempt: whole,
	epoch: whole,
	token: Type.String({ minLength: 1, maxLength: limits.maxIdBytes }),
};

export const hello = Type.Object({
	robot_id: Type.String({ minLength: 1, maxLength: limits.maxIdBytes }),
	protocol: whole,
	protocol_range: Type.Optional(Type.Object({ min: whole, max: whole })),
	features: Type.Array(shortText, { maxItems: 256 }),
	version: shortText,
	journal_id: Type.String({ minLength: 1, maxLength: limits.maxIdBytes }),
	boot_id: Type.String({ minLength: 1, maxLength: limits.maxIdBytes }),
	machine_id: Type.Optional(Type.String({ minLength: 1, maxLength: limits.maxIdBytes })),
	signature: shortText,
	public_key: Type.Optional(shortText),
	slots: Type.Integer({ minimum: 0, maximum: 10_000 }),
	clients: Type.Optional(
		Type.Array(Type.String({ minLength: 1, maxLength: limits.maxIdBytes }), {
			maxItems: limits.maxClients,
		}),
	),
	labels: Type.Record(Type.String(), shortText, { maxProperties: 256 }),
	capabilities: Type.Array(shortText, { maxItems: 256 }),
	info: Type.Record(Type.String(), Type.Unknown(), { maxProperties: 256 }),
	attempts: Type.Array(
		Type.Object({
			...attemptRef,
			state: Type.Enum(['accepted', 'running', 'ended']),
			output: perStream,
		}),
		{ maxItems: 10_000 },
	),
});
true satisfies Same<Static<typeof hello>, Hello>;

export const heartbeat = Type.Object({
	status: Type.Optional(shortText),
	active_jobs: Type.Optional(Type.Array(shortText, { maxItems: 10_000 })),
	cpu_percent: Type.Optional(Type.Number()),
	memory_percent: Type.Optional(Type.Number()),
	disk_percent: Type.Optional(Type.Number()),
	round_trip_ms: Type.Optional(Type.Number({ minimum: 0 })),
	agent_busy_percent: Type.Optional(Type.Number()),
	keeper_missing: Type.Optional(Type.Boolean()),
});
true satisfies Same<Static<typeof heartbeat>, Heartbeat>;

export const jobAccepted = Type.Object({ ...attemptRef, started_at: shortText });
true satisfies Same<Static<typeof jobAccepted>, JobAccepted>;

export const jobRejected = Type.Object({
	...attemptRef,
	reason: Type.Enum([
		'not-started',
		'paused',
		'no-slot',
		'unsupported-kind',
		'invalid',
		'policy',
		'stopping',
	]),
	message: longText,
	permanent: Type.Boolean(),
});
true satisfies Same<Static<typeof jobRejected>, JobRejected>;

const inlineOutput = Type.Optional(
	Type.Object({
		offset: position,
		data_b64: Type.String({ maxLength: limits.maxInlineResultBytes }),
	}),
);

const digest = Type.String({ pattern: '^[0-9a-f]{64}$' });
const sha256 = Type.Optional(digest);
const filePath = Type.String({ minLength: 1, maxLength: limits.maxPathBytes });
const holes = Type.Optional(
	Type.Array(Type.Object({ from: position, to: position, reason: shortText }), { maxItems: 256 }),
);

export const jobResult = Type.Object({
	...attemptRef,
	state: Type.Enum(['completed', 'failed', 'timeout', 'cancelled']),
	cause: Type.Union([shortText, Type.Null()]),
	result: Type.Object({
		exit_code: Type.Union([Type.Integer(), Type.Null()]),
		signal: Type.Union([shortText, Type.Null()]),
		stdout: Type.String(),
		stderr: Type.String(),
		truncated: Type.Boolean(),
		outputs: Type.Record(Type.String(), Type.Unknown()),
		duration_ms: Type.Number({ minimum: 0 }),
		error: Type.Union([Type.Object({ type: shortText, message: longText }), Type.Null()]),
		process_gone: Type.Boolean(),
		logs: Type.Optional(Type.Array(longText, { maxItems: 256 })),
		files: Type.Optional(
			Type.Array(
				Type.Object({
					path: filePath,
					bytes: whole,
					sha256: Type.Union([digest, Type.Null()]),
					file_id: Type.Optional(shortText),
					error: Type.Optional(Type.String({ maxLength: 1_000 })),
				}),
				// And one more, which reports those that were too many.
				{ maxItems: limits.maxCollectedFiles + limits.maxCollectPatterns + 1 },
			),
		),
	}),
	output: perStream,
	holes: Type.Optional(Type.Object({ stdout: holes, stderr: holes })),
	sha256: Type.Optional(Type.Object({ stdout: sha256, stderr: sha256 })),
	inline: Type.Optional(Type.Object({ stdout: inlineOutput, stderr: inlineOutput })),
});
true satisfies Same<Static<typeof jobResult>, JobResultMessage>;

export const statusUpdate = Type.Object({
	...attemptRef,
	progress: Type.Optional(Type.Number({ minimum: 0, maximum: 100 })),
	message: Type.Optional(longText),
	health: Type.Optional(
		Type.Object({
			state: Type.Enum([
				'starting',
				'healthy',
				'idle',
				'hanging',
				'waiting_for_input',
				'error_loop',
			]),
			cpu_percent: Type.Union([Type.Number(), Type.Null()]),
			memory_bytes: Type.Union([whole, Type.Null()]),
			processes: Type.Union([whole, Type.Null()]),
			quiet_ms: whole,
			output_bytes: whole,
			command_class: Type.Optional(shortText),
			overdue: Type.Optional(Type.Enum(['no_output', 'total'])),
		}),
	),
});
true satisfies Same<Static<typeof statusUpdate>, StatusUpdate>;

export const inputAck = Type.Object({
	...attemptRef,
	have: whole,
	state: Type.Enum(['open', 'ended', 'closed']),
	terminal: Type.Boolean(),
});
true satisfies Same<Static<typeof inputAck>, InputAck>;

export const prompt = Type.Object({
	...attemptRef,
	prompt: Type.Union([
		Type.Object({
			kind: Type.Enum(['password', 'confirmation', 'question']),
			text: Type.String({ maxLength: 1024 }),
			hidden: Type.Boolean(),
			asked_at: shortText,
			offset: whole,
		}),
		Type.Null(),
	]),
});
true satisfies Same<Static<typeof prompt>, PromptMessage>;

export const control = Type.Object({
	action: Type.Enum(['ping', 'pong', 'pause', 'resume', 'shutdown', 'refresh', 'note', 'goodbye']),
	text: Type.Optional(longText),
	reconnect_within_ms: Type.Optional(whole),
	at_once: Type.Optional(Type.Boolean()),
});
true satisfies Same<Static<typeof control>, Control>;

export const facts = Type.Object({
	capabilities: hello.properties.capabilities,
	info: hello.properties.info,
});
true satisfies Same<Static<typeof facts>, Facts>;

const transfer = Type.Integer({ minimum: 0, maximum: 0xffff_ffff });

export const fileRead = Type.Object({
	...attemptRef,
	transfer,
	file_id: Type.String({ minLength: 1, maxLength: limits.maxIdBytes }),
	from: whole,
	length: Type.Integer({ minimum: 0, maximum: limits.fileWindowBytes }),
});
true satisfies Same<Static<typeof fileRead>, FileRead>;

export const fileOffer = Type.Object({
	...attemptRef,
	transfer,
	path: filePath,
	bytes: whole,
	sha256: digest,
	mode: Type.Integer({ minimum: 0, maximum: 0o777 }),
});
true satisfies Same<Static<typeof fileOffer>, FileOffer>;

export const robotError = Type.Object({
	code: shortText,
	text: longText,
	retry: Type.Boolean(),
	details: Type.Record(Type.String(), Type.Unknown()),
});

export const robotMessages = {
	hello,
	heartbeat,
	job_accepted: jobAccepted,
	job_rejected: jobRejected,
	job_result: jobResult,
	status_update: statusUpdate,
	input_ack: inputAck,
	prompt,
	facts,
	file_read: fileRead,
	file_offer: fileOffer,
	control,
	error: robotError,
} as const satisfies Record<keyof RobotMessages, unknown>;

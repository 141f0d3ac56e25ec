/**
 * A robot that lies: its messages keep to the schema and to nothing else. It makes messages up, about attempts of its
 * own and of others, with tokens it cannot know; and it bends what its honest agent was about to say.
 */
import type { AttemptRef, JobResultMessage, RobotMessages, WireHole } from '../../protocol';
import { limits } from '../../protocol';
import { decodeOutput, encodeFile, encodeOutput, streams } from '../../protocol/frames';
import type { Draw } from '../support/dice';

/** What it may speak of: every attempt there ever was. */
export interface Known extends AttemptRef {
	robotId: string;
}

type Data = string | Buffer;

const nobody = '01900000-0000-7000-8000-000000000000';
const causes = [
	null,
	'exit_code',
	'unknown',
	'infrastructure',
	'spawn_error',
	'refused',
	'cancelled',
	'run_timeout',
	'robot_lost',
	'policy',
	'made-up',
] as const;
const reasons = ['not-started', 'paused', 'no-slot', 'invalid', 'policy', 'stopping'] as const;

export class Liar {
	readonly #draw: Draw;
	readonly #robotId: () => string;
	readonly #known: () => Known[];
	/** A result that it gave once, to be given again with another body. */
	#given: JobResultMessage | undefined;
	#said = 0;

	constructor(draw: Draw, robotId: () => string, known: () => Known[]) {
		this.#draw = draw;
		this.#robotId = robotId;
		this.#known = known;
	}

	/** Something made up. */
	lie(): Data {
		const draw = this.#draw;
		const words = [
			() => this.#message('job_result', this.#result()),
			() => this.#message('job_result', this.#again()),
			() => this.#message('job_accepted', { ...this.#ref(), started_at: this.#instant() }),
			() =>
				this.#message('job_rejected', {
					...this.#ref(),
					reason: draw.pick(reasons),
					message: '',
					permanent: draw.chance(0.3),
				}),
			() =>
				this.#message('status_update', {
					...this.#ref(),
					progress: draw.pick([0, 1e-300, 33.3, 100]),
					message: 'half of it',
					health: {
						state: draw.pick(['hanging', 'healthy', 'waiting_for_input'] as const),
						cpu_percent: draw.pick([-1, 1e300, null]),
						memory_bytes: this.#number(),
						processes: this.#number(),
						quiet_ms: this.#number(),
						output_bytes: this.#number(),
					},
				}),
			() =>
				this.#message('input_ack', {
					...this.#ref(),
					have: this.#number(),
					state: draw.pick(['open', 'ended', 'closed'] as const),
					terminal: draw.chance(0.5),
				}),
			() =>
				this.#message('prompt', {
					...this.#ref(),
					prompt: draw.chance(0.3)
						? null
						: {
								kind: 'question',
								text: draw.pick(['Go on?', '']),
								hidden: false,
								asked_at: this.#instant(),
								offset: this.#number(),
							},
				}),
			() =>
				this.#message('file_read', {
					...this.#ref(),
					transfer: 1,
					file_id: nobody,
					from: this.#number(),
					length: limits.fileWindowBytes,
				}),
			() =>
				this.#message('file_offer', {
					...this.#ref(),
					transfer: 1,
					path: 'a',
					bytes: this.#number(),
					sha256: '0'.repeat(64),
					mode: 0o777,
				}),
			() => this.#message('heartbeat', { cpu_percent: -1e300, disk_percent: 1e300 }),
			() =>
				this.#message('control', {
					action: draw.pick(['ping', 'pong', 'goodbye', 'pause'] as const),
				}),
			() => this.#output(),
			() => this.#output(),
			() => {
				const { job_id: jobId, epoch } = this.#ref();
				return encodeFile({
					jobId,
					epoch,
					transfer: 1,
					offset: this.#number(),
					data: this.#bytes(),
				});
			},
		];
		return draw.pick(words)();
	}

	/** What becomes of an honest word; `undefined` = it is not said at all. */
	bend(data: Data): Data | undefined {
		if (!this.#draw.chance(0.2)) return data;
		if (typeof data !== 'string') return this.#bentFrame(data);
		const { type, id, payload } = JSON.parse(data) as {
			type: keyof RobotMessages;
			id: string;
			payload: RobotMessages[keyof RobotMessages];
		};
		switch (type) {
			case 'hello':
				return this.#message(type, this.#hello(payload as RobotMessages['hello']), id);
			case 'job_result':
				this.#given = this.#wrong(payload as JobResultMessage);
				return this.#message(type, this.#given, id);
			case 'job_accepted': {
				const { job_id, attempt, epoch, token } = payload as AttemptRef;
				const named = { job_id, attempt, epoch, token };
				const never = { reason: 'not-started', message: '', permanent: false } as const;
				return this.#message('job_rejected', { ...named, ...never }, id);
			}
			case 'job_rejected': {
				const { job_id, attempt, epoch, token } = payload as AttemptRef;
				const named = { job_id, attempt, epoch, token };
				return this.#message('job_accepted', { ...named, started_at: this.#instant() }, id);
			}
			default:
				return data;
		}
	}

	/** It holds what it does not, and does not hold what it does, and all of it is longer. */
	#hello(hello: RobotMessages['hello']): RobotMessages['hello'] {
		const draw = this.#draw;
		const made = Array.from({ length: this.#draw.whole(0, 3) }, () => ({
			...this.#ref(),
			state: draw.pick(['accepted', 'running', 'ended'] as const),
			output: this.#lengths(),
		}));
		const kept = hello.attempts.filter(() => draw.chance(0.7));
		return {
			...hello,
			attempts: [...kept, ...made],
			...(draw.chance(0.2) ? { journal_id: `${hello.journal_id}?` } : {}),
			...(draw.chance(0.2) ? { slots: draw.pick([0, 7, 10_000]) } : {}),
		};
	}

	#result(ref = this.#ref()): JobResultMessage {
		const draw = this.#draw;
		const output = this.#lengths();
		return {
			...ref,
			state: draw.pick(['completed', 'failed', 'timeout', 'cancelled']),
			cause: draw.pick(causes),
			result: {
				exit_code: draw.pick([0, 1, 75, null, -(2 ** 53), 1e300]),
				signal: draw.pick([null, 'SIGKILL']),
				stdout: '',
				stderr: '',
				truncated: draw.chance(0.5),
				outputs: draw.chance(0.3) ? { count: 1e300, deep: { a: [-0, null] } } : {},
				duration_ms: draw.pick([0, 0.1, 1e11, 1e16, 1e300]),
				error: draw.pick([null, { type: 'made-up', message: 'no such thing' }]),
				process_gone: draw.chance(0.5),
				...(draw.chance(0.1)
					? { files: [{ path: '/etc/passwd', bytes: this.#number(), sha256: null }] }
					: {}),
			},
			output,
			...(draw.chance(0.3) ? { holes: { stdout: [this.#hole(), this.#hole()] } } : {}),
			...(draw.chance(0.3) ? { sha256: { stdout: '0'.repeat(64) } } : {}),
			...(draw.chance(0.3)
				? {
						inline: {
							stdout: {
								offset: this.#position(),
								data_b64: draw.pick(['', '!', this.#bytes().toString('base64')]),
							},
						},
					}
				: {}),
		};
	}

	/** The same attempt, and another end. */
	#again(): JobResultMessage {
		const given = this.#given;
		this.#given = this.#result(
			given && {
				job_id: given.job_id,
				attempt: given.attempt,
				epoch: given.epoch,
				token: given.token,
			},
		);
		return this.#given;
	}

	/** Its own result, with other numbers: most often shorter than what is there already. */
	#wrong(result: JobResultMessage): JobResultMessage {
		const shorter = (bytes: number) => Math.floor(bytes * this.#draw.next());
		const { stdout, stderr } = result.output;
		const output = this.#draw.chance(0.7)
			? { stdout: shorter(stdout), stderr: shorter(stderr) }
			: this.#lengths();
		return { ...this.#result(result), output };
	}

	#bentFrame(data: Buffer): Buffer {
		const frame = decodeOutput(data);
		if (!frame) return data;
		const offset = Math.max(0, frame.offset + this.#draw.whole(-40, 40));
		return encodeOutput({ ...frame, offset });
	}

	#output(): Buffer {
		const draw = this.#draw;
		const { job_id: jobId, epoch } = this.#ref();
		const offset = this.#number();
		const gap = { from: draw.pick([0, this.#number()]), reason: 'limit' as const };
		return encodeOutput({
			jobId,
			epoch,
			stream: draw.pick(streams),
			offset,
			data: this.#bytes(),
			...(draw.chance(0.3) ? { gap } : {}),
		});
	}

	/** Its own attempt, that of another robot, one that is long over, or none at all; now and then a part of it is wrong. */
	#ref(): AttemptRef {
		const draw = this.#draw;
		const all = this.#known();
		const own = all.filter(({ robotId }) => robotId === this.#robotId());
		const from = own.length > 0 && draw.chance(0.6) ? own : all;
		const token = draw.pick(['x', 'y'.repeat(limits.maxIdBytes)]);
		if (from.length === 0 || draw.chance(0.1))
			return { job_id: nobody, attempt: 1, epoch: 1, token };
		const { robotId, ...known } = draw.pick(from);
		// Those of others it can only guess, or has overheard.
		const knows = robotId === this.#robotId() || draw.chance(0.2);
		const ref = knows ? known : { ...known, token };
		if (draw.chance(0.7)) return ref;
		return {
			...ref,
			...draw.pick<Partial<AttemptRef>>([
				{ token },
				{ attempt: this.#number() },
				{ attempt: ref.attempt + 1 },
				{ epoch: this.#number() },
				{ epoch: ref.epoch + 1 },
				{ job_id: draw.pick(all).job_id },
			]),
		};
	}

	#hole(): WireHole {
		return {
			from: this.#position(),
			to: this.#position(),
			reason: this.#draw.pick(['limit', '?']),
		};
	}

	#lengths(): { stdout: number; stderr: number } {
		return { stdout: this.#position(), stderr: this.#draw.pick([0, this.#position()]) };
	}

	/** As far as a stream can go. */
	#position(): number {
		return Math.min(this.#number(), limits.maxStreamBytes);
	}

	#number(): number {
		return this.#draw.pick([
			0,
			1,
			this.#draw.whole(0, 200),
			2 ** 31,
			2 ** 32 + 1,
			limits.maxStreamBytes,
			limits.maxStreamBytes - 60,
			2 ** 52 - 1,
			Number.MAX_SAFE_INTEGER - 1,
			Number.MAX_SAFE_INTEGER,
		]);
	}

	#bytes(): Buffer {
		return Buffer.alloc(this.#draw.whole(0, 60), '?');
	}

	#instant(): string {
		return this.#draw.pick(['1601-01-01T00:00:00Z', '+275760-09-13T00:00:00Z', 'yesterday', '']);
	}

	#message<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T], id?: string): string {
		const timestamp = this.#instant();
		return JSON.stringify({ type, id: id ?? `lie-${(this.#said += 1)}`, timestamp, payload });
	}
}

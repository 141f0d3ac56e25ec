/**
 * Judges one attempt by what can be seen from outside: what it prints, and the processor time of its whole
 * tree. Pure: time and pulses come in.
 *
 *   starting ──> healthy   it printed within the last ten seconds
 *                idle      silent, but it computes; or silent for less than the grace
 *                hanging   silent and at rest for longer than that
 *                waiting_for_input   at rest behind a question (prompts.ts); interactive: behind a shell's prompt too
 *                error_loop          it prints the same error again and again
 */
import type { AttemptHealth, CommandClass } from '../../protocol';
import type { ClassLimits } from '../../kinds/command-class';
import type { Stream } from '../../protocol/frames';
import type { Pulse } from '../drivers/pulse';
import { isShellPrompt, LastLine, questionIn } from '../prompts';

/** Printed within this time: healthy. */
const recentMs = 10_000;
/** Neither printed nor computed for this long: hanging. */
export const idleGraceMs = 30_000;
/** Less than this is a timer that ticks, not work. */
const busyPercent = 1;
/** An error loop: of the last `lastLines`, `sameLines` are the same error. */
const lastLines = 40;
const sameLines = 20;
/** A flood is sampled: reading all of it would cost what the job costs. */
const sampleBytes = 4_096;
const maxLineLength = 400;

const errorWords =
	/error|fail|exception|refused|denied|timed? ?out|unreachable|cannot|fatal|panic/i;

export class Watch {
	readonly #class: CommandClass | null;
	readonly #limits: Partial<ClassLimits>;
	readonly #idleMs: number;
	readonly #startedAt: number;
	#outputAt: number | undefined;
	#outputBytes = 0;
	#busyAt: number;
	#lookedAt: number;
	#cpuMs: ReadonlyMap<number, number> | undefined;
	#lines: string[] = [];
	#line = '';
	readonly #lastLine = new LastLine();
	readonly #interactive: boolean;

	constructor(
		commandClass: CommandClass | null,
		limits: Partial<ClassLimits>,
		now: number,
		{ interactive = false, idleMs = idleGraceMs } = {},
	) {
		this.#interactive = interactive;
		this.#idleMs = idleMs;
		this.#class = commandClass;
		this.#limits = limits;
		this.#startedAt = this.#busyAt = this.#lookedAt = now;
	}

	heard(stream: Stream, chunk: Uint8Array, now: number): void {
		this.#outputAt = now;
		this.#lastLine.push(stream, chunk);
		this.#outputBytes += chunk.length;
		const skipped = chunk.length > sampleBytes;
		const sample = Buffer.from(skipped ? chunk.subarray(-sampleBytes) : chunk).toString('latin1');
		const lines = ((skipped ? '' : this.#line) + sample).split(/\r?\n|\r/);
		this.#line = lines.pop()!.slice(-maxLineLength);
		// Counters and times differ in every line of a loop.
		for (const line of lines) this.#lines.push(line.slice(0, maxLineLength).replace(/\d+/g, '#'));
		this.#lines = this.#lines.slice(-lastLines);
	}

	/** `pulse` undefined = nobody can tell on this machine. */
	look(pulse: Pulse | undefined, now: number): AttemptHealth {
		const cpu = this.#cpuPercent(pulse, now);
		if (cpu === null || cpu >= busyPercent) this.#busyAt = now;
		this.#lookedAt = now;
		const quietMs = now - (this.#outputAt ?? this.#startedAt);
		const overdue = this.#overdue(quietMs, now);
		return {
			state: this.#state(quietMs, now),
			cpu_percent: cpu,
			memory_bytes: pulse?.memoryBytes ?? null,
			processes: pulse?.processes ?? null,
			quiet_ms: Math.round(quietMs),
			output_bytes: this.#outputBytes,
			...(this.#class === null ? {} : { command_class: this.#class }),
			...(overdue === undefined ? {} : { overdue }),
		};
	}

	#state(quietMs: number, now: number): AttemptHealth['state'] {
		const restMs = now - this.#busyAt;
		if (this.#inErrorLoop() && quietMs < idleGraceMs) return 'error_loop';
		if (this.#outputAt !== undefined && quietMs < recentMs) {
			// A program that has asked a question and is at rest has said all it will.
			return restMs > 0 && this.#asks() ? 'waiting_for_input' : 'healthy';
		}
		if (this.#asks() && restMs > 0) return 'waiting_for_input';
		if (this.#outputAt === undefined && now - this.#startedAt < recentMs) return 'starting';
		return quietMs > this.#idleMs && restMs > this.#idleMs ? 'hanging' : 'idle';
	}

	#asks(): boolean {
		const { text } = this.#lastLine;
		return questionIn(text) !== undefined || (this.#interactive && isShellPrompt(text));
	}

	#inErrorLoop(): boolean {
		const counts = new Map<string, number>();
		for (const line of this.#lines) counts.set(line, (counts.get(line) ?? 0) + 1);
		return [...counts].some(([line, count]) => count >= sameLines && errorWords.test(line));
	}

	#overdue(quietMs: number, now: number): AttemptHealth['overdue'] {
		const { totalMs = Infinity, noOutputMs = Infinity } = this.#limits;
		if (now - this.#startedAt > totalMs) return 'total';
		return quietMs > noOutputMs ? 'no_output' : undefined;
	}

	/** Of one processor, since the last look or the start; null where nobody can tell. */
	#cpuPercent(pulse: Pulse | undefined, now: number): number | null {
		if (pulse === undefined) return null;
		const before = this.#cpuMs ?? new Map<number, number>();
		this.#cpuMs = pulse.cpuMs;
		const passedMs = now - this.#lookedAt;
		if (passedMs <= 0) return null;
		let usedMs = 0;
		// One by one: what an ended process used must not hide what the others do.
		for (const [pid, ms] of pulse.cpuMs) usedMs += Math.max(0, ms - (before.get(pid) ?? 0));
		return Math.round((usedMs / passedMs) * 1_000) / 10;
	}
}

/**
 * Jobs whose every byte and whose end are known beforehand, for tests that kill what carries them. Each
 * says on disk that it started and which process it is, prints until it may go, and ends as it was told to.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal, type Job } from '../../protocol';
import type { Draw } from '../support/dice';
import { eventually, type OneService } from './one-service';

const script = `
echo $$ >> "$RUNS/$ROBOT_FLEET_JOB_ID.started"
i=0
while [ ! -e "$RUNS/$ROBOT_FLEET_VAR_KEY.go" ]; do
	i=$((i + 1))
	echo "line $i of $ROBOT_FLEET_VAR_KEY"
	echo "oh, $i" >&2
	sleep 0.05
done
head -c "$MORE" /dev/zero
echo $i > "$RUNS/$ROBOT_FLEET_JOB_ID.lines"
eval "$FINALLY"
`;

const ends = [
	{ finally: 'exit 0', state: 'completed', cause: null, exitCode: 0 },
	{ finally: 'exit 3', state: 'failed', cause: 'exit_code', exitCode: 3 },
	{ finally: 'kill -SEGV $$', state: 'failed', cause: 'signal', exitCode: null },
] as const;

export class KeptJob {
	readonly #house: OneService;
	readonly #key: string;
	readonly #more: number;
	readonly end: (typeof ends)[number];
	id = '';

	constructor(house: OneService, key: string, draw: Draw) {
		this.#house = house;
		this.#key = key;
		this.end = draw.pick(ends);
		this.#more = draw.chance(0.3) ? draw.whole(70_000, 400_000) : draw.whole(0, 3_000);
		mkdirSync(this.#folder, { recursive: true });
	}

	async submit(robot?: string): Promise<void> {
		const env = { RUNS: this.#folder, MORE: String(this.#more), FINALLY: this.end.finally };
		const { jobId } = await this.#house.service.client.submit({
			kind: 'command',
			spec: { shell: script, env },
			variables: { key: this.#key },
			retry: { maxAttempts: 1 },
			...(robot === undefined ? {} : { target: { robot } }),
		});
		this.id = jobId;
	}

	/** It may come to its end. */
	go(): void {
		writeFileSync(join(this.#folder, `${this.#key}.go`), '');
	}

	/** Process ids, one for each start. */
	get starts(): number[] {
		const file = join(this.#folder, `${this.id}.started`);
		if (!existsSync(file)) return [];
		// A line that is still being written is none yet.
		return (readFileSync(file, 'utf8').match(/\d+(?=\n)/g) ?? []).map(Number);
	}

	async started(): Promise<number> {
		return await eventually(`${this.#key} to start`, () => this.starts[0]);
	}

	/** Final, and all of its output is stored. */
	async ended(deadlineMs = 60_000): Promise<Job> {
		return await eventually(
			`the end of ${this.#key} (${this.id})`,
			async () => {
				const job = await this.#house.service.client.job(this.id);
				return isFinal(job.state) && job.output.complete && job;
			},
			deadlineMs,
		);
	}

	/** What is wrong with how it ended, of one that started; nothing when it is the truth, to the byte. */
	async wrong(): Promise<string[]> {
		const job = await this.ended();
		const wrong: string[] = [];
		const { state, cause, exitCode } = this.end;
		if (job.state !== state || job.cause !== cause || job.result?.exitCode !== exitCode) {
			wrong.push(`${this.#key} ended by "${this.end.finally}" and is ${job.state}/${job.cause}`);
		}
		if (this.starts.length !== 1) wrong.push(`${this.#key} started ${this.starts.length} times`);
		const printed = this.#printed;
		for (const stream of ['stdout', 'stderr'] as const) {
			const stored = await storedOutput(this.#house, this.id, stream);
			if (stored.equals(printed[stream])) continue;
			wrong.push(
				`${this.#key}: ${stored.length} bytes of ${stream} are stored, ${printed[stream].length} were printed`,
			);
		}
		return wrong;
	}

	get #printed(): { stdout: Buffer; stderr: Buffer } {
		const lines = Number(readFileSync(join(this.#folder, `${this.id}.lines`), 'utf8'));
		const numbers = Array.from({ length: lines }, (_, i) => i + 1);
		const text = numbers.map((i) => `line ${i} of ${this.#key}\n`).join('');
		return {
			stdout: Buffer.concat([Buffer.from(text), Buffer.alloc(this.#more)]),
			stderr: Buffer.from(numbers.map((i) => `oh, ${i}\n`).join('')),
		};
	}

	get #folder(): string {
		return join(this.#house.folder, 'runs');
	}
}

export async function storedOutput(
	{ service }: OneService,
	jobId: string,
	stream: 'stdout' | 'stderr',
): Promise<Buffer> {
	const answer = await fetch(`${service.url}/api/v1/jobs/${jobId}/output?stream=${stream}`, {
		headers: { authorization: `Bearer ${service.adminKey}` },
	});
	return Buffer.from(await answer.arrayBuffer());
}

/** A zombie does not live. */
export function lives(pid: number): boolean {
	try {
		const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
		return text.slice(text.lastIndexOf(')') + 2)[0] !== 'Z';
	} catch {
		return false;
	}
}

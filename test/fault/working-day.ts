/**
 * A day's work of one service and two robots in a few seconds: something of everything that is written
 * down. The service may die at any moment of it; whoever asked asks again, as careful callers do, and
 * in the evening the books must be in order.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { FleetClient } from '../../client';
import {
	type CalendarSpan,
	type EventFilter,
	isFinal,
	type Job,
	type JobState,
	Problem,
	type PromptAsked,
	type Submit,
} from '../../protocol';
import { eventually, type OneService } from './one-service';

/** What the service says when it is not there or died over the question, or the robot is not back yet. */
const away = new Set([
	'service-away',
	'not-ready',
	'internal',
	'robot-away',
	'not-yet-running',
	'input-late',
]);
/** What a repeated wish may get because the first one came through. */
const cameThrough = new Set([
	'not-waiting',
	'no-such-schedule',
	'no-such-group',
	'no-such-pool',
	'no-such-limit',
	'no-such-calendar',
	'no-such-robot',
	'robot-taken',
	'no-such-dead-letter',
	'bulk-grown',
	'already-retried',
	'input-taken',
	'input-closed',
	'not-running',
	'schedule-busy',
]);

const starts = '$DAY_FOLDER/starts';
const note = `echo "$ROBOT_FLEET_JOB_ID/$ROBOT_FLEET_ATTEMPT" >> ${starts}; sync ${starts}`;

interface Task {
	shell: string;
	ends: readonly JobState[];
	more?: Partial<Submit>;
	/** Not before so long after its work began. */
	afterMs?: number;
	/** What is printed in all. */
	prints?: string;
	/** It takes input, and waits for a line of it. */
	asks?: true;
	/** What it leaves in the file `left`, to be taken home. */
	leaves?: string;
}

const tasks: Record<string, Task> = {
	quick: { shell: 'echo quick', ends: ['completed'], prints: 'quick\n' },
	large: {
		shell: 'yes 0123456789abcde | head -c 1600000',
		ends: ['completed'],
		prints: '0123456789abcde\n'.repeat(100_000),
	},
	stubborn: {
		shell: '[ "$ROBOT_FLEET_ATTEMPT" -ge 2 ] || exit 75; echo at last',
		ends: ['completed'],
		more: { retry: { initialDelayMs: 50, maxAttempts: 3 } },
	},
	generous: { shell: 'echo mine > left', ends: ['completed'], leaves: 'mine\n' },
	broken: { shell: 'echo no >&2; exit 3', ends: ['failed'] },
	hopeless: { shell: 'exit 4', ends: ['failed'] },
	endless: { shell: 'sleep 300', ends: ['cancelled'] },
	early: {
		shell: 'echo early',
		ends: ['cancelled'],
		afterMs: 3_600_000,
	},
	held: { shell: 'echo held', ends: ['completed'], afterMs: 1_000 },
	grouped: {
		shell: 'echo grouped',
		ends: ['completed'],
		more: { target: { group: 'night' }, strategy: 'round_robin' },
	},
	pooled: {
		shell: 'echo pooled',
		ends: ['completed'],
		more: { target: { pool: 'small' }, strategy: 'affinity' },
	},
	asking: {
		shell: 'printf "Name: "; read -r name; echo "hello $name"',
		ends: ['completed'],
		asks: true,
		prints: 'Name: hello Ada\n',
	},
	locked: { shell: 'echo locked', ends: ['completed'], more: { locks: [{ name: 'press' }] } },
	waves: {
		shell: 'echo wave',
		ends: ['completed'],
		more: { target: { mode: 'all' }, rollout: { batch: 1, pauseBetween: true } },
	},
	everywhere: { shell: 'echo here', ends: ['completed'], more: { target: { mode: 'all' } } },
};

const tomorrow = (): CalendarSpan => {
	const from = Date.now() + 86_400_000;
	return { from, to: from + 3_600_000 };
};

export class WorkingDay {
	readonly #house: OneService;
	/** When its work began: until its robots are there, a second is over. */
	#beganAt = 0;
	readonly #jobs = new Map<string, string>();
	readonly #pokes: string[] = [];
	readonly #n8n: Server;
	#waitId = '';
	/** Planned instants of the schedule, as they were told. */
	readonly #fired: number[] = [];

	private constructor(house: OneService, n8n: Server) {
		this.#house = house;
		this.#n8n = n8n;
		n8n.on('request', (request, response) => {
			// Before it pokes, the service asks whether n8n is ready.
			if (request.method === 'POST') this.#pokes.push(request.url!);
			response.setHeader('content-type', 'application/json');
			response.end(JSON.stringify({ resumed: true }));
		});
	}

	static async open(): Promise<{ url: string; begin(house: OneService): WorkingDay }> {
		const n8n = createServer();
		await new Promise<void>((open) => n8n.listen(0, '127.0.0.1', open));
		const url = `http://127.0.0.1:${(n8n.address() as AddressInfo).port}`;
		return { url, begin: (house) => new WorkingDay(house, n8n) };
	}

	async close(): Promise<void> {
		await new Promise((closed) => {
			this.#n8n.close(closed);
			this.#n8n.closeAllConnections();
		});
	}

	/** From the first token to the last result. Rejects when something does not come to its end. */
	async live(): Promise<void> {
		const { folder } = this.#house;
		const { token } = await this.#insist((client) => client.createToken({ uses: 2 }));
		for (const name of ['anna', 'bert']) {
			await this.#house.robot(name, token, { DAY_FOLDER: folder }, 3);
		}
		await this.#insist((client) => client.createKey({ name: 'night', scopes: ['read'] }));
		await this.#insist(async (client) => {
			for (const { keyId, name, revokedAt } of await client.keys()) {
				if (name === 'night' && revokedAt === null) await client.revokeKey(keyId);
			}
		});
		await this.#insist((client) => client.putGroup('night', { robots: ['bert'] }));
		await this.#insist((client) => client.putPool('small', { group: 'night', maxJobs: 2 }));
		await this.#insist((client) => client.putLimit('press', { max: 1 }));
		await this.#insist((client) => client.putCalendar('holidays', { spans: [tomorrow()] }));
		await this.#insist((client) => client.registerRobot({ name: 'carl' }));
		await this.#insist((client) => client.removeRobot('carl'));
		await Promise.all([this.#work(), this.#watchClock(), this.#chore()]);
		await this.#insist((client) => client.removeLimit('press'));
		await this.#insist((client) => client.removeCalendar('holidays'));
		await this.#insist((client) => client.removePool('small'));
		await this.#insist((client) => client.removeGroup('night'));
	}

	async #work(): Promise<void> {
		this.#beganAt = Date.now();
		await Promise.all(Object.keys(tasks).map((key) => this.#submit(key)));
		await Promise.all([
			this.#answer(),
			this.#rollOut(),
			this.#change('held', { hold: 'not yet' }).then(() => this.#change('held', { hold: false })),
			this.#change('early', { priority: 'high' }).then(() => this.#cancel('early')),
			this.#until('endless', ({ state }) => state === 'running').then(() =>
				this.#cancel('endless'),
			),
			this.#insist((client) => client.pauseRobot('bert')).then(() =>
				this.#insist((client) => client.resumeRobot('bert')),
			),
		]);
		const jobIds = ['quick', 'large'].map((key) => this.#jobs.get(key)!);
		const resumeUrl = `http://127.0.0.1:${(this.#n8n.address() as AddressInfo).port}/wait`;
		const { waitId } = await this.#insist((client) => client.createWait({ jobIds, resumeUrl }));
		this.#waitId = waitId;
		for (const key of Object.keys(tasks)) {
			await this.#until(key, (job) => isFinal(job.state) && job.output.complete);
		}
		await this.#deadLetters();
		await eventually('the callback', () => this.#pokes.length > 0);
		await eventually('the end of the wait', () =>
			this.#insist(async (client) => (await client.wait(waitId)).state === 'closed'),
		);
	}

	async #deadLetters(): Promise<void> {
		const replayed = { jobIds: [this.#jobs.get('hopeless')!] };
		const dismissed = { jobIds: [this.#jobs.get('broken')!] };
		await this.#insist((client) => client.replay({ ...replayed, expect: 1 }));
		await this.#insist((client) => client.dismiss({ ...dismissed, expect: 1 }));
		const again = await eventually('the replay', async () =>
			this.#insist(
				async (client) => (await client.job(replayed.jobIds[0]!)).retriedAs ?? undefined,
			),
		);
		this.#jobs.set('hopeless/again', again);
		await this.#until('hopeless/again', ({ state }) => state === 'failed');
	}

	/** A schedule of every second, until it has fired twice and both were heard of. */
	async #watchClock(): Promise<void> {
		const every = { cron: '* * * * * *', catchUpMs: 0 };
		await this.#insist((client) => client.putSchedule('tick', every));
		await this.#follow('day', { scheduleId: 'tick' }, (data) => {
			this.#fired.push((data as { plannedAt: number }).plannedAt);
			return this.#fired.length >= 2;
		});
		await this.#insist((client) => client.removeSchedule('tick'));
	}

	/** A schedule with a job of its own, run by hand; how that ended is on its record. */
	async #chore(): Promise<void> {
		const job = { kind: 'command', spec: { shell: `${note}; echo chore` } } as const;
		const yearly = { cron: '0 0 1 1 *', job };
		await this.#insist((client) => client.putSchedule('chore', yearly));
		await this.#insist((client) => client.runSchedule('chore'));
		await eventually('the end of the chore', () =>
			this.#insist(async (client) => {
				const { items } = await client.occurrences('chore');
				return items.length > 0 && items.every(({ outcome }) => outcome === 'completed');
			}),
		);
		await this.#insist((client) => client.removeSchedule('chore'));
	}

	/** Between its two batches a rollout is paused by a person, too, and let go on. */
	async #rollOut(): Promise<void> {
		await this.#until('waves', ({ rolledOut }) => rolledOut?.state === 'paused');
		const jobId = this.#jobs.get('waves')!;
		await this.#insist((client) => client.pauseJob(jobId));
		await this.#insist((client) => client.resumeJob(jobId, { batch: 2 }));
	}

	/** Hears of a question as a trigger does, from a place of its own in the events, and types the answer. */
	async #answer(): Promise<void> {
		await this.#follow(
			'night',
			{ event: 'job.prompt' },
			(data) => (data as PromptAsked).jobId === this.#jobs.get('asking'),
		);
		await this.#insist((client) => client.unsubscribe('night'));
		const line = { text: 'Ada\n', from: 0 };
		await this.#insist((client) => client.input(this.#jobs.get('asking')!, line));
	}

	/** Takes what is told, each acknowledged before it is looked at, until `enough` has been heard. */
	async #follow(
		key: string,
		filter: EventFilter,
		enough: (data: unknown) => boolean,
	): Promise<void> {
		let { epoch } = await this.#insist((client) =>
			client.subscribe(key, { filter, from: 'start' }),
		);
		for (let done = false; !done;) {
			await this.#insist(async (client) => {
				try {
					for (const event of await client.events(key, epoch, 1_000)) {
						await client.acknowledge(key, epoch, event.cursor);
						done = enough(event.data) || done;
					}
				} catch (error) {
					if (!(error instanceof Problem) || away.has(error.code)) throw error;
					// Our own earlier question took it, and its answer was lost.
					({ epoch } = await client.subscribe(key, { filter }));
				}
			});
		}
	}

	/** What is wrong in the books. */
	async check(): Promise<string[]> {
		const wrong: string[] = [];
		const { client, adminKey, url } = this.#house.service;
		const authorization = `Bearer ${adminKey}`;
		const all: Job[] = [];
		for (let cursor: string | undefined; ;) {
			const page = await client.jobs({ limit: 100, cursor });
			all.push(...page.items);
			if ((cursor = page.cursor) === undefined) break;
		}
		for (const [key, { ends, prints, leaves }] of Object.entries(tasks)) {
			const jobId = this.#jobs.get(key)!;
			const made = all.filter((job) => job.variables['key'] === key && job.parentId === null);
			const own = made.filter((job) => job.retryOf === null);
			if (own.length !== 1 || own[0]!.jobId !== jobId) wrong.push(`${key} is ${own.length} jobs`);
			const job = await client.job(jobId);
			if (!ends.includes(job.state)) wrong.push(`${key} is ${job.state}: ${job.cause}`);
			const finals = (await client.timeline(jobId)).filter(
				({ to, from }) => isFinal(to) && to !== from,
			);
			if (finals.length !== 1) wrong.push(`${key} ended ${finals.length} times`);
			if (leaves !== undefined && job.state === 'completed') {
				const left = await client.files({ job: jobId });
				if (left.items.length !== 1) wrong.push(`${key} left ${left.items.length} files`);
				const at = `${url}/api/v1/files/${job.result?.files?.[0]?.fileId}/content`;
				const answer = await fetch(at, { headers: { authorization } });
				if ((await answer.text()) !== leaves) wrong.push(`${key} left something else`);
			}
			if (prints === undefined || job.state !== 'completed') continue;
			const answer = await fetch(`${url}/api/v1/jobs/${jobId}/output`, {
				headers: { authorization },
			});
			if ((await answer.text()) !== prints) wrong.push(`${key} printed something else`);
		}
		const replays = all.filter(({ retryOf }) => retryOf === this.#jobs.get('hopeless'));
		if (replays.length !== 1) wrong.push(`one dead letter was replayed ${replays.length} times`);
		for (const key of ['everywhere', 'waves']) {
			const children = all.filter(({ parentId }) => parentId === this.#jobs.get(key));
			if (children.length !== 2) wrong.push(`${key} has ${children.length} children on two robots`);
		}
		const begun = this.#begun();
		for (const start of new Set(begun)) {
			if (begun.filter((other) => other === start).length > 1) wrong.push(`${start} began twice`);
		}
		for (const robot of await client.robots()) {
			if (robot.held > 0) wrong.push(`${robot.name} holds ${robot.held}`);
		}
		const kept = [
			...(await client.groups()),
			...(await client.pools()),
			...(await client.calendars()),
			...(await client.locks()).filter(({ limit }) => limit !== null),
		].map(({ name }) => name);
		if (kept.length > 0) wrong.push(`${kept.join(', ')}: removed and there`);
		if ((await client.robots()).length !== 2) wrong.push('two enrolled, others are there');
		if (new Set(this.#fired).size < 2) wrong.push('the schedule was told twice for one instant');
		const wait = await client.wait(this.#waitId);
		if (wait.state !== 'closed') wrong.push(`the wait is ${wait.state}`);
		return wrong;
	}

	#begun(): string[] {
		const file = join(this.#house.folder, 'starts');
		return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
	}

	async #submit(key: string): Promise<void> {
		const { shell, more, afterMs, leaves, asks } = tasks[key]!;
		const { jobId } = await this.#insist((client) =>
			client.submit({
				kind: 'command',
				spec: {
					shell: `${note}; ${shell}`,
					...(leaves !== undefined && { collect: ['left'] }),
					...(asks && { interactive: true }),
				},
				variables: { key },
				idempotencyKey: key,
				// The same however often it is asked.
				...(afterMs !== undefined && { notBefore: this.#beganAt + afterMs }),
				...more,
			}),
		);
		this.#jobs.set(key, jobId);
	}

	async #change(key: string, change: Parameters<FleetClient['change']>[1]): Promise<void> {
		await this.#insist((client) => client.change(this.#jobs.get(key)!, change));
	}

	async #cancel(key: string): Promise<void> {
		await this.#insist((client) => client.cancel(this.#jobs.get(key)!));
	}

	async #until(key: string, done: (job: Job) => boolean): Promise<void> {
		let last = 'unseen';
		await eventually(`${key}`, () =>
			this.#insist(async (client) => {
				const job = await client.job(this.#jobs.get(key)!);
				last = job.state;
				return done(job);
			}),
		).catch((error: Error) => {
			throw new Error(`${error.message}; it is ${last}`);
		});
	}

	/** Asks until there is an answer. */
	async #insist<T>(ask: (client: FleetClient) => Promise<T>): Promise<T> {
		return eventually('an answer', async () => {
			try {
				return { answer: await ask(this.#house.service.client) };
			} catch (error) {
				// Its key is not written yet.
				if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
				if (!(error instanceof Problem)) throw error;
				if (away.has(error.code)) return undefined;
				if (cameThrough.has(error.code)) return { answer: undefined as T };
				throw error;
			}
		}).then(({ answer }) => answer);
	}
}

/**
 * The service dies between each two durability points, on either side of every commit that a job's life
 * is made of, and comes back from what was committed. Nothing told is lost, nothing runs twice.
 */
import type { Submit } from '../../../protocol';
import type { DeedName } from '../../../dispatcher/store/store';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { type Ending, HonestRobot } from '../../support/honest-robot';
import type { Moment } from '../../support/mortal-store';

let h: House;
let robot: HonestRobot;
/** What the submitter was told. */
let told: string[];

beforeEach(async () => {
	h = await house({ settings: { recoveryGraceMs: 0 } });
	robot = new HonestRobot(() => h.engine, await h.enrol('r1'));
	told = [];
});
afterEach(() => h.close());

const request = { kind: 'command', spec: { command: 'true' }, idempotencyKey: 'one' };

function submit(more: Partial<Submit> = {}): void {
	void h.engine
		.submit([{ ...request, ...more }], admin)
		.then(([answer]) => told.push((answer as { jobId: string }).jobId));
}

/** The one job there is, whether its submitter was told or not. */
async function onlyJob() {
	const { items } = await h.engine.jobs({ limit: 10 });
	expect(items).toHaveLength(1);
	if (told.length > 0) expect(items[0]!.jobId).toBe(told[0]);
	return items[0]!;
}

async function begin(): Promise<void> {
	for (const entry of robot.of('starting')) await robot.begin(entry);
}

async function finish(how: Ending): Promise<void> {
	for (const entry of robot.of('running')) await robot.finish(entry, how);
}

async function back(): Promise<void> {
	await h.restart();
	robot.abandoned();
	await robot.connect();
}

const starts = () => [...robot.entries.values()].map((entry) => entry.starts);

/** How far the life goes before the service is about to die, by the deed it dies at. */
const lives: [name: string, deed: DeedName, step: () => Promise<void>, more?: Partial<Submit>][] = [
	['submit and its assignment', 'insertJob', async () => submit()],
	[
		'the assignment of a job that waited',
		'assign',
		async () => {
			await robot.cut();
			submit();
			await settled();
			void robot.connect();
		},
	],
	[
		'the acceptance',
		'start',
		async () => {
			submit();
			await settled();
			void begin();
		},
	],
	[
		'the result',
		'settle',
		async () => {
			submit();
			await settled();
			await begin();
			void finish('completed');
		},
	],
];

describe.each(['before', 'after'] as const)('killed just %s the commit of', (moment: Moment) => {
	test.each(lives)('%s, a job ends once and is started once', async (_name, deed, step) => {
		await robot.connect();
		const death = h.store.dieAt(deed, moment);
		await step();
		await death;
		await settled();
		await back();
		if (told.length === 0) submit();
		await settled();
		await begin();
		await finish('completed');
		await robot.repeat();
		const job = await onlyJob();
		expect(job).toMatchObject({ state: 'completed', result: { exitCode: 0 } });
		expect(starts().reduce((sum, one) => sum + one, 0)).toBe(1);
		expect(robot.of('over')).toHaveLength(1);
		expect((await h.engine.robot('r1')).held).toBe(0);
		expect(await h.path(job.jobId)).toMatch(
			/^queued (dispatched queued )*dispatched running completed$/,
		);
	});

	test('a retryable failure, it is tried again, once', async () => {
		await robot.connect();
		submit();
		await settled();
		await begin();
		const death = h.store.dieAt('settle', moment);
		void finish('exit 75');
		await death;
		await back();
		expect(await onlyJob()).toMatchObject({ state: 'pending', attempt: 1 });
		await h.clock.advance(2_000);
		await begin();
		await finish('completed');
		expect(await onlyJob()).toMatchObject({ state: 'completed', attempt: 2 });
		expect(starts()).toEqual([1, 1]);
	});

	test('the end of a back-off, the job is queued once', async () => {
		await robot.connect();
		submit({ notBefore: h.clock.now() + 500 });
		await settled();
		const death = h.store.dieAt('moveJob', moment);
		await h.clock.advance(600);
		await death;
		await back();
		await h.clock.advance(1_000);
		await begin();
		await finish('completed');
		const { jobId } = await onlyJob();
		expect(await h.path(jobId)).toBe('pending queued dispatched running completed');
	});

	test('a refusal, the proof is kept or told again by the robot’s silence', async () => {
		await robot.connect();
		submit();
		await settled();
		const [entry] = robot.of('starting');
		const death = h.store.dieAt('settle', moment);
		void robot.refuse(entry!);
		await death;
		await back();
		// A refusal that was committed bars the robot for a while; its silence does not.
		if (moment === 'after') await h.clock.advance(32_000);
		await begin();
		await finish('completed');
		expect(await onlyJob()).toMatchObject({ state: 'completed', attempt: 2 });
		expect(starts().sort()).toEqual([0, 1]);
	});

	test('a cancel of a running job, an answered cancel is not forgotten', async () => {
		await robot.connect();
		submit();
		await settled();
		await begin();
		const death = h.store.dieAt('requestCancel', moment);
		let answered = false;
		void h.engine.cancel(told[0]!, admin).then(() => (answered = true));
		await death;
		await settled();
		expect(answered).toBe(false);
		await back();
		const { cancelRequestedAt } = await onlyJob();
		expect(cancelRequestedAt !== null).toBe(moment === 'after');
		if (moment === 'before') await h.engine.cancel(told[0]!, admin);
		await finish('completed');
		expect(await onlyJob()).toMatchObject({ state: 'cancelled' });
	});

	test('a cancel of a queued job, it is cancelled or as it was', async () => {
		submit();
		await settled();
		const death = h.store.dieAt('moveJob', moment);
		void h.engine.cancel(told[0]!, admin);
		await death;
		await h.restart();
		expect((await onlyJob()).state).toBe(moment === 'after' ? 'cancelled' : 'queued');
		expect((await h.engine.cancel(told[0]!, admin)).state).toBe('cancelled');
		await robot.connect();
		expect(starts()).toEqual([]);
	});

	test('a loss, it is counted once', async () => {
		await robot.connect();
		submit({ onLoss: { waitMs: 2_000, then: 'retry' } });
		await settled();
		await begin();
		await robot.cut();
		const death = h.store.dieAt('settle', moment);
		await h.clock.advance(3_500);
		await death;
		await h.restart();
		await h.clock.advance(3_500);
		const stored = (await h.store.read('job', { id: told[0]! }))!;
		expect(stored).toMatchObject({ state: 'queued', losses: 1, tries: 0 });
		expect(await h.outcomes(told[0]!)).toEqual(['lost']);
	});

	test('the move to the dead letters, it is a dead letter once, with all of its losses', async () => {
		await robot.connect();
		submit({ onLoss: { waitMs: 2_000, then: 'fail' } });
		await settled();
		await begin();
		await robot.cut();
		const death = h.store.dieAt('settle', moment);
		await h.clock.advance(3_500);
		await death;
		await h.restart();
		await h.clock.advance(3_500);
		expect(await h.engine.job(told[0]!)).toMatchObject({ state: 'failed', cause: 'robot_lost' });
		const finals = (await h.engine.timeline(told[0]!)).filter(({ to }) => to === 'failed');
		expect(finals).toHaveLength(1);
	});

	test('a late result, it is kept once, with one announcement', async () => {
		await robot.connect();
		submit({ onLoss: { waitMs: 2_000 } });
		await settled();
		await begin();
		await robot.cut();
		await h.clock.advance(3_500);
		await finish('completed');
		const death = h.store.dieAt('lateResult', moment);
		void robot.connect();
		await death;
		await back();
		await robot.repeat();
		const [attempt] = await h.engine.attempts(told[0]!);
		expect(attempt).toMatchObject({ outcome: 'lost', result: null, lateResult: { exitCode: 0 } });
		expect(robot.of('over')).toHaveLength(1);
		const event = { subjects: ['job.late-result'], after: 0, limit: 10 };
		expect(await h.store.read('events', event)).toHaveLength(1);
	});
});

test('an agent killed at the same moment as the service: what ran is unknown, what did not start is started elsewhere', async () => {
	await robot.connect();
	submit();
	await settled();
	await begin();
	await robot.crash();
	await back();
	expect(await onlyJob()).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(starts()).toEqual([1]);
});

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LiveView } from '../../../client';
import { liveMessages } from '../../../dispatcher/cli/live';
import { watch } from '../../../dispatcher/cli/watch';
import { systemClock } from '../../../dispatcher/engine/clock';
import { WholeHouse } from '../../support/whole-house';
import { within } from '../server/house';

const addressOf = (home: WholeHouse) => ({
	url: home.service.url,
	key: readFileSync(join(home.folder, 'service/admin.key'), 'utf8').trim(),
});

const terminal = () => {
	const said: string[] = [];
	const world = {
		out: (text: string | Uint8Array) => void said.push(String(text)),
		now: Date.now,
		sleep: systemClock.sleep,
	};
	return { said, world: world as unknown as Parameters<typeof watch>[0] };
};

test('who looks on sees a real job come, run and end, and comes back without a gap', async () => {
	await using home = await WholeHouse.open();
	await home.robot('r1');
	const view = new LiveView();
	const channels = ['robots:default', 'jobs:default'];
	const since = (channel: string) => view.since(channel);
	const lookUntil = async (done: () => boolean) => {
		const late = AbortSignal.timeout(10_000);
		for await (const message of liveMessages(addressOf(home), channels, since, late)) {
			view.apply(message);
			if (done()) return;
		}
		throw new Error('waited 10 s for the view');
	};
	await lookUntil(() => view.robots.size === 1 && view.since('jobs:default') !== undefined);
	expect([...view.robots.values()]).toMatchObject([{ name: 'r1', status: 'online' }]);
	const { jobId } = await home.client.submit({ kind: 'command', spec: { command: 'true' } });
	await home.client.job(jobId, 10_000);
	// It ended while nobody looked: what was missed is told.
	const before = view.since('jobs:default')!;
	await lookUntil(() => view.jobs.get(jobId)?.state === 'completed');
	expect(view.since('jobs:default')).toBeGreaterThan(before);
	const job = await home.client.job(jobId);
	const told = view.jobs.get(jobId)!;
	expect(told).toMatchObject({ robotId: job.robotId, endedAt: job.endedAt, state: job.state });
});

test('robot-fleet watch --once shows robots and jobs, and --json says each event in a line', async () => {
	await using home = await WholeHouse.open();
	await home.robot('r1');
	const { jobId } = await home.client.submit({ kind: 'command', spec: { command: 'true' } });
	await home.client.job(jobId, 10_000);
	const picture = terminal();
	await watch(picture.world, addressOf(home), { once: true });
	expect(picture.said.join('')).toMatch(/1 of 1 robot online/);
	expect(picture.said.join('')).toMatch(new RegExp(`${jobId} +command +completed +r1`));
	const lines = terminal();
	const enough = new AbortController();
	const looking = watch(
		{
			...lines.world,
			out: (text) => {
				lines.said.push(String(text));
				if (lines.said.length === 2) enough.abort();
			},
		},
		addressOf(home),
		{ json: true },
		enough.signal,
	);
	await looking;
	expect(lines.said.map((line) => JSON.parse(line).event)).toEqual(['snapshot', 'snapshot']);
});

test('a key that may not look on is told so, and why', async () => {
	await using home = await WholeHouse.open();
	const { key } = await home.client.createKey({ name: 'writer', scopes: ['submit'] });
	const address = { ...addressOf(home), key };
	await expect(watch(terminal().world, address, { once: true })).rejects.toMatchObject({
		code: 'no-scope',
	});
});

test('what robot-fleet watch shows at last is how it is, however quick one message comes behind another', async () => {
	await using home = await WholeHouse.open();
	// No robot is there: nothing more happens that would make it draw.
	const { jobId } = await home.client.submit({ kind: 'command', spec: { command: 'true' } });
	const screen = terminal();
	const looking = new AbortController();
	let see = () => {};
	const shows = (text: RegExp) =>
		within(
			`${text} on the screen`,
			new Promise<void>((resolve) => {
				see = () => text.test(screen.said.at(-1) ?? '') && resolve();
				see();
			}),
		);
	const world = {
		...screen.world,
		out: (text: string | Uint8Array) => {
			screen.said.push(String(text));
			see();
		},
	};
	const watching = watch(world, addressOf(home), {}, looking.signal);
	try {
		await shows(new RegExp(`1 wait, 0 at work[^]*${jobId} +command +queued`));
		await home.client.cancel(jobId);
		await shows(new RegExp(`0 wait, 0 at work[^]*${jobId} +command +cancelled`));
	} finally {
		looking.abort();
		await watching;
	}
});

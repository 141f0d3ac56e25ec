import { FleetClient, type Send, type SendRequest } from '../../../client';
import { Problem, type Submit } from '../../../protocol';

const job = (command: string): Submit => ({ kind: 'command', spec: { command } });
const commandsOf = ({ body }: SendRequest) =>
	(body as { jobs: Submit[] }).jobs.map(({ spec }) => (spec as { command: string }).command);

/** A service whose answers the test lets out one by one. */
function slowService() {
	const requests: SendRequest[] = [];
	const open: (() => void)[] = [];
	const send: Send = (request) => {
		requests.push(request);
		return new Promise((resolve) =>
			open.push(() =>
				resolve({
					status: 202,
					body: { jobs: commandsOf(request).map((jobId) => ({ jobId, state: 'queued' })) },
				}),
			),
		);
	};
	return { send, requests, answer: () => open.shift()!() };
}
const ticks = async () => {
	for (let i = 0; i < 10; i += 1) await Promise.resolve();
};

test('submits made in a row share one request, and each gets its own answer', async () => {
	const service = slowService();
	const client = new FleetClient(service.send, { gather: true });
	const answers = Promise.all(['a', 'b', 'c'].map((name) => client.submit(job(name))));
	await ticks();
	expect(service.requests.map(commandsOf)).toEqual([['a', 'b', 'c']]);
	service.answer();
	expect((await answers).map(({ jobId }) => jobId)).toEqual(['a', 'b', 'c']);
});

test('what is submitted while requests are under way travels together in the next one', async () => {
	const service = slowService();
	const client = new FleetClient(service.send, { gather: true });
	const all: Promise<unknown>[] = [];
	for (const name of ['a', 'b', 'c', 'd']) {
		all.push(client.submit(job(name)));
		await ticks();
	}
	expect(service.requests.map(commandsOf)).toEqual([['a'], ['b']]);
	service.answer();
	await ticks();
	expect(service.requests.map(commandsOf)).toEqual([['a'], ['b'], ['c', 'd']]);
	service.answer();
	service.answer();
	await Promise.all(all);
});

test('a refusal reaches the one it is about, in the words of its own request', async () => {
	const send: Send = async () => ({
		status: 202,
		body: {
			jobs: [
				{ jobId: 'a', state: 'queued' },
				{
					error: new Problem('bad-field', {
						path: 'jobs[1].spec.command',
						reason: 'must be text',
					}).toBody(),
				},
			],
		},
	});
	const client = new FleetClient(send, { gather: true });
	const [good, bad] = await Promise.allSettled([client.submit(job('a')), client.submit(job('b'))]);
	expect(good).toMatchObject({ status: 'fulfilled', value: { jobId: 'a' } });
	expect(bad).toMatchObject({
		reason: { code: 'bad-field', details: { path: 'spec.command' } },
	});
});

test('a group that is too large is sent in parts, and only what is too large alone is refused', async () => {
	const sizes: number[] = [];
	const send: Send = async (request) => {
		const commands = commandsOf(request);
		sizes.push(commands.length);
		return commands.length > 2 || commands.includes('huge')
			? { status: 413, body: { error: new Problem('too-large', {}).toBody() } }
			: { status: 202, body: { jobs: commands.map((jobId) => ({ jobId, state: 'queued' })) } };
	};
	const client = new FleetClient(send, { gather: true });
	const outcomes = await Promise.allSettled(
		['a', 'b', 'c', 'huge'].map((name) => client.submit(job(name))),
	);
	expect(outcomes.map(({ status }) => status)).toEqual([
		'fulfilled',
		'fulfilled',
		'fulfilled',
		'rejected',
	]);
	expect(sizes).toEqual([4, 2, 2, 1, 1]);
});

test('when the service is away every submit of the group is told', async () => {
	const client = new FleetClient(() => Promise.reject(new Problem('service-away', {})), {
		gather: true,
	});
	const outcomes = await Promise.allSettled([client.submit(job('a')), client.submit(job('b'))]);
	expect(outcomes).toMatchObject([
		{ reason: { code: 'service-away' } },
		{ reason: { code: 'service-away' } },
	]);
});

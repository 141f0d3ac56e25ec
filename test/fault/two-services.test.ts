import { eventually, OneService } from './one-service';

jest.setTimeout(120_000);

/** The wait before the refusal is a minute and cannot be set: `npm test` does without, chaos does not. */
const patiently = process.env.CHAOS_JOBS === undefined ? test.skip : test;

test('a second service on the same data folder is told who owns it, and has it as soon as the owner is dead', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		const { jobId } = await service.client.submit({ kind: 'command', spec: { command: 'true' } });
		const rival = await house.rival();
		rival.start();
		const line = await eventually('the second one to name the owner', () =>
			rival
				.logged()
				.split('\n')
				.find((text) => text.includes('another service owns the data folder')),
		);
		expect(JSON.parse(line)).toMatchObject({
			folder: service.data,
			owner: `process ${service.pid}, ${service.url}`,
		});
		// It has not touched anything: the owner goes on, and nobody listens at the other door.
		expect((await service.client.job(jobId)).state).toBe('queued');
		await expect(rival.client.me()).rejects.toMatchObject({ code: 'service-away' });
		expect(rival.lives).toBe(true);

		await service.kill();
		// Well before the minute is over after which it would give up.
		await rival.ready();
		expect((await rival.client.job(jobId)).state).toBe('queued');
		expect(rival.logged().match(/another service owns/g)).toHaveLength(1);
		expect(await rival.stop()).toBe(0);
	});
});

test('a second service that waits for the folder ends at once when it is told to', async () => {
	await OneService.use(async (house) => {
		const rival = await house.rival();
		rival.start();
		await eventually('the second one to wait', () =>
			rival.logged().includes('another service owns the data folder'),
		);
		expect(await rival.stop()).toBe(0);
		await house.service.client.me();
	});
});

patiently(
	'a second service is refused after a minute, in one sentence that names the owner',
	async () => {
		await OneService.use(async (house) => {
			const { service } = house;
			const rival = await house.rival();
			rival.start();
			expect(await rival.exit).toBe(11);
			const sentences = rival
				.logged()
				.split('\n')
				.filter((line) => line !== '' && !line.startsWith('{'));
			expect(sentences).toHaveLength(1);
			expect(sentences[0]).toContain(service.data);
			expect(sentences[0]).toContain(`process ${service.pid}, ${service.url}`);
			await service.client.me();
		});
	},
);

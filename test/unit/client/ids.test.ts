import { FleetClient } from '../../../client';

test('an id that is a step in a path makes no other call of it', async () => {
	const asked: string[] = [];
	const client = new FleetClient(async ({ path }) => {
		asked.push(path);
		return { status: 200, body: {} };
	});
	for (const id of ['.', '..']) {
		await expect(async () => client.pauseSchedule(id)).rejects.toMatchObject({ code: 'bad-field' });
	}
	await client.pauseSchedule('a/../b');
	expect(asked).toEqual(['/api/v1/schedules/a%2F..%2Fb/pause']);
});

/** Whoever waits for the end of a job hears why it does not come. */
import { FleetClient } from '../../../client';
import { finalJob } from '../../../dispatcher/cli/follow';
import type { Terminal } from '../../../dispatcher/cli/terminal';
import { Problem } from '../../../protocol';

test('a service that restarts meanwhile is waited for', async () => {
	let asked = 0;
	const client = new FleetClient(() => {
		asked += 1;
		if (asked < 3) return Promise.reject(new Problem('service-away', { url: 'http://here' }));
		return Promise.resolve({ status: 200, body: { jobId: 'j1', state: 'completed' } });
	});
	const slept: number[] = [];
	const terminal = {
		sleep: async (ms: number) => void slept.push(ms),
	} as unknown as Terminal;
	expect(await finalJob(client, 'j1', terminal)).toMatchObject({ state: 'completed' });
	expect(slept).toEqual([1000, 1000]);
});

test('a rollout that waits for a person says so, once each time', async () => {
	const stopped = { state: 'stopped', batch: 1, reason: 'stopped: 2 of 4 have failed' };
	const running = { state: 'running', batch: 2, reason: null };
	const paused = { state: 'paused', batch: 2, reason: null };
	const answers = [running, stopped, stopped, running, stopped, paused, undefined];
	const client = new FleetClient(() => {
		const rolledOut = answers.shift();
		const state = rolledOut ? 'running' : 'completed';
		return Promise.resolve({ status: 200, body: { jobId: 'j1', state, rolledOut } });
	});
	const heard: string[] = [];
	const terminal = { err: (text: string) => heard.push(text) } as unknown as Terminal;
	expect(await finalJob(client, 'j1', terminal)).toMatchObject({ state: 'completed' });
	const said = 'It is stopped: 2 of 4 have failed: robot-fleet jobs resume j1, or jobs cancel j1\n';
	const again = 'It is paused: robot-fleet jobs resume j1, or jobs cancel j1\n';
	expect(heard).toEqual([said, said, again]);
});

/** A robot that is dialled, and the deaths of the service that dials it. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentProcess, bundleAgent, removeBundle } from '../integration/agent/agent-process';
import { builtPrograms, quietPort, ServiceProgram } from '../support/programs';

jest.setTimeout(120_000);

let folder: string;
beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'rf-fault-dialled-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));

async function until(what: string, good: () => boolean | Promise<boolean>): Promise<void> {
	const late = Date.now() + 30_000;
	while (!(await good())) {
		if (Date.now() > late) throw new Error(`waited for ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}

test('through kills of the service a dialled robot carries on, is dialled again, and its job is run once', async () => {
	const service = new ServiceProgram(
		builtPrograms(folder),
		join(folder, 'service'),
		await quietPort(),
	);
	const data = join(folder, 'agent');
	service.start();
	await service.ready();
	const { hubFingerprint } = await service.client.service();
	const at = `127.0.0.1:${await quietPort()}`;
	const agent = new AgentProcess(
		['--listen', at, '--data', data, '--hub', hubFingerprint, '--stop-grace', '0'],
		{ LOG_LEVEL: 'info' },
	);
	try {
		await agent.untilPrinted(/^listening on /m);
		const fingerprint = /^fingerprint (\S+)$/m.exec(agent.stdout)![1]!;
		await service.kill();
		const env = {
			CONSTELLATION_RECONNECT_DELAY: '0.1',
			CONSTELLATION_DEVICES: JSON.stringify([
				{ device_id: 'd', server_url: `ws://${at}`, fingerprint },
			]),
		};
		const connected = () =>
			until('a connection', async () => (await service.client.robot('d')).connected);
		service.start(env);
		await service.ready();
		await connected();
		const script = `echo once >> ${data}/runs; while [ ! -e ${data}/go ]; do sleep 0.05; done; echo done`;
		const { jobId } = await service.client.submit({
			kind: 'command',
			spec: { shell: script },
			target: { robot: 'd' },
		});
		await until('a running program', () => existsSync(join(data, 'runs')));
		for (let kills = 0; kills < 3; kills += 1) {
			await service.kill();
			service.start(env);
			await service.ready();
			await connected();
		}
		writeFileSync(join(data, 'go'), '');
		expect(await service.client.job(jobId, 30_000)).toMatchObject({
			state: 'completed',
			attempt: 1,
			result: { stdout: 'done\n' },
		});
		expect((await service.client.robots()).map(({ name }) => name)).toEqual(['d']);
	} finally {
		await agent.stop();
		await service.stop();
	}
});

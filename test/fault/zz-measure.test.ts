import { readFileSync } from 'node:fs';
import { eventually, OneService } from './one-service';
jest.setTimeout(200_000);
const rss = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
const hwm = (pid: number) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
const cpu = (pid: number) => { const f = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' '); return (Number(f[11]) + Number(f[12])) / 100; };
test('measure', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		const agent = await house.agent('anna');
		console.log('idle rss agent', rss(agent.pid!), 'service', rss(service.pid!));
		for (const shell of ['head -c 60000000 /dev/zero', 'head -c 60000000 /dev/urandom', 'head -c 2000000000 /dev/zero']) {
			const t = performance.now(); const c = [cpu(agent.pid!), cpu(service.pid!)];
			const { jobId } = await service.client.submit({ kind: 'command', spec: { shell } });
			await eventually('end', async () => (await service.client.job(jobId)).state === 'completed', 100_000);
			const t2 = performance.now();
			await eventually('complete', async () => (await service.client.job(jobId)).output.complete, 100_000);
			console.log(shell, 'end', Math.round(t2 - t), 'complete', Math.round(performance.now() - t), 'ms; cpu agent', (cpu(agent.pid!) - c[0]!).toFixed(2), 'service', (cpu(service.pid!) - c[1]!).toFixed(2), 'rss agent', rss(agent.pid!), hwm(agent.pid!), 'service', rss(service.pid!), hwm(service.pid!), JSON.stringify((await service.client.job(jobId)).output));
		}
	});
});

/** Who collects, and since when. The bundle is only built for a package: here its source is in its place. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Collector } from '../../../nodes/shared/embedded-collect';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';
import { FakeExecution } from './fake-n8n';
import { FakeService } from './fake-service';

jest.mock(
	'../../../embedded/service.js',
	() =>
		jest.requireActual<typeof import('../../../dispatcher/collect')>('../../../dispatcher/collect'),
	{ virtual: true },
);

const place = globalThis as { [key: symbol]: Collector | undefined };
const key = Symbol.for('robot-fleet.collector.v1');
const before = process.env.ROBOT_FLEET_DATA;
let folder: string;

beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-collect-'));
	process.env.ROBOT_FLEET_DATA = folder;
});
afterEach(() => {
	place[key]?.close();
	delete place[key];
	if (before === undefined) delete process.env.ROBOT_FLEET_DATA;
	else process.env.ROBOT_FLEET_DATA = before;
	rmSync(folder, { recursive: true });
});

/** As n8n loads our files again after an update of the package. */
function loaded(): () => Collector {
	let collector!: () => Collector;
	jest.isolateModules(() => {
		({ collector } = jest.requireActual<typeof import('../../../nodes/shared/embedded-collect')>(
			'../../../nodes/shared/embedded-collect',
		));
	});
	return collector;
}

test('after an update the code of before has its pokes fetched by the new collector', () => {
	const [older, newer] = [loaded(), loaded()];
	const first = older();
	const second = newer();
	expect(second).not.toBe(first);
	expect(older()).toBe(second);
	expect(newer()).toBe(second);
	expect(second.secret).toBe(first.secret);
});

test('a service is asked for pokes only once it has taken a wait', async () => {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	Object.assign(execution.credential, { reach: 'collect', url: 'http://127.0.0.1:9' });
	const jobId = service.addJob();
	const execute = async () =>
		await new WaitForExecution().execute.call(execution.asExecute({ jobId }));
	const asked = () => {
		const file = join(folder, 'collector.json');
		if (!existsSync(file)) return [];
		return (JSON.parse(readFileSync(file, 'utf8')) as { services: string[] }).services;
	};
	service.away = true;
	await expect(execute()).rejects.toThrow('does not answer');
	expect(asked()).toEqual([]);
	service.away = false;
	await execute();
	expect(asked()).toEqual(['http://127.0.0.1:9']);
});

/** Devices in the settings of the service, and the commands that make and check the file. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { checkConfig, readConfig } from '../../../dispatcher/config';
import { sampleConstellation } from '../../../protocol';
import { seedConstellation } from '../../support/seed-constellation';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'rf-constellation-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const fileWith = (value: unknown) => {
	const file = join(folder, 'constellation_config.json');
	writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
	return file;
};
const mistakesOf = (sources: Parameters<typeof checkConfig>[0]) => {
	const checked = checkConfig(sources);
	return 'mistakes' in checked ? checked.mistakes : [];
};

test('the file of the seed is taken by serve --config as it is; its heartbeat is that of the service', () => {
	const config = readConfig({ file: fileWith(seedConstellation) });
	expect(config.constellation!.devices).toHaveLength(2);
	expect(config.server.heartbeatMs).toBe(30_000);
	expect(config.reconnectDelayMs).toBe(5_000);
	expect(config.shown).toMatchObject({
		constellation: 'my_constellation',
		maxConcurrentTasks: 8,
		devices: 2,
	});
	expect(config.warnings).toHaveLength(2);
});

test('settings of the service may stand beside the devices, and win over its heartbeat', () => {
	const file = fileWith({ ...JSON.parse(seedConstellation), port: 1, heartbeatInterval: 3 });
	const { server, constellation } = readConfig({ file });
	expect([server.port, server.heartbeatMs]).toEqual([1, 3_000]);
	expect(constellation!.constellationId).toBe('my_constellation');
	expect(readConfig({ file, env: { HEARTBEAT_INTERVAL: '7' } }).server.heartbeatMs).toBe(7_000);
});

test('without devices there is no constellation, and nothing else has changed', () => {
	expect(readConfig({ file: fileWith({ port: 1 }) }).constellation).toBeUndefined();
	expect(readConfig({}).constellation).toBeUndefined();
});

test('each field may be said by a variable, which wins over the file; devices are JSON in one', () => {
	const devices = [{ device_id: 'from_env', capabilities: ['x'] }];
	const env = {
		CONSTELLATION_ID: 'mine',
		CONSTELLATION_HEARTBEAT_INTERVAL: '2',
		CONSTELLATION_RECONNECT_DELAY: '1.5',
		CONSTELLATION_MAX_CONCURRENT_TASKS: '3',
		CONSTELLATION_DEVICES: JSON.stringify(devices),
	};
	for (const sources of [{ env }, { env, file: fileWith(seedConstellation) }]) {
		const { constellation, server, reconnectDelayMs } = readConfig(sources);
		expect(constellation).toMatchObject({ constellationId: 'mine', maxConcurrentTasks: 3 });
		expect(constellation!.devices.map(({ deviceId }) => deviceId)).toEqual(['from_env']);
		expect([server.heartbeatMs, reconnectDelayMs]).toEqual([2_000, 1_500]);
	}
});

test('mistakes of settings, file and variables are said together, each by its own name', () => {
	const file = fileWith({ devices: [{ device_id: 'a', server_url: 'x' }], prot: 1 });
	const env = { CONSTELLATION_MAX_CONCURRENT_TASKS: 'many', ROBOT_FLEET_PORT: 'here' };
	const mistakes = mistakesOf({ file, env });
	expect(mistakes).toHaveLength(4);
	expect(mistakes.join('\n')).toMatch(/devices\[0\]\.server_url is "x", it must be a ws:/);
	expect(mistakes.join('\n')).toMatch(/CONSTELLATION_MAX_CONCURRENT_TASKS is "many", it must/);
	expect(mistakes.join('\n')).toMatch(/prot in .* is not a setting/);
	expect(mistakes.join('\n')).toMatch(/ROBOT_FLEET_PORT is "here"/);
	expect(() => readConfig({ file, env })).toThrow(/Settings are wrong/);
	expect(mistakesOf({ env: { CONSTELLATION_DEVICES: '[' } })).toEqual([
		'CONSTELLATION_DEVICES is not valid JSON, it must be a list of devices',
	]);
});

async function run(...args: string[]) {
	const said = { out: '', err: '' };
	const world = {
		version: '0',
		env: {},
		out: (text: string) => void (said.out += text),
		err: (text: string) => void (said.err += text),
	} as unknown as ProgramWorld;
	return { code: await runProgram(args, world), ...said };
}

test('config sample prints a file that config check takes, and overwrites nothing', async () => {
	const shown = await run('config', 'sample');
	expect(JSON.parse(shown.out)).toEqual(sampleConstellation);
	const file = join(folder, 'sample.json');
	expect(await run('config', 'sample', '--out', file)).toMatchObject({ code: 0, err: '' });
	expect(readFileSync(file, 'utf8')).toBe(shown.out);
	expect(await run('config', 'check', file)).toEqual({
		code: 0,
		out: 'OK: 2 devices of my_constellation, 1 of them to be dialled\n',
		err: '',
	});
	writeFileSync(file, 'mine');
	const again = await run('config', 'sample', '--out', file);
	expect(again.code).toBe(2);
	expect(again.err).toMatch(/There is already a file /);
	expect(readFileSync(file, 'utf8')).toBe('mine');
	const nowhere = join(folder, 'no', 'such');
	expect((await run('config', 'sample', '--out', nowhere)).code).toBe(2);
	expect(existsSync(nowhere)).toBe(false);
});

test('config check says every mistake on a line of its own, and what may not have been meant', async () => {
	const wrong = await run(
		'config',
		'check',
		fileWith({ devices: [{ device_id: '' }, { max_retries: 'x' }] }),
	);
	expect(wrong.code).toBe(1);
	expect(wrong.err.trimEnd().split('\n')).toHaveLength(3);
	const seed = await run('config', 'check', fileWith(seedConstellation));
	expect(seed).toMatchObject({
		code: 0,
		out: 'OK: 2 devices of my_constellation, 2 of them to be dialled\n',
	});
	expect(seed.err).toMatch(/note: windows_workstation has no fingerprint and is not dialled/);
	expect((await run('config', 'check', join(folder, 'none'))).err).toMatch(/does not exist/);
	expect((await run('config', 'check', fileWith({ port: 1 }))).out).toBe(
		'OK: settings of the service, no devices\n',
	);
});

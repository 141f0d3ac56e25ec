import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Problem } from '../../../protocol';
import { readConfig } from '../../../dispatcher/config';
import { prepareFolder } from '../../../dispatcher/startup';
import { nodeIsTooOld } from '../../../dispatcher/node-version';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'rf-config-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const fileWith = (value: unknown) => {
	const file = join(folder, 'config.json');
	writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
	return file;
};

test('nothing said means the documented defaults', () => {
	const config = readConfig({});
	expect(config.server).toMatchObject({
		host: '127.0.0.1',
		port: 8765,
		robotsListen: undefined,
		heartbeatMs: 15_000,
	});
	expect(config.engine).toMatchObject({ defaultJobTimeoutMs: 3_600_000, sweepMs: 5_000 });
	expect(config.dataFolder).toBe(join(homedir(), '.robot-fleet'));
});

test('flag wins over environment, environment over file, file over default', () => {
	const file = fileWith({ port: 1, host: 'a', publicUrl: 'http://file/' });
	const env = { ROBOT_FLEET_PORT: '2', ROBOT_FLEET_HOST: 'b' };
	const { server } = readConfig({ flags: { port: '3' }, env, file });
	expect([server.port, server.host, server.publicUrl]).toEqual([3, 'b', 'http://file']);
});

test('the names of the seed work, and ours win over them', () => {
	const env = {
		ORCHESTRATOR_HOST: '10.0.0.1',
		ORCHESTRATOR_PORT: '5000',
		DEFAULT_JOB_TIMEOUT: '60',
		DISPATCH_INTERVAL: '0.5',
		HEARTBEAT_INTERVAL: '3',
		LOG_LEVEL: 'WARNING',
	};
	const config = readConfig({ env });
	expect(config.server).toMatchObject({ host: '10.0.0.1', port: 5000, heartbeatMs: 3000 });
	expect(config.engine).toMatchObject({ defaultJobTimeoutMs: 60_000, sweepMs: 500 });
	expect(config.logLevel).toBe('warn');
	expect(readConfig({ env: { ...env, ROBOT_FLEET_PORT: '1' } }).server.port).toBe(1);
});

test('all mistakes are told at once, each by the name that was used', () => {
	const file = fileWith({ prot: 1, dispatchInterval: 'often' });
	const text = (() => {
		try {
			readConfig({
				flags: { port: '99999' },
				env: { LOG_LEVEL: 'loud', ROBOT_FLEET_PUBLIC_URL: 'x', DEFAULT_JOB_TIMEOUT: '-1' },
				file,
			});
			return '';
		} catch (error) {
			return (error as Error).message;
		}
	})();
	for (const part of [
		'--port is "99999"',
		'LOG_LEVEL is "loud"',
		'ROBOT_FLEET_PUBLIC_URL is "x"',
		'DEFAULT_JOB_TIMEOUT is "-1"',
		'prot in',
		'dispatchInterval in',
	]) {
		expect(text).toContain(part);
	}
});

test('an empty environment variable is as good as none', () => {
	expect(readConfig({ env: { ROBOT_FLEET_PORT: '' } }).server.port).toBe(8765);
});

test('a file that is missing, or no JSON object, is a mistake like any other', () => {
	expect(() => readConfig({ file: join(folder, 'none.json') })).toThrow('does not exist');
	expect(() => readConfig({ file: fileWith('{') })).toThrow('is not valid JSON');
	expect(() => readConfig({ file: fileWith([]) })).toThrow('must hold one JSON object');
});

test('settings are frozen, and what is shown hides passwords', () => {
	const config = readConfig({ env: { ROBOT_FLEET_N8N_URL: 'http://me:hunter2@n8n:5678' } });
	expect(() => Object.assign(config.server, { port: 1 })).toThrow(TypeError);
	expect(JSON.stringify(config.shown)).not.toContain('hunter2');
});

test('a data folder that is a file is refused with the command that mends it', () => {
	const file = fileWith({});
	expect(() => prepareFolder(file)).toThrow(/it is a file\); run: mv /);
	expect(() => prepareFolder(join(file, 'below'))).toThrow('cannot be used');
});

test('a Node that is too old is told at once which one carries a safe SQLite, too', () => {
	const needed = 'use the newest Node 24, or Node 22.22.3 or newer (22.x only).';
	for (const code of ['node-too-old', 'sqlite-unsafe'] as const) {
		expect(new Problem(code, { found: '1.2.3' }).message).toContain(needed);
	}
});

test('Node 22.16 is the oldest that can be asked for its SQLite', () => {
	expect(['20.19.0', '22.15.9', '22.16.0', '24.0.0'].map(nodeIsTooOld)).toEqual([
		true,
		true,
		false,
		false,
	]);
});

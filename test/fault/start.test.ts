/** A start that fails says at which step: in its sentence, in a log line, in its exit code. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type StartStep, startSteps } from '../../dispatcher/steps';
import type { ServiceProgram } from '../support/programs';
import { OneService } from './one-service';

jest.setTimeout(120_000);

/** The next start must fail at this step; answers the sentence. */
async function failsAt(service: ServiceProgram, step: StartStep): Promise<string> {
	const before = service.logged().length;
	service.start();
	expect(await service.exit).toBe(startSteps[step]);
	const lines = service.logged().slice(before).split('\n').filter(Boolean);
	const sentences = lines.filter((line) => !line.startsWith('{'));
	expect(sentences).toHaveLength(1);
	expect(sentences[0]).toMatch(new RegExp(`^${step}: `));
	const said = lines
		.filter((line) => line.startsWith('{'))
		.map((line) => JSON.parse(line) as Record<string, unknown>)
		.find(({ msg }) => msg === 'the start failed');
	expect(said).toMatchObject({ step, exitCode: startSteps[step], ms: expect.any(Number) });
	return sentences[0]!;
}

test('each step that fails is named, what was opened is closed again, and the next start is whole', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		const started = service
			.logged()
			.split('\n')
			.find((line) => line.includes('"msg":"started"'))!;
		const { ms } = JSON.parse(started) as { ms: Record<string, number> };
		expect(Object.keys(ms)).toEqual(Object.keys(startSteps));
		const store = join(service.data, 'robot-fleet.db');
		await service.stop();

		const edit = (sql: string) => {
			const db = new DatabaseSync(store);
			db.exec(sql);
			db.close();
		};
		const other = createServer();
		await new Promise<void>((open) => other.listen(service.port, '127.0.0.1', open));
		expect(await failsAt(service, 'listen')).toContain(`Port ${service.port}`);
		await new Promise((closed) => other.close(closed));

		rmSync(join(service.data, 'n8n.key'));
		mkdirSync(join(service.data, 'n8n.key'));
		await failsAt(service, 'keys');
		rmSync(join(service.data, 'n8n.key'), { recursive: true });

		edit("INSERT INTO meta (key, value) VALUES ('restored', 'rubbish')");
		await failsAt(service, 'engine');
		edit("DELETE FROM meta WHERE key = 'restored'");

		const [{ user_version: schema }] = query(store);
		edit('PRAGMA user_version = 999');
		expect(await failsAt(service, 'migrate')).toContain(`schema 999, this one knows ${schema}`);
		edit(`PRAGMA user_version = ${schema}`);

		service.start();
		await service.ready();
		expect(await service.stop()).toBe(0);

		writeFileSync(store, Buffer.alloc(8192, 'rubbish'));
		expect(await failsAt(service, 'store')).toContain('robot-fleet restore FILE --force');
		rmSync(service.data, { recursive: true });
		writeFileSync(service.data, '');
		expect(await failsAt(service, 'data folder')).toContain('it is a file');
		rmSync(service.data);
	});
});

function query(file: string) {
	const db = new DatabaseSync(file, { readOnly: true });
	try {
		return db.prepare('PRAGMA user_version').all() as [{ user_version: number }];
	} finally {
		db.close();
	}
}

/** Whoever reads what the command line prints may have seen enough: `| head`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { programEnv } from '../support/programs';
import { OneService } from './one-service';

jest.setTimeout(120_000);

test('a command ends like any other program, without a stack', async () => {
	await OneService.use(async ({ folder, service }) => {
		const program = join(folder, 'programs', 'robot-fleet.js');
		// The only end that was read is closed before anything is written there.
		const cut = async (...words: string[]) => {
			const child = spawn(process.execPath, [program, ...words, '--data', service.data], {
				env: programEnv(),
				stdio: ['ignore', 'pipe', 'pipe'],
			});
			child.stdout.destroy();
			let err = '';
			child.stderr.on('data', (piece) => (err += String(piece)));
			const [code] = await once(child, 'close');
			return { code, err };
		};
		expect(await cut('robots', 'list')).toEqual({ code: 141, err: '' });
		expect(await cut('watch', '--json')).toEqual({ code: 141, err: '' });
	});
});

(existsSync('/dev/full') ? test : test.skip)(
	'a disk without room for its log is no end of a service',
	async () => {
		await OneService.use(async ({ service }) => {
			await service.kill();
			// In place of the file.
			rmSync(service.log);
			symlinkSync('/dev/full', service.log);
			service.start();
			await service.ready();
			expect(await service.client.me()).toMatchObject({ name: 'admin' });
		});
	},
);

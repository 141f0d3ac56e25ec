/** Whoever reads what the command line prints may have seen enough: `| head`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
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

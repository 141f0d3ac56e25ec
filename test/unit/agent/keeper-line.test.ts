/** What becomes of what an agent has asked a keeper when the line between them breaks, or the keeper is killed. */
import fs, { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Held, KeeperWord } from '../../../agent/keeper/words';
import { KeeperGone } from '../../../agent/keeper/keeper';
import { silentKeeper } from './silent-keeper';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const attempt = { jobId: 'job', epoch: 1 };
const none = { length: 0, pieces: [], lost: [] };
const held: Held = {
	key: 'job-1',
	pid: 1,
	birth: null,
	ageMs: 0,
	output: { stdout: none, stderr: none },
	input: 0,
};

test('what was typed while the line broke is said again on the next one, and answered', async () => {
	const silent = await silentKeeper(folder());
	silent.held = [held];
	const ward = (await silent.keeper.find(attempt))!;
	const typed = ward.input(0, Buffer.from('one\n'), false);
	expect(await silent.next()).toMatchObject({ say: 'input', offset: 0 });
	silent.cut();
	const again = await silent.next();
	expect(again).toMatchObject({ say: 'input', key: 'job-1', offset: 0 });
	// It had been typed: the answer was lost, not the input.
	silent.say({ say: 'have', key: 'job-1', id: (again as { id: number }).id, have: 4 });
	expect(await typed).toBe(4);
	await silent.close();
});

test('what a keeper says behind a word that cannot be followed is heard', async () => {
	const silent = await silentKeeper(folder());
	silent.held = [held];
	const ward = (await silent.keeper.find(attempt))!;
	const typed = ward.input(0, Buffer.from('one\n'), false);
	const { id } = (await silent.next()) as { id: number };
	silent.say({ say: 'welcome' } as KeeperWord);
	silent.say({ say: 'have', key: 'job-1', id, have: 4 });
	expect(await typed).toBe(4);
	await silent.close();
});

test('what was typed into a program whose keeper is killed is refused, then and later', async () => {
	const silent = await silentKeeper(folder());
	silent.held = [held];
	const ward = (await silent.keeper.find(attempt))!;
	const typed = ward.input(0, Buffer.from('one\n'), false);
	await silent.next();
	await silent.die();
	await expect(typed).rejects.toThrow(KeeperGone);
	await expect(ward.input(0, Buffer.from('one\n'), false)).rejects.toThrow(KeeperGone);
	await silent.close();
});

test('a look that fails is no reason for the next one to, nor for a start', async () => {
	const silent = await silentKeeper(folder());
	silent.held = [held];
	// So long that its socket is reached through a handle of the folder.
	const home = join(folder(), 'x'.repeat(100));
	symlinkSync(join(folder(), 'silent'), home);
	const keeper = silent.agent(home);
	const full = jest.spyOn(fs, 'openSync').mockImplementationOnce(() => {
		throw new Error('EMFILE: too many open files');
	});
	await keeper.ready();
	expect(full).toHaveBeenCalledTimes(1);
	full.mockRestore();
	expect(keeper.isReady).toBe(false);
	expect(await keeper.find(attempt)).toBeDefined();
	expect(keeper.isReady).toBe(true);
	await keeper.close();
	await silent.close();
});

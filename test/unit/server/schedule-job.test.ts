/** Of a schedule that is there, flags change what they name: none is forgotten, none is lost. */
import { Command } from 'commander';
import { jobFlags, jobOver } from '../../../dispatcher/cli/schedule-job';
import { templateOf } from '../../../dispatcher/cli/schedule-flags';
import { type SubmitFlags, withJob } from '../../../dispatcher/cli/submit';
import type { Submit } from '../../../protocol';

const known: Submit = {
	kind: 'command',
	spec: { command: 'backup.sh', args: [] },
	target: { labels: { os: 'linux' } },
	strategy: 'round_robin',
	timeouts: { queueMs: 9 },
	retry: { factor: 3 },
	onLoss: 'fail',
};

test('every flag about a job is known as one', () => {
	const flags = withJob(new Command()).options.map((option) => option.attributeName());
	expect([...jobFlags].sort()).toEqual(flags.sort());
});

test.each<[SubmitFlags, Partial<Submit>]>([
	[{ pool: 'prod' }, { target: { labels: { os: 'linux' }, pool: 'prod' } }],
	[{ exclude: ['r1'] }, { target: { labels: { os: 'linux' }, exclude: ['r1'] } }],
	[{ strategy: 'random' }, { strategy: 'random' }],
	[{ affinityKey: 'shop' }, { affinityKey: 'shop' }],
	[{ preferWait: 5_000 }, { preferWaitMs: 5_000 }],
	[{ strict: true }, { strict: true }],
	[{ lock: [{ name: 'db' }] }, { locks: [{ name: 'db' }] }],
	[{ concurrency: { key: 'crm', max: 3 } }, { concurrency: { key: 'crm', max: 3 } }],
	[{ rate: { key: 'crm', max: 3, perMs: 1 } }, { rate: { key: 'crm', max: 3, perMs: 1 } }],
	[{ slots: 2 }, { slots: 2 }],
	[{ share: 'crm' }, { shareKey: 'crm' }],
	[{ timeout: 1, silence: 2 }, { timeouts: { queueMs: 9, runMs: 1, silenceMs: 2 } }],
	[{ startWithin: 1, answerWithin: 2 }, { timeouts: { queueMs: 1, inputMs: 2 } }],
	[{ tries: 1 }, { retry: { factor: 3, maxAttempts: 1 } }],
	[
		{ retryOn: ['exit:3'], retryDelay: 4 },
		{ retry: { factor: 3, on: ['exit:3'], initialDelayMs: 4 } },
	],
	[{ otherRobot: true }, { retry: { factor: 3, otherRobot: true } }],
	[{ lossAfter: 5 }, { onLoss: { then: 'fail', waitMs: 5 } }],
	[{ onLoss: 'retry' }, { onLoss: { then: 'retry' } }],
	[{ idempotent: true }, { idempotent: true }],
	[
		{ onDisconnect: 'stop', onHang: 'stop' },
		{ onDisconnect: 'stop', onHang: 'stop' },
	],
])('%j changes that, with and without a new command', (flags, change) => {
	expect(jobOver(known, [], flags, 0)).toEqual({ ...known, ...change });
	const spec = { command: 'other.sh', args: [] };
	expect(jobOver(known, ['other.sh'], flags, 0)).toEqual({ ...known, spec, ...change });
});

test('beside a job in a file each is refused, by the name that was typed', () => {
	expect(() => templateOf([], { job: 'j.json', exclude: ['r1'] }, 0)).toThrow(/^--exclude goes/);
	expect(() => templateOf([], { job: 'j.json', preferWait: 1 }, 0)).toThrow(/^--prefer-wait goes/);
});

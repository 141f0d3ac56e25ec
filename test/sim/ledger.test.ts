/** The ledger finds every deed that breaks a law, however willingly the store took it. */
import { policyText, retryDefaults, type Policy } from '../../dispatcher/core/retry';
import type { Deed, DeedAnswer, Deeds } from '../../dispatcher/store/store';
import type { Violation } from '../support/history';
import { Ledger } from './ledger';

const policy: Policy = {
	timeouts: { startMs: 1, runMs: 1 },
	retry: retryDefaults,
	onLoss: { waitMs: 1_000, then: 'unknown' },
	onDisconnect: 'continue',
	onHang: 'report',
	idempotent: false,
};

type Taken = [Deed, DeedAnswer];

const insert = (more: Partial<Policy> = {}): Taken => [
	{
		do: 'insertJob',
		with: {
			job: { id: 'a', state: 'queued', lane: '', policy: policyText({ ...policy, ...more }) },
		} as Deeds['insertJob']['in'],
	},
	null,
];
const assign = (number: number, epoch = number * 10): Taken => [
	{
		do: 'assign',
		with: { jobId: 'a', tell: false, attempt: { number, epoch, token: '', robotId: 'r', at: 0 } },
	},
	true,
];
const start = (epoch = 10): Taken => [
	{ do: 'start', with: { jobId: 'a', number: 1, epoch, at: 0 } },
	true,
];
const settle = (more: Partial<Deeds['settle']['in']> = {}): Taken => [
	{
		do: 'settle',
		with: {
			jobId: 'a',
			number: 1,
			epoch: 10,
			from: 'running',
			at: 0,
			by: 'robot',
			outcome: 'completed',
			cause: null,
			result: null,
			reason: '',
			next: { to: 'completed', cause: null, error: null },
			countTry: true,
			countLoss: false,
			...more,
		},
	},
	true,
];
const move = (to: 'cancelled' | 'queued' | 'failed', more: object = {}): Taken => [
	{
		do: 'moveJob',
		with: { jobId: 'a', from: [], to, cause: null, reason: '', by: '', at: 0, ...more },
	},
	true,
];
const cancel: Taken = [{ do: 'requestCancel', with: { jobId: 'a', epoch: 10, at: 0 } }, true];
const again = { to: 'pending' as const, readyAt: 0, rank: 0, dueAt: 0 };
const queued = { to: 'queued' as const, readyAt: 0, rank: 0, dueAt: null };
const startParent: Taken = [
	{
		do: 'startParent',
		with: {
			parentId: 'a',
			from: 'queued',
			at: 0,
			common: { state: 'queued', policy: policyText(policy) },
			children: [{ id: 'b', lane: '' }],
		} as unknown as Deeds['startParent']['in'],
	},
	true,
];
const settleParent: Taken = [
	{
		do: 'settleParent',
		with: { parentId: 'a', at: 0 } as Deeds['settleParent']['in'],
	},
	'completed',
];
const fire: Taken = [
	{
		do: 'fire',
		with: {
			scheduleId: 's',
			origin: 'planned',
			plannedAt: 5,
			at: 5,
			state: 'ran',
			reason: null,
			jobId: null,
			nextRunAt: null,
		},
	},
	true,
];

function broken(...taken: Taken[]): string[] {
	const found: Violation[] = [];
	const ledger = new Ledger({
		now: () => 0,
		breaks: (violation) => found.push(violation),
		note: () => undefined,
		checkLoss: () => undefined,
	});
	ledger.took(
		taken.map(([deed]) => deed),
		taken.map(([, answer]) => answer),
	);
	return found.map(({ law }) => law);
}

const refused = { outcome: 'refused', cause: 'refused' as const, from: 'dispatched' as const };
const unknown = { outcome: 'failed', cause: 'unknown' as const };

test('a job that is run, retried with leave and completed breaks no law', () => {
	const tempfail = {
		outcome: 'failed',
		cause: 'exit_code' as const,
		result: '{"exitCode":75}',
		next: again,
	};
	const taken = [insert(), assign(1), start(), settle(tempfail), move('queued'), assign(2)];
	const last = settle({ epoch: 20, number: 2, from: 'dispatched', startedAt: 0 });
	expect(broken(...taken, last, fire)).toEqual([]);
});

test('a deed that the store did not take counts for nothing', () => {
	expect(broken(insert(), [assign(1)[0], null], [settle()[0], false])).toEqual([]);
});

test.each<[law: string, what: string, taken: Taken[]]>([
	['I2', 'a deed for a job that nobody inserted', [assign(1)]],
	['I13', 'a job that is inserted twice', [insert(), insert()]],
	['I3', 'a final state that changes', [insert(), move('failed'), move('queued')]],
	['I3', 'a second end', [insert(), move('failed'), move('cancelled')]],
	[
		'I5',
		'an epoch that does not rise',
		[insert(), assign(1), settle({ ...refused, next: queued }), assign(2, 10)],
	],
	['I5', 'an attempt that is missing', [insert(), assign(2)]],
	['I5', 'a write of an old epoch', [insert(), assign(1), start(9)]],
	['I5', 'a result after the attempt is over', [insert(), assign(1), start(), settle(), settle()]],
	['I8', 'two live attempts', [insert(), assign(1), assign(2)]],
	['I8', 'a job moved past its live attempt', [insert(), assign(1), move('failed')]],
	[
		'I10',
		'an attempt after the cancel',
		[insert(), move('cancelled', { cancelRequestedAt: 1 }), assign(1)],
	],
	[
		'I10',
		'a cancelled job back in the queue',
		[insert(), assign(1), cancel, settle({ ...refused, next: queued })],
	],
	[
		'I11',
		'a move that the table does not know',
		[insert(), assign(1), start(), settle({ ...refused, from: 'running', next: queued })],
	],
	['I11', 'an end from a state it was not in', [insert(), assign(1), settle()]],
	['I14', 'an occurrence that fires twice', [fire, fire]],
	['parents', 'a parent that ends before its child', [insert(), startParent, settleParent]],
	[
		'leave',
		'another try after nobody could know',
		[insert(), assign(1), start(), settle({ ...unknown, next: again })],
	],
	[
		'leave',
		'another try after a loss that is not to be retried',
		[
			insert(),
			assign(1),
			start(),
			settle({ outcome: 'lost', cause: 'robot_lost', next: again, countLoss: true }),
		],
	],
	[
		'leave',
		'more tries than allowed',
		[
			insert({ idempotent: true, retry: { ...retryDefaults, maxAttempts: 1 } }),
			assign(1),
			start(),
			settle({ ...unknown, next: again }),
		],
	],
])('%s: the ledger finds %s', (law, _what, taken) => {
	expect(broken(...taken)).toContain(law);
});

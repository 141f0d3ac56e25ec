/** Bodies of the calls that are not about one job: waits, schedules, subscriptions, tokens, keys, enrollment. */
import { type Static, Type } from 'typebox';
import { limits } from '../limits';
import { waitCounts } from '../services';
import type {
	BroadcastRequest,
	CollectedRequest,
	CollectRequest,
	EnrolRequest,
	KeyRequest,
	ShutdownRequest,
	SubscriptionRequest,
	TokenRequest,
	WaitRequest,
} from '../services';
import { eventFilter } from './events';
import { count, duration, id, instant, labels, name, robotName, type Same, strict } from './words';

const collector = Type.String({
	description:
		'A secret of n8n’s own, where the service cannot reach it: whoever knows it collects the pokes.',
	minLength: 32,
	maxLength: 128,
	pattern: '^[A-Za-z0-9_-]+$',
	patternText: 'may hold letters, digits and _ - only',
});

export const waitRequest = Type.Object(
	{
		jobIds: Type.Array(id('Id of a job'), {
			description: 'The jobs waited for.',
			minItems: 1,
			maxItems: limits.maxSubmitBatch,
		}),
		until: Type.Optional(
			Type.Union(
				[
					Type.Enum(['all', 'any']),
					Type.Object(
						{ count: Type.Integer({ minimum: 1, maximum: limits.maxSubmitBatch }) },
						strict,
					),
				],
				{ description: 'How many of them must be final. Default all.' },
			),
		),
		counts: Type.Optional(
			Type.Enum([...waitCounts], {
				description:
					'Which of them count: those that have ended (default), or the completed ones only; then the wait is over, too, when so many cannot complete any more.',
			}),
		),
		eachRobot: Type.Optional(
			Type.Boolean({
				description: 'A job for several robots counts as one for each of them. Default false.',
			}),
		),
		cancelRest: Type.Optional(
			Type.Boolean({
				description:
					'Cancel the jobs that are still open when that is decided; not when only the time is over. Default false.',
			}),
		),
		cancelOnStop: Type.Optional(
			Type.Boolean({
				description:
					'Cancel open jobs when the execution was stopped or deleted while it was parked. Default false.',
			}),
		),
		collector: Type.Optional(collector),
		deadlineAt: Type.Optional(instant('When the wait ends with timedOut, whatever the jobs do.')),
		limitMs: Type.Optional(
			Type.Integer({
				description:
					'The same, counted from when it is registered; the earlier of the two counts. Milliseconds.',
				minimum: 0,
				// Whoever means "for ever" gives years; a date that far from now still exists.
				maximum: Date.UTC(9_000, 0),
			}),
		),
		resumeUrl: Type.Optional(
			Type.String({
				description: 'Where to POST the poke; absent = a wait that is only polled.',
				maxLength: 4096,
				pattern: '^https?://[^\\s]+$',
				patternText: 'must be an http:// or https:// address',
				examples: ['http://127.0.0.1:5678/webhook-waiting/231'],
			}),
		),
		executionId: Type.Optional(id('The n8n execution')),
		nodeId: Type.Optional(id('The n8n node')),
	},
	strict,
);
true satisfies Same<Static<typeof waitRequest>, WaitRequest>;

export const collectRequest = Type.Object(
	{ collector, waitMs: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.maxWaitMs })) },
	strict,
);
true satisfies Same<Static<typeof collectRequest>, CollectRequest>;

export const collectedRequest = Type.Object(
	{
		collector,
		answers: Type.Array(
			Type.Object(
				{
					waitId: id('The wait of the poke'),
					status: Type.Integer({
						description: 'What n8n answered; 0 = nothing came back.',
						minimum: 0,
						maximum: 599,
					}),
					body: Type.Optional(
						Type.Unknown({ description: 'The body of that answer, if it was JSON.' }),
					),
				},
				strict,
			),
			{ maxItems: limits.maxSubmitBatch },
		),
	},
	strict,
);
true satisfies Same<Static<typeof collectedRequest>, CollectedRequest>;

export const subscriptionRequest = Type.Object(
	{
		filter: eventFilter,
		from: Type.Optional(
			Type.Enum(['now', 'start'], {
				description:
					'Where a new subscription starts. Default now. An existing one goes on where it was.',
			}),
		),
		backlogMs: Type.Optional(
			Type.Integer({
				minimum: 0,
				maximum: 10 ** 12,
				description:
					'Of what an existing one has not acknowledged, only what is at most so old is handed out; 0 = it begins from now. Default: all of it.',
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof subscriptionRequest>, SubscriptionRequest>;

export const acknowledge = Type.Object(
	{
		epoch: count('The epoch that PUT answered; it names this holder.'),
		cursor: count('All events up to this one are dealt with.'),
	},
	strict,
);

export const tokenRequest = Type.Object(
	{
		uses: Type.Optional(
			Type.Integer({
				description: 'How many robots may enroll with it. Default 1.',
				minimum: 1,
				maximum: 100_000,
			}),
		),
		ttlMs: Type.Optional(duration('How long it is good. Default 900,000.', 1000)),
		labels: Type.Optional(
			labels('Labels every robot enrolled with it carries; the robot cannot change them.'),
		),
	},
	strict,
);
true satisfies Same<Static<typeof tokenRequest>, TokenRequest>;

export const keyRequest = Type.Object(
	{
		name: name('Who or what uses the key; stands in the timeline.', ['n8n-production']),
		scopes: Type.Array(Type.Enum(['submit', 'read', 'cancel', 'operate', 'admin']), {
			description: 'What the key may do; admin includes all others.',
			minItems: 1,
			maxItems: 5,
		}),
		expiresAt: Type.Optional(instant('Default: never.')),
	},
	strict,
);
true satisfies Same<Static<typeof keyRequest>, KeyRequest>;

export const broadcastRequest = Type.Object(
	{
		action: Type.Optional(
			Type.Enum(['note', 'refresh'], {
				description:
					'note (default) goes into their logs; with refresh they look at their machines again.',
			}),
		),
		text: Type.Optional(Type.String({ description: 'Of a note.', minLength: 1, maxLength: 1_000 })),
		labels: Type.Optional(labels('Only robots that carry all of these.')),
	},
	strict,
);
true satisfies Same<Static<typeof broadcastRequest>, BroadcastRequest>;

export const shutdownRequest = Type.Object(
	{
		atOnce: Type.Optional(
			Type.Boolean({ description: 'Running jobs get no time to end. Default false.' }),
		),
	},
	strict,
);
true satisfies Same<Static<typeof shutdownRequest>, ShutdownRequest>;

const base64url = (description: string, minLength: number, maxLength: number) =>
	Type.String({
		description,
		minLength,
		maxLength,
		pattern: '^[A-Za-z0-9_-]+$',
		patternText: 'must be base64url',
	});

export const enrolRequest = Type.Object(
	{
		token: Type.String({
			description: 'The enrollment token, as printed.',
			minLength: 1,
			maxLength: 1024,
			pattern: '^[A-Za-z0-9._-]+$',
			patternText: 'must be a token as printed by: robot-fleet token create',
		}),
		publicKey: base64url('Ed25519, SPKI, base64url of the DER.', 40, 200),
		signature: base64url('Over enrolProof(token, publicKey), base64url.', 80, 100),
		name: Type.Optional(robotName('How the robot wants to be called. Default: its id.')),
	},
	strict,
);
true satisfies Same<Static<typeof enrolRequest>, EnrolRequest>;

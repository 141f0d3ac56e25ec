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
		'A secret of n8n’s own, for where the service cannot reach n8n: pokes are then not posted but handed to whoever knows the secret.',
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
				{ description: 'How many of the jobs to wait for. Default all.' },
			),
		),
		counts: Type.Optional(
			Type.Enum([...waitCounts], {
				description:
					'Which of them count: all that have ended, however they did (default), or only those that completed. Then the wait is also over once that many can no longer complete.',
			}),
		),
		eachRobot: Type.Optional(
			Type.Boolean({
				description: 'A job for several robots counts once for each of them. Default false: once.',
			}),
		),
		cancelRest: Type.Optional(
			Type.Boolean({
				description:
					'Cancel the jobs still open once that is decided; not when only the time is over. Default false.',
			}),
		),
		cancelOnStop: Type.Optional(
			Type.Boolean({
				description:
					'Cancel open jobs if the execution is stopped or deleted while it is parked. Default false.',
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
					'Where a new subscription starts. Default now. An existing one continues where it was.',
			}),
		),
		backlogMs: Type.Optional(
			Type.Integer({
				minimum: 0,
				maximum: 10 ** 12,
				description:
					'Of what an existing one has not acknowledged, hand out only what is at most this old; 0 = start from now. Default: all of it.',
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof subscriptionRequest>, SubscriptionRequest>;

export const acknowledge = Type.Object(
	{
		epoch: count('The epoch that PUT answered; it identifies this holder.'),
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
		ttlMs: Type.Optional(duration('How long it is valid. Default 900,000.', 1000)),
		labels: Type.Optional(
			labels('Labels every robot enrolled with it carries; the robot cannot change them.'),
		),
	},
	strict,
);
true satisfies Same<Static<typeof tokenRequest>, TokenRequest>;

export const keyRequest = Type.Object(
	{
		name: name('Who or what uses the key; shown in the timeline.', ['n8n-production']),
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
		text: Type.Optional(
			Type.String({ description: 'The text of a note.', minLength: 1, maxLength: 1_000 }),
		),
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
		name: Type.Optional(robotName('The name that the robot asks for. Default: its id.')),
	},
	strict,
);
true satisfies Same<Static<typeof enrolRequest>, EnrolRequest>;

/** What `POST /jobs` takes. `spec` is opaque here: its shape belongs to the kind. */
import { type Static, Type } from 'typebox';
import type { Submit } from '../job';
import { limits } from '../limits';
import { maxWeight, strategies } from '../placement';
import { causes } from '../states';
import { caps } from './caps';
import { takes } from './gates';
import { offline } from './offline';
import { away, rollout } from './rollout';
import { watch } from './watch';
import {
	clientName,
	duration,
	id,
	instant,
	labels,
	name,
	robotName,
	type Same,
	shareKey,
	strict,
	word,
} from './words';

export const target = Type.Object(
	{
		robot: Type.Optional(
			robotName('Id or name of one robot; the job waits for it while it is away.'),
		),
		labels: Type.Optional(labels('Labels the robot must carry, exactly.')),
		capabilities: Type.Optional(
			Type.Array(word('A capability', ['docker']), {
				description: 'Capabilities the robot must offer.',
				maxItems: 64,
			}),
		),
		client: Type.Optional(
			clientName(
				'Name of the robot’s client that does the job. Default: any free one, where a robot has clients.',
			),
		),
		group: Type.Optional(id('The robot must be in this group, or in a group inside it.')),
		pool: Type.Optional(id('The robot must be in this pool.')),
		tags: Type.Optional(
			Type.Array(word('The name of a label', ['gpu']), {
				description: 'Labels the robot must carry, whatever their value.',
				maxItems: 64,
			}),
		),
		environment: Type.Optional(
			name('The value that the robot’s label environment must have.', ['production']),
		),
		exclude: Type.Optional(
			Type.Array(robotName('Id or name of one robot'), {
				description: 'Robots that must not get the job.',
				maxItems: 64,
			}),
		),
		prefer: Type.Optional(
			Type.Array(
				Type.Object(
					{
						robot: Type.Optional(robotName('Id or name of one robot.')),
						labels: Type.Optional(labels('Labels, all of them.')),
						weight: Type.Optional(
							Type.Integer({
								description: 'What it is worth; below zero = rather not. Default 1.',
								minimum: -maxWeight,
								maximum: maxWeight,
							}),
						),
					},
					strict,
				),
				{
					description: 'Robots the job would rather have; it takes others too.',
					maxItems: 16,
					examples: [[{ labels: { disk: 'ssd' }, weight: 10 }]],
				},
			),
		),
		mode: Type.Optional(
			Type.Union(
				[
					Type.Enum(['one', 'all']),
					Type.Object({ count: Type.Integer({ minimum: 1, maximum: limits.maxChildren }) }, strict),
					Type.Object({ perLabel: word('One for each value of this label', ['site']) }, strict),
					Type.Object({ perGroup: id('One for each group right inside this group.') }, strict),
					Type.Object(
						{
							robots: Type.Array(robotName('Id or name of one robot'), {
								description: 'Exactly these.',
								minItems: 1,
								maxItems: limits.maxChildren,
							}),
						},
						strict,
					),
				],
				{
					description:
						'How many of the robots that match run it. Default one. With anything else each robot chosen gets a child of this job.',
					examples: ['all', { count: 3 }, { perLabel: 'site' }],
				},
			),
		),
		away: Type.Optional(away),
	},
	{
		...strict,
		description: 'Where the job may run. Nothing set = any robot; all that is set must hold.',
	},
);

export const variables = Type.Record(
	Type.String({ pattern: '^(?!__proto__$)[A-Za-z_][A-Za-z0-9_.-]{0,127}$' }),
	Type.Union([
		Type.String({ maxLength: limits.maxCommandBytes }),
		Type.Number(),
		Type.Boolean(),
		Type.Null(),
	]),
	{
		description:
			'Values for the work: {{name}} in args, cwd, env and stdin; ROBOT_FLEET_VAR_NAME in the environment.',
		examples: [{ version: '1.4.2' }],
		maxProperties: 256,
		additionalProperties: false,
		patternText:
			'a variable name may hold letters, digits and _ . - only (at most 128), and starts with a letter or _',
	},
);

export const priority = Type.Union(
	[
		Type.Enum(['critical', 'high', 'normal', 'low']),
		Type.Literal(0),
		Type.Literal(1),
		Type.Literal(2),
		Type.Literal(3),
	],
	{ description: 'Default normal. Numbers: 3 = critical … 0 = low.', examples: ['high'] },
);

const lossThen = Type.Enum(['unknown', 'retry', 'fail']);

const retryOn = `^(?:exit:(?:[0-9]{1,3})|${Object.keys(causes).join('|')})$`;

export const submit = Type.Object(
	{
		kind: Type.String({
			description: 'What sort of job; see GET /kinds.',
			minLength: 1,
			maxLength: 64,
			examples: ['command'],
		}),
		spec: Type.Unknown({
			description: 'What to do, in the shape of the kind.',
			examples: [{ command: 'uname', args: ['-a'] }],
		}),
		target: Type.Optional(target),
		priority: Type.Optional(priority),
		variables: Type.Optional(variables),
		timeouts: Type.Optional(
			Type.Object(
				{
					queueMs: Type.Optional(
						duration('Longest stay in pending and queued. Default: no limit.', 1),
					),
					startMs: Type.Optional(
						duration(`How long the robot may take to answer. Default ${limits.acceptMs}.`, 1),
					),
					runMs: Type.Optional(duration('Longest run of one attempt. Default by kind.', 1)),
					silenceMs: Type.Optional(
						duration('Longest silence of a running attempt. Default: no limit.', 1),
					),
					inputMs: Type.Optional(
						duration(
							`How long a program that asks for input waits for an answer. Default ${limits.inputMs}.`,
							1,
						),
					),
					deadlineAt: Type.Optional(instant('The job ends by then, whatever it is doing.')),
				},
				strict,
			),
		),
		retry: Type.Optional(
			Type.Object(
				{
					maxAttempts: Type.Optional(
						Type.Integer({
							description: 'All tries together, including the first. Default 3.',
							minimum: 1,
							maximum: 1000,
						}),
					),
					initialDelayMs: Type.Optional(duration('Default 1,000.')),
					maxDelayMs: Type.Optional(duration('Default 60,000.')),
					factor: Type.Optional(
						Type.Number({ description: 'Default 2.', minimum: 1, maximum: 100 }),
					),
					jitter: Type.Optional(
						Type.Number({
							description: 'Share of the delay that is random. Default 0.2.',
							minimum: 0,
							maximum: 1,
						}),
					),
					on: Type.Optional(
						Type.Array(
							Type.String({
								pattern: retryOn,
								patternText: 'must be a cause such as robot_lost, or exit:N with an exit code',
							}),
							{
								description:
									'Causes worth another try, and exit:N for exit code N. Default: refused, spawn_error, infrastructure, exit:75.',
								maxItems: 64,
								examples: [['exit:75', 'spawn_error']],
							},
						),
					),
					otherRobot: Type.Optional(
						Type.Boolean({
							description:
								'Try again on another robot, as long as one that fits is enrolled. Default false.',
						}),
					),
				},
				strict,
			),
		),
		onLoss: Type.Optional(
			Type.Union(
				[
					Type.Object(
						{
							waitMs: Type.Optional(
								duration(
									`How long a robot may stay away before its attempt counts as lost. Default ${limits.lossWaitMs}.`,
								),
							),
							then: Type.Optional(lossThen),
						},
						strict,
					),
					lossThen,
				],
				{
					description:
						'What to do when nobody can know whether the command ran. A bare string sets `then`. Default unknown.',
				},
			),
		),
		onDisconnect: Type.Optional(
			Type.Enum(['continue', 'stop'], {
				description: 'What a robot does with the job while it has no link. Default continue.',
			}),
		),
		onHang: Type.Optional(
			Type.Enum(['report', 'stop'], {
				description:
					'What the robot does when the job no longer prints or computes. Default report.',
			}),
		),
		offline: Type.Optional(offline),
		watch: Type.Optional(watch),
		caps: Type.Optional(caps),
		idempotent: Type.Optional(
			Type.Boolean({
				description:
					'The work may safely run more than once: any failure is worth another try. For a lost robot `onLoss` decides.',
			}),
		),
		idempotencyKey: Type.Optional(
			name('The same key with the same request is the same job.', ['deploy-2026-05-01']),
		),
		notBefore: Type.Optional(instant('Not eligible before this instant.')),
		shareKey: Type.Optional(
			shareKey('Jobs of one key share the robots fairly with equally urgent jobs of other keys.'),
		),
		strategy: Type.Optional(
			Type.Enum([...strategies], {
				description:
					'Which of the free robots gets it. Default: the service’s own, least_loaded unless set.',
			}),
		),
		affinityKey: Type.Optional(
			name(
				'For affinity: what jobs have in common that should run where such jobs ran well. Default: same kind and spec.',
				['nightly-build'],
			),
		),
		preferWaitMs: Type.Optional(
			duration(
				'How long the job waits for a robot it prefers, or has affinity to, while only others are free. Default 0.',
			),
		),
		rollout: Type.Optional(rollout),
		...takes,
		dedupe: Type.Optional(
			Type.Union(
				[
					Type.Boolean(),
					Type.Object(
						{
							windowMs: Type.Optional(
								Type.Integer({
									description: `How long a job keeps duplicates of itself out. Default ${limits.dedupeWindowMs}. Milliseconds.`,
									minimum: 1,
									maximum: limits.maxDedupeWindowMs,
								}),
							),
						},
						strict,
					),
				],
				{
					description:
						'Refuse this job if the same API key submitted the same one (kind, spec, target, variables) a short time ago.',
				},
			),
		),
		strict: Type.Optional(
			Type.Boolean({
				description:
					'Refuse this job if no enrolled robot has everything it asks for. Default no: it waits for one.',
			}),
		),
	},
	{ ...strict, description: 'One job' },
);
true satisfies Same<Static<typeof submit>, Submit>;

/** The entries are checked one by one, each with its own answer; only the list itself is checked here. */
export const submitMany = Type.Object(
	{
		jobs: Type.Array(Type.Unknown(), {
			description: 'Many jobs at once; answered one by one, in order.',
			minItems: 1,
			maxItems: limits.maxSubmitBatch,
		}),
	},
	strict,
);

export const moveJob = Type.Object(
	{
		state: Type.Enum(
			['pending', 'queued', 'dispatched', 'running', 'completed', 'failed', 'timeout', 'cancelled'],
			{ description: 'The state the job should have; the table of moves decides whether it may.' },
		),
	},
	strict,
);

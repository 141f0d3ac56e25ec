/** Enrollment tokens: with one, a new machine becomes a robot. */
import type { TokenRecord } from '../../protocol';
import { now } from '../shared/clock';
import { BadParameter } from '../shared/refusals';
import { parseLabels } from '../shared/matching-fields';
import { asMany, locator, manyFields } from './fields';
import { type Ask, deleted, type Found, found, type Resource } from './operation';

const unitMs: Record<string, number> = { minutes: 60_000, hours: 3_600_000, days: 86_400_000 };

export const tokens: Resource = {
	title: 'Token',
	value: 'token',
	first: 'create',
	operations: [
		{
			name: 'Create',
			value: 'create',
			action: 'Create an enrollment token',
			description: 'Make a token with which new machines become robots; it is shown only once',
			fields: [
				{
					displayName: 'Uses',
					name: 'uses',
					type: 'number',
					typeOptions: { minValue: 1, numberPrecision: 0 },
					default: 1,
					description: 'How many robots it is good for',
				},
				{
					displayName: 'Valid For',
					name: 'validFor',
					type: 'number',
					typeOptions: { minValue: 1 },
					default: 15,
					description: 'How long the token can be used to enroll a machine',
				},
				{
					displayName: 'Unit',
					name: 'validUnit',
					type: 'options',
					options: [
						{ name: 'Days', value: 'days' },
						{ name: 'Hours', value: 'hours' },
						{ name: 'Minutes', value: 'minutes' },
					],
					default: 'minutes',
				},
				{
					displayName: 'Labels',
					name: 'labels',
					type: 'string',
					default: '',
					placeholder: 'e.g. site=berlin, os=linux',
					description:
						'Labels that every robot enrolled with it carries and cannot change, separated by commas',
				},
			],
			run: create,
		},
		{
			name: 'Delete',
			value: 'delete',
			action: 'Delete an enrollment token',
			description:
				'Make a token useless at once; robots that have already enrolled with it stay as they are',
			fields: [
				locator('token', 'Token', 'The token to act on', 'searchTokens', {
					displayName: 'By ID',
					placeholder: 'e.g. 5d0c1e7a9b3f',
				}),
			],
			run: async (ask) => {
				const tokenId = ask.chosen('token', 'Token');
				await ask.client.revokeToken(tokenId);
				return deleted({ tokenId });
			},
		},
		{
			name: 'Get Many',
			value: 'getAll',
			action: 'Get many enrollment tokens',
			description: 'Get many enrollment tokens, without their secrets',
			fields: [
				...manyFields,
				{
					displayName: 'Only Usable',
					name: 'onlyUsable',
					type: 'boolean',
					default: true,
					description: 'Whether to leave out tokens that are used up, expired or deleted',
				},
			],
			run: async (ask) => {
				const all = await ask.client.tokens();
				return asMany(ask, ask.value('onlyUsable', true) ? all.filter(isUsable) : all);
			},
		},
	],
};

/** Whether a robot can still enroll with it. */
export function isUsable({ uses, used, expiresAt, revokedAt }: TokenRecord): boolean {
	return revokedAt === null && used < uses && expiresAt > now();
}

async function create(ask: Ask): Promise<Found[]> {
	const unit = unitMs[ask.value('validUnit', 'minutes')];
	const ttlMs = Number(ask.value('validFor', 15)) * (unit ?? Number.NaN);
	if (!(ttlMs > 0)) {
		throw new BadParameter('The token would be valid for no time', 'Set "Valid For" above 0');
	}
	const created = await ask.client.createToken({
		uses: Number(ask.value('uses', 1)),
		ttlMs: Math.round(ttlMs),
		labels: parseLabels(ask.text('labels')),
	});
	const { dial, token } = created;
	return found({ ...created, command: `robot-fleet-agent --server ${dial} --token ${token}` });
}

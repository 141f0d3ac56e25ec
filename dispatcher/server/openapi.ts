/** This API as OpenAPI 3.1, made from the call table and the schemas the doors check with. */
import type { TSchema } from 'typebox';
import { type CallName, calls, paths } from '../../protocol';
import { answers } from '../../protocol/schemas';
import type { Door } from './door';

type Json = Record<string, unknown>;

export function openapiOf(doors: Partial<Record<CallName, Door>>, version: string): Json {
	const operations: Record<string, Json> = {};
	for (const [name, door] of Object.entries(doors) as [CallName, Door][]) {
		const call = calls[name];
		const path = call.path.startsWith('//') ? call.path.slice(1) : paths.api + call.path;
		(operations[path] ??= {})[call.method.toLowerCase()] = operationOf(name, door);
	}
	return {
		openapi: '3.1.0',
		info: {
			title: 'Robot Fleet',
			version,
			description:
				'Run work on a fleet of machines. Instants are epoch milliseconds (…At), durations milliseconds (…Ms).',
			license: { name: 'MIT', identifier: 'MIT' },
		},
		servers: [{ url: '/' }],
		paths: operations,
		components: {
			securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
			schemas: { Problem: plain(answers.problem) },
			responses: {
				Problem: {
					description: 'A refusal',
					content: json({ $ref: '#/components/schemas/Problem' }),
				},
			},
		},
	};
}

function operationOf(name: CallName, door: Door): Json {
	const call = calls[name];
	const inPath = [...call.path.matchAll(/\{(\w+)\}/g)].map(([, param]) => ({
		name: param,
		in: 'path',
		required: true,
		schema: { type: 'string' },
	}));
	return {
		operationId: name,
		summary: call.summary,
		tags: [call.path.split('/').find((part) => part !== '')],
		...(call.scope === null
			? { security: [] }
			: { security: [{ key: [] }], 'x-scope': call.scope }),
		parameters: [...inPath, ...queryOf(door.query)],
		...(door.stream && { requestBody: { required: true, content: bytes } }),
		...(door.body && {
			requestBody: {
				required: !door.bodyOptional,
				content: json(plain(door.bodyShown ?? door.body)),
			},
		}),
		...(door.bytes !== undefined && { requestBody: { required: true, content: bytes } }),
		responses: { ...answerOf(name, door), default: { $ref: '#/components/responses/Problem' } },
	};
}

function queryOf(query: TSchema | undefined): Json[] {
	const { properties = {}, required = [] } = (query ?? {}) as {
		properties?: Record<string, { description?: string }>;
		required?: string[];
	};
	return Object.entries(properties).map(([name, schema]) => ({
		name,
		in: 'query',
		required: required.includes(name),
		...(schema.description === undefined ? {} : { description: schema.description }),
		schema: plain(schema),
	}));
}

function answerOf(name: CallName, door: Door): Json {
	if (name === 'jobOutput') {
		return {
			200: {
				description: 'Stored bytes, or events that follow the job',
				headers: Object.fromEntries(
					['X-Output-From', 'X-Output-Have', 'X-Output-Complete'].map((header) => [
						header,
						{ schema: { type: 'string' } },
					]),
				),
				content: {
					'application/octet-stream': { schema: {} },
					'text/event-stream': { schema: { type: 'string' } },
				},
			},
		};
	}
	if (name === 'backupCreate') {
		return {
			200: { description: 'A tar file, its manifest last', content: { 'application/x-tar': {} } },
		};
	}
	if (name === 'fileContent') {
		return {
			200: {
				description: 'All of it',
				headers: { ETag: { schema: { type: 'string' } } },
				content: bytes,
			},
			206: { description: 'The range that was asked for', content: bytes },
			304: { description: 'It is what If-None-Match says' },
		};
	}
	if (name === 'robotLink') return { 101: { description: 'The socket is open' } };
	if (door.bytes !== undefined) return { 200: { description: 'Bytes', content: bytes } };
	if (!door.answer) return { 204: { description: 'Done' } };
	return { [door.status ?? 200]: { description: 'Done', content: json(plain(door.answer)) } };
}

const bytes: Json = { 'application/octet-stream': { schema: {} } };

const json = (schema: unknown): Json => ({ 'application/json': { schema } });

/** Our own annotations are not JSON Schema. */
function plain(schema: unknown): unknown {
	return JSON.parse(
		JSON.stringify(schema, (key, value) => (key === 'patternText' ? undefined : value)),
	);
}

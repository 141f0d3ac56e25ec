/**
 * A language model for tests of AI agents: a small HTTP server that speaks the part of OpenAI's chat
 * API that n8n's chat model asks for. What the "model" says is written by the test, as a function of
 * what it was asked; everything it was asked is kept, so a test can see what a tool has answered.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ChatMessage {
	role: 'system' | 'user' | 'assistant' | 'tool';
	content: string | null | Array<{ type: string; text?: string }>;
	tool_call_id?: string;
	tool_calls?: Array<{ id: string; function: { name: string; arguments: string } }>;
}

export interface ChatRequest {
	model: string;
	messages: ChatMessage[];
	tools?: Array<{
		function: { name: string; description?: string; parameters: ToolParameters };
	}>;
	stream?: boolean;
}

/** JSON Schema of what a tool takes. */
export interface ToolParameters {
	properties: Record<string, { type: string; description?: string }>;
	required?: string[];
}

/** What the model says next: words for a person, or tools it wants called. */
export type Turn = string | Array<{ tool: string; args: object }>;

export class OpenAiStandIn implements AsyncDisposable {
	/** In the order in which they came. */
	readonly requests: ChatRequest[] = [];
	readonly #server: Server;
	#answer: (request: ChatRequest) => Turn;

	private constructor(answer: (request: ChatRequest) => Turn) {
		this.#answer = answer;
		this.#server = createServer((request, response) => {
			this.#serve(request, response).catch((error: unknown) => {
				response.writeHead(400, { 'content-type': 'application/json' });
				response.end(JSON.stringify({ error: { message: String(error) } }));
			});
		});
	}

	static async open(answer: (request: ChatRequest) => Turn): Promise<OpenAiStandIn> {
		const standIn = new OpenAiStandIn(answer);
		await new Promise<void>((resolve) => standIn.#server.listen(0, '127.0.0.1', resolve));
		return standIn;
	}

	/** For the credential "OpenAI" of n8n. */
	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
	}

	/** From now on it says something else, and has heard nothing yet. */
	next(answer: (request: ChatRequest) => Turn): void {
		this.#answer = answer;
		this.requests.length = 0;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#server.closeAllConnections();
		await new Promise((resolve) => this.#server.close(resolve));
	}

	async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
		if (request.method === 'GET' && request.url === '/v1/models') {
			return sendJson(response, { object: 'list', data: [{ id: 'stand-in', object: 'model' }] });
		}
		if (request.method !== 'POST' || request.url !== '/v1/chat/completions') {
			throw new Error(`nobody serves ${request.method} ${request.url} here`);
		}
		const chunks: Buffer[] = [];
		for await (const chunk of request) chunks.push(chunk as Buffer);
		const asked = JSON.parse(Buffer.concat(chunks).toString('utf8')) as ChatRequest;
		this.requests.push(asked);
		const turn = this.#answer(asked);
		const message = messageOf(turn, this.requests.length);
		const rest = {
			id: `chatcmpl-${this.requests.length}`,
			created: 1_700_000_000,
			model: asked.model,
		};
		const finish_reason = typeof turn === 'string' ? 'stop' : 'tool_calls';
		const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
		if (asked.stream !== true) {
			const choices = [{ index: 0, message, finish_reason, logprobs: null }];
			return sendJson(response, { ...rest, object: 'chat.completion', choices, usage });
		}
		response.writeHead(200, { 'content-type': 'text/event-stream' });
		const tool_calls = message.tool_calls?.map((call, index) => ({ index, ...call }));
		const delta = { ...message, ...(tool_calls ? { tool_calls } : {}) };
		const piece = (choice: object) => {
			const choices = [{ index: 0, logprobs: null, ...choice }];
			const text = JSON.stringify({ ...rest, object: 'chat.completion.chunk', choices });
			response.write(`data: ${text}\n\n`);
		};
		piece({ delta, finish_reason: null });
		piece({ delta: {}, finish_reason });
		response.end('data: [DONE]\n\n');
	}
}

/** What tools have answered so far, in the order of their calls; JSON where it is JSON. */
export function toolAnswers({ messages }: ChatRequest): unknown[] {
	return messages
		.filter(({ role }) => role === 'tool')
		.map(({ content }) => {
			const text =
				typeof content === 'string'
					? content
					: (content ?? []).map((part) => part.text ?? '').join('');
			try {
				return JSON.parse(text) as unknown;
			} catch {
				return text;
			}
		});
}

function messageOf(turn: Turn, number: number): ChatMessage {
	if (typeof turn === 'string') return { role: 'assistant', content: turn };
	const tool_calls = turn.map(({ tool, args }, i) => ({
		id: `call_${number}_${i}`,
		type: 'function',
		function: { name: tool, arguments: JSON.stringify(args) },
	}));
	return { role: 'assistant', content: null, tool_calls };
}

function sendJson(response: ServerResponse, body: object): void {
	response.writeHead(200, { 'content-type': 'application/json' });
	response.end(JSON.stringify(body));
}

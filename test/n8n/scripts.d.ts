/** The harness in scripts/n8n is JavaScript; this is the part of it that these tests use. */
declare module '*/n8n/loopback.mjs' {
	export interface Answer {
		status: number;
		headers: Record<string, string | string[] | undefined>;
		text: string;
	}
	export interface RequestOptions {
		method?: string;
		body?: unknown;
		headers?: Record<string, string>;
		timeoutMs?: number;
	}
	export function request(url: string, options?: RequestOptions): Promise<Answer>;
	export function freePorts(count: number): Promise<number[]>;
}

declare module '*/n8n/until.mjs' {
	export function until<T>(
		look: () => T | Promise<T>,
		options: { deadlineMs: number; what: () => string },
	): Promise<NonNullable<T>>;
}

declare module '*/n8n/instance.mjs' {
	import type { Answer, RequestOptions } from '*/n8n/loopback.mjs';

	export interface ExecutionSummary {
		id: string;
		workflowId: string;
		status: string;
		mode: string;
		waitTill?: string;
	}

	export class N8n {
		static create(options: {
			runtime: { bin: string; node?: string };
			userFolder: string;
			command?: 'start' | 'worker' | 'webhook';
			port?: number;
			env?: Record<string, string | undefined>;
			ui?: boolean;
			log?: (line: string) => void;
			logFile?: string;
		}): Promise<N8n>;
		readonly baseUrl: string;
		readonly lines: string[];
		readonly pid: number | undefined;
		readonly port: number;
		readonly gone: Promise<string>;
		start(options?: { deadlineMs?: number }): Promise<void>;
		kill(signal?: NodeJS.Signals): Promise<void>;
		stop(): Promise<void>;
		command(args: string[]): Promise<{ code: number | null; output: string }>;
		installPackage(tarball: string): Promise<{ name: string; version: string; dir: string }>;
		request(method: string, path: string, options?: RequestOptions): Promise<Answer>;
		// eslint-disable-next-line @typescript-eslint/no-explicit-any -- n8n's own REST API
		rest(method: string, path: string, body?: unknown): Promise<any>;
		setupOwner(owner: { email: string; password: string }): Promise<unknown>;
		login(): Promise<unknown>;
		createCredential(credential: {
			name: string;
			type: string;
			data: Record<string, unknown>;
		}): Promise<{ id: string; name: string }>;
		createWorkflow(workflow: object): Promise<{ id: string; versionId: string }>;
		activate(workflowId: string): Promise<void>;
		deactivate(workflowId: string): Promise<void>;
		executions(filter?: {
			workflowId?: string;
			status?: string | string[];
		}): Promise<ExecutionSummary[]>;
		// eslint-disable-next-line @typescript-eslint/no-explicit-any -- n8n's own run data
		execution(id: string): Promise<ExecutionSummary & { data: any }>;
		waitForExecution(
			predicate: (execution: ExecutionSummary) => boolean,
			deadlineMs?: number,
			// eslint-disable-next-line @typescript-eslint/no-explicit-any -- n8n's own run data
		): Promise<ExecutionSummary & { data: any }>;
		runManually(workflowId: string, triggerName: string): Promise<{ executionId?: string }>;
		stopExecution(id: string): Promise<unknown>;
	}
}

declare module '*/n8n/communityPackage.mjs' {
	export function installCommunityPackage(options: {
		tarball: string;
		userFolder: string;
		node: string;
	}): Promise<{ name: string; version: string; dir: string }>;
}

declare module '*/n8n/cache.mjs' {
	export function cacheFolder(): string;
}

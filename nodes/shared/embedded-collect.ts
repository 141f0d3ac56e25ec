/**
 * "This n8n collects": n8n's main process fetches the pokes of services that cannot reach it. The
 * work is done by dispatcher/collect.ts in the bundle, loaded only where a credential asks for it, or
 * where an earlier run left services to ask.
 *
 * Like embedded.ts it may touch the process and files; see there for why the object in charge lives on
 * `globalThis`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Problem } from '../../protocol';
import { callbackBase, dataFolder, processRefusal } from './embedded';
import { asProblem } from './refusals';

/** What dist/embedded/service.js exports for this: dispatcher/collect.ts, bundled. */
interface Bundle {
	startCollector(options: {
		file: string;
		n8nUrl: string;
		endpoint: string;
		log(level: string, text: string, facts?: object): void;
	}): Collector;
}

/** Other versions of this file call all of this, and nothing else; what it means never changes. */
export interface Collector {
	/** Goes with every wait whose pokes we fetch. */
	readonly secret: string;
	/** Asks this service until it has no more waits of ours. */
	begin(service: string): void;
	close(): void;
}

/** As seen from dist/nodes/shared/. */
const bundle = '../../embedded/service.js';
const key = Symbol.for('robot-fleet.collector.v1');
const place = globalThis as { [key]?: Collector };
/** Of this evaluation of the module: after an update of the package it is closed, and another one collects. */
let ours: Collector | undefined;

const fileOf = (env = process.env) => join(dataFolder(env), 'collector.json');

/** Throws `cannot-collect` where nobody would fetch anything. */
export function collector(): Collector {
	// Code from before an update runs on; the current collector fetches its pokes.
	if (ours && place[key]) return place[key];
	const refusal = processRefusal();
	if (refusal !== undefined) throw new Problem('cannot-collect', { reason: refusal });
	const { startCollector } = require(bundle) as Bundle;
	place[key]?.close();
	try {
		ours = startCollector({
			file: fileOf(),
			n8nUrl: callbackBase(),
			endpoint: process.env.N8N_ENDPOINT_WEBHOOK_WAIT?.trim() || 'webhook-waiting',
			log,
		});
	} catch (error) {
		throw asProblem(error) ?? error;
	}
	return (place[key] = ours);
}

/** Whether an earlier run left services to ask. */
export function hasServices(file: string): boolean {
	try {
		const { services } = JSON.parse(readFileSync(file, 'utf8')) as { services?: unknown[] };
		return (services?.length ?? 0) > 0;
	} catch {
		return false;
	}
}

function log(level: string, text: string, facts: object = {}): void {
	if (level === 'debug' && process.env.N8N_LOG_LEVEL !== 'debug') return;
	process.stderr.write(`[robot-fleet] ${level} ${text} ${JSON.stringify(facts)}\n`);
}

// Parked executions must come back after a restart of n8n without anybody asking.
if (
	processRefusal() === undefined &&
	existsSync(join(__dirname, bundle)) &&
	hasServices(fileOf())
) {
	setImmediate(() => {
		try {
			collector();
		} catch (error) {
			log('error', (asProblem(error) ?? (error as Error)).message);
		}
	});
}

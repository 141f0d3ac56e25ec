/**
 * What n8n itself has written down, read from its SQLite database while it runs, or after it was killed: who
 * is parked, who was running, how each execution ended.
 */
import { DatabaseSync } from 'node:sqlite';
import { createRequire } from 'node:module';
import type { Execution } from './laws';

interface Row {
	id: string;
	status: string;
}

interface WholeRow extends Row {
	workflow: string;
	data: string;
}

interface RunData {
	resultData: {
		error?: { message?: string };
		runData: Record<string, unknown[]>;
	};
}

export class Ledger {
	readonly #file: string;
	readonly #parse: (text: string) => unknown;

	constructor(file: string, n8nBin: string) {
		this.#file = file;
		// Run data comes in an encoding whose decoder lies in n8n.
		this.#parse = (createRequire(n8nBin)('flatted') as { parse(text: string): unknown }).parse;
	}

	/** Executions that are not over, by their status. */
	open(): { parked: string[]; running: string[] } {
		const rows = this.#read<Row>(
			`SELECT CAST(id AS TEXT) AS id, status FROM execution_entity
			 WHERE status IN ('waiting', 'running', 'new')`,
		);
		const ids = (wanted: boolean) =>
			rows.filter(({ status }) => (status === 'waiting') === wanted).map(({ id }) => id);
		return { parked: ids(true), running: ids(false) };
	}

	executions(): Execution[] {
		return this.#read<WholeRow>(
			`SELECT CAST(e.id AS TEXT) AS id, e.status AS status, w.name AS workflow, d.data AS data
			 FROM execution_entity e JOIN workflow_entity w ON w.id = e.workflowId
			 LEFT JOIN execution_data d ON d.executionId = e.id ORDER BY e.id`,
		).map(({ id, status, workflow, data }) => {
			const decoded = (data ? this.#parse(data) : undefined) as RunData | undefined;
			const { error, runData = {} } = decoded?.resultData ?? {};
			return {
				id,
				status,
				workflow,
				error: error?.message ?? null,
				runs: Object.fromEntries(
					Object.entries(runData).map(([node, results]) => [node, results.length]),
				),
			};
		});
	}

	/** A reader of its own for each look: n8n may be killed, and come back, between two. */
	#read<T>(sql: string): T[] {
		const db = new DatabaseSync(this.#file, { readOnly: true });
		try {
			db.exec('PRAGMA busy_timeout = 10000');
			return db.prepare(sql).all() as T[];
		} finally {
			db.close();
		}
	}
}

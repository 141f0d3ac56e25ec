/**
 * Prepared statements, each kept under its own text: the SQL stands where it is used, and is compiled
 * once. `LIMIT +?` everywhere: SQLite looks at the value of a bare parameter, and recompiles the
 * statement whenever another one is bound.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';

import type { AsRead } from './store';

export type Row = Record<string, SQLInputValue>;

export class Statements {
	readonly #db: DatabaseSync;
	readonly #statements = new Map<string, StatementSync>();

	constructor(db: DatabaseSync) {
		this.#db = db;
	}

	/** Writes a whole row by its camelCase names; the small tables only. */
	put(table: string, row: Row): void {
		const names = Object.keys(row);
		this.run(
			`INSERT OR REPLACE INTO ${table} (${names.map(snake).join(', ')}) VALUES (${names.map(() => '?').join(',')})`,
			...Object.values(row),
		);
	}

	statement(sql: string): StatementSync {
		let statement = this.#statements.get(sql);
		if (!statement) {
			statement = this.#db.prepare(sql);
			this.#statements.set(sql, statement);
		}
		return statement;
	}

	/** Whether a row was changed. */
	run(sql: string, ...values: SQLInputValue[]): boolean {
		return this.statement(sql).run(...values).changes !== 0;
	}

	get(sql: string, ...values: SQLInputValue[]): Row | undefined {
		return this.statement(sql).get(...values) as Row | undefined;
	}

	all<T>(sql: string, ...values: SQLInputValue[]): T[] {
		return this.statement(sql).all(...values) as T[];
	}
}

/** A waiting job that has not changed since it was read; takes the values of `asRead`. */
export const asItWas = 'AND attempt = ? AND lane = ? AND rank = ? AND hold IS ? AND due_at IS ?';

export function asRead({ attempt, lane, rank, hold, dueAt }: AsRead): SQLInputValue[] {
	return [attempt, lane, rank, hold, dueAt];
}

/** `jobId` → `job_id`. */
export function snake(name: string): string {
	return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Columns under the names the rest of the house uses. */
export const camel = (columns: string) =>
	columns
		.trim()
		.split(/\s+/)
		.map((name) => {
			const alias = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
			return alias === name ? name : `${name} AS ${alias}`;
		})
		.join(', ');

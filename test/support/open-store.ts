/**
 * A process that opens a store with one step more than the last release had, as an upgrade does. The
 * step rewrites every job, so that it takes long enough to be killed in. Bundled by the test.
 */
import { migrations } from '../../dispatcher/store/migrations';
import { SqliteStore } from '../../dispatcher/store/sqlite';

const [file, steps] = process.argv.slice(2);
const upgrade = [
	`ALTER TABLE jobs ADD COLUMN upgraded INTEGER NOT NULL DEFAULT 0;
	 UPDATE jobs SET upgraded = upgraded + 1, message = hex(randomblob(200))`,
	`UPDATE jobs SET upgraded = upgraded + 10; CREATE INDEX jobs_upgraded ON jobs (upgraded)`,
];
const store = new SqliteStore({
	file: file!,
	steps: [...migrations, ...upgrade.slice(0, Number(steps))],
	onStep: (step) => void process.stdout.write(`${step}\n`),
});
process.stdout.write(`open ${store.schema} from ${store.migratedFrom}\n`);
store.close();

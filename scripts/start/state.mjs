/**
 * The folder .robot-fleet/: all that `npm start` remembers. One start owns it at a time, by a lock
 * that ends with its process; each file is written whole or not at all.
 */
import { randomInt } from 'node:crypto';
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { until } from '../n8n/until.mjs';
import { UsageError } from './options.mjs';

const email = 'owner@robot-fleet.local';
/** How long what a killed start left behind may take to end. */
const leftoversMs = 20_000;

/** @typedef {{email: string, password: string}} Owner */

export class State {
	/** @type {import('node:sqlite').DatabaseSync | undefined} */
	#lock;

	/** @param {string} folder */
	constructor(folder) {
		this.folder = folder;
		this.n8n = join(folder, 'n8n');
		this.service = join(folder, 'n8n', '.n8n', 'robot-fleet');
		this.robot = join(folder, 'robot');
		this.logs = join(folder, 'logs');
		this.owner = join(folder, 'owner.json');
		/** There while a watchdog stops what a killed start left behind. */
		this.leftovers = join(folder, 'leftovers');
	}

	/**
	 * Makes the folder ours until we end.
	 *
	 * @param {(line: string) => void} say
	 */
	async open(say) {
		await mkdir(this.logs, { recursive: true });
		await chmod(this.folder, 0o700);
		this.#lock = await lock(join(this.folder, 'lock'), this.folder);
		const isAlone = async () => (await ageMs(this.leftovers)) > leftoversMs;
		if (await isAlone()) return;
		say('The start before this one was killed; waiting until what it left running has ended …');
		await until(isAlone, {
			deadlineMs: leftoversMs,
			what: () => `what an earlier start left running to end (${this.leftovers} says so)`,
		});
	}

	close() {
		this.#lock?.close();
		this.#lock = undefined;
	}

	/** Forgets everything. */
	async remove() {
		this.close();
		await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
	}

	/** The owner of the n8n in here: made once, the same at each start. */
	async readOwner() {
		const known = /** @type {Owner | undefined} */ (await readJson(this.owner));
		if (known) return known;
		const made = { email, password: randomPassword() };
		await writeJson(this.owner, made);
		return made;
	}
}

/** An operating system's lock: nobody has to tidy up after a kill. */
async function lock(/** @type {string} */ file, /** @type {string} */ folder) {
	// No Node before 22 has it, and an older one may have started us: the person is told that first.
	const { DatabaseSync } = await import('node:sqlite');
	const database = new DatabaseSync(file);
	try {
		database.exec('pragma locking_mode = exclusive; begin exclusive; commit');
		return database;
	} catch {
		database.close();
		throw new UsageError(
			`Another npm start uses ${folder}: stop it first (Ctrl+C where it runs), or go on with that one.`,
		);
	}
}

/** @param {string} file @returns {Promise<number>} infinite if there is no such file */
async function ageMs(file) {
	const found = await stat(file).catch(() => undefined);
	return found ? Date.now() - found.mtimeMs : Infinity;
}

/** @param {string} file @returns {Promise<any>} undefined if there is no such file */
export async function readJson(file) {
	try {
		return JSON.parse(await readFile(file, 'utf8'));
	} catch (error) {
		if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return undefined;
		throw new Error(`${file} cannot be read: ${/** @type {Error} */ (error).message}`);
	}
}

/** @param {string} file @param {unknown} value readable for us alone */
export async function writeJson(file, value) {
	await mkdir(dirname(file), { recursive: true });
	await writeFile(`${file}.new`, `${JSON.stringify(value, null, '\t')}\n`, { mode: 0o600 });
	await rename(`${file}.new`, file);
}

/** As n8n wants them: with a digit and a capital. Nothing that reads like another letter. */
function randomPassword() {
	const letters = 'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789';
	for (;;) {
		const text = Array.from({ length: 16 }, () => letters[randomInt(letters.length)]).join('');
		if (/\d/.test(text) && /[A-Z]/.test(text) && /[a-z]/.test(text)) return text;
	}
}

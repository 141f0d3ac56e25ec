/** Waits for a state instead of sleeping, and says what it waited for when time is up. */

const everyMs = 100;

/**
 * @template T
 * @param {() => T | Promise<T>} look
 * @param {object} options
 * @param {number} options.deadlineMs
 * @param {() => string} options.what describes, at the deadline, what was waited for and what was seen
 * @returns {Promise<NonNullable<T>>} the first answer of `look` that is not empty
 */
export async function until(look, { deadlineMs, what }) {
	const end = performance.now() + deadlineMs;
	for (;;) {
		const found = await look();
		if (found) return found;
		if (performance.now() > end) {
			throw new Error(`Waited ${deadlineMs / 1000} s for ${what()}`);
		}
		await new Promise((resolve) => setTimeout(resolve, everyMs));
	}
}

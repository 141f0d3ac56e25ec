/** The known word that somebody may have meant. */

/** None when all are too different to be a typing mistake. */
export function nearest(wanted: string, known: Iterable<string>): string | undefined {
	let best: string | undefined;
	let bestSteps = Math.max(1, Math.floor(wanted.length / 3)) + 1;
	for (const word of new Set(known)) {
		const steps = stepsBetween(wanted.toLowerCase(), word.toLowerCase());
		if (steps >= bestSteps) continue;
		best = word;
		bestSteps = steps;
	}
	return best;
}

/** Characters to add, take away or change (Levenshtein). */
function stepsBetween(a: string, b: string): number {
	let row = Array.from({ length: b.length + 1 }, (_, i) => i);
	for (let i = 1; i <= a.length; i += 1) {
		const next = [i];
		for (let j = 1; j <= b.length; j += 1) {
			const changed = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
			next.push(Math.min(changed, row[j]! + 1, next[j - 1]! + 1));
		}
		row = next;
	}
	return row[b.length]!;
}

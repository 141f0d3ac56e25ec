/** When many jobs are changed at once: how far the truth may be from what the caller saw. */

/** Whether far more jobs match than the preview said: more than a tenth, and more than ten. */
export function grown(expected: number, matched: number): boolean {
	return matched > expected + Math.max(10, expected / 10);
}

/** n8n hands its nodes no clock, so this is theirs: the one place under nodes/ that reads the time. */
export function now(): number {
	return Date.now();
}

/**
 * Checked before anything else is loaded: an older Node has no node:sqlite to load. A newer one is asked whether its SQLite
 * is safe; both refusals name the same Node.
 */
export function nodeIsTooOld(version: string): boolean {
	const [major = 0, minor = 0] = version.split('.').map(Number);
	return major < 22 || (major === 22 && minor < 16);
}

/**
 * Asked before anything else is loaded: an older Node has no node:sqlite to load. Whether the SQLite of a newer one is safe
 * is asked of that; both refusals name the same Node.
 */
export function nodeIsTooOld(version: string): boolean {
	const [major = 0, minor = 0] = version.split('.').map(Number);
	return major < 22 || (major === 22 && minor < 16);
}

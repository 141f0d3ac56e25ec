/** Asked before anything else is loaded: an older Node has no node:sqlite to load. */
export function nodeIsTooOld(version: string): boolean {
	const [major = 0, minor = 0] = version.split('.').map(Number);
	return major < 22 || (major === 22 && minor < 16);
}

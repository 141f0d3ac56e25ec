/** How much of how much, for people: `3 of 12 MB`. */
const units = [
	[1e9, 'GB'],
	[1e6, 'MB'],
	[1e3, 'KB'],
] as const;

export function amounts(have: number, bytes: number): string {
	const [unit, name] = units.find(([size]) => bytes >= 2 * size) ?? [1, 'bytes'];
	return `${Math.floor(have / unit)} of ${Math.floor(bytes / unit)} ${name}`;
}

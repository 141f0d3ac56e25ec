/** How long the service waits before it dials a robot again. */
import { limits } from '../../protocol';

/**
 * Doubles with each failed try, up to a minute. Half of it is random, so that devices that went away
 * together are not dialled together.
 */
export function redialMs(failures: number, firstMs: number, chance: number): number {
	const longest = Math.max(firstMs, limits.reconnectMaxMs);
	const step = Math.min(longest, firstMs * 2 ** Math.min(Math.max(0, failures - 1), 30));
	return Math.round(step * (0.5 + 0.5 * chance));
}

/** Who the simulated robots are: name, labels, capabilities and slots of each, the same for the same seed. */
import { simulatedLabel, simulatedTakesLabel } from '../../../protocol';
import type { Range } from './amounts';
import { Dice } from './dice';

export interface Casting {
	seed: number;
	robots: number;
	/** What their names begin with. */
	name: string;
	slots: Range;
	/** Values to choose from, by label. */
	labels: Record<string, string[]>;
	capabilities: string[];
	/** They also take jobs meant for real robots. */
	takeAny: boolean;
}

export interface Role {
	/** From 0. */
	number: number;
	name: string;
	labels: Record<string, string>;
	capabilities: string[];
	slots: number;
}

/** What the fleet looks like unless told otherwise. */
export const usualLabels: Record<string, string[]> = {
	site: ['berlin', 'lyon', 'oslo', 'porto'],
	os: ['linux', 'linux', 'linux', 'windows', 'macos'],
	size: ['small', 'medium', 'large'],
};

/** Labels that each of them carries, locked by their token. */
export function marks({ takeAny }: Pick<Casting, 'takeAny'>): Record<string, string> {
	return { [simulatedLabel]: 'true', ...(takeAny && { [simulatedTakesLabel]: 'any' }) };
}

export function castOf(casting: Casting): Role[] {
	const { seed, robots, name, slots, labels, capabilities } = casting;
	const digits = Math.max(2, String(robots).length);
	return Array.from({ length: robots }, (_, number) => {
		const dice = new Dice(seed, number);
		const drawn = Object.entries(labels).map(([label, values]) => [label, dice.pick(values)]);
		return {
			number,
			name: `${name}-${String(number + 1).padStart(digits, '0')}`,
			labels: { ...Object.fromEntries(drawn), ...marks(casting) },
			capabilities,
			slots: dice.whole(slots),
		};
	});
}

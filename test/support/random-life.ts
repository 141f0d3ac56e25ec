/** Random lives of a whole engine: steps that fast-check chooses, after each of which the laws must hold. */
import type fc from 'fast-check';
import { settled } from './fake-clock';

export interface Submitted {
	submitted: number;
}
export type Step<World> = fc.AsyncCommand<Submitted, World>;

export function step<World extends { laws(): Promise<void> }>(
	name: string,
	run: (world: World) => Promise<unknown>,
	check: (model: Readonly<Submitted>) => boolean = () => true,
	change: (model: Submitted) => void = () => undefined,
): Step<World> {
	return {
		check,
		async run(model, world) {
			change(model);
			await run(world);
			await settled();
			await world.laws();
		},
		toString: () => name,
	};
}

/** One of them, however many there are. */
export const one = <T>(list: readonly T[], at: number): T => list[at % list.length]!;

/** For steps that need a job. */
export const busy = ({ submitted }: Readonly<Submitted>) => submitted > 0;

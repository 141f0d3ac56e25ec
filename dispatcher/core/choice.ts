/**
 * How a robot was chosen, kept as a short list of numbers behind the move that gave the job away:
 *
 *   [strategy, by, matching, compared, [load, cpu, preference, successes], ["robot", load, …]…]
 *
 * First the chosen one, whose name the attempt knows, then the best of the others. Trailing zeros are left out. Pure.
 */
import { type Choice, type ChoiceCandidate, type Strategy, strategies } from '../../protocol';

/** How a robot stood; `load` and `cpu` in percent. */
export interface Figures {
	load: number;
	cpu: number;
	preference: number;
	successes: number;
}

/** How many of those that were not chosen are kept. */
export const maxOthers = 4;

type Numbers = [load: number, cpu: number, preference?: number, successes?: number];
type Stored = [
	strategy: number,
	by: 0 | 1,
	matching: number,
	compared: number,
	winner: Numbers,
	...others: [robotId: string, ...Numbers][],
];

export function figuresText({ load, cpu, preference, successes }: Figures): string {
	if (successes !== 0) return `${load},${cpu},${preference},${successes}`;
	return preference === 0 ? `${load},${cpu}` : `${load},${cpu},${preference}`;
}

/** `winner` and `others` come from `figuresText`; in the latter each robot's id stands before its figures. */
export function choiceText(
	strategy: Strategy,
	by: Choice['by'],
	matching: number,
	compared: number,
	winner: string,
	others = '',
): string {
	const which = strategies.indexOf(strategy);
	return `[${which},${by === 'job' ? 0 : 1},${matching},${compared},[${winner}]${others}]`;
}

export function choiceOf(
	text: string,
	robotId: string,
	nameOf: (robotId: string) => string,
): Choice {
	const [strategy, by, matching, compared, winner, ...others] = JSON.parse(text) as Stored;
	const candidate = (
		id: string,
		[load, cpu, preference = 0, successes = 0]: Numbers,
	): ChoiceCandidate => ({
		robotId: id,
		name: nameOf(id),
		load,
		cpu,
		...(preference === 0 ? {} : { preference }),
		...(successes === 0 ? {} : { successes }),
	});
	const choice = {
		strategy: strategies[strategy]!,
		by: by === 0 ? ('job' as const) : ('slot' as const),
		matching,
		compared,
		winner: candidate(robotId, winner),
		others: others.map(([id, ...numbers]) => candidate(id, numbers)),
	};
	return { text: tell(choice), ...choice };
}

function tell({ strategy, by, matching, compared, winner }: Omit<Choice, 'text'>): string {
	const match = `${matching} ${matching === 1 ? 'robot matches' : 'robots match'}`;
	if (by === 'slot' && compared <= 1) {
		return `A slot of ${winner.name} came free, and the job was first in line for it; ${match}.`;
	}
	const { preference = 0, successes = 0, load, cpu } = winner;
	const reasons = [
		...(preference === 0 ? [] : [`the job gives it ${preference} by its preferences`]),
		...{
			least_loaded: [`${load} % of its slots were in use, its processor at ${cpu} %`],
			round_robin: ['its last turn was longest ago'],
			random: ['by chance'],
			affinity: [
				successes === 0
					? `jobs of its key had not yet gone well anywhere, and ${load} % of its slots were in use`
					: `${successes} ${successes === 1 ? 'job' : 'jobs'} of its key had gone well there`,
			],
		}[strategy],
	];
	return `${winner.name} was chosen by ${strategy} out of ${compared} free that were compared (${match}): ${reasons.join(', and ')}.`;
}

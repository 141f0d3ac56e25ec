/** Why a job waits, robot by robot, and why it went where it went. */
import type { Command } from 'commander';
import type { Choice, ChoiceCandidate, JobPreview, RobotsWhy, Why } from '../../protocol';
import type { CommandKit } from './job-changes';
import { json, plural, table, wholeOf } from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
	robots?: boolean;
	matching?: boolean;
	limit?: number;
	cursor?: string;
}

/** As `why` and as `jobs why`. */
export function addWhy(command: Command, { terminal, client }: CommandKit): void {
	command
		.option('--robots', 'also what keeps each robot from it')
		.option('--matching', 'of those that match only')
		.option('--limit <count>', 'how many robots at most', wholeOf, 50)
		.option('--cursor <cursor>', 'continue where the previous page ended')
		.action(async (id: string, flags: Flags) => {
			const { limit, cursor } = flags;
			const page = {
				limit,
				...(cursor === undefined ? {} : { cursor }),
				...(flags.matching ? { only: 'matching' as const } : {}),
			};
			const why = await client(flags).why(id, flags.robots || flags.matching ? page : undefined);
			terminal.out(flags.json ? json(why) : whyText(why));
		});
}

function whyText({ text, robots, choice }: Why): string {
	return [
		`${text}\n`,
		...(choice ? [choiceText(choice)] : []),
		...(robots ? [robotsText(robots)] : []),
	].join('');
}

function choiceText({ text, winner, others, compared }: Choice): string {
	if (compared <= 1 && others.length === 0) return `${text}\n`;
	const row = (one: ChoiceCandidate, chosen: string) => [
		one.name,
		chosen,
		`${one.load} %`,
		`${one.cpu} %`,
		one.preference ?? 0,
		one.successes ?? 0,
	];
	const rows = [row(winner, 'yes'), ...others.map((one) => row(one, ''))];
	return `${text}\n${table(['ROBOT', 'CHOSEN', 'SLOTS USED', 'PROCESSOR', 'PREFERRED', 'SUCCESSES'], rows)}`;
}

export function robotsText({
	robots,
	matching,
	free,
	obstacles,
	items,
	cursor,
}: RobotsWhy): string {
	const counts = obstacles.map((one) => `${one.robots} ${one.obstacle}`).join(', ');
	const more = cursor === undefined ? '' : `more: --cursor ${cursor}\n`;
	return [
		`${plural(robots, 'robot')}: ${matching} match, ${free} free${counts === '' ? '' : `; ${counts}`}\n`,
		items.length === 0
			? ''
			: table(
					['ROBOT', 'OBSTACLE', 'IT'],
					items.map(({ name, obstacle, text }) => [name, obstacle, text]),
				),
		more,
	].join('');
}

export function previewText({ accepted, text, picked, clashes, robots }: JobPreview): string {
	return [
		`${accepted ? '' : 'It would be refused. '}${text}\n`,
		...(picked.length > 1 ? [`${picked.map(({ name }) => name).join(', ')}\n`] : []),
		...clashes
			.filter((clash) => clash.text !== text)
			.map((clash) => `${clash.text} [${clash.code}]\n`),
		...(robots ? [robotsText(robots)] : []),
	].join('');
}

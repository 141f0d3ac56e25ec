/** A job for several robots as people want to see it: its batches as bars, and robot by robot. */
import type { Cells, Children } from '../../protocol';
import { childCount } from './children';
import { plural, printable, table, when } from './terminal';

const barWidth = 20;
/** Parts of a bar, first to last; together they are all children. */
const marks = [
	['#', (of: Children) => of.completed],
	['x', (of: Children) => of.failed + of.timeout + of.cancelled],
	['>', (of: Children) => of.running + of.dispatched],
	['.', (of: Children) => of.queued + of.pending],
] as const;

/** `#####x>>>..........` */
export function bar(children: Children): string {
	let [text, upTo] = ['', 0];
	for (const [mark, count] of marks) {
		upTo += count(children);
		// Whatever exists at all is visible, however small its share.
		const wanted = Math.round((upTo / children.total) * barWidth) - text.length;
		text += mark.repeat(Math.max(count(children) > 0 && text.length < barWidth ? 1 : 0, wanted));
	}
	return text.slice(0, barWidth).padEnd(barWidth, marks.at(-1)![0]);
}

export function waves(cells: Cells): string {
	return [batchTable(cells), cellTable(cells), skippedLine(cells), hint(cells)]
		.filter((part) => part !== '')
		.join('\n');
}

function batchTable({ batches, rolledOut }: Cells): string {
	if (!rolledOut) return '';
	return table(
		['BATCH', 'ROBOTS', 'DONE', 'CHILDREN'],
		batches.map(({ batch, children }) => [
			batch,
			children.total,
			bar(children),
			batch > rolledOut.batch ? 'not let go yet' : childCount(children).replace(/^\d+: /, ''),
		]),
	);
}

function cellTable({ items, batches, cursor, jobId }: Cells): string {
	const several = batches.length > 0;
	const more = `all of them: robot-fleet jobs list --parent ${jobId}\n`;
	return (
		table(
			['ROBOT', ...(several ? ['BATCH'] : []), 'STATE', 'CAUSE', 'EXIT', 'STARTED', 'ENDED', 'ID'],
			items.map(({ robot, cell, batch, state, cause, exitCode, startedAt, endedAt, ...item }) => [
				robot ?? cell,
				...(several ? [batch] : []),
				state,
				cause,
				exitCode,
				when(startedAt),
				when(endedAt),
				item.jobId,
			]),
		) + (cursor === undefined ? '' : more)
	);
}

function skippedLine({ skipped }: Cells): string {
	if (skipped.length === 0) return '';
	const names = skipped.map(({ robot, robotId }) => printable(robot ?? robotId));
	const shown = names.slice(0, 10).join(', ');
	const more = names.length > 10 ? ` and ${names.length - 10} more` : '';
	return `${plural(names.length, 'robot')} left out because they were away: ${shown}${more}\n`;
}

function hint({ jobId, rolledOut }: Cells): string {
	if (rolledOut?.state !== 'paused' && rolledOut?.state !== 'stopped') return '';
	return `It is ${printable(rolledOut.reason ?? rolledOut.state)}. Let it go on:  robot-fleet jobs resume ${jobId}\n                 or end it:  robot-fleet jobs cancel ${jobId}\n`;
}

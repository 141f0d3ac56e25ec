/** The children of a job that ran on several robots, as people want to see them: by robot. */
import type { FleetClient } from '../../client';
import { type Children, type Job, jobStates } from '../../protocol';
import { printable, type Terminal } from './terminal';

/** A child, and the name of the robot it is for. */
interface Child {
	job: Job;
	robot: string;
}

/** All of them, by the names of their robots. */
export async function childrenOf(client: FleetClient, parentId: string): Promise<Child[]> {
	const names = new Map((await client.robots()).map(({ robotId, name }) => [robotId, name]));
	const jobs: Job[] = [];
	for (let cursor: string | undefined; ;) {
		const page = await client.jobs({
			parent: parentId,
			limit: 1_000,
			...(cursor === undefined ? {} : { cursor }),
		});
		jobs.push(...page.items);
		cursor = page.cursor;
		if (cursor === undefined) break;
	}
	return jobs
		.map((job) => ({ job, robot: names.get(job.cell ?? '') ?? job.cell ?? job.jobId }))
		.sort((a, b) => (a.robot < b.robot ? -1 : 1));
}

/** `3: 1 running, 2 completed` */
export function childCount(children: Children): string {
	const states = jobStates
		.filter((state) => children[state] > 0)
		.map((state) => `${children[state]} ${state}`);
	const unknown = children.unknown > 0 ? ` (${children.unknown} unknown)` : '';
	return [children.total, states.join(', ') + unknown].filter((part) => part !== '').join(': ');
}

/** What each of them printed, every line prefixed with its robot's name; what went wrong goes to stderr. */
export function sayChildren(terminal: Terminal, children: Child[]): void {
	for (const { robot, job } of children) {
		const name = printable(robot);
		const { result, state, error, cause } = job;
		terminal.out(prefixed(name, result?.stdout ?? ''));
		terminal.err(prefixed(name, result?.stderr ?? ''));
		if (result?.truncated) {
			terminal.err(
				`${name}: only the end is shown; all of it: robot-fleet jobs output ${job.jobId}\n`,
			);
		}
		if (state !== 'completed') {
			terminal.err(`${name}: ${state} (${printable(error?.message ?? cause ?? state)})\n`);
		}
	}
}

function prefixed(name: string, text: string): string {
	if (text === '') return '';
	return text
		.replace(/\n$/, '')
		.split('\n')
		.map((line) => `${name}: ${line}\n`)
		.join('');
}

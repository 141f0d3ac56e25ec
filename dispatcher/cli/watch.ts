/** `robot-fleet watch`: the fleet at work, redrawn as it changes; or each event as a line of JSON. */
import type { Command } from 'commander';
import { LiveView } from '../../client';
import { defaultOrg, isFinal, type LiveRobot, Problem } from '../../protocol';
import { liveMessages } from './live';
import { addressOf, plural, table, type Terminal, when } from './terminal';
import type { Address } from './transport';

const drawMs = 500;
const comeBackMs = 1_000;
const shownRobots = 20;
const shownJobs = 20;
/** Cursor home; what is left of the old picture is erased to the end of the screen. */
const home = '\u001b[H';
const clear = '\u001b[2J';
const restOfScreen = '\u001b[J';

interface Flags {
	json?: boolean;
	once?: boolean;
	data?: string;
}

export function addWatch(program: Command, terminal: Terminal): void {
	program
		.command('watch')
		.summary('watch the fleet at work')
		.description('Shows robots and jobs as they are, and goes on as they change. Ctrl+C ends it.')
		.option('--once', 'show it once and end')
		.option('--json', 'print each event as a line of JSON instead')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText('after', '\nExample:\n  $ robot-fleet watch\n  $ robot-fleet watch --json')
		.action((flags: Flags) => watch(terminal, addressOf(terminal, flags.data), flags));
}

export async function watch(
	terminal: Terminal,
	address: Address,
	{ json = false, once = false }: Flags,
	signal?: AbortSignal,
): Promise<void> {
	const view = new LiveView();
	const channels = [`robots:${defaultOrg}`, `jobs:${defaultOrg}`];
	let drawnAt = 0;
	let known = new Set<string>();
	/** Something has changed since the last draw, and another one is planned. */
	let owed = false;
	const draw = () => {
		owed = false;
		drawnAt = terminal.now();
		terminal.out(once ? screen(view, drawnAt) : home + screen(view, drawnAt) + restOfScreen);
	};
	/** Thousands of events a second make one picture, and the last of them is drawn, too. */
	const drawSoon = () => {
		const left = drawnAt + drawMs - terminal.now();
		if (left <= 0) return draw();
		if (owed) return;
		owed = true;
		void terminal.sleep(left).then(() => owed && draw());
	};
	if (!json && !once) terminal.out(clear);
	for (let came = false; !signal?.aborted; came = true) {
		try {
			const since = (channel: string) => view.since(channel);
			for await (const message of liveMessages(address, channels, since, signal)) {
				view.apply(message);
				if (json) {
					terminal.out(`${JSON.stringify(message)}\n`);
					continue;
				}
				known = known.add(message.channel);
				if (once && known.size === channels.length && view.isWhole) return draw();
				if (!once) drawSoon();
			}
		} catch (error) {
			owed = false;
			// A service that restarts comes back; one that was never there, or refuses, is reported.
			const away = error instanceof Problem && error.code === 'service-away';
			if (!away || once || (!came && known.size === 0)) throw error;
			if (!json) draw();
			terminal.err('The service is away; waiting for it to come back.\n');
			await terminal.sleep(comeBackMs);
		}
	}
	owed = false;
}

function screen(view: LiveView, now: number): string {
	const robots = [...view.robots.values()];
	const jobs = [...view.jobs.values()];
	const online = robots.filter(({ connected }) => connected).length;
	const { waiting, running } = view.counts ?? { waiting: 0, running: 0 };
	const names = new Map(robots.map(({ robotId, name }) => [robotId, name]));
	const open = jobs.filter(({ state }) => !isFinal(state)).reverse();
	const ended = jobs
		.filter(({ state }) => isFinal(state))
		.sort((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0));
	const rows = [...open.slice(0, shownJobs), ...ended].slice(0, shownJobs);
	const left = robots.length - shownRobots;
	return [
		`${when(now)} UTC   ${online} of ${plural(robots.length, 'robot')} online   ${waiting} wait, ${running} at work\n\n`,
		table(
			['ROBOT', 'STATUS', 'JOBS', 'CPU', 'MEMORY'],
			robots.sort(busiestFirst).slice(0, shownRobots).map(robotRow),
		),
		left > 0 ? `and ${left} more\n` : '',
		'\n',
		table(
			['JOB', 'KIND', 'STATE', 'ROBOT', 'PROGRESS', 'MESSAGE'],
			rows.map((job) => [
				job.jobId,
				job.kind,
				job.cause ? `${job.state} (${job.cause})` : job.state,
				names.get(job.robotId ?? '') ?? job.robotId,
				job.progress > 0 ? `${job.progress} %` : null,
				(job.waitingFor?.text ?? job.message ?? '').slice(0, 60),
			]),
		),
	].join('');
}

function robotRow({ name, status, held, slots, metrics }: LiveRobot) {
	const percent = (share: number | null | undefined) =>
		share === null || share === undefined ? null : `${Math.round(share)} %`;
	const { cpuPercent, memoryPercent } = metrics ?? {};
	return [name, status, `${held}/${slots}`, percent(cpuPercent), percent(memoryPercent)];
}

const busiestFirst = (a: LiveRobot, b: LiveRobot) =>
	Number(b.connected) - Number(a.connected) || b.held - a.held || (a.name < b.name ? -1 : 1);

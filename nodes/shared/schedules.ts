/** Live lists for the editor: schedules to choose from, and when one runs next. */
import type {
	ILoadOptionsFunctions,
	INodeListSearchItems,
	INodeListSearchResult,
	INodePropertyOptions,
} from 'n8n-workflow';
import type { ClockChange, PlannedRun, Schedule } from '../../protocol';
import { asking } from './robots';
import { type Reader, readOptions, readWhen, type ScheduleOptions } from './schedule-fields';

const runsShown = 5;

export async function searchSchedules(
	this: ILoadOptionsFunctions,
	filter = '',
): Promise<INodeListSearchResult> {
	return await asking(this, async (client) => {
		const all = (await client.schedules()).sort((a, b) => a.name.localeCompare(b.name));
		const listed = all.map(({ scheduleId, name, state, nextRunAt }) => ({
			name: `${name} (${nextRunAt === null ? state : `${state}, next ${timeOf(nextRunAt)}`})`,
			value: scheduleId,
		}));
		return { results: matching(listed, filter) };
	});
}

/** Schedules by their names, for fields that take several of them or none. */
export async function getSchedules(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	return await asking(this, async (client) =>
		(await client.schedules())
			.map(({ scheduleId, name, state }) => ({ name: `${name} (${state})`, value: scheduleId }))
			.sort((a, b) => a.name.localeCompare(b.name)),
	);
}

/** The next runs of what the fields say so far, or of the chosen schedule; and what the next clock change does to it. */
export async function getNextRuns(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	const reader: Reader = {
		timezone: this.getTimezone(),
		value: <T>(name: string, fallback: T) => (this.getCurrentNodeParameter(name) ?? fallback) as T,
	};
	return await asking(this, async (client) => {
		if (reader.value<string>('source', 'own') === 'existing') {
			const id = this.getCurrentNodeParameter('schedule', { extractValue: true });
			if (!id) return [said('no schedule is chosen')];
			return existing(await client.schedule(String(id)));
		}
		const options = readOptions(reader, reader.value<ScheduleOptions>('scheduleOptions', {}));
		const { runs, changes } = await client.previewSchedule({
			schedule: { timezone: reader.timezone, ...options, when: readWhen(reader) },
			count: runsShown,
		});
		if (runs.length === 0) return [said('it never runs')];
		return [
			...runs.map((run, i) => ({ name: `${i + 1}. ${runText(run)}`, value: nameOf(i) })),
			...changes.map((change, i) => ({ name: changeText(change), value: `change-${i}` })),
		];
	});
}

const said = (name: string): INodePropertyOptions => ({ name, value: '' });

/** The first one is what the field shows. */
const nameOf = (index: number) => (index === 0 ? '' : `run-${index}`);

function existing({ name, state, reason, upcoming }: Schedule): INodePropertyOptions[] {
	if (upcoming.length === 0) {
		return [{ name: `${name} is ${state}${reason === null ? '' : `: ${reason}`}`, value: '' }];
	}
	return upcoming.map((at, i) => ({ name: `${i + 1}. ${timeOf(at)}`, value: nameOf(i) }));
}

const marks = {
	shifted: 'the clock leaves its time out',
	repeated: 'for the second time',
} as const;

function runText({ local, mark, blackout }: PlannedRun): string {
	const notes = [
		...(mark === null ? [] : [marks[mark]]),
		...(blackout === null ? [] : [`does not run: ${blackout}`]),
	];
	return `${local.replace('T', ' ')}${notes.length > 0 ? ` (${notes.join('; ')})` : ''}`;
}

function changeText({ kind, at, from, to, runs }: ClockChange): string {
	const way = kind === 'gap' ? 'forward' : 'back';
	const does = runs.length === 0 ? 'no runs near it' : `runs ${runs.map(runText).join(', ')}`;
	return `Clock set ${way} on ${timeOf(at)} from ${from} to ${to}: ${does}`;
}

export function matching(listed: INodeListSearchItems[], filter: string): INodeListSearchItems[] {
	const wanted = filter.trim().toLowerCase();
	return listed.filter(({ name, value }) => `${name} ${value}`.toLowerCase().includes(wanted));
}

/** In UTC, which is the same for everybody who looks. */
export const timeOf = (at: number) =>
	`${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

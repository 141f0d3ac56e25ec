/** What is normal for a job and what it may use: the fields, and how they become part of a `Submit`. */
import type { INodeProperties } from 'n8n-workflow';
import type { Caps, CommandClass, Submit, Watch } from '../../protocol';

export const watchFields: INodeProperties[] = [
	{
		displayName: 'Command Class',
		name: 'commandClass',
		type: 'options',
		options: [
			{ name: 'As Its Name Says', value: '' },
			{ name: 'Compile', value: 'compile' },
			{ name: 'Files', value: 'files' },
			{ name: 'Info', value: 'info' },
			{ name: 'Interactive', value: 'interactive' },
			{ name: 'Network', value: 'network' },
			{ name: 'Packages', value: 'packages' },
			{ name: 'Services', value: 'services' },
		],
		default: '',
		description:
			'What sort of command it is: how long it normally runs and stays silent. Anything longer is reported in the health of the job.',
	},
	{
		displayName: 'Report Hanging After (Seconds)',
		name: 'idleSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 30,
		description:
			'How long the job may neither print nor compute before it is reported as hanging; 0 for 30 seconds',
	},
	{
		displayName: 'Report Run After (Seconds)',
		name: 'reportRunSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 0,
		description:
			'How long the job normally runs; a longer run is reported, but not ended. 0 for what its class says.',
	},
	{
		displayName: 'Report Silence After (Seconds)',
		name: 'reportSilenceSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 0,
		description:
			'How long the job is normally silent; a longer silence is reported, but ends nothing. 0 for what its class says.',
	},
	{
		displayName: 'CPU Time Cap (Seconds)',
		name: 'capCpuSeconds',
		type: 'number',
		typeOptions: { minValue: 0, numberPrecision: 0 },
		default: 0,
		description:
			'Processor time of all its processes together. A job that uses more is stopped and fails; 0 for no cap.',
	},
	{
		displayName: 'Memory Cap (MiB)',
		name: 'capMemoryMiB',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 0,
		description:
			'Memory of all its processes together. A job that uses more is stopped and fails; 0 for no cap.',
	},
	{
		displayName: 'Output Cap (KiB)',
		name: 'capOutputKiB',
		type: 'number',
		typeOptions: { minValue: 0, maxValue: 65536 },
		default: 0,
		description:
			'How much output is kept, its beginning and its end; printing more ends nothing. 0 for 64 MiB.',
	},
	{
		displayName: 'Process Cap',
		name: 'capProcesses',
		type: 'number',
		typeOptions: { minValue: 0, numberPrecision: 0 },
		default: 0,
		description:
			'How many processes it may have at the same time. A job with more is stopped and fails; 0 for no cap.',
	},
];

export interface WatchOptions {
	commandClass?: CommandClass | '';
	idleSeconds?: number;
	reportRunSeconds?: number;
	reportSilenceSeconds?: number;
	capCpuSeconds?: number;
	capMemoryMiB?: number;
	capOutputKiB?: number;
	capProcesses?: number;
}

export function readCaps(options: WatchOptions): Pick<Submit, 'caps'> {
	const { capCpuSeconds, capMemoryMiB, capOutputKiB, capProcesses } = options;
	const caps: Caps = {
		...(capMemoryMiB ? { memoryBytes: Math.round(capMemoryMiB * 2 ** 20) } : {}),
		...(capCpuSeconds ? { cpuSeconds: Math.ceil(capCpuSeconds) } : {}),
		...(capProcesses ? { processes: capProcesses } : {}),
		...(capOutputKiB ? { outputBytes: Math.round(capOutputKiB * 2 ** 10) } : {}),
	};
	return Object.keys(caps).length > 0 ? { caps } : {};
}

export function readWatch(options: WatchOptions): Pick<Submit, 'watch'> {
	const { commandClass, idleSeconds, reportRunSeconds, reportSilenceSeconds } = options;
	const watch: Watch = {
		...(commandClass ? { class: commandClass } : {}),
		...(reportSilenceSeconds ? { noOutputMs: Math.round(reportSilenceSeconds * 1000) } : {}),
		...(reportRunSeconds ? { totalMs: Math.round(reportRunSeconds * 1000) } : {}),
		...(idleSeconds ? { idleMs: Math.round(idleSeconds * 1000) } : {}),
	};
	return Object.keys(watch).length > 0 ? { watch } : {};
}

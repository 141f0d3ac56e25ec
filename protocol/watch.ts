/** How a running job is looked at from outside: the sorts of commands, and what a job says of itself. */

export const commandClassNames = [
	'info',
	'services',
	'files',
	'network',
	'packages',
	'compile',
	'interactive',
] as const;
export type CommandClass = (typeof commandClassNames)[number];

/**
 * What is normal for this job, where the sort of its command says otherwise. It only changes what is reported
 * (`health`), and what `onHang` takes for hanging; limits that end a job are its `timeouts`.
 */
export interface Watch {
	/** Judge it as a command of this sort, whatever its name. */
	class?: CommandClass;
	/** Silent for longer is reported as overdue. Default by class; of no class: never. */
	noOutputMs?: number;
	/** Running for longer is reported as overdue. Default by class; of no class: never. */
	totalMs?: number;
	/** Silent and at rest for longer counts as hanging. Default 30,000. */
	idleMs?: number;
}

/** The same as a robot is told. */
export interface WireWatch {
	class?: string;
	no_output_ms?: number;
	total_ms?: number;
	idle_ms?: number;
}

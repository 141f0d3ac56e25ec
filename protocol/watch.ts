/** How a running job is judged from outside: the classes of commands, and what a job says about itself. */

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
 * What is normal for this job, where the class of its command says otherwise. It only changes what is reported
 * (`health`), and what `onHang` takes for hanging; the limits that end a job are its `timeouts`.
 */
export interface Watch {
	/** Judge it as a command of this class, whatever its name. */
	class?: CommandClass;
	/** Silent for longer is reported as overdue. Default by class; without one: never. */
	noOutputMs?: number;
	/** Running for longer is reported as overdue. Default by class; without one: never. */
	totalMs?: number;
	/** Silent and at rest for longer counts as hanging. Default 30,000. */
	idleMs?: number;
}

/** The same, as sent to a robot. */
export interface WireWatch {
	class?: string;
	no_output_ms?: number;
	total_ms?: number;
	idle_ms?: number;
}

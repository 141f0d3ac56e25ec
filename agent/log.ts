/** The log of the agent as its rooms see it: constant text, facts beside it. pino fits this shape. */
export interface Log {
	debug(facts: object, text: string): void;
	info(facts: object, text: string): void;
	warn(facts: object, text: string): void;
	error(facts: object, text: string): void;
}

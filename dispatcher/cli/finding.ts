/** What doctor has to say about one thing that it checked. */
export interface Finding {
	check: string;
	ok: boolean;
	/** What was seen. */
	text: string;
	/** What mends it. */
	mend?: string;
	/** All is well, but this has not been used yet, or waits for somebody: the command to go on with. */
	next?: string;
}

export type Found = Omit<Finding, 'check'>;

/** What doctor has to say of one thing that it looked at. */
export interface Finding {
	check: string;
	ok: boolean;
	/** What was seen. */
	text: string;
	/** What mends it. */
	mend?: string;
	/** All is well, and this has not been used yet, or waits for somebody: the command that goes on from here. */
	next?: string;
}

export type Found = Omit<Finding, 'check'>;

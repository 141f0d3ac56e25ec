/** Where things lie in the folder of the keepers, which is their working directory. */
export const places = {
	/** Who knows it is this robot's agent. Mode 0600, in a folder of mode 0700. */
	secret: 'secret',
	/** One file for each attempt that was started and whose end was not taken. */
	exits: 'attempts',
} as const;

/** What belongs to one keeper only. */
export interface SeatPlaces {
	/** So short by itself that it fits into the address of a socket, however long the folder's name is. */
	socket: string;
	log: string;
}

/** So many keepers there are at most. */
export const maxSeats = 4;

export function seatOf(number: number): SeatPlaces {
	const suffix = number === 0 ? '' : `-${number + 1}`;
	return { socket: `socket${suffix}`, log: `log${suffix}` };
}

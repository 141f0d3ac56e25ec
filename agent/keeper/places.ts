/** Where things lie in the folder of a keeper, which is its working directory. */
export const places = {
	/** Short enough by itself to fit into the address of a socket, however long the folder's name is. */
	socket: 'socket',
	/** Whoever knows it is this robot's agent. Mode 0600, in a folder of mode 0700. */
	secret: 'secret',
	/** One file for each attempt that was started and whose end was not taken. */
	exits: 'attempts',
	log: 'log',
} as const;

/**
 * Named places between two durable steps, at which a test may end the whole process: promises must
 * hold wherever the power fails. They are not in what is released (gulpfile.js): there this file does
 * nothing.
 *
 *   ROBOT_FLEET_FAIL_AT=turn:committed      at the first pass
 *   ROBOT_FLEET_FAIL_AT=turn:committed:3    at the third
 *
 * Besides those below, every deed of the store has two: `deed:NAME`, done but not committed, and
 * `did:NAME`, committed but told to nobody yet.
 */
export const failPoints = {
	'start:data folder': 'the data folder is there, nothing is open',
	'start:lock': 'the lock is about to be taken',
	'start:store': 'the lock is ours, the store is about to be read',
	'start:migrate': 'the store is about to get its shape',
	'start:engine': 'the store is open, memory is empty',
	'start:keys': 'the engine runs, the first keys are about to be written',
	'start:listen': 'everything is ready but the port',
	'store:begun': 'a transaction is open, nothing is written',
	'store:done': 'all deeds are done, output is in memory',
	'store:flushed': 'output is on disk, the rows that refer to it are not',
	'store:committed': 'all is on disk, nobody knows',
	'segment:written': 'a segment has grown and is not synced',
	'segment:synced': 'a segment is on disk, its folder and its rows are not',
	'turn:planned': 'slots are reserved in memory, nothing is sent to the store',
	'turn:committed': 'the store has answered, memory is as before',
	'turn:settled': 'memory is as the store, answers and frames lie in buffers',
	'link:registered': 'a robot is in, its verdicts are not told',
	'link:accepted': 'a robot says that it started',
	'link:assigning': 'an assignment is on disk and not sent',
	'link:assigned': 'an assignment was handed to the socket',
	'link:result': 'a result has come in',
	'link:acknowledging': 'a result is on disk, its acknowledgement is not sent',
	'link:acknowledged': 'the acknowledgement was handed to the socket',
	'link:output': 'output has come in',
	'link:output-acknowledged': 'output is on disk, and its acknowledgement was handed to the socket',
	'link:cancelling': 'a cancel is on disk and not sent',
	'door:heard': 'a change is asked for and not begun',
	'door:done': 'a change is on disk, its answer is not sent',
	'wait:poking': 'a callback is about to be made',
	'wait:poked': 'a callback was taken, and that is not written down',
} as const;

export type FailPoint = keyof typeof failPoints | `deed:${string}` | `did:${string}`;

declare const FAIL_POINTS: boolean | undefined;
const compiledIn = typeof FAIL_POINTS !== 'undefined' && FAIL_POINTS;

const [, armed, pass] = compiledIn
	? (/^(.+?)(?::(\d+))?$/.exec(process.env['ROBOT_FLEET_FAIL_AT'] ?? '') ?? [])
	: [];
let passesLeft = Number(pass ?? 1);

/** Ends the process as a power failure would, if a test has armed this place. */
export function failPoint(name: FailPoint): void {
	if (!compiledIn || name !== armed) return;
	passesLeft -= 1;
	if (passesLeft === 0) process.kill(process.pid, 'SIGKILL');
}

/** Whether any is armed: only then is it worth making up a name. */
export const failPointsArmed = compiledIn && armed !== undefined;

/** The flags for a job's time limits and silence, what is worth another try, and what happens on loss, disconnect or hang. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { causes, type OnLoss, type Submit } from '../../protocol';
import { durationOf, wholeOf } from './terminal';

export interface EndFlags {
	timeout?: number;
	startWithin?: number;
	silence?: number;
	answerWithin?: number;
	tries?: number;
	retryOn?: string[];
	retryDelay?: number;
	otherRobot?: boolean;
	idempotent?: boolean;
	onLoss?: NonNullable<OnLoss['then']>;
	lossAfter?: number;
	onDisconnect?: NonNullable<Submit['onDisconnect']>;
	onHang?: NonNullable<Submit['onHang']>;
}

export function withEnds(command: Command): Command {
	return command
		.option('--timeout <duration>', 'longest run: 30s, 15m, 2h', durationOf)
		.option('--start-within <duration>', 'end it if it has not begun by then: 10m', durationOf)
		.option('--silence <duration>', 'end it if it prints nothing for this long: 10m', durationOf)
		.option(
			'--answer-within <duration>',
			'the same while it asks for input (default 5m)',
			durationOf,
		)
		.option('--tries <count>', 'how many tries in all (default 3)', triesOf)
		.option(
			'--retry-on <cause>',
			'what is worth another try, instead of the defaults: exit:75, spawn_error (repeatable)',
			causeOf,
		)
		.option('--retry-delay <duration>', 'how long until the second try (default 1s)', durationOf)
		.option('--other-robot', 'the next try is on another robot, as long as one fits')
		.option('--idempotent', 'it may run more than once: any failure is worth another try')
		.addOption(
			new Option('--on-loss <what>', 'what happens to it when its robot stays away').choices([
				'unknown',
				'retry',
				'fail',
			]),
		)
		.option('--loss-after <duration>', 'how long a robot may stay away (default 5m)', durationOf)
		.addOption(
			new Option('--on-disconnect <what>', 'what its robot does with it while cut off').choices([
				'continue',
				'stop',
			]),
		)
		.addOption(
			new Option('--on-hang <what>', 'what its robot does when it hangs').choices([
				'report',
				'stop',
			]),
		);
}

export function endsOf(
	flags: EndFlags,
	deadlineAt?: number,
): Pick<Submit, 'timeouts' | 'retry' | 'idempotent' | 'onDisconnect' | 'onHang'> & {
	onLoss?: OnLoss;
} {
	const timeouts = {
		...(flags.timeout !== undefined && { runMs: flags.timeout }),
		...(flags.startWithin !== undefined && { queueMs: flags.startWithin }),
		...(flags.silence !== undefined && { silenceMs: flags.silence }),
		...(flags.answerWithin !== undefined && { inputMs: flags.answerWithin }),
		...(deadlineAt !== undefined && { deadlineAt }),
	};
	const retry = {
		...(flags.tries !== undefined && { maxAttempts: flags.tries }),
		...(flags.retryOn && { on: flags.retryOn }),
		...(flags.retryDelay !== undefined && { initialDelayMs: flags.retryDelay }),
		...(flags.otherRobot && { otherRobot: true }),
	};
	const onLoss = {
		...(flags.lossAfter !== undefined && { waitMs: flags.lossAfter }),
		...(flags.onLoss && { then: flags.onLoss }),
	};
	return {
		...(isSaid(timeouts) && { timeouts }),
		...(isSaid(retry) && { retry }),
		...(isSaid(onLoss) && { onLoss }),
		...(flags.idempotent && { idempotent: true }),
		...(flags.onDisconnect && { onDisconnect: flags.onDisconnect }),
		...(flags.onHang && { onHang: flags.onHang }),
	};
}

const isSaid = (fields: object) => Object.keys(fields).length > 0;

function triesOf(text: string): number {
	const count = wholeOf(text);
	if (count === 0) throw new InvalidArgumentError('Write a number above 0; 1 means no second try.');
	return count;
}

function causeOf(text: string, before: string[] = []): string[] {
	if (!/^exit:\d{1,3}$/.test(text) && !Object.hasOwn(causes, text)) {
		const known = Object.keys(causes).join(', ');
		throw new InvalidArgumentError(`Write exit:N with an exit code, or one of ${known}.`);
	}
	return [...before, text];
}

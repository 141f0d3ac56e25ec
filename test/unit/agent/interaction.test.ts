/** What is typed into a program, when whoever holds it cannot be asked any more. */
import { systemClock } from '../../../agent/clock';
import type { InputPort } from '../../../agent/executors/executor';
import { Interaction } from '../../../agent/interaction';
import type { Line } from '../../../agent/link';
import type { InputAck, InputMessage, RobotMessages } from '../../../protocol';

const ref = { job_id: '01890000-0000-7000-8000-000000000001', attempt: 1, epoch: 1, token: 't' };

class Ear implements Line {
	readonly maxOutputBytes = 1;
	readonly maxMessageBytes = 1_000_000;
	readonly features = ['input'];
	readonly acks: InputAck[] = [];
	#wake: () => void = () => undefined;

	send<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T]): void {
		if (type !== 'input_ack') return;
		this.acks.push(payload as InputAck);
		this.#wake();
	}

	sendOutput(): void {}

	sendFile(): void {}

	async until(count: number): Promise<InputAck> {
		while (this.acks.length < count) await new Promise<void>((wake) => (this.#wake = wake));
		return this.acks.at(-1)!;
	}
}

test('a keeper that is gone closes the input, and the service is told, of every piece', async () => {
	const interaction = new Interaction({
		ref,
		timeouts: { grace_ms: 1 },
		clock: systemClock,
		stop: () => undefined,
		caughtUp: async () => undefined,
	});
	const ear = new Ear();
	interaction.attach(ear);
	const port: InputPort = {
		have: 0,
		terminal: false,
		write: () => Promise.reject(new Error('the process that kept it was killed')),
		end: async () => undefined,
		resize: () => undefined,
	};
	interaction.open(port);
	const piece: InputMessage = {
		...ref,
		offset: 0,
		data_b64: Buffer.from('one\n').toString('base64'),
	};
	interaction.take(piece);
	expect(await ear.until(2)).toMatchObject({ have: 0, state: 'closed' });
	interaction.take(piece);
	expect(await ear.until(3)).toMatchObject({ have: 0, state: 'closed' });
	interaction.end();
});

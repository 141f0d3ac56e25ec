/**
 * The way of output frames into the store, so narrow that a robot which floods us harms nobody: one
 * turn carries so many bytes of output and no more, robots take turns in it, and what waits is bounded
 * for each robot and for all. A robot that sends more than it may is told to stop (a credit of 0) and what it
 * sends is thrown away unread until it is told to go on: nothing is lost, since it keeps all that was
 * not acknowledged. Control messages never wait here.
 */
import { limits, Problem } from '../../protocol';
import type { OutputFrame } from '../../protocol/frames';
import type { Context } from './context';
import type { Session } from './fleet';
import type { Proof } from './proof';
import { refuseStranger } from './strangers';
import type { Turn } from './turns';

/** Per commit: what a synced write of this much adds to the answers that share the commit is bearable. */
const maxTurnBytes = 1024 * 1024;
const maxTurnFrames = 256;
/** Of all robots, waiting or being committed. */
const maxBytes = 32 * 1024 * 1024;
const leastWindow = 64 * 1024;
/** A frame costs more than its data. */
const frameCost = 256;

interface Flow {
	robotId: string;
	session: Session;
	waiting: OutputFrame[];
	/** Waiting or being committed. */
	bytes: number;
	/** What the robot was told it may have under way; 0 = it was told to stop. */
	window: number;
}

export class OutputFlow {
	readonly #context: Context;
	readonly #proof: Proof;
	readonly #flows = new Map<Session, Flow>();
	/** Flows with frames waiting, the one whose turn it is first. */
	readonly #line = new Set<Flow>();
	/** Flows that may have less under way than usual. */
	readonly #limited = new Set<Flow>();
	#bytes = 0;
	#planned = false;

	constructor(context: Context, proof: Proof) {
		this.#context = context;
		this.#proof = proof;
	}

	take(robotId: string, session: Session, frame: OutputFrame): void {
		let flow = this.#flows.get(session);
		if (!flow) {
			flow = { robotId, session, waiting: [], bytes: 0, window: limits.outputWindowBytes };
			this.#flows.set(session, flow);
		}
		const cost = costOf(frame);
		if (flow.window === 0) return;
		// One frame more than the window: it may have been under way when the window was made smaller.
		const tooMuch = flow.bytes + cost > limits.outputWindowBytes + limits.maxOutputFrameBytes;
		if (tooMuch || this.#bytes + cost > maxBytes) {
			this.#context.log.debug('a robot is told to stop its output', { robotId });
			flow.window = 0;
			this.#limited.add(flow);
			session.sink.outputCredit({ window: 0 });
			return;
		}
		flow.bytes += cost;
		this.#bytes += cost;
		flow.waiting.push({ ...frame, data: ownBytes(frame.data) });
		this.#line.add(flow);
		this.#plan();
	}

	/** The robot is gone; what it sent and we did not store it sends again. */
	forget(session: Session): void {
		const flow = this.#flows.get(session);
		if (!flow) return;
		this.#flows.delete(session);
		this.#line.delete(flow);
		this.#limited.delete(flow);
		for (const frame of flow.waiting.splice(0)) this.#bytes -= costOf(frame);
		this.#reopen();
	}

	#plan(): void {
		if (this.#planned || this.#line.size === 0) return;
		this.#planned = true;
		let taken: { flow: Flow; frame: OutputFrame }[] = [];
		this.#context.turns.push({
			plan: (turn) => {
				taken = this.#next();
				let open = taken.length;
				const stored = () => {
					open -= 1;
					// If the first did this already, there would be as many commits under way as frames in this one.
					if (open > 0) return;
					this.#planned = false;
					this.#plan();
				};
				for (const { flow, frame } of taken) this.#store(turn, flow, frame, stored);
				// A robot may have left meanwhile.
				if (taken.length === 0) this.#planned = false;
			},
			fail: (error) => {
				// Not acknowledged, so it comes again.
				for (const { flow, frame } of taken) this.#release(flow, frame);
				this.#planned = false;
				// A full store has room again some day; a broken one refuses at once, and for ever.
				if (error instanceof Problem) this.#plan();
			},
		});
	}

	/** One frame of each in turn, as many as one commit may carry. */
	#next(): { flow: Flow; frame: OutputFrame }[] {
		const taken: { flow: Flow; frame: OutputFrame }[] = [];
		let bytes = 0;
		for (const flow of this.#line) {
			const frame = flow.waiting.shift()!;
			taken.push({ flow, frame });
			bytes += costOf(frame);
			this.#line.delete(flow);
			// A set is walked in the order of insertion, including what is inserted meanwhile.
			if (flow.waiting.length > 0) this.#line.add(flow);
			if (bytes >= maxTurnBytes || taken.length >= maxTurnFrames) break;
		}
		return taken;
	}

	#store(turn: Turn, flow: Flow, frame: OutputFrame, stored: () => void): void {
		const { robotId, session } = flow;
		turn.add('appendOutput', { ...frame, robotId }, (answer) => {
			this.#release(flow, frame);
			if (answer.have >= 0) {
				const { jobId, epoch, stream } = frame;
				this.#proof.stored(session, frame, answer);
				session.sink.outputAck({ job_id: jobId, epoch, stream, have: answer.have });
				this.#context.watchers.hint('output', jobId);
			} else {
				const named = { job_id: frame.jobId, epoch: frame.epoch };
				refuseStranger(this.#context, robotId, session, named);
			}
			stored();
		});
	}

	#release(flow: Flow, frame: OutputFrame): void {
		const cost = costOf(frame);
		flow.bytes -= cost;
		this.#bytes -= cost;
		this.#reopen();
	}

	/** Whoever was stopped goes on as soon as there is room, with what is its share by now. */
	#reopen(): void {
		if (this.#limited.size === 0 || this.#bytes > maxBytes / 2) return;
		const window = this.#share();
		for (const flow of this.#limited) {
			const drained = flow.window === 0 && flow.bytes === 0;
			if (!drained && (flow.window === 0 || flow.window * 2 > window)) continue;
			flow.window = window;
			if (window === limits.outputWindowBytes) this.#limited.delete(flow);
			flow.session.sink.outputCredit({ window });
		}
	}

	#share(): number {
		if (this.#bytes <= maxBytes / 4) return limits.outputWindowBytes;
		const share = Math.floor(maxBytes / 2 / this.#flows.size);
		return Math.max(leastWindow, Math.min(limits.outputWindowBytes, share));
	}
}

function costOf({ data }: OutputFrame): number {
	return data.length + frameCost;
}

/** A small view would drag along the buffer it is part of, into memory and to the store's thread. */
function ownBytes(data: Uint8Array): Uint8Array {
	return data.length * 2 < data.buffer.byteLength ? new Uint8Array(data) : data;
}

/**
 * Faults put in on purpose: each breaks one promise in the way a careless change would. What a mutant
 * needs lies in the seams of the world (store, sinks, sessions, prototypes); the product knows none of it.
 */
import { Runner } from '../../agent/runner';
import { resultOf } from '../../dispatcher/core/result';
import { type Fleet as FleetOf, Fleet, type RobotEntry } from '../../dispatcher/engine/fleet';
import { Lanes } from '../../dispatcher/engine/lanes';
import type { Engine, RobotSession, RobotSink } from '../../dispatcher/engine';
import type { JobResultMessage } from '../../protocol';
import { Children } from './children';
import { SimJournal } from './journal';
import { looseSink } from './service';
import type { Mutation, World } from './world';

export interface Mutant extends Mutation {
	name: string;
	/** Puts it into the code itself; the answer takes it out again. */
	install?(): () => void;
}

/** The engine, with every session of a robot as this wants it. */
function withSessions(
	bend: (session: RobotSession, sink: RobotSink, world: World) => RobotSession,
	bendSink: (sink: RobotSink, session: () => RobotSession | undefined) => RobotSink = (sink) =>
		sink,
): Pick<Mutation, 'engine'> {
	return {
		engine: (engine: Engine, world) => ({
			...engine,
			connect: async (hello, sink, socket) => {
				const held: { session?: RobotSession } = {};
				const bent = bendSink(looseSink(sink), () => held.session);
				held.session = bend(await engine.connect(hello, bent, socket), bent, world);
				return held.session;
			},
		}),
	};
}

/** Replaces one method of a prototype for as long as the mutant lives. */
function patched<T extends object, K extends keyof T>(
	prototype: T,
	name: K,
	bend: (original: T[K]) => T[K],
): () => void {
	const original = prototype[name];
	prototype[name] = bend(original);
	return () => {
		prototype[name] = original;
	};
}

/** Tokens of attempts, as the mutant that does not check them must know them. */
const tokens = new Map<string, string>();

/** Of every robot the newest one, as the mutant that lets anybody speak for it must know it. */
const sessions = new Map<string, RobotSession>();

export const mutants: Mutant[] = [
	{
		name: 'a robot’s word counts although its epoch is over',
		...withSessions(
			(session, _sink, { ledger }) => {
				const current = (message: JobResultMessage): JobResultMessage => {
					const hold = ledger.holds.get(message.job_id);
					const token = tokens.get(`${message.job_id}/${hold?.epoch}`);
					if (!hold || hold.robotId !== session.robotId || token === undefined) return message;
					return { ...message, attempt: hold.number, epoch: hold.epoch, token };
				};
				return { ...session, result: (message) => session.result(current(message)) };
			},
			(sink) => ({
				...sink,
				assign: (assignment) => {
					tokens.set(`${assignment.job_id}/${assignment.epoch}`, assignment.token);
					sink.assign(assignment);
				},
			}),
		),
	},
	{
		name: 'whoever names an attempt may say how it ended',
		...withSessions((session, _sink, { ledger }) => {
			sessions.set(session.robotId, session);
			return {
				...session,
				result: (message) => {
					const hold = ledger.holds.get(message.job_id);
					const owner = hold?.epoch === message.epoch ? sessions.get(hold.robotId) : undefined;
					if (!owner) return session.result(message);
					const { number, token } = hold!;
					owner.result({ ...message, token, attempt: number });
				},
			};
		}),
	},
	{
		name: 'a robot is believed how long its job took',
		deed: (deed) => {
			if (deed.do !== 'settle' || deed.with.startedAt === undefined) return deed;
			const { at, result } = deed.with;
			const { durationMs } = resultOf(result!);
			return { do: 'settle', with: { ...deed.with, startedAt: at - Math.round(durationMs) } };
		},
	},
	{
		name: 'a result is acknowledged before it is committed',
		...withSessions((session, sink) => ({
			...session,
			result: (message) => {
				const { job_id, epoch, output } = message;
				sink.resultAck({ job_id, epoch, output, complete: true });
				session.result(message);
			},
		})),
	},
	{
		name: 'slots are a counter instead of holds',
		install: () => {
			const used = new WeakMap<RobotEntry, number>();
			const add = (fleet: FleetOf, robotId: string, by: number) => {
				const entry = fleet.get(robotId);
				if (entry) used.set(entry, (used.get(entry) ?? 0) + by);
			};
			const undo = [
				patched(
					Fleet.prototype,
					'hold',
					(hold) =>
						function (this: FleetOf, live) {
							add(this, live.robotId, 1);
							hold.call(this, live);
						},
				),
				patched(
					Fleet.prototype,
					'release',
					(release) =>
						function (this: FleetOf, live) {
							add(this, live.robotId, -1);
							release.call(this, live);
						},
				),
				patched(
					Fleet.prototype,
					'put',
					(put) =>
						function (this: FleetOf, stored) {
							const entry = put.call(this, stored);
							// A robot that says hello has all of its slots: that is what the counter believes.
							used.set(entry, 0);
							return entry;
						},
				),
				patched(
					Fleet.prototype,
					'available',
					() =>
						function (this: FleetOf, entry) {
							const open = entry.session && !entry.session.stopping && entry.stored.closed === null;
							const left = entry.stored.slots - (used.get(entry) ?? 0);
							return open ? left - entry.reserved + entry.freeing : 0;
						},
				),
			];
			return () => undo.forEach((restore) => restore());
		},
	},
	{
		name: 'a client is given to whoever asks',
		install: () =>
			patched(
				Fleet.prototype,
				'freeClients',
				() =>
					({ clients }) =>
						clients,
			),
	},
	{
		name: 'a revoke that was sent counts as proof that nothing was started',
		...withSessions(
			(session) => session,
			(sink, session) => ({
				...sink,
				revoke: (revoke) => {
					sink.revoke(revoke);
					const reason = 'not-started' as const;
					session()?.rejected({ ...revoke, reason, message: '', permanent: false });
				},
			}),
		),
	},
	{
		name: 'a result is sent whole, however long it is',
		install: () =>
			patched(
				Runner.prototype,
				'attach',
				(attach) =>
					function (this: Runner, line, registered) {
						Object.assign(line, { maxMessageBytes: Infinity });
						attach.call(this, line, registered);
					},
			),
	},
	{
		name: 'a start that was given up is not precluded',
		install: () => patched(Children.prototype, 'preclude', () => () => true),
	},
	{
		name: 'jobs of a robot that was removed wait on',
		install: () => patched(Lanes.prototype, 'forsaken', () => () => []),
	},
	{
		name: 'whoever waits does not hear of a change of groups',
		install: () => patched(Lanes.prototype, 'putAreas', () => () => undefined),
	},
	{
		name: 'the end of its children means nothing to a parent',
		deed: (deed) => {
			if (deed.do !== 'settleParent') return deed;
			return { do: 'settleParent', with: { ...deed.with, parentId: '' } };
		},
	},
	{
		name: 'absence counts although the service was away itself',
		settings: { recoveryGraceMs: 0 },
	},
	{
		name: 'a cancelled job goes back into the queue',
		deed: (deed) => {
			if (deed.do !== 'settle' || deed.with.next.to !== 'cancelled') return deed;
			if (deed.with.outcome !== 'not-started') return deed;
			const next = { to: 'queued' as const, readyAt: deed.with.at, rank: 0, dueAt: null };
			return { do: 'settle', with: { ...deed.with, next } };
		},
	},
	{
		name: 'a job is run again although nobody knows how far it came',
		deed: (deed) => {
			if (deed.do !== 'settle' || deed.with.cause !== 'unknown') return deed;
			const { at } = deed.with;
			const next = { to: 'pending' as const, readyAt: at, rank: 0, dueAt: at };
			return { do: 'settle', with: { ...deed.with, next } };
		},
	},
	{
		name: 'idempotency keys are not written down',
		deed: (deed) => {
			if (deed.do !== 'insertJob') return deed;
			const { idempotency: _, ...rest } = deed.with;
			return { do: 'insertJob', with: rest };
		},
	},
	{
		name: 'a command starts before the journal has it',
		install: () =>
			patched(
				SimJournal.prototype,
				'start',
				(start) =>
					function (this: SimJournal, ...args) {
						void start.apply(this, args).catch(() => undefined);
						return Promise.resolve();
					},
			),
	},
	{
		name: 'a result is told before the journal has it',
		install: () =>
			patched(
				SimJournal.prototype,
				'end',
				(end) =>
					function (this: SimJournal, ...args) {
						void end.apply(this, args).catch(() => undefined);
						return Promise.resolve();
					},
			),
	},
	{
		name: 'attempts that hold a slot are forgotten by a restart',
		read: (name, answer) => (name === 'held' ? [] : answer),
	},
	{
		name: 'output is taken at any offset',
		deed: (deed, { disk }) => {
			if (deed.do !== 'appendOutput') return deed;
			const { jobId, epoch, stream } = deed.with;
			const attempt = disk.read('attempt', { jobId, epoch });
			const have = stream === 'stdout' ? attempt?.stdoutHave : attempt?.stderrHave;
			return { do: 'appendOutput', with: { ...deed.with, offset: have ?? deed.with.offset } };
		},
	},
];

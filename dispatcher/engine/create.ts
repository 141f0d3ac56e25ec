/**
 * Puts the engine together and brings it back to where the store says it was: keys and robots first,
 * then every attempt that holds a slot, then the lanes, then what waits for time.
 */
import { type BackupRecord, limits } from '../../protocol';
import { Affinity } from '../core/affinity';
import type { FileShelf } from '../store/shelf';
import type { Store } from '../store/store';
import { Access } from './access';
import { Areas } from './areas';
import { Assigning } from './assigning';
import { Attempts } from './attempts';
import { Backlog } from './backlog';
import { Bulk } from './bulk';
import { Calendars } from './calendars';
import { Changes } from './changes';
import type { Chance, Clock } from './clock';
import { Closures } from './closures';
import { ClockWatch } from './clock-watch';
import type { Context, Log, Settings } from './context';
import { DeadLetters } from './dead-letters';
import { Duties } from './duties';
import { Devices } from './devices';
import { Edits } from './edits';
import { Epochs } from './epochs';
import { FileTransfers } from './file-transfers';
import { Files } from './files';
import { type FileLimits, KeptFiles } from './kept-files';
import { Feed } from './feed';
import { Fleet } from './fleet';
import { Gates } from './gates';
import { type Entropy, Ids } from './ids';
import type { Engine } from './index';
import { type Disk, Intake } from './intake';
import { Inputs } from './input';
import { Jobs } from './jobs';
import { Occurrences } from './occurrences';
import { Orders } from './orders';
import { OutputFlow } from './output-flow';
import { Lanes } from './lanes';
import { Locks } from './locks';
import { Lookout } from './lookout';
import { OutputRetention } from './output-retention';
import { Meter } from './meter';
import { Metrics } from './metrics';
import { Parents } from './parents';
import { Patience } from './patience';
import { Placing } from './placing';
import { Presences } from './presence';
import { Previews } from './previews';
import { Proof } from './proof';
import { Purge } from './purge';
import { Quarantine } from './quarantine';
import { hubIdOf, recall } from './recall';
import { RestoredJobs } from './restored';
import { Rollouts } from './rollouts';
import { ScheduleBook } from './schedule-book';
import { Schedules } from './schedules';
import { Sessions } from './sessions';
import { nextStretch } from './stretches';
import { Subscriptions } from './subscriptions';
import { Turns } from './turns';
import { WaitingJobs } from './waiting';
import { type Callbacks, Waits } from './waits';
import { Watchers } from './watchers';

export interface EngineParts {
	store: Store;
	clock: Clock;
	chance: Chance;
	/** The random bits of ids and attempts' tokens; the system's own unless others are handed in. */
	entropy?: Entropy;
	log: Log;
	settings: Settings;
	/** The way out to n8n. */
	callbacks: Callbacks;
	disk: Disk;
	/** Where the bytes of files lie; absent = there are none. */
	shelf?: FileShelf;
	fileLimits?: FileLimits;
	/** The store is broken: nothing may be promised any more, the process must end. */
	fatal(error: Error): void;
}

const lastBackupKey = 'last_backup';

export async function createEngine(parts: EngineParts): Promise<Engine> {
	const { store, clock, log } = parts;
	const gates = new Gates(clock);
	const fleet = new Fleet(gates);
	const lanes = new Lanes(gates);
	const watchers = new Watchers();
	const meter = new Meter(clock, fleet);
	const affinity = new Affinity();
	let readiness = 'starting';
	/** An observer of commits must not undo them. */
	const quietly = (look: () => void) => {
		try {
			look();
		} catch (error) {
			log.error('a commit was not counted or reported', { error });
		}
	};
	const clockWatch = new ClockWatch(clock);
	const turns = new Turns(store, {
		begin: (turn) => clockWatch.begin(turn),
		fill: (turn) => assigning.fill(turn),
		low: () => lanes.low(),
		refilled: (queue, heads, limit) => lanes.refill(queue, heads, limit),
		fatal: (error) => {
			readiness = 'broken';
			parts.fatal(error);
		},
		now: () => clock.now(),
		monotonic: () => clock.monotonic(),
		committed: (deeds, answers, tookMs) => {
			quietly(() => meter.committed(deeds, answers, tookMs));
			quietly(() => feed.committed(deeds, answers));
		},
		settled: (deeds, answers) => {
			quietly(() => meter.settled(deeds, answers));
			quietly(() => feed.settled(deeds, answers));
		},
	});
	const context: Context = {
		...parts,
		hubId: await hubIdOf(store),
		ids: new Ids(clock, parts.entropy),
		turns,
		clockWatch,
		fleet,
		lanes,
		gates,
		get backlog() {
			return backlog;
		},
		watchers,
		affinity,
		epochs: new Epochs(store.term, turns),
		dueAt: (at) => duties.dueAt(at),
		fillAt: (at) => duties.fillAt(at),
		diskFull: () => intake.level === 'full',
		cannot: (live, message) => attempts.cannot(live, message),
		neverSent: (live) => attempts.neverStarted(live, 'its robot was removed before it was sent'),
	};
	const backlog = new Backlog(context);
	const intake = new Intake(context, parts.disk);
	const assigning = new Assigning(context);
	const placing = new Placing(context, assigning);
	const waiting = new WaitingJobs(context);
	const parents = new Parents(context, placing, waiting);
	const proof = new Proof(context);
	const outputFlow = new OutputFlow(context, proof);
	const access = new Access(context);
	const quarantine = new Quarantine(context, access, assigning, placing);
	const attempts = new Attempts(context, proof, quarantine);
	const jobs = new Jobs(context, placing, parents);
	const inputs = new Inputs(context, jobs, attempts);
	const rollouts = new Rollouts(context, jobs);
	const changes = new Changes(context, jobs, attempts, parents, waiting, rollouts);
	const patience = new Patience(context, jobs, waiting);
	const edits = new Edits(context, jobs, waiting);
	const bulk = new Bulk(context, jobs, changes, edits);
	const deadLetters = new DeadLetters(context, jobs, changes);
	const locks = new Locks(context, assigning.passing);
	const lookout = new Lookout(context, jobs, assigning, rollouts, locks);
	const kept = new KeptFiles(context, parts.shelf, parts.fileLimits ?? limits);
	const transfers = new FileTransfers(context, attempts, kept);
	const files = new Files(context, kept, transfers, parts.shelf);
	const sessions = new Sessions(context, attempts, outputFlow, inputs, transfers);
	const previews = new Previews(context, { jobs, assigning, placing, parents, lookout, intake });
	const closures = new Closures(context, access);
	const devices = new Devices(context, access);
	const areas = new Areas(context, access);
	const orders = new Orders(context, access, closures);
	const waits = new Waits(context, parts.callbacks, (jobId, waitId, how) =>
		changes.notNeeded(jobId, waitId, how),
	);
	const book = new ScheduleBook(context);
	const calendars = new Calendars(context, book);
	const occurrences = new Occurrences(context, book, calendars, jobs, changes, intake);
	const schedules = new Schedules(context, book, calendars, occurrences, jobs);
	const subscriptions = new Subscriptions(context, (id) => book.peek(id) !== undefined);
	const restored = new RestoredJobs(context, sessions);
	const outputRetention = new OutputRetention(context);
	const presence = new Presences(context);
	const duties = new Duties(
		context,
		attempts,
		waiting,
		parents,
		waits,
		occurrences,
		access,
		intake,
		outputRetention,
		files,
		[closures, quarantine, presence, patience, changes],
		patience,
	);
	const purge = new Purge(context, (keys) => schedules.pauseLeft(keys));
	const metrics = new Metrics(context, meter, waits);
	const feed = new Feed(context);
	const startedAt = clock.now();

	await access.load();
	await devices.load();
	await areas.load();
	await locks.load();
	await restored.load();
	await recall(context);
	for (const queue of await store.read('queues', null)) lanes.doubt(queue);
	await waits.load();
	await calendars.load();
	await book.load();
	await occurrences.load();
	await changes.catchUp();
	// Not on disk: a retry comes late, and no harm is done.
	await turns.deed('settleBackOffs', { at: clock.now() }).catch(() => undefined);
	duties.start();
	purge.start();
	files.start();
	metrics.start();
	turns.nudge();
	backlog.start();
	intake.look();
	readiness = 'ready';
	log.info('engine ready', { term: store.term, robots: [...fleet.all()].length });

	const engine: Engine = {
		hubId: context.hubId,
		submit: async (list, by) => {
			intake.check();
			return jobs.submit(list, by);
		},
		job: (id, waitMs, signal) => jobs.job(id, waitMs, signal),
		jobs: (filter) => jobs.jobs(filter),
		attempts: (id) => jobs.attempts(id),
		timeline: (id) => jobs.timeline(id),
		why: (id, page) => lookout.why(id, page),
		preview: (job, by) => previews.preview(job, by),
		cancel: (id, by) => changes.cancel(id, by),
		cells: (id, page) => rollouts.cells(id, page),
		pauseRollout: (id, by) => rollouts.pause(id, by),
		resumeRollout: (id, request, by) => rollouts.resume(id, request, by),
		retry: async (id, by, request = {}) => {
			intake.check();
			return changes.retry(id, request, by);
		},
		async release(request, by) {
			const answer = await restored.release(request, by);
			if (!request.jobIds && answer.keptInAll === 0) await schedules.resumeRestored(by);
			return answer;
		},
		change: (id, change, by) => edits.change(id, change, by),
		bulk: async (order, by, signal) => {
			if (order.action === 'retry') intake.check();
			return bulk.run(order, by, signal);
		},
		deadLetters: (page) => deadLetters.groups(page),
		deadLetterJobs: (fingerprint, page) => deadLetters.jobs(fingerprint, page),
		replay: async (request, by, signal) => {
			intake.check();
			return deadLetters.replay(request, by, signal);
		},
		dismiss: (request, by, signal) => deadLetters.dismiss(request, by, signal),
		moveJob: (id, to, by) => changes.moveJob(id, to, by),
		answer: (id, answer, by) => patience.answer(id, answer, by),
		output: (id, stream, from, maxBytes) => jobs.output(id, stream, from, maxBytes),
		outputGrew: (id, stream, have, signal) => jobs.outputGrew(id, stream, have, signal),
		input: (id, input, signal) => inputs.type(id, input, signal),
		asks: (id, known, signal) => inputs.asks(id, known, signal),
		purgeOutput: () => outputRetention.purgeOutput(),
		createFile: (request, by) => files.create(request, by),
		uploadFile: (name, bytes, body, by) => files.upload(name, bytes, body, by),
		writeFile: (id, from, body) => files.write(id, from, body),
		files: (page) => files.list(page),
		file: (id) => files.file(id),
		fileBytes: (id, from, to) => files.bytes(id, from, to),
		removeFile: (id, by) => files.remove(id, by),
		queueStats: () => lookout.queueStats(),
		peek: (robot) => lookout.peek(robot),

		robots: async () => [...fleet.all()].map((entry) => access.view(entry)),
		robot: async (robot) => access.view(access.find(robot)),
		pauseRobot: (robot, by, request = {}) => closures.close(robot, 'paused', request, by),
		maintainRobot: (robot, by, request = {}) => closures.close(robot, 'maintenance', request, by),
		drainRobot: (robot, waitMs, by, signal, request = {}) =>
			orders.drain(robot, waitMs, by, signal, request),
		resumeRobot: (robot, by) => closures.open(robot, by),
		quarantineRobot: (robot, request, by) => closures.quarantine(robot, request, by),
		probeRobot: (robot, by) => quarantine.probe(robot, by),
		changeRobots: (request, by) => closures.many(request, by),
		pingRobot: (robot) => orders.ping(robot),
		refreshRobot: (robot) => orders.refresh(robot),
		disconnectRobot: async (robot, by) => {
			devices.leaveAlone(robot);
			return orders.disconnect(robot, by);
		},
		registerRobot: (request, by) => devices.register(request, by),
		connectRobot: (robot, by) => devices.connect(robot, by),
		settleConstellation: (constellation) => devices.settle(constellation),
		hubKey: () => devices.hubKey(),
		dialling: devices,
		shutdownRobot: (robot, atOnce, by) => orders.shutdown(robot, atOnce, by),
		broadcast: async (request, by) => ({ told: orders.broadcast(request, by) }),
		removeRobot: async (robot, by) => {
			const { robotId, device } = access.find(robot);
			await access.removeRobot(robotId, by);
			if (!device) return;
			await devices.forget(robotId);
			turns.nudge();
		},
		allowMove: (robot, by) => access.allowMove(robot, by),
		enrol: (token, publicKey, name) => access.enrol(token, publicKey, name),
		robotKey: (robotId) => access.robotKey(robotId),
		connect: (hello, sink, socket, address) => sessions.connect(hello, sink, socket, address),

		createToken: (token, by, pin) => access.createToken(token, by, pin),
		tokens: () => access.tokens(),
		revokeToken: (id, by) => access.revokeToken(id, by),
		createKey: (key, by) => access.createKey(key, by),
		keys: () => access.keys(),
		revokeKey: (id, by) => access.revokeKey(id, by),
		verifyKey: (key) => access.verifyKey(key),

		createWait: (wait, by) => waits.create(wait, by),
		wait: (id, waitMs, signal) => waits.wait(id, waitMs, signal),
		closeWait: (id) => waits.close(id),
		deliverWait: (id) => waits.deliver(id),
		waits: (page) => waits.list(page),
		collect: (secret, waitMs, signal) => waits.collect(secret, waitMs, signal),
		collected: (secret, answers) => waits.collected(secret, answers),

		schedules: () => schedules.all(),
		schedule: (id) => schedules.one(id),
		putSchedule: async (id, schedule, by) => schedules.put(id, schedule, by),
		changeSchedule: (id, change, by) => schedules.change(id, change, by),
		removeSchedule: (id, by) => schedules.remove(id, by),
		pauseSchedule: (id, by) => schedules.pause(id, by),
		resumeSchedule: (id, by) => schedules.resume(id, by),
		pauseSchedules: (by) => schedules.pauseAll(by),
		resumeSchedules: (by) => schedules.resumeAll(by),
		runSchedule: async (id, request, by) => {
			intake.check();
			return schedules.run(id, request, by);
		},
		backfill: async (id, request, by) => {
			if (request.expect !== undefined) intake.check();
			return schedules.backfill(id, request, by);
		},
		occurrences: (id, page) => schedules.occurrences(id, page),
		upcoming: (limit) => schedules.upcoming(limit),
		forecast: (days) => schedules.forecast(days),
		previewSchedule: (request) => schedules.preview(request),
		groups: async () => areas.groups(),
		group: async (name) => areas.group(name),
		putGroup: (name, group, by) => areas.putGroup(name, group, by),
		removeGroup: (name, by) => areas.removeGroup(name, by),
		pools: async () => areas.pools(),
		pool: async (name) => areas.pool(name),
		putPool: (name, pool, by) => areas.putPool(name, pool, by),
		removePool: (name, by) => areas.removePool(name, by),
		locks: () => locks.all(),
		putLimit: (name, limit, by) => locks.putLimit(name, limit, by),
		removeLimit: (name) => locks.removeLimit(name),
		calendars: async () => calendars.all(),
		calendar: async (name) => calendars.one(name),
		putCalendar: (name, calendar, by) => calendars.put(name, calendar, by),
		removeCalendar: (name) => calendars.remove(name),
		subscribe: async (key, subscription, by) => {
			const taken = await subscriptions.subscribe(key, subscription, by);
			await schedules.followedAgain(subscription.filter.scheduleId);
			return taken;
		},
		unsubscribe: (...asked) => subscriptions.unsubscribe(...asked),
		events: (...asked) => subscriptions.events(...asked),
		acknowledge: (...asked) => subscriptions.acknowledge(...asked),

		drain: async (by) => intake.drain(by.name),
		takeWork: async (by) => intake.resume(by.name),
		cancelAll: (by, withinMs) => cancelAll(context, (id) => changes.cancel(id, by), withinMs),
		async flush() {
			// Work is committed in the order it came: once this is on disk, so is all that came before.
			await turns.deed('robotsSeen', { ids: [], at: clock.now() });
		},
		look: (channel, since, viewer) => feed.watch(channel, since, viewer),
		metrics: (timezone) => metrics.record(timezone),
		metricSeries: (metric, from, to) => metrics.series(metric, from, to),
		metricBreakdown: (by, from, to, signal) => metrics.breakdown(by, from, to, signal),
		families: async () => metrics.families(),
		async service() {
			const { disk } = parts;
			const { minFreeBytes } = parts.settings;
			const lastBackup = await store.read('meta', { key: lastBackupKey });
			const { restoration } = restored;
			return {
				readiness: engine.readiness,
				startedAt,
				schema: store.schema,
				hubFingerprint: (await devices.hubKey()).fingerprint,
				attempts: [...fleet.lives()].length,
				robots: [...fleet.all()].filter((entry) => entry.session).length,
				disk: {
					level: intake.level,
					freeBytes: disk.freeBytes(),
					minFreeBytes,
					storeBytes: disk.storeBytes(),
				},
				retention: purge.status,
				lastBackup: lastBackup === undefined ? null : (JSON.parse(lastBackup) as BackupRecord),
				restored: restoration && { ...restoration, waiting: await restored.waiting() },
			};
		},
		purge: (dryRun) => purge.purge(dryRun),
		async noteBackup(record) {
			await turns.deed('setMeta', { key: lastBackupKey, value: JSON.stringify(record) });
		},
		get readiness() {
			return readiness === 'ready' ? (intake.closed ?? readiness) : readiness;
		},
		async stop() {
			if (readiness === 'stopped') return;
			readiness = 'stopping';
			await duties.stop();
			await purge.stop();
			await files.stop();
			await metrics.stop();
			feed.stop();
			backlog.stop();
			await access.noteUsed().catch(() => undefined);
			for (const entry of fleet.all()) entry.session?.sink.close(1001, 'the service stops');
			await turns.idle();
			readiness = 'stopped';
		},
	};
	return engine;
}

const cancelBatch = 200;

/** Those with robots first, since they take the longest; newest first, so that nothing is skipped. */
async function cancelAll(
	{ store, clock }: Context,
	cancel: (jobId: string) => Promise<unknown>,
	withinMs: number,
): Promise<void> {
	const until = clock.monotonic() + withinMs;
	for (const state of ['running', 'dispatched', 'queued', 'pending'] as const) {
		for (let after: string | null | undefined = null; after !== undefined;) {
			if (clock.monotonic() >= until) return;
			const place = { order: 'newest', after, want: cancelBatch } as const;
			const stretch: { ids: string[]; next?: string } = await nextStretch(store, { state }, place);
			await Promise.all(stretch.ids.map(cancel));
			after = stretch.next;
		}
	}
}

/**
 * Every call of the HTTP API in one table: OpenAPI, the authorisation matrix test and docs/api are
 * made from it, and the server refuses to start with a route that is not in it.
 * Paths are relative to /api/v1 unless they start with `//`.
 */

export const scopes = ['submit', 'read', 'cancel', 'operate', 'admin'] as const;
/**
 * - `submit`  jobs, waits, schedules and subscriptions of its own; not schedules of other keys
 * - `read`    everything but secrets
 * - `cancel`  cancel and retry jobs, change waiting ones; dead letters
 * - `operate` robots: describe, pause, resume, drain, remove; jobs that a restore holds back; schedules of all keys
 * - `admin`   keys, tokens, backups, draining; includes all other scopes
 */
export type Scope = (typeof scopes)[number];

export interface Call {
	method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
	path: string;
	/** `null` = needs no key. */
	scope: Scope | null;
	summary: string;
}

export const calls = {
	submit: {
		method: 'POST',
		path: '/jobs',
		scope: 'submit',
		summary: 'Submit one job, or many as {jobs: […]}',
	},
	jobs: { method: 'GET', path: '/jobs', scope: 'read', summary: 'List jobs, newest first' },
	job: {
		method: 'GET',
		path: '/jobs/{id}',
		scope: 'read',
		summary: 'One job; with waitMs, answers when it is final or the time is up',
	},
	jobAttempts: {
		method: 'GET',
		path: '/jobs/{id}/attempts',
		scope: 'read',
		summary: 'All attempts of a job',
	},
	jobCells: {
		method: 'GET',
		path: '/jobs/{id}/cells',
		scope: 'read',
		summary: 'Progress of a job for several robots: counts, batches, and each robot',
	},
	jobTimeline: {
		method: 'GET',
		path: '/jobs/{id}/timeline',
		scope: 'read',
		summary: 'All state changes of a job: who, when, why',
	},
	jobWhy: {
		method: 'GET',
		path: '/jobs/{id}/why',
		scope: 'read',
		summary:
			'Why the job waits, in one sentence; with robots=true also what keeps each robot from it',
	},
	jobPreview: {
		method: 'POST',
		path: '/jobs/preview',
		scope: 'read',
		summary: 'What would happen to a job: a submit that changes nothing',
	},
	jobOutput: {
		method: 'GET',
		path: '/jobs/{id}/output',
		scope: 'read',
		summary: 'Stored output bytes; with Accept: text/event-stream, follows them live',
	},
	jobCancel: {
		method: 'POST',
		path: '/jobs/{id}/cancel',
		scope: 'cancel',
		summary: 'Cancel a job; safe to repeat',
	},
	jobInput: {
		method: 'POST',
		path: '/jobs/{id}/input',
		scope: 'submit',
		summary:
			'Type into an interactive job; answers when its robot has taken the input; safe to repeat by offset',
	},
	jobRetry: {
		method: 'POST',
		path: '/jobs/{id}/retry',
		scope: 'cancel',
		summary:
			'Submit the same job again, or answer with its retry that is still open; for several robots, also only where it failed',
	},
	jobPause: {
		method: 'POST',
		path: '/jobs/{id}/pause',
		scope: 'cancel',
		summary: 'Start nothing more of a job that goes out in batches; what runs goes on',
	},
	jobResume: {
		method: 'POST',
		path: '/jobs/{id}/resume',
		scope: 'cancel',
		summary: 'Continue a job that goes out in batches, after a pause or when failures stopped it',
	},
	jobsRelease: {
		method: 'POST',
		path: '/jobs/release',
		scope: 'operate',
		summary:
			'Let jobs go on that have waited since the store was restored from a backup; with all of them, its schedules too',
	},
	jobChange: {
		method: 'PATCH',
		path: '/jobs/{id}',
		scope: 'cancel',
		summary: 'Change a waiting job: priority, hold or release, target',
	},
	jobAnswer: {
		method: 'POST',
		path: '/jobs/{id}/answer',
		scope: 'cancel',
		summary: 'Answer a job that asks because its robot stays away: wait, other or expire',
	},
	jobsBulk: {
		method: 'POST',
		path: '/jobs/bulk',
		scope: 'cancel',
		summary:
			'Cancel, retry, retarget, hold, release or rank all jobs a filter finds; a preview unless `expect` is given',
	},
	deadLetters: {
		method: 'GET',
		path: '/dead-letters',
		scope: 'read',
		summary: 'Jobs that failed for good, grouped by what went wrong',
	},
	deadLetterJobs: {
		method: 'GET',
		path: '/dead-letters/{id}',
		scope: 'read',
		summary: 'The dead letters of one fingerprint, newest first',
	},
	deadLettersReplay: {
		method: 'POST',
		path: '/dead-letters/replay',
		scope: 'cancel',
		summary: 'Submit dead letters again, here or for other robots; each once',
	},
	deadLettersDismiss: {
		method: 'POST',
		path: '/dead-letters/dismiss',
		scope: 'cancel',
		summary: 'Take dead letters that need nothing more off the list',
	},
	jobStatus: {
		method: 'POST',
		path: '/jobs/{id}/status',
		scope: 'admin',
		summary: 'Move a job by hand, through the state machine',
	},
	queueStats: {
		method: 'GET',
		path: '/queue/stats',
		scope: 'read',
		summary: 'Jobs by state, priority and lane, and the longest wait',
	},
	queuePeek: {
		method: 'GET',
		path: '/queue/peek',
		scope: 'read',
		summary: 'The next job a robot would get, without taking it',
	},
	robots: { method: 'GET', path: '/robots', scope: 'read', summary: 'List robots' },
	robot: {
		method: 'GET',
		path: '/robots/{id}',
		scope: 'read',
		summary: 'One robot, by id or name',
	},
	robotRegister: {
		method: 'POST',
		path: '/robots',
		scope: 'operate',
		summary:
			'Register or change a device: one that dials the service, or (serverUrl) one that is dialled; it need not be online. Its key, and the address of one that has not proved its key, only with the scope admin',
	},
	robotConnect: {
		method: 'POST',
		path: '/robots/{id}/connect',
		scope: 'operate',
		summary: 'Dial a registered device now; answers with the outcome',
	},
	robotEnrol: {
		method: 'POST',
		path: '/robots/enrol',
		scope: null,
		summary: 'A new robot exchanges an enrollment token for an identity',
	},
	robotLink: {
		method: 'GET',
		path: '/robots/link',
		scope: null,
		summary: 'The robots’ WebSocket; the robot proves its key in the first message',
	},
	robotPoll: {
		method: 'POST',
		path: '/robots/link/poll',
		scope: null,
		summary: 'The bytes of that WebSocket in requests and answers, where no WebSocket gets through',
	},
	robotPause: {
		method: 'POST',
		path: '/robots/{id}/pause',
		scope: 'operate',
		summary: 'Give the robot no new jobs; with a reason, and for a time or until a time',
	},
	robotResume: {
		method: 'POST',
		path: '/robots/{id}/resume',
		scope: 'operate',
		summary: 'Give the robot jobs again: ends a pause, a drain, maintenance and quarantine',
	},
	robotAllowMove: {
		method: 'POST',
		path: '/robots/{id}/allow-move',
		scope: 'operate',
		summary: 'Let the robot’s identity move to the machine that last came with it',
	},
	robotDrain: {
		method: 'POST',
		path: '/robots/{id}/drain',
		scope: 'operate',
		summary:
			'Give the robot no new jobs; with waitMs, answers when it holds none or the time is up',
	},
	robotMaintenance: {
		method: 'POST',
		path: '/robots/{id}/maintenance',
		scope: 'operate',
		summary:
			'Somebody works on the machine: no new jobs; with a reason, and for a time or until a time',
	},
	robotQuarantine: {
		method: 'POST',
		path: '/robots/{id}/quarantine',
		scope: 'operate',
		summary: 'Put the robot into quarantine by hand: no jobs until it is resumed or probed',
	},
	robotProbe: {
		method: 'POST',
		path: '/robots/{id}/probe',
		scope: 'operate',
		summary:
			'Send a robot in quarantine its probe now, or as soon as it is connected; if the probe succeeds, it gets jobs again',
	},
	robotsBulk: {
		method: 'POST',
		path: '/robots/bulk',
		scope: 'operate',
		summary:
			'Pause, drain, maintain, quarantine or resume all robots a filter finds; a preview unless `expect` is given',
	},
	robotPing: {
		method: 'POST',
		path: '/robots/{id}/ping',
		scope: 'operate',
		summary: 'One round trip on the line that carries the work, with its milliseconds',
	},
	robotRefresh: {
		method: 'POST',
		path: '/robots/{id}/refresh',
		scope: 'operate',
		summary: 'Have the robot look at its machine again; answers with what it found',
	},
	robotDisconnect: {
		method: 'POST',
		path: '/robots/{id}/disconnect',
		scope: 'operate',
		summary:
			'End the robot’s connection; it carries on and dials again by itself, or waits to be dialled',
	},
	robotShutdown: {
		method: 'POST',
		path: '/robots/{id}/shutdown',
		scope: 'operate',
		summary:
			'Shut the agent down, after giving its jobs their time or at once; it must be started again on its machine',
	},
	robotsBroadcast: {
		method: 'POST',
		path: '/robots/broadcast',
		scope: 'operate',
		summary: 'Send a message to all connected robots, or to those with certain labels',
	},
	robotRemove: {
		method: 'DELETE',
		path: '/robots/{id}',
		scope: 'operate',
		summary: 'Remove a robot: its identity ends, its socket closes with 4001',
	},
	tokens: { method: 'GET', path: '/tokens', scope: 'admin', summary: 'List enrollment tokens' },
	tokenCreate: {
		method: 'POST',
		path: '/tokens',
		scope: 'admin',
		summary: 'Make an enrollment token; shown once',
	},
	tokenRevoke: {
		method: 'DELETE',
		path: '/tokens/{id}',
		scope: 'admin',
		summary: 'Revoke an enrollment token',
	},
	keys: { method: 'GET', path: '/keys', scope: 'admin', summary: 'List API keys' },
	keyCreate: {
		method: 'POST',
		path: '/keys',
		scope: 'admin',
		summary: 'Make an API key; shown once',
	},
	keyRevoke: {
		method: 'DELETE',
		path: '/keys/{id}',
		scope: 'admin',
		summary: 'Revoke an API key at once',
	},
	waitCreate: {
		method: 'POST',
		path: '/waits',
		scope: 'submit',
		summary: 'Register a parked n8n execution',
	},
	waits: {
		method: 'GET',
		path: '/waits',
		scope: 'read',
		summary: 'List waits, newest first; state=dead = those that nobody took',
	},
	wait: { method: 'GET', path: '/waits/{id}', scope: 'submit', summary: 'The outcome of a wait' },
	waitClose: {
		method: 'POST',
		path: '/waits/{id}/close',
		scope: 'submit',
		summary: 'Close a wait: its outcome was taken, or nobody waits any more',
	},
	waitDeliver: {
		method: 'POST',
		path: '/waits/{id}/deliver',
		scope: 'submit',
		summary: 'Try the callback again now',
	},
	collect: {
		method: 'POST',
		path: '/collect',
		scope: null,
		summary:
			'n8n fetches the pokes that the service cannot post to it; needs the secret of the waits',
	},
	collected: {
		method: 'POST',
		path: '/collected',
		scope: null,
		summary: 'What n8n answered to pokes it has fetched',
	},
	schedules: { method: 'GET', path: '/schedules', scope: 'read', summary: 'List schedules' },
	schedule: {
		method: 'GET',
		path: '/schedules/{id}',
		scope: 'read',
		summary: 'One schedule with its next runs',
	},
	schedulesUpcoming: {
		method: 'GET',
		path: '/schedules/upcoming',
		scope: 'read',
		summary: 'The next runs of all schedules together; limit, default 10',
	},
	schedulesForecast: {
		method: 'GET',
		path: '/schedules/forecast',
		scope: 'read',
		summary: 'What is planned for the next days (default 7), and where it will not fit',
	},
	schedulePreview: {
		method: 'POST',
		path: '/schedules/preview',
		scope: 'read',
		summary: 'The run times of a schedule that is not stored, and what it does when clocks change',
	},
	schedulesPause: {
		method: 'POST',
		path: '/schedules/pause',
		scope: 'operate',
		summary: 'Pause all schedules that are active',
	},
	schedulesResume: {
		method: 'POST',
		path: '/schedules/resume',
		scope: 'operate',
		summary: 'Resume schedules that were paused all together, or by a restore',
	},
	schedulePut: {
		method: 'PUT',
		path: '/schedules/{id}',
		scope: 'submit',
		summary: 'Create a schedule, or replace one of this key (with operate: of any key)',
	},
	scheduleChange: {
		method: 'PATCH',
		path: '/schedules/{id}',
		scope: 'submit',
		summary: 'Change some fields of a schedule of this key; null = the default again',
	},
	scheduleRemove: {
		method: 'DELETE',
		path: '/schedules/{id}',
		scope: 'submit',
		summary: 'Remove a schedule',
	},
	schedulePause: {
		method: 'POST',
		path: '/schedules/{id}/pause',
		scope: 'submit',
		summary: 'Pause a schedule: it does not run until resumed',
	},
	scheduleResume: {
		method: 'POST',
		path: '/schedules/{id}/resume',
		scope: 'submit',
		summary: 'Resume a schedule from now on',
	},
	scheduleRun: {
		method: 'POST',
		path: '/schedules/{id}/run',
		scope: 'submit',
		summary: 'Run it now, whatever is planned; answers with the occurrence and its job',
	},
	scheduleBackfill: {
		method: 'POST',
		path: '/schedules/{id}/backfill',
		scope: 'submit',
		summary: 'Run planned times of the past; a preview unless `expect` is given',
	},
	scheduleOccurrences: {
		method: 'GET',
		path: '/schedules/{id}/occurrences',
		scope: 'read',
		summary: 'What became of its planned times, newest first',
	},
	groups: { method: 'GET', path: '/groups', scope: 'read', summary: 'List groups of robots' },
	group: {
		method: 'GET',
		path: '/groups/{id}',
		scope: 'read',
		summary: 'One group with its robots and those of the groups inside it',
	},
	groupPut: {
		method: 'PUT',
		path: '/groups/{id}',
		scope: 'operate',
		summary: 'Make or replace a group: its robots, and the group that contains it',
	},
	groupRemove: {
		method: 'DELETE',
		path: '/groups/{id}',
		scope: 'operate',
		summary: 'Remove a group that no other group or pool uses',
	},
	pools: { method: 'GET', path: '/pools', scope: 'read', summary: 'List pools' },
	pool: {
		method: 'GET',
		path: '/pools/{id}',
		scope: 'read',
		summary: 'One pool with its robots, and how many jobs they run',
	},
	poolPut: {
		method: 'PUT',
		path: '/pools/{id}',
		scope: 'operate',
		summary: 'Make or replace a pool: the terms of its robots, and how many jobs they run together',
	},
	poolRemove: {
		method: 'DELETE',
		path: '/pools/{id}',
		scope: 'operate',
		summary: 'Remove a pool',
	},
	locks: {
		method: 'GET',
		path: '/locks',
		scope: 'read',
		summary: 'Locks, limits of keys and rates: who holds them, who waits',
	},
	limitPut: {
		method: 'PUT',
		path: '/limits/{id}',
		scope: 'operate',
		summary: 'Set how many jobs a lock is for, or how many jobs of a key run at most; 0 = none',
	},
	limitRemove: {
		method: 'DELETE',
		path: '/limits/{id}',
		scope: 'operate',
		summary:
			'Remove a limit: a lock of this name is for one job again, jobs of a key go by their own numbers',
	},
	calendars: { method: 'GET', path: '/calendars', scope: 'read', summary: 'List calendars' },
	calendar: {
		method: 'GET',
		path: '/calendars/{id}',
		scope: 'read',
		summary: 'One calendar with its next spans',
	},
	calendarPut: {
		method: 'PUT',
		path: '/calendars/{id}',
		scope: 'operate',
		summary:
			'Make or replace a calendar of times when nothing runs: spans, or the text of an .ics file',
	},
	calendarRemove: {
		method: 'DELETE',
		path: '/calendars/{id}',
		scope: 'operate',
		summary: 'Remove a calendar that no schedule uses',
	},
	subscriptionPut: {
		method: 'PUT',
		path: '/subscriptions/{key}',
		scope: 'submit',
		summary: 'Create or take over a durable consumer',
	},
	subscriptionRemove: {
		method: 'DELETE',
		path: '/subscriptions/{key}',
		scope: 'submit',
		summary: 'Forget a durable consumer',
	},
	subscriptionEvents: {
		method: 'GET',
		path: '/subscriptions/{key}/events',
		scope: 'submit',
		summary: 'Events not yet acknowledged; waits for the first',
	},
	subscriptionAck: {
		method: 'POST',
		path: '/subscriptions/{key}/ack',
		scope: 'submit',
		summary: 'Acknowledge events up to a cursor',
	},
	fileCreate: {
		method: 'POST',
		path: '/files',
		scope: 'submit',
		summary: 'Announce a file; answers with how much of it is here already',
	},
	fileUpload: {
		method: 'POST',
		path: '/files/upload',
		scope: 'submit',
		summary: 'Send a file in one go: its bytes as the body, its name in the query',
	},
	fileWrite: {
		method: 'PUT',
		path: '/files/{id}/content',
		scope: 'submit',
		summary: 'Send the next bytes of a file; what arrives before a cut is kept',
	},
	files: { method: 'GET', path: '/files', scope: 'read', summary: 'List files, newest first' },
	file: { method: 'GET', path: '/files/{id}', scope: 'read', summary: 'One file' },
	fileContent: {
		method: 'GET',
		path: '/files/{id}/content',
		scope: 'read',
		summary: 'The bytes of a file; Range and ETag (its SHA-256) are understood',
	},
	fileRemove: {
		method: 'DELETE',
		path: '/files/{id}',
		scope: 'submit',
		summary: 'Remove a file that no open job needs',
	},
	kinds: {
		method: 'GET',
		path: '/kinds',
		scope: 'read',
		summary: 'Job kinds with the schema of their spec',
	},
	config: { method: 'GET', path: '/config', scope: 'read', summary: 'Effective settings' },
	live: {
		method: 'GET',
		path: '/live',
		scope: null,
		summary:
			'A WebSocket that reports what happens to jobs and robots; needs a key with the scope read, in its first message or the header',
	},
	metrics: {
		method: 'GET',
		path: '/metrics',
		scope: 'read',
		summary: 'Numbers for dashboards: robots, today’s jobs, success rates',
	},
	metricSeries: {
		method: 'GET',
		path: '/metrics/series',
		scope: 'read',
		summary: 'One metric over time, sampled each minute; default: the last day',
	},
	metricBreakdown: {
		method: 'GET',
		path: '/metrics/jobs',
		scope: 'read',
		summary: 'Jobs submitted within a period, by robot, kind, hour, owner or cause; default: today',
	},
	metricsText: {
		method: 'GET',
		path: '//metrics',
		scope: 'read',
		summary: 'Everything for scrapers, as Prometheus text; without a key when --metrics-open',
	},
	service: {
		method: 'GET',
		path: '/service',
		scope: 'read',
		summary: 'The service itself: readiness, disk, last backup, restored jobs',
	},
	serviceDrain: {
		method: 'POST',
		path: '/service/drain',
		scope: 'admin',
		summary: 'Accept no new jobs and hand none out; running jobs continue',
	},
	serviceResume: {
		method: 'POST',
		path: '/service/resume',
		scope: 'admin',
		summary: 'Accept work again after a drain',
	},
	backupCreate: {
		method: 'POST',
		path: '/backups',
		scope: 'admin',
		summary: 'A checked copy of everything as one tar file, taken while work goes on',
	},
	purge: {
		method: 'POST',
		path: '/maintenance/purge',
		scope: 'admin',
		summary: 'Delete what is over and has been kept long enough, or count it (dryRun)',
	},
	me: { method: 'GET', path: '/me', scope: 'read', summary: 'The key in use: name and scopes' },
	openapi: {
		method: 'GET',
		path: '/openapi.json',
		scope: null,
		summary: 'This API as OpenAPI 3.1',
	},
	facadeExecute: {
		method: 'POST',
		path: '//server/{kind}/execute',
		scope: 'submit',
		summary: 'Start a job of a kind; answers with an execution_id',
	},
	facadeStatus: {
		method: 'GET',
		path: '//server/{kind}/execution/{id}/status',
		scope: 'read',
		summary: 'Poll an execution',
	},
	front: {
		method: 'GET',
		path: '//',
		scope: null,
		summary: 'A page for people who follow the bare link',
	},
	healthz: { method: 'GET', path: '//healthz', scope: null, summary: 'The process is alive' },
	readyz: { method: 'GET', path: '//readyz', scope: null, summary: 'The service accepts work' },
} as const satisfies Record<string, Call>;
export type CallName = keyof typeof calls;

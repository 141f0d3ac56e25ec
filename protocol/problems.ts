/**
 * Every way we refuse, in one catalogue: the code is for programs, the text for people (one
 * sentence, with what to do), `retry` for machines ("is this worth another try as it is?").
 * docs/problems.md is made from it and tested against it.
 *
 * `{name}` in a text is filled from `details`.
 */
export const problems = {
	// Who are you, may you
	'no-key': {
		status: 401,
		retry: false,
		text: 'Send an API key: Authorization: Bearer KEY (the first start writes admin.key and n8n.key into the data folder).',
	},
	'bad-key': {
		status: 401,
		retry: false,
		text: 'This API key is unknown, expired or revoked; ask the operator for a new one.',
	},
	'no-scope': {
		status: 403,
		retry: false,
		text: 'This API key lacks the scope "{scope}"; use a key that has it.',
	},
	'bad-token': {
		status: 401,
		retry: false,
		text: 'This enrollment token is unknown, expired, used up or revoked; make a new one with: robot-fleet token create.',
	},
	'bad-proof': {
		status: 401,
		retry: false,
		text: 'The robot could not prove its key; enroll it again with a new token.',
	},
	'robot-revoked': {
		status: 403,
		retry: false,
		text: 'This robot was removed by an operator; enroll it again with a new token if it should come back.',
	},
	'robot-elsewhere': {
		status: 409,
		retry: true,
		text: 'A robot with this identity is already connected; stop the other agent, or enroll this machine as a new robot.',
	},
	'robot-moved': {
		status: 403,
		retry: false,
		text: 'This identity belongs to another machine; enroll this one as a new robot, or let it move here with: robot-fleet robots allow-move {name}.',
	},
	'not-moved': {
		status: 409,
		retry: false,
		text: 'No other machine has presented the identity of {name}; start its agent there first.',
	},
	'wrong-key': {
		status: 401,
		retry: false,
		text: 'Whoever answers for {name} has the key {found}, not {expected}; compare it with the fingerprint that its agent prints, and register that one if it is right.',
	},
	'bad-host': {
		status: 403,
		retry: false,
		text: 'The Host or Origin header "{value}" is not one this service answers to.',
	},

	// What you sent
	'bad-json': { status: 400, retry: false, text: 'The body is not valid JSON: {reason}.' },
	'bad-body': {
		status: 415,
		retry: false,
		text: 'Send a JSON body with Content-Type: application/json.',
	},
	'bad-field': { status: 422, retry: false, text: '{path}: {reason}.' },
	'unknown-field': {
		status: 422,
		retry: false,
		text: '{path} is not a field of this call; known fields are {known}.',
	},
	'unknown-kind': {
		status: 422,
		retry: false,
		text: 'No job kind is called "{kind}"; known kinds are {known}.',
	},
	'unknown-robot': {
		status: 422,
		retry: false,
		text: 'No robot has the id or name "{robot}"; list them with: robot-fleet robots list.',
	},
	'robot-away': {
		status: 503,
		retry: true,
		text: 'The robot {robot} is not connected; its jobs keep running. Repeat the call when it is back.',
	},
	'robot-silent': {
		status: 504,
		retry: true,
		text: 'The robot {robot} did not answer within {waitMs} ms.',
	},
	'nothing-asked': {
		status: 409,
		retry: false,
		text: 'The job is not asking anything: it is {state}. Only a job with offline.then "ask" asks, when its robot stays away.',
	},
	'not-quarantined': {
		status: 409,
		retry: false,
		text: 'The robot {robot} is not in quarantine; there is nothing to probe.',
	},
	'ambiguous-robot': {
		status: 422,
		retry: false,
		text: 'Several robots are called "{robot}"; use the robot id.',
	},
	'no-robot-fits': {
		status: 422,
		retry: false,
		text: '{why} Submit it without strict to let it wait for such a robot.',
	},
	'too-few-robots': {
		status: 422,
		retry: false,
		text: '{matching} of {robots} robots match ({rule}), but target.mode asks for {wanted}; see what they offer with: robot-fleet robots list.',
	},
	'no-rollout': {
		status: 409,
		retry: false,
		text: 'Job {id} does not go out in batches, so there is nothing to pause or resume. For batches, submit it with rollout (--batch).',
	},
	'rollout-not-begun': {
		status: 409,
		retry: false,
		text: 'Job {id} has not started to go out, so there is nothing to pause yet. Hold it back with: robot-fleet jobs hold {id}.',
	},
	'not-a-parent': {
		status: 409,
		retry: false,
		text: 'Job {id} is for one robot and has no children; look at it with: robot-fleet jobs show {id}.',
	},
	'nothing-failed': {
		status: 409,
		retry: false,
		text: 'Job {id} failed on none of its robots that are still enrolled; leave "only" out to run it on all of them again.',
	},
	'waits-for-batch': {
		status: 409,
		retry: false,
		text: 'The job belongs to batch {batch} of job {parent}, which has not been let go yet; see: robot-fleet jobs show {parent}.',
	},
	'too-few-here': {
		status: 422,
		retry: true,
		text: '{here} of the {matching} robots that match ({rule}) are connected, but target.mode asks for {wanted}; leave target.away out to wait for the others.',
	},
	'too-many-children': {
		status: 422,
		retry: false,
		text: 'The job would have {children} children of {bytes} bytes each; one job may have {maxChildren}, and {maxBytes} bytes in all.',
	},
	'template-in-shell': {
		status: 422,
		retry: false,
		text: 'spec.shell contains "{found}": values never enter shell text; use the environment variable {instead} inside the shell text, or {{name}} in args, cwd, env or stdin.',
	},
	'unknown-variable': {
		status: 422,
		retry: false,
		text: '{path} uses {{{name}}}, but variables has no "{name}".',
	},
	'bad-cron': { status: 422, retry: false, text: 'The cron expression is wrong: {reason}.' },
	'bad-calendar': {
		status: 422,
		retry: false,
		text: 'The calendar cannot be read: line {line}: {reason}.',
	},
	'bad-timezone': {
		status: 422,
		retry: false,
		text: 'No time zone is called "{timezone}"; use an IANA name such as Europe/Berlin.',
	},
	'too-large': {
		status: 413,
		retry: false,
		text: 'The body is larger than {maxBytes} bytes; send less at once.',
	},
	'header-too-large': {
		status: 431,
		retry: false,
		text: 'The address and headers of the request are larger than {maxBytes} bytes together; shorten them.',
	},
	'request-late': {
		status: 408,
		retry: true,
		text: 'The whole request did not arrive within {waitMs} ms; send it again, and anything large in pieces.',
	},
	'job-too-large': {
		status: 413,
		retry: false,
		text: 'The spec and variables of the job are {bytes} bytes together; the limit is {maxBytes}. Send anything large as a file and name it in spec.files.',
	},
	'bad-bytes': {
		status: 415,
		retry: false,
		text: 'Send the bytes themselves, with Content-Type: application/octet-stream and a Content-Length.',
	},
	'file-too-large': {
		status: 413,
		retry: false,
		text: 'The file is {bytes} bytes; the limit for one file is {maxBytes}.',
	},
	'file-too-long': {
		status: 422,
		retry: false,
		text: 'The body goes on past byte {bytes}, where the announced file ends; announce it again with its true length.',
	},
	'file-differs': {
		status: 422,
		retry: false,
		text: 'The bytes received have the SHA-256 {found}, not {wanted}, and were discarded; send the file again from byte 0.',
	},
	'file-unusable': {
		status: 422,
		retry: false,
		text: 'spec.files names the file {file}, which {reason}; send it first: robot-fleet files put PATH.',
	},
	'callback-refused': {
		status: 422,
		retry: false,
		text: 'Callbacks to {origin} are not allowed; start the service with ROBOT_FLEET_N8N_URL={origin} if it is your n8n.',
	},

	// What is not there, or not so
	'robot-taken': {
		status: 409,
		retry: false,
		text: 'There is already a robot called {name}, with another key; choose another name, or remove it first: robot-fleet robots remove {name}.',
	},
	'key-taken': {
		status: 409,
		retry: false,
		text: 'The device {name} already has this fingerprint, and one agent is one robot; remove {name} first (robot-fleet robots remove {name}), or compare the fingerprints.',
	},
	'not-dialled': {
		status: 409,
		retry: false,
		text: 'The service does not dial the robot {robot}: its agent dials the service. Start the agent there, or register {robot} with a serverUrl.',
	},
	'no-fingerprint': {
		status: 409,
		retry: false,
		text: 'Without a fingerprint nobody can tell who answers for {robot}; start its agent with --listen, and register the fingerprint that it prints.',
	},
	'address-refused': {
		status: 403,
		retry: false,
		text: '{origin} lies inside a private network; only the --config file of the service, or a key with the scope admin, may have it dialled.',
	},
	'no-such-route': { status: 404, retry: false, text: 'Nothing answers {method} {path}.' },
	'no-such-job': { status: 404, retry: false, text: 'No job has the id {id}.' },
	'no-such-robot': { status: 404, retry: false, text: 'No robot has the id or name {id}.' },
	'no-such-file': {
		status: 404,
		retry: false,
		text: 'No file has the id {id}; files that no open job needs are kept for a week.',
	},
	'file-lost': {
		status: 410,
		retry: false,
		text: 'The bytes of the file {id} are no longer here; send it again.',
	},
	'file-not-ready': {
		status: 409,
		retry: false,
		text: 'Only {have} of the {bytes} bytes of the file {id} are here; send the rest first.',
	},
	'file-offset': {
		status: 409,
		retry: false,
		text: '{have} bytes of this file are here; send the next ones with from={have}.',
	},
	'file-taken-over': {
		status: 409,
		retry: false,
		text: 'Another call has taken over this file; see how much is here with: GET /files/{id}.',
	},
	'file-of-robot': {
		status: 409,
		retry: false,
		text: 'The file {id} comes from the robot of the job {jobId}; nobody else can send it.',
	},
	'file-in-use': {
		status: 409,
		retry: false,
		text: 'The job {jobId} needs the file {id}; remove the file when the job has ended, or cancel the job first.',
	},
	'bad-range': {
		status: 416,
		retry: false,
		text: 'The file is {bytes} bytes; the requested range lies outside it.',
	},
	'no-such-wait': { status: 404, retry: false, text: 'No wait has the id {id}.' },
	'no-such-schedule': { status: 404, retry: false, text: 'No schedule has the id {id}.' },
	'no-such-group': {
		status: 404,
		retry: false,
		text: 'No group is called {name}; make it first with: robot-fleet groups put {name} --robot NAME.',
	},
	'no-such-pool': {
		status: 404,
		retry: false,
		text: 'No pool is called {name}; make it first with: robot-fleet pools put {name} --label NAME=VALUE.',
	},
	'no-such-limit': {
		status: 404,
		retry: false,
		text: 'No limit is set for {name}; see what jobs share with: robot-fleet locks.',
	},
	'no-such-calendar': {
		status: 404,
		retry: false,
		text: 'No calendar is called {name}; make it first with: robot-fleet calendars put {name} FILE.',
	},
	'no-such-token': { status: 404, retry: false, text: 'No enrollment token has the id {id}.' },
	'no-such-key': { status: 404, retry: false, text: 'No API key has the id {id}.' },
	'no-such-subscription': {
		status: 404,
		retry: false,
		text: 'No subscription has the key {key}; create it with PUT /subscriptions/{key}.',
	},
	'illegal-move': {
		status: 409,
		retry: false,
		text: 'A job that is {from} cannot become {to}.',
	},
	'not-final': {
		status: 409,
		retry: false,
		text: 'The job is still {state}; only a job that has ended can be retried.',
	},
	'open-children': {
		status: 409,
		retry: false,
		text: 'The job ends when the last of its children does, and {open} of them are still open; cancel the job, or end those first.',
	},
	'key-conflict': {
		status: 409,
		retry: false,
		text: 'The idempotency key "{key}" was used for a different request, which is job {jobId}.',
	},
	'not-waiting': {
		status: 409,
		retry: false,
		text: 'The job is {state}; only a job that still waits (pending or queued) can be changed.',
	},
	'other-family': {
		status: 409,
		retry: false,
		text: 'A job for one robot cannot become one for several, nor the other way round, and each part of one for several keeps its robot; cancel it and submit it anew.',
	},
	'duplicate-job': {
		status: 409,
		retry: false,
		text: 'The same job was submitted a short time ago, as job {jobId}; leave "dedupe" out to submit it again.',
	},
	'already-retried': {
		status: 409,
		retry: false,
		text: 'Job {id} was already retried, or is no longer a dead letter.',
	},
	'already-fired': {
		status: 409,
		retry: false,
		text: 'This planned time of the schedule has already been dealt with.',
	},
	'schedule-busy': {
		status: 409,
		retry: false,
		text: 'The schedule {id} is still running ({what}); wait until that has ended, or allow runs side by side with overlap = allow.',
	},
	'not-your-schedule': {
		status: 403,
		retry: false,
		text: 'The schedule {id} was made by {owner}; only that key, or one with the scope operate, may change or run it.',
	},
	'group-used': {
		status: 409,
		retry: false,
		text: '{by} is in the group {name}; move or remove it first.',
	},
	'too-many-areas': {
		status: 422,
		retry: false,
		text: 'There are already {most} {what}, which is the limit; remove one first.',
	},
	'lock-too-small': {
		status: 422,
		retry: false,
		text: 'The lock {name} has {has}, so no job can take {slots} of it; set more with: robot-fleet limits put {name} {slots}.',
	},
	'too-few-slots': {
		status: 422,
		retry: false,
		text: 'The job takes {slots} slots of one robot, and no robot that matches ({rule}) has more than {most}; start an agent there with --slots {slots}, or take fewer.',
	},
	'group-ring': {
		status: 422,
		retry: false,
		text: 'The group {parent} is {name} itself or is inside it; choose another parent.',
	},
	'calendar-used': {
		status: 409,
		retry: false,
		text: 'The schedule {id} uses the calendar {name}; take the calendar out of its blackouts first.',
	},
	'bulk-grown': {
		status: 409,
		retry: false,
		text: '{matched} jobs match now, not {expect}; ask for a preview again and send its count as "expect".',
	},
	'no-such-line': {
		status: 410,
		retry: false,
		text: 'This line of a robot is over, or was opened at another service; the robot dials again.',
	},
	'no-such-dead-letter': {
		status: 404,
		retry: false,
		text: 'No dead letter has the fingerprint {id}; list them with: robot-fleet dead list.',
	},
	'not-yet-running': {
		status: 409,
		retry: true,
		text: 'The job is {state}; type again when it runs.',
	},
	'not-running': {
		status: 409,
		retry: false,
		text: 'The job is {state}; nothing reads what is typed now.',
	},
	'not-interactive': {
		status: 409,
		retry: false,
		text: 'The job was not submitted as interactive, so nothing can be typed into it; submit it with spec.interactive = true.',
	},
	'input-closed': {
		status: 409,
		retry: false,
		text: 'The program takes no more input; {have} bytes were taken before its input was closed.',
	},
	'input-gap': {
		status: 409,
		retry: false,
		text: 'The input of this job ends at byte {have}; from = {from} would leave a gap.',
	},
	'input-taken': {
		status: 409,
		retry: false,
		text: 'Somebody else has already typed at byte {from}; the input of this job now ends at byte {have}.',
	},
	'input-full': {
		status: 429,
		retry: true,
		text: 'The program is not reading, and {waiting} bytes of input already wait for it; send more when it reads again.',
	},
	'input-late': {
		status: 504,
		retry: true,
		text: 'The robot did not acknowledge the input within {waitMs} ms; repeat the call with from = {from}: nothing is typed twice.',
	},
	'input-unsupported': {
		status: 409,
		retry: false,
		text: 'The agent on the robot of this job cannot take input yet; update it: npm install -g robot-fleet-agent@latest.',
	},
	'lease-lost': {
		status: 409,
		retry: false,
		text: 'This attempt is over; the job may now belong to another robot.',
	},
	'not-your-attempt': {
		status: 403,
		retry: false,
		text: 'Attempt {attempt} of job {jobId} was not given to this robot; what it says about it is refused.',
	},
	'stale-epoch': {
		status: 409,
		retry: false,
		text: 'Another consumer has taken over this subscription.',
	},

	// The other side of the robots' socket
	'bad-message': {
		status: 400,
		retry: false,
		text: 'The message could not be understood: {reason}.',
	},
	'unknown-message': {
		status: 400,
		retry: false,
		text: 'No message type is called "{type}".',
	},
	'protocol-version': {
		status: 426,
		retry: false,
		text: 'This agent speaks protocol {theirs}, the service {ours}; update the {older}.',
	},

	// The state of the world
	'rate-limited': {
		status: 429,
		retry: true,
		text: '{who} may ask {perMinute} times a minute; try again in {retryMs} ms, submit many jobs in one call, or raise --rate-limit.',
	},
	'too-many': { status: 429, retry: true, text: 'Too many {what}; try again in {retryMs} ms.' },
	'key-full': {
		status: 422,
		retry: false,
		text: 'The key "{key}" already has {what}, which is its limit; remove some of them first.',
	},
	'queue-full': {
		status: 429,
		retry: true,
		text: 'The key "{key}" already has {what} waiting, which is its limit; try again in {retryMs} ms, or cancel some of them.',
	},
	'store-busy': { status: 503, retry: true, text: 'The store is busy; try again shortly.' },
	'store-full': {
		status: 503,
		retry: true,
		text: 'The disk of the service is nearly full; free some space (results are still accepted).',
	},
	'files-full': {
		status: 507,
		retry: true,
		text: 'The service keeps at most {maxFiles} files and {maxBytes} bytes in all, and this one does not fit; see what to remove with: robot-fleet files list.',
	},
	draining: {
		status: 503,
		retry: true,
		text: 'The service is being drained and takes no new jobs; try again when it is back.',
	},
	'store-failed': {
		status: 503,
		retry: true,
		text: 'The disk under the store failed ({reason}); nothing was promised that was not on disk. Check the disk, then start the service again: it recovers from the file.',
	},
	'store-unreadable': {
		status: 500,
		retry: false,
		text: 'The store {file} cannot be read ({reason}); put a backup in its place with: robot-fleet restore FILE --force.',
	},
	'no-room': {
		status: 507,
		retry: false,
		text: '{what} needs {needMb} MiB in {folder}, and only {freeMb} MiB are free; free some space there and try again.',
	},
	'bad-backup': {
		status: 500,
		retry: false,
		text: '{file} is not an intact backup ({reason}); use another one.',
	},
	'data-not-empty': {
		status: 409,
		retry: false,
		text: 'The data folder {folder} already holds a store; add --force to replace it (the old store is kept beside the new one), or choose an empty folder with --data.',
	},
	'store-damaged': {
		status: 500,
		retry: false,
		text: 'The write-ahead log {wal} is damaged at byte {offset}: at least {commits} commits after it cannot be trusted. Put a backup in its place with: robot-fleet restore FILE --force; or go on without whatever was accepted after the damage: truncate -s {offset} {wal}',
	},
	'store-newer': {
		status: 500,
		retry: false,
		text: 'The data folder was written by a newer version (schema {theirs}, this one knows {ours}); start that version, or restore a backup.',
	},
	'not-ready': { status: 503, retry: true, text: 'The service is {state}; try again shortly.' },
	'service-away': {
		status: 503,
		retry: true,
		text: 'The Robot Fleet service at {url} does not answer ({reason}); is it running?',
	},
	'port-taken': {
		status: 500,
		retry: false,
		text: 'Port {port} on {host} is in use; stop the other program or set {variable} to a free port.',
	},
	'data-taken': {
		status: 500,
		retry: false,
		text: 'The data folder {folder} is in use by another Robot Fleet service ({owner}); stop it or choose another folder with {variable}.',
	},
	'data-unusable': {
		status: 500,
		retry: false,
		text: 'The data folder {folder} cannot be used ({reason}); run: {command}.',
	},
	'node-too-old': {
		status: 500,
		retry: false,
		text: 'Node {found} is too old; use the newest Node 24, or Node 22.22.3 or newer (22.x only).',
	},
	'sqlite-unsafe': {
		status: 500,
		retry: false,
		text: 'This Node comes with SQLite {found}, which can lose data; use the newest Node 24, or Node 22.22.3 or newer (22.x only).',
	},
	'bad-certificate': {
		status: 500,
		retry: false,
		text: 'The certificate file {file} cannot be used ({reason}); put it right, or name another with --tls-cert FILE --tls-key FILE.',
	},
	'needs-tls': {
		status: 500,
		retry: false,
		text: 'With {setting} {host}, other machines could use the API without encryption; {instead}, or add --insecure on a network you trust.',
	},
	'bad-config': { status: 500, retry: false, text: 'Settings are wrong: {mistakes}.' },
	'wrong-process': {
		status: 500,
		retry: false,
		text: '"This n8n" works only in the main process of a regular n8n ({reason}); run robot-fleet serve and choose "Robot Fleet Server" in the credential.',
	},
	'cannot-collect': {
		status: 500,
		retry: false,
		text: 'This n8n cannot collect its waits ({reason}); choose "The Service Calls n8n" in the credential.',
	},
	internal: {
		status: 500,
		retry: true,
		text: 'The service failed unexpectedly; the log has the details under {reference}.',
	},
} as const satisfies Record<string, { status: number; retry: boolean; text: string }>;

export type ProblemCode = keyof typeof problems;
export type ProblemDetails = Record<string, string | number | boolean | null>;

/** What goes over the wire as `{ "error": … }`. Never a stack. */
export interface ProblemBody {
	code: ProblemCode;
	text: string;
	retry: boolean;
	details: ProblemDetails;
}

export function problemText(code: ProblemCode, details: ProblemDetails = {}): string {
	return problems[code].text.replace(/\{(\w+)\}/g, (whole, name: string) =>
		name in details ? String(details[name]) : whole,
	);
}

/** The one error class. Thrown for refusals at a door; rules return values instead. */
export class Problem extends Error {
	readonly code: ProblemCode;
	readonly details: ProblemDetails;

	constructor(code: ProblemCode, details: ProblemDetails = {}, cause?: unknown) {
		super(problemText(code, details), cause === undefined ? undefined : { cause });
		this.name = 'Problem';
		this.code = code;
		this.details = details;
	}

	get status(): number {
		return problems[this.code].status;
	}

	/** Worth another try as it is? Read from the catalogue, never guessed. */
	get retry(): boolean {
		return problems[this.code].retry;
	}

	toBody(): ProblemBody {
		return {
			code: this.code,
			text: this.message,
			retry: this.retry,
			details: this.details,
		};
	}

	/** Rebuilds a problem that came over the wire; `undefined` when it is not one of ours. */
	static fromBody(body: unknown): Problem | undefined {
		const error = (body as { error?: Partial<ProblemBody> } | undefined)?.error;
		if (typeof error?.code !== 'string' || !(error.code in problems)) return undefined;
		return new Problem(error.code, error.details ?? {});
	}
}

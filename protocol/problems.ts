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
		text: 'No other machine has come with the identity of {name}; start its agent there first.',
	},
	'wrong-key': {
		status: 401,
		retry: false,
		text: 'Who answers for {name} has the key {found}, not {expected}; compare with what its agent prints, and register that fingerprint if it is right.',
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
		text: 'The robot {robot} is not connected; what runs there goes on. Repeat the call when it is back.',
	},
	'robot-silent': {
		status: 504,
		retry: true,
		text: 'The robot {robot} did not answer within {waitMs} ms.',
	},
	'nothing-asked': {
		status: 409,
		retry: false,
		text: 'The job asks nothing (any more): it is {state}; only a job with offline.then "ask" does, when its robot stays away.',
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
		text: '{matching} of {robots} robots match ({rule}), and target.mode asks for {wanted}; see what they offer with: robot-fleet robots list.',
	},
	'no-rollout': {
		status: 409,
		retry: false,
		text: 'Job {id} does not go out in batches: there is nothing to pause or to resume. Submit it with rollout (--batch) for that.',
	},
	'rollout-not-begun': {
		status: 409,
		retry: false,
		text: 'Job {id} has not begun to go out: there is nothing to pause yet. Keep it back with: robot-fleet jobs hold {id}.',
	},
	'not-a-parent': {
		status: 409,
		retry: false,
		text: 'Job {id} is for one robot and has no children; look at it with: robot-fleet jobs show {id}.',
	},
	'nothing-failed': {
		status: 409,
		retry: false,
		text: 'None of the robots of job {id} that are still enrolled failed; leave "only" out to run it on all once more.',
	},
	'waits-for-batch': {
		status: 409,
		retry: false,
		text: 'The job belongs to batch {batch} of job {parent}, which was not let go yet; see robot-fleet jobs show {parent}.',
	},
	'too-few-here': {
		status: 422,
		retry: true,
		text: '{here} of the {matching} robots that match ({rule}) are connected, and target.mode asks for {wanted}; leave target.away out to wait for the others.',
	},
	'too-many-children': {
		status: 422,
		retry: false,
		text: 'The job would have {children} children of {bytes} bytes each; one job may have {maxChildren}, of {maxBytes} bytes together.',
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
		text: 'Address and headers of the request are larger than {maxBytes} bytes together; send less in them.',
	},
	'request-late': {
		status: 408,
		retry: true,
		text: 'The request had not come whole within {waitMs} ms; send it again, and what is large in pieces.',
	},
	'job-too-large': {
		status: 413,
		retry: false,
		text: 'Spec and variables of the job have {bytes} bytes together; a job may have {maxBytes}. Send what is large as a file and name it in spec.files.',
	},
	'bad-bytes': {
		status: 415,
		retry: false,
		text: 'Send the bytes themselves, with Content-Type: application/octet-stream and a Content-Length.',
	},
	'file-too-large': {
		status: 413,
		retry: false,
		text: 'The file has {bytes} bytes; one file may have {maxBytes}.',
	},
	'file-too-long': {
		status: 422,
		retry: false,
		text: 'The body goes on behind byte {bytes}, where the file ends that was announced; announce it anew with its true length.',
	},
	'file-differs': {
		status: 422,
		retry: false,
		text: 'The bytes that came have the SHA-256 {found}, not {wanted}; they were thrown away, send the file again from byte 0.',
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
		text: 'There is a robot called {name} with another key; choose another name, or remove it first: robot-fleet robots remove {name}.',
	},
	'key-taken': {
		status: 409,
		retry: false,
		text: 'The device {name} is dialled by this fingerprint already, and one agent is one robot; remove {name} first (robot-fleet robots remove {name}), or compare the fingerprints.',
	},
	'not-dialled': {
		status: 409,
		retry: false,
		text: 'The robot {robot} is not dialled, its agent dials the service; start it there, or register {robot} with a serverUrl.',
	},
	'no-fingerprint': {
		status: 409,
		retry: false,
		text: 'Nobody could know who answers for {robot}; start its agent with --listen, and register the fingerprint that it prints.',
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
		text: 'The bytes of the file {id} are not here any more; send it again.',
	},
	'file-not-ready': {
		status: 409,
		retry: false,
		text: 'Of the file {id} {have} of {bytes} bytes are here; send the rest first.',
	},
	'file-offset': {
		status: 409,
		retry: false,
		text: 'Of this file {have} bytes are here; send the next ones with from={have}.',
	},
	'file-taken-over': {
		status: 409,
		retry: false,
		text: 'Another call goes on with this file; ask for what is here: GET /files/{id}.',
	},
	'file-of-robot': {
		status: 409,
		retry: false,
		text: 'The file {id} comes from the robot of the job {jobId}; nobody else can send it.',
	},
	'file-in-use': {
		status: 409,
		retry: false,
		text: 'The job {jobId} needs the file {id}; remove it when that has ended, or cancel it.',
	},
	'bad-range': {
		status: 416,
		retry: false,
		text: 'The file has {bytes} bytes; the range that was asked for lies outside of them.',
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
		text: 'No calendar is called {name}; put it first with: robot-fleet calendars put {name} FILE.',
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
		text: 'The job ends with the last of its children, and {open} of them are still open; cancel it, or end those.',
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
		text: 'The same job was submitted a short time ago: it is job {jobId}; leave "dedupe" out to submit it once more.',
	},
	'already-retried': {
		status: 409,
		retry: false,
		text: 'Job {id} was retried already, or is no dead letter any more.',
	},
	'already-fired': {
		status: 409,
		retry: false,
		text: 'This planned time of the schedule was dealt with already.',
	},
	'schedule-busy': {
		status: 409,
		retry: false,
		text: 'The schedule {id} still runs ({what}); wait for its end, or run it beside with overlap = allow.',
	},
	'not-your-schedule': {
		status: 403,
		retry: false,
		text: 'The schedule {id} was made by {owner}; only that key, or one with the scope operate, may change or run it.',
	},
	'group-used': {
		status: 409,
		retry: false,
		text: '{by} lies in the group {name}; move or remove that first.',
	},
	'too-many-areas': {
		status: 422,
		retry: false,
		text: 'There are {most} {what} already, and no more may be; remove one first.',
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
		text: 'The group {parent} is {name} itself or lies in it; choose another parent.',
	},
	'calendar-used': {
		status: 409,
		retry: false,
		text: 'The schedule {id} keeps to the calendar {name}; take it out of its blackouts first.',
	},
	'bulk-grown': {
		status: 409,
		retry: false,
		text: '{matched} jobs match by now, not {expect}; look again with a preview and send its count as "expect".',
	},
	'no-such-line': {
		status: 410,
		retry: false,
		text: 'This line of a robot is over, or was opened at another service; the robot dials anew.',
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
		text: 'The job is {state}; nothing reads what is typed any more.',
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
		text: 'Somebody else has typed at byte {from} already; the input of this job now ends at byte {have}.',
	},
	'input-full': {
		status: 429,
		retry: true,
		text: 'The program does not read, and {waiting} bytes of input wait for it already; send more when it goes on.',
	},
	'input-late': {
		status: 504,
		retry: true,
		text: 'The robot has not acknowledged the input within {waitMs} ms; repeat the call with from = {from}: nothing is typed twice.',
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
		text: 'The disk of the service is nearly full; free some space, results are still taken.',
	},
	'files-full': {
		status: 507,
		retry: true,
		text: 'There may be {maxFiles} files of {maxBytes} bytes in all, and this one does not fit any more; remove some: robot-fleet files list.',
	},
	draining: {
		status: 503,
		retry: true,
		text: 'The service is being drained and takes no new jobs; try again when it is back.',
	},
	'store-failed': {
		status: 503,
		retry: true,
		text: 'The disk failed under the store ({reason}); nothing that was not on disk was promised. Check the disk, then start the service again: it recovers from the file.',
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
		text: 'The data folder {folder} holds a store already; add --force to replace it (the store of before is kept beside it), or choose an empty folder with --data.',
	},
	'store-damaged': {
		status: 500,
		retry: false,
		text: 'The write-ahead log {wal} is damaged at byte {offset}: {commits} or more commits behind it cannot be trusted. Put a backup in its place with: robot-fleet restore FILE --force; or go on without whatever was accepted after the damage: truncate -s {offset} {wal}',
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
		text: 'Node {found} is too old; use the newest Node 24, or Node 22.22.3 or newer of 22.',
	},
	'sqlite-unsafe': {
		status: 500,
		retry: false,
		text: 'This Node carries SQLite {found}, which can lose data; use the newest Node 24, or Node 22.22.3 or newer of 22.',
	},
	'bad-certificate': {
		status: 500,
		retry: false,
		text: 'The certificate file {file} cannot be used ({reason}); put it right, or name another with --tls-cert FILE --tls-key FILE.',
	},
	'needs-tls': {
		status: 500,
		retry: false,
		text: 'With {setting} {host} other machines could use the API without encryption; {instead}, or add --insecure on a network you trust.',
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
		text: 'The service failed in a way it did not expect; the log has the details under {reference}.',
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

	/** Worth another try as it is? Read from the catalogue, guessed nowhere. */
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

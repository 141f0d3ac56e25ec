/** The program's own log: JSON lines on stderr, so that stdout stays for what was asked for. */
import pino from 'pino';
import type { Log } from './engine/context';

/** Log kept while it cannot be written. */
const waitingBytes = 64 * 1024;

export function pinoLog(level: string): Log {
	const out = pino.destination({ dest: 2, sync: true, maxLength: waitingBytes });
	// A full disk under the log, or a reader that left, costs log lines, not jobs.
	out.on('error', () => undefined);
	// With this much waiting pino stops trying and would stay silent for ever: an empty line makes it try again.
	out.on('drop', () => out.write(''));
	const log = pino(
		{
			level,
			base: null,
			serializers: { error: pino.stdSerializers.err },
			timestamp: pino.stdTimeFunctions.isoTime,
		},
		out,
	);
	return {
		debug: (text, facts) => log.debug(facts ?? {}, text),
		info: (text, facts) => log.info(facts ?? {}, text),
		warn: (text, facts) => log.warn(facts ?? {}, text),
		error: (text, facts) => log.error(facts ?? {}, text),
	};
}

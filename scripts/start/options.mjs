/** What the person asked for: flags, and ports from the environment. All mistakes at once. */
import { parseArgs } from 'node:util';

export const usage = `npm start                      n8n with Robot Fleet in it, one robot, and examples
npm start -- --reset [--yes]   forgets everything a start has made (asks first)
npm start -- --help            this text

What it does: builds this package when its sources changed, fetches n8n on first use (once, a few
minutes, 2.5 GB in the user's cache), installs the package in it as n8n itself would, starts n8n,
connects a robot on this machine, and puts a credential and example workflows in place. A second
start finds all that and takes seconds. Ctrl+C stops everything; a second Ctrl+C stops at once.

Everything it remembers is in .robot-fleet/ at the root of the repository:
  owner.json   e-mail and password for the editor, made on first start
  n8n/         what n8n remembers, the service's data in n8n/.n8n/robot-fleet
  robot/       the robot's identity and journal
  logs/        what n8n and the robot print

Environment:
  N8N_PORT            port of the n8n editor (default 5678)
  ROBOT_FLEET_PORT    port of the Robot Fleet service (default 8765)
  ROBOT_FLEET_CACHE   folder for the prepared n8n (default: the user's cache folder)
`;

/** The person's mistake, not ours: one or more sentences, exit code 2. */
export class UsageError extends Error {}

/**
 * @typedef {object} Options
 * @property {boolean} help
 * @property {boolean} reset
 * @property {boolean} yes
 * @property {number} n8nPort
 * @property {number} servicePort
 */

/**
 * @param {string[]} args
 * @param {Record<string, string | undefined>} env
 * @returns {Options}
 */
export function readOptions(args, env) {
	const { help, reset, yes } = readFlags(args);
	const mistakes = /** @type {string[]} */ ([]);
	const port = (/** @type {string} */ name, /** @type {number} */ fallback) => {
		const text = env[name]?.trim() || String(fallback);
		const number = Number(text);
		if (/^\d+$/.test(text) && number >= 1 && number <= 65_535) return number;
		mistakes.push(`${name} is "${text}"; it must be a number from 1 to 65535.`);
		return 0;
	};
	const n8nPort = port('N8N_PORT', 5678);
	const servicePort = port('ROBOT_FLEET_PORT', 8765);
	if (n8nPort === servicePort && n8nPort !== 0) {
		mistakes.push(`N8N_PORT and ROBOT_FLEET_PORT are both ${n8nPort}; they must differ.`);
	}
	if (mistakes.length > 0 && !help) throw new UsageError(mistakes.join('\n'));
	return { help, reset, yes, n8nPort, servicePort };
}

/** @param {string[]} args */
function readFlags(args) {
	const flag = /** @type {const} */ ({ type: 'boolean', default: false });
	try {
		const { values } = parseArgs({ args, options: { help: flag, reset: flag, yes: flag } });
		return /** @type {Record<'help' | 'reset' | 'yes', boolean>} */ (values);
	} catch (error) {
		const [sentence] = /** @type {Error} */ (error).message.split('. ');
		throw new UsageError(`${sentence}. "npm start -- --help" tells what there is.`);
	}
}

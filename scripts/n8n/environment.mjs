/**
 * The environment an n8n of ours runs in: nothing of the person's own n8n settings (a database, a
 * queue, a licence) leaks in, and nothing is asked of n8n's makers, as far as settings allow.
 */
import { randomBytes } from 'node:crypto';
import { delimiter, dirname } from 'node:path';

/** What any program needs of the outer environment, beside PATH. Everything else is left out. */
const inherited =
	/^(HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|TEMP|TMP|USERPROFILE|APPDATA|LOCALAPPDATA|SYSTEMROOT|SYSTEMDRIVE|COMSPEC|PATHEXT|WINDIR|(HTTPS?|NO|ALL)_PROXY|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR))$/i;

const noCallsHome = {
	N8N_DIAGNOSTICS_ENABLED: 'false',
	N8N_VERSION_NOTIFICATIONS_ENABLED: 'false',
	N8N_VERSION_NOTIFICATIONS_WHATS_NEW_ENABLED: 'false',
	N8N_DYNAMIC_BANNERS_ENABLED: 'false',
	N8N_HIRING_BANNER_ENABLED: 'false',
	N8N_PERSONALIZATION_ENABLED: 'false',
	N8N_TEMPLATES_ENABLED: 'false',
	N8N_VERIFIED_PACKAGES_ENABLED: 'false',
	N8N_REINSTALL_MISSING_PACKAGES: 'false',
	N8N_LICENSE_AUTO_RENEW_ENABLED: 'false',
	N8N_LICENSE_DETACH_FLOATING_ON_SHUTDOWN: 'false',
	N8N_PYTHON_ENABLED: 'false',
	N8N_AI_ENABLED: 'false',
	N8N_DISABLED_MODULES: 'instance-ai,agents,workflow-builder,mcp-registry,instance-reporting',
};

/**
 * @param {object} options
 * @param {string} options.node the Node that runs n8n, and what n8n starts as `node`
 * @param {string} options.userFolder
 * @param {number} options.port
 * @param {number} options.brokerPort
 * @param {boolean} options.ui
 * @param {Record<string, string | undefined>} options.more wins over all; undefined takes a name out
 * @returns {Record<string, string>}
 */
export function n8nEnvironment({ node, userFolder, port, brokerPort, ui, more }) {
	const outer = Object.entries(process.env).filter(([name]) => inherited.test(name));
	const all = {
		...Object.fromEntries(outer),
		PATH: [dirname(node), process.env.PATH].join(delimiter),
		N8N_USER_FOLDER: userFolder,
		N8N_PORT: String(port),
		N8N_LISTEN_ADDRESS: '127.0.0.1',
		N8N_RUNNERS_BROKER_PORT: String(brokerPort),
		N8N_SECURE_COOKIE: 'false',
		GENERIC_TIMEZONE: 'UTC',
		NO_COLOR: '1',
		...noCallsHome,
		...(ui ? {} : headless()),
		...more,
	};
	const kept = Object.entries(all).filter(([, value]) => value !== undefined);
	return /** @type {Record<string, string>} */ (Object.fromEntries(kept));
}

/**
 * Without an editor nobody watches: no page is built, and the process that runs Code nodes stays out
 * (its place is kept for one that never comes).
 */
function headless() {
	return {
		N8N_DISABLE_UI: 'true',
		N8N_LOG_LEVEL: 'debug',
		N8N_RUNNERS_MODE: 'external',
		N8N_RUNNERS_AUTH_TOKEN: randomBytes(16).toString('hex'),
	};
}

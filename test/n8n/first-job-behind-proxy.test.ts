import { firstJobSuite } from './first-job';

/** Nobody listens there. */
const deadProxy = 'http://127.0.0.1:9';

describe('the same with a proxy setting that leads nowhere', () =>
	firstJobSuite({
		HTTP_PROXY: deadProxy,
		http_proxy: deadProxy,
		HTTPS_PROXY: deadProxy,
		https_proxy: deadProxy,
	}));

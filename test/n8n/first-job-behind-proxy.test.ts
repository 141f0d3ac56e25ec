import { firstJobSuite } from './first-job';

/** Port 9 discards; nobody listens there. Only what must go through n8n's own helper would notice. */
const deadProxy = 'http://127.0.0.1:9';

describe('the same with a proxy setting that leads nowhere', () =>
	firstJobSuite(
		{
			HTTP_PROXY: deadProxy,
			http_proxy: deadProxy,
			HTTPS_PROXY: deadProxy,
			https_proxy: deadProxy,
		},
		90,
	));

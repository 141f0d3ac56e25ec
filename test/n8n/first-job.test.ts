import { firstJobSuite } from './first-job';

describe('the first job, end to end, in a real n8n', () => firstJobSuite({}));

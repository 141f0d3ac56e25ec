/** The words of protocol/ as schemas: the source of validation, OpenAPI and JSON Schema. */
export * as answers from './answers';
export * from './bulk';
export { closeRequest, quarantineRequest, robotsBulkRequest } from './control';
export { robotRequest } from './devices';
export * from './explain';
export * from './facade';
export * from './files';
export { limitRequest } from './gates';
export { input } from './input';
export { liveAsk } from './live';
export * as robots from './messages';
export { breakdownQuery, metricsQuery, seriesQuery } from './metrics';
export { holdAnswer } from './offline';
export { purgeRequest, releaseRequest } from './operations';
export { groupRequest, poolRequest } from './placement';
export * from './queries';
export { resumeRequest, retryRequest } from './rollout';
export {
	backfillRequest,
	calendarRequest,
	forecastQuery,
	previewRequest,
	runRequest,
	scheduleChange,
	scheduleRequest,
	upcomingQuery,
} from './schedules';
export * from './services';
export * from './submit';
export { whyQuery } from './why';

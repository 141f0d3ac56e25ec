/** A typed caller of the service: calls over HTTP, and what the live socket tells. */
export * from './calls';
export * from './constellation';
export { LiveView } from './feed';

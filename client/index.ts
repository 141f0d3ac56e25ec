/** A typed caller of the service: calls over HTTP. */
export * from './calls';
export * from './constellation';

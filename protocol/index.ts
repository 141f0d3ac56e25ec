/** The words that cross a process, as plain constants and types. Schemas: protocol/schemas. */
export * from './api';
export * from './bulk';
export * from './caps';
export * from './constellation';
export * from './devices';
export * from './job';
export * from './limits';
export * from './messages';
export * from './operations';
export * from './output';
export * from './problems';
export * from './schedules';
export * from './seed-names';
export * from './services';
export * from './states';
export * from './version';
export * from './watch';

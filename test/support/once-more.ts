/**
 * Tests with real processes and sockets share the machine with whatever else runs on it. One that
 * fails is run once more, and its first failure is printed all the same: it wants to be understood.
 */
jest.retryTimes(1, { logErrorsBeforeRetry: true });

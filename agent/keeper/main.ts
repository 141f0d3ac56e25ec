/** The keeper as a program: a file of its own, so that it is small. The agent starts it in its folder. */
import { systemClock } from '../clock';
import { keepPrograms } from './process';

// A disk that has no room for a complaint must not cause the next one, and so on for ever.
process.stderr.on('error', () => undefined);

const complain = (text: string): void => void process.stderr.write(`${text}\n`);

keepPrograms(systemClock, complain).then(
	() => process.exit(0),
	(error: Error) => {
		complain(error.stack ?? error.message);
		process.exit(1);
	},
);

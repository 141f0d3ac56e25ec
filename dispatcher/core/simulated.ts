/** Whether a job means robots that only pretend to work. */
import { simulatedLabel, simulatedTakesLabel } from '../../protocol';

interface Asked {
	robot?: string;
	labels: Record<string, string>;
	tags?: readonly string[];
}

/** The robot is simulated, and the job does not ask for such a robot, neither by label nor by name. */
export function wantsReal(rule: Asked, labels: Record<string, string>): boolean {
	if (labels[simulatedLabel] !== 'true' || labels[simulatedTakesLabel] === 'any') return false;
	if (rule.robot !== undefined || rule.labels[simulatedLabel] === 'true') return false;
	return !rule.tags?.includes(simulatedLabel);
}

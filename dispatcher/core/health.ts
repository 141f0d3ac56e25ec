/** How a robot's machine is, by its last heartbeat: one level, and why. */
import { healthLevels, type RobotHealth, type RobotMetrics } from '../../protocol';

type Level = RobotHealth['level'];

/**
 * From these shares on. A processor at its end is what a robot is for, so that alone never is critical; a
 * full memory or disk makes jobs fail.
 */
const bounds: Record<keyof RobotMetrics, { what: string; warning: number; critical: number }> = {
	cpuPercent: { what: 'The processor is', warning: 95, critical: Infinity },
	memoryPercent: { what: 'The memory is', warning: 85, critical: 95 },
	diskPercent: { what: 'The disk of the agent’s data is', warning: 85, critical: 95 },
};

export function healthOf(metrics: RobotMetrics): RobotHealth {
	let worst: Level = 'normal';
	const reasons: string[] = [];
	for (const [name, { what, warning, critical }] of Object.entries(bounds)) {
		const share = metrics[name as keyof RobotMetrics];
		if (share === null || share < warning) continue;
		const level: Level = share >= critical ? 'critical' : 'warning';
		if (healthLevels.indexOf(level) > healthLevels.indexOf(worst)) worst = level;
		reasons.push(`${what} ${share} % used.`);
	}
	return { level: worst, reasons };
}

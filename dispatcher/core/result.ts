/** Results as text: the usual values are left out, since most jobs end the same way. */
import type { JobResult } from '../../protocol';

const usual: JobResult = {
	exitCode: 0,
	signal: null,
	stdout: '',
	stderr: '',
	truncated: false,
	outputs: {},
	durationMs: 0,
	error: null,
	processGone: true,
};

export function resultText(result: JobResult): string {
	const unusual: Record<string, unknown> = {};
	for (const [name, value] of Object.entries(result)) {
		if (value === usual[name as keyof JobResult]) continue;
		if (name === 'outputs' && Object.keys(value as object).length === 0) continue;
		unusual[name] = value;
	}
	return JSON.stringify(unusual);
}

export function resultOf(text: string): JobResult {
	return { ...usual, ...(JSON.parse(text) as Partial<JobResult>) };
}

/** What is measured, and how it is summed up. */
export interface Size {
	/** Robots, or the peer's concurrency. */
	robots: number;
	jobs: number;
}

export interface Figures {
	/** Submitted in bulks of 1,000, run, result durably recorded. */
	bulkPerSecond: number;
	/** Submitted one by one, 200 in flight. */
	singlePerSecond: number;
	/** Submit to start on an idle system, milliseconds. */
	startP50Ms: number;
	startP99Ms: number;
	serviceCpuPerJobUs?: number;
}

export function percentiles(samples: number[]): { startP50Ms: number; startP99Ms: number } {
	const sorted = [...samples].sort((a, b) => a - b);
	const at = (share: number) =>
		sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
	return { startP50Ms: at(0.5), startP99Ms: at(0.99) };
}

export function median(values: number[]): number {
	return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
}

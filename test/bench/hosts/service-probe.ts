/** Loaded into the service beside its own code: how late its event loop is, when somebody asks. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

export interface LoopDelay {
	p50Ms: number;
	p99Ms: number;
	maxMs: number;
}

const resolutionMs = 5;

if (isMainThread && process.send) {
	let histogram: ReturnType<typeof monitorEventLoopDelay> | undefined;
	process.on('message', (asked) => {
		if (asked === 'watch') {
			histogram = monitorEventLoopDelay({ resolution: resolutionMs });
			histogram.enable();
		} else if (asked === 'report' && histogram) {
			histogram.disable();
			// It records the whole time from one beat to the next.
			const late = (ns: number) => Math.max(0, ns / 1e6 - resolutionMs);
			process.send!({
				p50Ms: late(histogram.percentile(50)),
				p99Ms: late(histogram.percentile(99)),
				maxMs: late(histogram.max),
			} satisfies LoopDelay);
		}
	});
	// The service's end must not wait for us.
	process.channel!.unref();
}

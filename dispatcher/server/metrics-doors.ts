/** The doors for those who measure: dashboards ask for a record and series, scrapers for text. */
import { seedMetrics } from '../../protocol';
import { answers, breakdownQuery, metricsQuery, seriesQuery } from '../../protocol/schemas';
import { exposed, expositionType } from '../core/exposition';
import { type Door, door } from './door';

export const metricsDoors = {
	metrics: door({
		query: metricsQuery,
		answer: answers.metricsRecord,
		async run({ query }, { engine }) {
			const record = await engine.metrics(query.timezone);
			return query.names === 'seed' ? seedMetrics(record) : record;
		},
	}),
	metricSeries: door({
		query: seriesQuery,
		answer: answers.seriesAnswer,
		run: ({ query }, { engine }) => engine.metricSeries(query.metric, query.from, query.to),
	}),
	metricBreakdown: door({
		query: breakdownQuery,
		answer: answers.listOf(answers.breakdownRow),
		run: async ({ query, signal }, { engine }) => ({
			items: await engine.metricBreakdown(query.by, query.from, query.to, signal()),
		}),
	}),
	metricsText: door({
		async run({ reply }, { engine, traffic, version }) {
			const families = [
				{
					name: 'robot_fleet_info',
					help: 'The version that runs.',
					type: 'gauge' as const,
					samples: [{ labels: { version }, value: 1 }],
				},
				{
					name: 'robot_fleet_ready',
					help: '1 while work is taken.',
					type: 'gauge' as const,
					samples: [{ value: engine.readiness === 'ready' ? 1 : 0 }],
				},
				...(await engine.families()),
				...(traffic?.families() ?? []),
			];
			return reply.header('content-type', expositionType).send(exposed(families));
		},
	}),
} as const satisfies Record<string, Door>;

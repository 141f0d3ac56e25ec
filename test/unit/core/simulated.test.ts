import { misfit, ruleOf } from '../../../dispatcher/core/matching';
import type { Target } from '../../../protocol';

const robot = (labels: Record<string, string>) => ({
	robotId: 'r1',
	labels: { os: 'linux', ...labels },
	capabilities: ['docker'],
	clients: [],
	groups: ['hall'],
	pools: ['all'],
});

const real: Target[] = [
	{},
	{ labels: { os: 'linux' } },
	{ capabilities: ['docker'] },
	{ group: 'hall' },
	{ pool: 'all' },
	{ tags: ['os'] },
	{ mode: 'all' },
];

test('a job gets a simulated robot only when it asks for one, by the label or by name', () => {
	const played = robot({ simulated: 'true' });
	for (const target of real) {
		expect(misfit(ruleOf(target, undefined), played)?.obstacle).toBe('simulated');
		expect(misfit(ruleOf(target, undefined), robot({}))).toBeUndefined();
	}
	expect(misfit(ruleOf({ labels: { simulated: 'true' } }, undefined), played)).toBeUndefined();
	expect(misfit(ruleOf({ tags: ['simulated'] }, undefined), played)).toBeUndefined();
	expect(misfit(ruleOf({}, 'r1'), played)).toBeUndefined();
});

test('one that takes any takes any, and a label of another value marks nobody', () => {
	const any = robot({ simulated: 'true', 'simulated.takes': 'any' });
	for (const target of real) expect(misfit(ruleOf(target, undefined), any)).toBeUndefined();
	expect(misfit(ruleOf({}, undefined), robot({ simulated: 'false' }))).toBeUndefined();
});

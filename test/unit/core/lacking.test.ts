/** What nobody has, and what was perhaps meant. */
import { misspelt } from '../../../dispatcher/core/lacking';
import { ruleOf, type Terms } from '../../../dispatcher/core/matching';

const robots: Terms[] = [
	{ robotId: 'a', labels: { os: 'linux', GPU: 'a100' }, capabilities: ['docker'], clients: [] },
	{ robotId: 'b', labels: { os: 'windows' }, capabilities: [], clients: [] },
];

test.each([
	[{ tags: ['gpu'] }, 'No robot has the label gpu; did you mean GPU?'],
	[{ labels: { zone: 'x' } }, undefined],
	[{ labels: { os: 'linus' } }, 'No robot has the label os=linus; did you mean os=linux?'],
	[{ capabilities: ['dokcer'] }, 'No robot has the capability dokcer; did you mean docker?'],
	[{ labels: { os: 'windows' }, capabilities: ['docker'] }, undefined],
])('of %j it is said: %s', (target, sentence) => {
	expect(misspelt(ruleOf(target, undefined), robots)).toBe(sentence);
});

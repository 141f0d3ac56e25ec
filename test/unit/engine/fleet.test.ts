/** What robots hold, and what they share, as the fleet counts it: against a slow count of everything. */
import fc from 'fast-check';
import { Gates } from '../../../dispatcher/engine/gates';
import { FakeClock } from '../../support/fake-clock';
import { Fleet, type Live, type RobotEntry } from '../../../dispatcher/engine/fleet';
import type { Session } from '../../../dispatcher/engine/fleet';
import type { StoredRobot } from '../../../dispatcher/store/store';

const robotIds = ['a', 'b', 'c'];

function stored(id: string, labels: object): StoredRobot {
	return {
		id,
		name: id,
		publicKey: '',
		tokenId: null,
		lockedLabels: JSON.stringify(labels),
		labels: '{}',
		capabilities: '[]',
		slots: 3,
		clients: '[]',
		info: '{}',
		agentVersion: null,
		journalId: null,
		closed: null,
		quarantine: null,
		strikes: null,
		presence: null,
		createdAt: 0,
		lastSeenAt: null,
		removedAt: null,
		machine: null,
		clone: null,
	};
}

const pool = (name: string, tags: string[], maxJobs: number | null) => ({
	...{ name, labels: {}, tags, group: null, maxJobs },
});

type Step = (fleet: Fleet) => void;

const id = fc.constantFrom(...robotIds);
const limit = fc.option(fc.integer({ min: 0, max: 4 }));
const withEntry = (fleet: Fleet, robotId: string, does: (entry: RobotEntry) => void) => {
	const entry = fleet.get(robotId);
	if (entry) does(entry);
};
let jobs = 0;
const steps: fc.Arbitrary<Step> = fc.oneof(
	fc.tuple(id, fc.subarray(['x', 'y'])).map(([robotId, tags]): Step => (fleet) => {
		const labels = Object.fromEntries(tags.map((tag) => [tag, '1']));
		const entry = fleet.put(stored(robotId, labels));
		entry.session ??= { stopping: false, busy: 0 } as Session;
		fleet.review(entry);
	}),
	fc.tuple(limit, limit, limit).map(([x, y, all]): Step => (fleet) => {
		const pools = [pool('x', ['x'], x), pool('y', ['y'], y), pool('all', [], all)];
		fleet.arrange(new Map(), new Map(pools.map((one) => [one.name, one])));
	}),
	id.map((robotId): Step => (fleet) => {
		const hold = { jobId: `j${(jobs += 1)}`, robotId, client: null, needs: '', slots: 1 } as Live;
		if (fleet.get(robotId)) fleet.hold(hold);
	}),
	id.map((robotId): Step => (fleet) => {
		withEntry(fleet, robotId, ({ held }) => {
			for (const live of [...held.values()].slice(0, 1)) fleet.release(live);
		});
	}),
	fc.tuple(id, fc.constantFrom(-1, 1)).map(([robotId, by]): Step => (fleet) => {
		withEntry(fleet, robotId, (entry) => {
			entry.reserved = Math.max(0, entry.reserved + by);
			fleet.review(entry);
		});
	}),
	id.map(
		(robotId): Step =>
			(fleet) =>
				fleet.remove(robotId),
	),
);

test('the room of a pool is its limit without what its robots hold, and who is free is who could take a job', () => {
	fc.assert(
		fc.property(fc.array(steps, { maxLength: 40 }), (done) => {
			const fleet = new Fleet(new Gates(new FakeClock()));
			for (const step of done) {
				step(fleet);
				const all = [...fleet.all()];
				const free = new Set<RobotEntry>();
				for (const entry of all) {
					let room = 3 - entry.held.size - entry.reserved;
					for (const gate of entry.gates) {
						const behind = all.filter(({ gates }) => gates.includes(gate));
						const used = behind.reduce((sum, { held, reserved }) => sum + held.size + reserved, 0);
						expect([...gate.members].sort(byId)).toEqual(behind.sort(byId));
						expect(fleet.room(gate)).toBe(gate.limit - used);
						room = Math.min(room, gate.limit - used);
					}
					if (room > 0 && entry.session) free.add(entry);
				}
				expect(new Set(fleet.free)).toEqual(free);
			}
		}),
		{ numRuns: 300 },
	);
});

function byId(a: RobotEntry, b: RobotEntry): number {
	return a.robotId < b.robotId ? -1 : 1;
}

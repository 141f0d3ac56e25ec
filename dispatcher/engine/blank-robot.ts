/** A robot of which nothing but the name is known yet; its agent says more when it comes. */
import type { StoredRobot } from '../store/store';

export function blankRobot(id: string, name: string, createdAt: number): StoredRobot {
	return {
		id,
		name,
		publicKey: '',
		tokenId: null,
		lockedLabels: '{}',
		labels: '{}',
		capabilities: '[]',
		slots: 1,
		clients: '[]',
		info: '{}',
		agentVersion: null,
		journalId: null,
		closed: null,
		quarantine: null,
		strikes: null,
		presence: null,
		createdAt,
		lastSeenAt: null,
		removedAt: null,
		machine: null,
		clone: null,
	};
}

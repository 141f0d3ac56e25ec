/** What jobs share, for people: limits that operators set, who has what, who waits for it and why; and what no job can get. */
import {
	type GateHolder,
	type GateRecord,
	type LimitRecord,
	type LimitRequest,
	Problem,
	type Takes,
} from '../../protocol';
import { describeRule, laneRule, misfit } from '../core/matching';
import { gateKey, type Need, type Needs, needsOf, nothing } from '../core/needs';
import { inLineSince } from '../core/rank';
import type { StoredJob } from '../store/store';
import type { Context } from './context';
import type { Gate } from './gates';
import type { Caller } from './index';
import type { Passing } from './passing';

const shownHolders = 100;
const shownNext = 20;
/** Those that need the same are counted up to this. */
const maxCounted = 10_000;

export class Locks {
	readonly #context: Context;
	readonly #passing: Passing;
	readonly #limits = new Map<string, LimitRecord>();

	constructor(context: Context, passing: Passing) {
		this.#context = context;
		this.#passing = passing;
	}

	/** Limits, and the starts that still count. What is held comes with the holds. */
	async load(): Promise<void> {
		const { store, gates, clock } = this.#context;
		for (const { name, max, updatedAt } of await store.read('limits', null)) {
			this.#limits.set(name, { name, max, updatedAt });
			gates.setLimit(name, max);
		}
		const now = clock.now();
		for (const { key, epoch, at, until } of await store.read('starts', { after: now })) {
			// One from the future is from before somebody set the clock back: it counts as one of just now.
			gates.loadStart(key, epoch, Math.max(0, now - at), until - at);
		}
	}

	async putLimit(name: string, { max }: LimitRequest, by: Caller): Promise<LimitRecord> {
		const { clock, turns } = this.#context;
		const record = { name, max, updatedAt: clock.now() };
		await turns.deed('putLimit', { ...record, createdBy: `key:${by.name}` });
		this.#set(name, record);
		return record;
	}

	async removeLimit(name: string): Promise<void> {
		const removed = await this.#context.turns.deed('removeLimit', { name });
		if (!removed) throw new Problem('no-such-limit', { name });
		this.#set(name, undefined);
	}

	#set(name: string, record: LimitRecord | undefined): void {
		const { gates, turns } = this.#context;
		if (record) this.#limits.set(name, record);
		else this.#limits.delete(name);
		gates.setLimit(name, record?.max);
		turns.nudge();
	}

	/** Those that somebody has, waits for, or has set a limit for. */
	async all(): Promise<GateRecord[]> {
		const { gates } = this.#context;
		const records: GateRecord[] = [];
		for (const gate of [...gates.all()]) records.push(await this.#record(gate));
		for (const { name, max } of this.#limits.values()) {
			if (gates.get(gateKey('lock', name)) || gates.get(gateKey('concurrency', name))) continue;
			const idle = { used: 0, holders: [], waiting: 0, next: [], opensAt: null };
			records.push({ of: 'lock', name, max, limit: max, ...idle });
		}
		return records.sort((a, b) => order(a).localeCompare(order(b)));
	}

	async #record(gate: Gate): Promise<GateRecord> {
		const { clock, gates, store } = this.#context;
		const { of, name, key } = gate;
		const texts = [...new Set([...gate.waiters].map(({ needs }) => needs))];
		const behind = await store.read('behind', { needs: texts, limit: shownNext, max: maxCounted });
		const held = [...gate.holders].map(([jobId]) => this.#needOf(jobId, key));
		const wanted = [
			...texts.map((text) => needsOf(text).find((need) => need.key === key)),
			...held,
		];
		const needs = wanted.filter((need) => need !== undefined);
		const takeOf = (text: string) => needsOf(text).find((need) => need.key === key)?.take ?? 1;
		const now = clock.monotonic();
		const longest = needs.reduce((most, { perMs }) => Math.max(most, perMs), 0);
		const opensAt = Math.min(...needs.map((need) => gates.opensAt(need)));
		return {
			of,
			name,
			max: needs.length === 0 ? null : Math.max(...needs.map((need) => gates.capacity(need))),
			limit: of === 'rate' ? null : (gates.limitOf(name) ?? null),
			used: gate.starts
				? gate.starts.within(longest || gate.starts.keepFor(0), now)
				: gate.holders.total,
			holders: this.#holders(gate).slice(0, shownHolders),
			waiting: behind.count,
			next: behind.first.map(({ id, rank, priority, needs: text }) => ({
				jobId: id,
				slots: takeOf(text),
				since: inLineSince(rank, priority),
			})),
			opensAt:
				of === 'rate' && opensAt > now && opensAt < Infinity
					? Math.ceil(clock.now() + opensAt - now)
					: null,
		};
	}

	#needOf(jobId: string, key: string): Need | undefined {
		const live = this.#context.fleet.live(jobId);
		return live && needsOf(live.needs).find((need) => need.key === key);
	}

	#holders({ holders }: Gate): GateHolder[] {
		const { fleet } = this.#context;
		return [...holders].flatMap(([jobId, slots]) => {
			const live = fleet.live(jobId);
			if (!live) return [];
			return { jobId, robot: this.#nameOf(live.robotId), slots, since: live.givenAt };
		});
	}

	/** Why a queued job that has needs does not start, if they are what keeps it; undefined = they are not. */
	why(job: Pick<StoredJob, 'id' | 'rank' | 'needs'>): string | undefined {
		if (job.needs === nothing) return undefined;
		const { gates, clock } = this.#context;
		const needs = needsOf(job.needs);
		const shut = needs.filter((need) => gates.room(need) < need.take);
		if (shut.length > 0) {
			return `The job waits for ${shut.map((need) => this.#whyShut(need)).join('; and for ')}.`;
		}
		this.#passing.look();
		const owed = this.#passing.keptFrom(job, job.needs, clock.now());
		if (!owed) return undefined;
		const { head, need } = owed;
		const since = iso(inLineSince(head.rank, head.priority));
		return `The job waits for ${wordsOf(need)}, which is kept for job ${head.id}: that has been in line since ${since}, and needs ${others(needsOf(this.#needsOfOwed(need.key, head.id)), need)}.`;
	}

	#needsOfOwed(key: string, jobId: string): string {
		for (const { heads, needs } of this.#context.gates.get(key)?.waiters ?? []) {
			if (heads[0]?.id === jobId) return needs;
		}
		return nothing;
	}

	#whyShut(need: Need): string {
		const { gates, clock } = this.#context;
		const gate = gates.get(need.key);
		const capacity = gates.capacity(need);
		const words = wordsOf(need);
		if (need.of === 'rate') {
			const inMs = Math.max(0, Math.ceil(gates.opensAt(need) - clock.monotonic()));
			return `${words}, which lets ${need.max} start within ${span(need.perMs)}: the next one at ${iso(clock.now() + inMs)}`;
		}
		const open = `open it with: robot-fleet limits put ${need.name} 1`;
		if (capacity === 0) return `${words}, which is closed by its limit; ${open}`;
		if (need.take > capacity) {
			return `${words}, of which it takes ${need.take}, but there ${capacity === 1 ? 'is' : 'are'} only ${capacity}; set more with: robot-fleet limits put ${need.name} ${need.take}`;
		}
		const [first, ...more] = gate ? this.#holders(gate) : [];
		// On its way to a robot at this very moment.
		if (!first) return words;
		const who = `held by job ${first.jobId} on robot ${first.robot} since ${iso(first.since)}`;
		const rest = more.length === 0 ? '' : ` and ${more.length} more`;
		const size =
			need.take > 1
				? ` (it takes ${need.take} of ${capacity})`
				: capacity > 1
					? ` (all ${capacity} are taken)`
					: '';
		return `${words}${size}, ${who}${rest}`;
	}

	readonly #nameOf = (robotId: string) => this.#context.fleet.nameOf(robotId);
}

/** A job that could never start is refused: it takes more of a lock, or more slots, than anybody has. */
export function refuseImpossible(
	{ fleet, gates }: Context,
	{ locks = [], slots = 1 }: Takes,
	lane: string,
): void {
	for (const { name, slots: wanted = 1 } of locks) {
		const has = gates.limitOf(name) ?? 1;
		// A limit of none is an operator's brake: it will open again.
		if (wanted > has && has > 0) throw new Problem('lock-too-small', { name, slots: wanted, has });
	}
	if (slots === 1) return;
	const { slots: _, ...rule } = laneRule(lane);
	const matching = [...fleet.all()].filter((entry) => misfit(rule, entry) === undefined);
	// Nobody knows how many slots an agent has before it first comes.
	const known = matching.filter(({ stored }) => stored.journalId !== null);
	if (known.length === 0 || known.length < matching.length) return;
	const most = Math.max(...known.map((entry) => entry.stored.slots));
	if (most >= slots) return;
	throw new Problem('too-few-slots', { slots, most, rule: describeRule(rule, fleet.nameOf) });
}

const order = ({ of, name }: GateRecord) => `${of} ${name}`;
const iso = (at: number) => new Date(at).toISOString();

function wordsOf({ of, name }: Need): string {
	if (of === 'lock') return `lock ${name}`;
	return of === 'rate' ? `the rate of ${name}` : `a place of the key ${name}`;
}

/** What an owed job needs besides the gate in question. */
function others(needs: Needs, but: Need): string {
	const rest = needs.filter(({ key }) => key !== but.key).map(wordsOf);
	return rest.length === 0 ? 'more of it or a robot' : `${rest.join(' and ')} too`;
}

/** `90 s`, `1 min`, `2 h`. */
function span(ms: number): string {
	if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`;
	if (ms % 60_000 === 0) return `${ms / 60_000} min`;
	return ms % 1_000 === 0 ? `${ms / 1_000} s` : `${ms} ms`;
}

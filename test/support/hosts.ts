/**
 * Several machines on one: network namespaces, joined by a switch in the first of them. Each has an
 * address and a name (machine-id) of its own, and none of them sees the real network. Needs root and `ip`.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';

/** Why there can be no hosts here; undefined when there can. */
export function noHosts(): string | undefined {
	if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'this is not root on Linux';
	try {
		const name = `rf-${process.pid}-try`;
		ip('netns', 'add', name);
		ip('netns', 'del', name);
		return undefined;
	} catch (error) {
		return `no network namespace can be made here (${(error as Error).message.split('\n').at(-1)})`;
	}
}

const quiet = {
	stdio: ['ignore', 'ignore', 'pipe'] as ('ignore' | 'pipe')[],
	encoding: 'utf8' as const,
};

function ip(...args: string[]): void {
	execFileSync('ip', args, quiet);
}

export class Host {
	readonly namespace: string;
	readonly address: string;

	constructor(namespace: string, address: string) {
		this.namespace = namespace;
		this.address = address;
	}

	/** Put it before a command line, and it runs there. It becomes that command: pid and signals stay its own. */
	get through(): string[] {
		return ['ip', 'netns', 'exec', this.namespace];
	}

	run(program: string, ...args: string[]): string {
		const [ip, ...rest] = this.through;
		return execFileSync(ip!, [...rest, program, ...args], { encoding: 'utf8' });
	}

	/** Pulls the cable out. */
	unplug(): void {
		this.run('ip', 'link', 'set', 'eth0', 'down');
	}

	plugIn(): void {
		this.run('ip', 'link', 'set', 'eth0', 'up');
	}

	/**
	 * Makes its line slow: late where the kernel can (netem), else narrow, which makes what is sent at once
	 * late as well. Says which.
	 */
	slowDown(): string {
		const [ip, ...rest] = this.through;
		const shape = (...how: string[]) =>
			execFileSync(ip!, [...rest, 'tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', ...how], quiet);
		try {
			shape('netem', 'delay', '150ms', '50ms', 'loss', '2%');
			return 'late and lossy';
		} catch {
			shape('tbf', 'rate', '128kbit', 'burst', '4kb', 'latency', '800ms');
			return 'narrow';
		}
	}

	speedUp(): void {
		this.run('tc', 'qdisc', 'del', 'dev', 'eth0', 'root');
	}
}

export class Network implements Disposable {
	readonly hub: Host;
	readonly hosts: Host[];

	private constructor(hub: Host, hosts: Host[]) {
		this.hub = hub;
		this.hosts = hosts;
	}

	/** A hub and so many hosts around it. */
	static make(count: number): Network {
		const name = (n: number) => `rf-${process.pid}-${n}`;
		const hosts = Array.from(
			{ length: count + 1 },
			(_, n) => new Host(name(n), `10.77.0.${n + 1}`),
		);
		const network = new Network(hosts[0]!, hosts.slice(1));
		try {
			for (const host of hosts) {
				// What lies there is laid over /etc for whoever runs in that namespace.
				const etc = `/etc/netns/${host.namespace}`;
				mkdirSync(etc, { recursive: true });
				const id = createHash('md5').update(host.namespace).digest('hex');
				if (existsSync('/etc/machine-id')) writeFileSync(`${etc}/machine-id`, `${id}\n`);
				ip('netns', 'add', host.namespace);
				host.run('ip', 'link', 'set', 'lo', 'up');
			}
			const { hub } = network;
			hub.run('ip', 'link', 'add', 'switch', 'type', 'bridge');
			hub.run('ip', 'addr', 'add', `${hub.address}/24`, 'dev', 'switch');
			hub.run('ip', 'link', 'set', 'switch', 'up');
			for (const [n, host] of network.hosts.entries()) {
				const port = `port${n}`;
				hub.run(
					...(['ip', 'link', 'add', port, 'type', 'veth'] as const),
					...['peer', 'name', 'eth0', 'netns', host.namespace],
				);
				hub.run('ip', 'link', 'set', port, 'master', 'switch', 'up');
				host.run('ip', 'addr', 'add', `${host.address}/24`, 'dev', 'eth0');
				host.plugIn();
			}
			return network;
		} catch (error) {
			network[Symbol.dispose]();
			throw error;
		}
	}

	/** Call when nothing runs there any more. Harmless when called twice. */
	[Symbol.dispose](): void {
		for (const { namespace } of [this.hub, ...this.hosts]) {
			if (existsSync(`/run/netns/${namespace}`)) ip('netns', 'del', namespace);
			rmSync(`/etc/netns/${namespace}`, { recursive: true, force: true });
		}
	}
}

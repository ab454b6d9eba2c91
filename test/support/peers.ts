/**
 * Programs with plain kernel sockets in a lab's namespaces (fixtures/peer.mjs), and further hosts for them.
 *
 * Start them before the ports are opened: what a scene finds open in this process at its end must be what it
 * found at its beginning.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { loadShim } from '../../src/kernel/shim.ts';
import { deleteNamespaces, ip, sysctl } from '../../src/lab/namespaces.ts';
import { endWithTest } from './children.ts';
import type { Lab } from './harness.ts';

const PEER = fileURLToPath(new URL('../fixtures/peer.mjs', import.meta.url));

export interface Said {
  readonly lines: number;
  /** Who answered: more than one is a conversation that was moved. */
  readonly names: string[];
  /** '' while it goes on. */
  readonly failure: string;
}

/** What a peer can be asked to do: the functions of fixtures/peer.mjs. */
interface Calls {
  listen(name: string, port: number): void;
  accepted(): number;
  talk(address: string, port: number, localPorts: number[]): void;
  said(): Said[];
  hangUp(): void;
  ask(address: string, port: number, localPorts: number[]): string[];
  askUdp(address: string, port: number, localPorts: number[]): string[];
  attempt(address: string, port: number): void;
  attempted(): string[];
  giveUp(): void;
  send(address: string, port: number, localPort: number, first: number, count: number, bytes: number): void;
  resolve(server: string, name: string, type: string): unknown;
}

export class Peer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #calls = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', ({ id, result, error }: { id: number; result: never; error?: string }) => {
      const waiting = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      if (error === undefined) waiting.resolve(result);
      else waiting.reject(new Error(error));
    });
    child.on('exit', (code) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the peer ended with ${code}`));
    });
  }

  /** A process in that namespace, until the test is over. */
  static async start(namespace: string): Promise<Peer> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, PEER], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    endWithTest(child);
    const peer = new Peer(child);
    await peer.#answer(0);
    return peer;
  }

  async call<K extends keyof Calls>(call: K, ...args: Parameters<Calls[K]>): Promise<ReturnType<Calls[K]>> {
    const id = ++this.#calls;
    const answer = this.#answer<ReturnType<Calls[K]>>(id);
    this.#child.send({ id, call, args });
    return answer;
  }

  #answer<T>(id: number): Promise<T> {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

export interface Station {
  readonly namespace: string;
  readonly address: string;
  readonly mac: string;
}

/**
 * Further hosts on the outside's Ethernet, from 10.77.0.10 on, behind a bridge of which the outside's own
 * device becomes a port: its address is of no use from then on.
 *
 * @param vip an address that all but the first have on their loopback, and keep to themselves
 */
export function addStations(lab: Lab, count: number, vip: string): Station[] {
  const shim = loadShim();
  const stations = Array.from({ length: count }, (_, i) => ({
    namespace: `${lab.name}-st${i}`,
    address: `10.77.0.${10 + i}`,
    mac: `02:15:5d:77:00:${10 + i}`,
  }));
  onTestFinished(() => deleteNamespaces(stations.map(({ namespace }) => namespace)));
  ip(
    ['link add lan type bridge stp_state 0 mcast_snooping 0', 'link set u0 master lan', 'link set lan up'],
    lab.outside,
  );
  for (const [i, { namespace, address, mac }] of stations.entries()) {
    ip([`netns add ${namespace}`]);
    for (const scope of ['all', 'default']) sysctl(shim, namespace, `ipv6/conf/${scope}/disable_ipv6`, '1');
    // Neither answer ARP for the address nor ask in its name: Linux's ip-sysctl.rst.
    sysctl(shim, namespace, 'ipv4/conf/all/arp_ignore', '1');
    sysctl(shim, namespace, 'ipv4/conf/all/arp_announce', '2');
    ip(
      [
        `link add st${i} type veth peer name eth0 address ${mac} netns ${namespace}`,
        `link set st${i} master lan`,
        `link set st${i} up`,
      ],
      lab.outside,
    );
    ip(
      [
        'link set lo up',
        ...(i > 0 ? [`addr add ${vip}/32 dev lo`] : []),
        'link set eth0 up',
        `addr add ${address}/24 dev eth0`,
      ],
      namespace,
    );
  }
  return stations;
}

/**
 * Further hosts, each in a network of its own, 10.78.N.2, behind the outside, which forwards: as in a virtual network of Azure, the
 * guest and they reach each other by IP address only.
 */
export function addRouted(lab: Lab, count: number): Omit<Station, 'mac'>[] {
  const shim = loadShim();
  const hosts = Array.from({ length: count }, (_, i) => ({
    namespace: `${lab.name}-rt${i}`,
    address: `10.78.${i}.2`,
  }));
  onTestFinished(() => deleteNamespaces(hosts.map(({ namespace }) => namespace)));
  sysctl(shim, lab.outside, 'ipv4/ip_forward', '1');
  ip(['route add 10.78.0.0/16 via 10.77.0.1'], lab.guest);
  for (const [i, { namespace, address }] of hosts.entries()) {
    ip([`netns add ${namespace}`]);
    for (const scope of ['all', 'default']) sysctl(shim, namespace, `ipv6/conf/${scope}/disable_ipv6`, '1');
    ip(
      [
        `link add rt${i} type veth peer name eth0 netns ${namespace}`,
        `addr add 10.78.${i}.1/24 dev rt${i}`,
        `link set rt${i} up`,
      ],
      lab.outside,
    );
    ip(
      [
        'link set lo up',
        'link set eth0 up',
        `addr add ${address}/24 dev eth0`,
        `route add default via 10.78.${i}.1`,
      ],
      namespace,
    );
  }
  return hosts;
}

/**
 * Two further hosts on one IP network, 10.79.0.0/24, whose only way to each other are the two tunnels of a gateway load balancer, which
 * the outside plays: what one sends comes to the guest by the external tunnel, and what the guest sends by the internal one
 * reaches the other.
 */
export function addTunnels(
  lab: Lab,
  local: string,
  remote: string,
): [outer: Omit<Station, 'mac'>, inner: Omit<Station, 'mac'>] {
  const shim = loadShim();
  const host = (name: string, number: number): Omit<Station, 'mac'> => ({
    namespace: `${lab.name}-${name}`,
    address: `10.79.0.${number}`,
  });
  const [outer, inner] = [host('tun0', 1), host('tun1', 2)];
  onTestFinished(() => deleteNamespaces([outer.namespace, inner.namespace]));
  for (const [{ namespace, address }, vni, port] of [
    [outer, 801, 10_801],
    [inner, 800, 10_800],
  ] as const) {
    ip([`netns add ${namespace}`]);
    for (const scope of ['all', 'default']) sysctl(shim, namespace, `ipv6/conf/${scope}/disable_ipv6`, '1');
    // Its packets go by the outside's devices, where it is made, also when it is in another namespace.
    ip(
      [
        `link add vx${vni} type vxlan id ${vni} local ${local} remote ${remote} dstport ${port} nolearning`,
        `link set vx${vni} netns ${namespace}`,
      ],
      lab.outside,
    );
    ip(['link set lo up', `link set vx${vni} mtu 1400 up`, `addr add ${address}/24 dev vx${vni}`], namespace);
  }
  return [outer, inner];
}

/** Has a namespace take packets of a virtual address out of VXLAN tunnels to its own address. Returns the device's MAC address. */
export function endTunnel(namespace: string, vip: string, vni: number, mac: string): string {
  const shim = loadShim();
  ip(
    [
      `link add vx${vni} address ${mac} type vxlan id ${vni} dstport 4789`,
      `link set vx${vni} up`,
      `addr add ${vip}/32 dev lo`,
    ],
    namespace,
  );
  // The reply leaves by another device than the one that the packet came by.
  for (const device of ['all', `vx${vni}`]) sysctl(shim, namespace, `ipv4/conf/${device}/rp_filter`, '0');
  return mac;
}

/** Has a namespace forward packets whose source address is not where they come from. */
export function forwardAnySource(namespace: string): void {
  const shim = loadShim();
  for (const { dev } of routesOf(namespace)) sysctl(shim, namespace, `ipv4/conf/${dev}/rp_filter`, '0');
  sysctl(shim, namespace, 'ipv4/conf/all/rp_filter', '0');
}

function routesOf(namespace: string): { dev: string }[] {
  const { stdout } = spawnSync('ip', ['-netns', namespace, '-json', 'route'], { encoding: 'utf8' });
  return JSON.parse(stdout);
}

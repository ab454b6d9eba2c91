/**
 * A load balancer: spreads the connections to a virtual IPv4 address over backends in the same Ethernet.
 *
 * Direct return: a packet goes on with the backend's MAC address and everything above Ethernet untouched. The
 * backend has the virtual address on its loopback and replies to the client itself. It must neither answer ARP
 * for the address nor ask in its name, or clients go there directly: on Linux `net.ipv4.conf.all.arp_ignore` is
 * 1 and `arp_announce` 2.
 *
 * No state is kept: the backend follows from addresses, protocol and ports by a Maglev table, which is the same
 * in every worker and on both paths. So a connection keeps its backend over a failover, a worker that dies and a
 * restart, and nearly always when another backend comes or goes.
 *
 * - Fragments have no ports but in the first, so all of them go by addresses and protocol alone: to one
 *   backend, though not the one that whole packets of the same ports go to.
 * - ICMP errors go where the packet went that they are about: path MTU discovery works.
 * - A packet that its own backend sends to the virtual address has been round already, and is dropped. So is one that
 *   claims to come from the virtual address, from a group or from our own MAC address.
 * - The machine may be a backend itself: what falls to a backend with the MAC address of one of its ports is passed to
 *   its stack, which needs the virtual address as every backend does. By the port it would come back for ever. So all
 *   members of a group can be given the same options. (With `host: 'off'` there is no stack: `dropped.noHost`.)
 * - Nobody checks whether a backend is alive: open the port again with those that are.
 *
 * Copy from it: a hash of one's own, where `burst.hash` is 0 with one queue; a table built once in `create`.
 *
 * ```ts
 * import type { Handler, HandlerContext, Packet, Verdict } from 'twinpath/handler';
 * import { DROP, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler, HandlerContext } from '../handler/handler.ts';
import { DROP, PASS, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { Flow, finish, mix, word } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { has, hostAddresses, macBytes } from './addresses.ts';
import { answersArp } from './arp.ts';
import { MAX_BACKENDS, maglevTable, SLOTS } from './maglev.ts';
import { flag, invalid, list, onlyKnown, otherwiseOf } from './options.ts';

const ICMP_BYTES = 8;

interface Backends {
  readonly macs: readonly Uint8Array[];
  /** By index of `macs`, 1 if it is the machine itself. */
  readonly isLocal: Uint8Array;
  /** By hash: an index of `macs`. */
  readonly table: Uint16Array;
}

/**
 * @param options `vip`: the virtual address, or several.
 *   `backends`: MAC addresses, or name@mac, where the name (its IP address, say) stands for the backend in the
 *   hash, so that another network card may take its place; 1 to 512.
 *   `ports`: TCP and UDP ports that are balanced; without it everything to the address is.
 *   `arp`: answer ARP requests for the virtual address, default true.
 *   `otherwise`: what becomes of other packets: 'pass', the default, gives them to the machine, 'drop' drops
 *   them. What the machine sends goes out either way.
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, { macs }: HandlerContext): Handler {
  onlyKnown('balance', options, ['vip', 'backends', 'ports', 'arp', 'otherwise']);
  const vips = hostAddresses('vip', list(options.vip));
  if (vips.length === 0) invalid('vip', 'balance has no address', "Give it: { vip: '10.77.0.100' }.");
  const balancer = new Balancer(vips, portsOf(options.ports), backendsOf(options.backends, macs));
  const arp = flag(options, 'arp', true);
  const otherwise = otherwiseOf(options, 'pass');
  const flow = new Flow();

  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      if (burst.path[i] === Path.HOST) {
        burst.verdict[i] = TX;
        continue;
      }
      const packet = burst.packet(i);
      const mac = macs[burst.port[i]!]!;
      burst.verdict[i] = otherwise;
      if (flow.read(packet)) {
        if (balancer.serves(packet, flow, mac)) burst.verdict[i] = balancer.send(packet, mac);
      } else if (arp && flow.type >= 0 && answersArp(packet, flow.l3, mac, vips)) burst.verdict[i] = TX;
    }
  };
}

class Balancer {
  readonly #vips: Int32Array;
  /** By port, 1 if it is balanced; undefined when all are. */
  readonly #ports: Uint8Array | undefined;
  readonly #backends: Backends;
  /** In the table, for the packet at hand. */
  #slot = 0;
  /** Whether it claims to come from where it goes. */
  #isFromVip = false;

  constructor(vips: Int32Array, ports: Uint8Array | undefined, backends: Backends) {
    this.#vips = vips;
    this.#ports = ports;
    this.#backends = backends;
  }

  /** Whether the packet is one to balance; `send` then knows where it goes. */
  serves(packet: Packet, flow: Flow, mac: Uint8Array): boolean {
    if (flow.addressBytes !== 4 || !packet.dstEquals(mac)) return false;
    const { addresses, protocol, l4 } = flow;
    const vip = word(packet, addresses + 4);
    if (!has(this.#vips, vip)) return false;
    const source = word(packet, addresses);
    this.#isFromVip = has(this.#vips, source);
    if (protocol === Protocol.ICMP && l4 >= 0 && isIcmpError(packet, l4, flow.end)) {
      return this.#servesError(packet, l4 + ICMP_BYTES, flow.end, vip);
    }
    if (protocol !== Protocol.TCP && protocol !== Protocol.UDP) {
      this.#slot = slotOf(source, vip, protocol, 0);
      return this.#ports === undefined;
    }
    this.#slot = slotOf(source, vip, protocol, flow.fragment ? 0 : word(packet, l4));
    return this.#ports === undefined || flow.fragment || this.#ports[flow.to] === 1;
  }

  /** Gives the packet to its backend. */
  send(packet: Packet, mac: Uint8Array): Verdict {
    const { macs, isLocal, table } = this.#backends;
    const i = table[this.#slot]!;
    const backend = macs[i]!;
    if (packet.srcEquals(backend) || packet.srcEquals(mac) || (packet.u8(6) & 1) !== 0) return DROP;
    if (this.#isFromVip) return DROP;
    if (isLocal[i] === 1) return PASS;
    packet.write(0, backend);
    packet.write(6, mac);
    return TX;
  }

  /** The packet at `inner` was a reply of a backend: what it replied to decides. */
  #servesError(packet: Packet, inner: number, end: number, vip: number): boolean {
    if (inner + IPV4_BYTES > end || word(packet, inner + 12) !== vip) return false;
    const protocol = packet.u8(inner + 9);
    const client = word(packet, inner + 16);
    const l4 = inner + (packet.u8(inner) & 15) * 4;
    let ports = 0;
    if (protocol !== Protocol.TCP && protocol !== Protocol.UDP) {
      if (this.#ports !== undefined) return false;
    } else if ((packet.u16(inner + 6) & 0x1fff) === 0) {
      if (l4 + 4 > end) return false;
      const from = packet.u16(l4);
      if (this.#ports !== undefined && this.#ports[from] !== 1) return false;
      ports = (packet.u16(l4 + 2) << 16) | from;
    }
    this.#slot = slotOf(client, vip, protocol, ports);
    return true;
  }
}

/** Unreachable (fragmentation needed among it), time exceeded, parameter problem: RFC 792. */
function isIcmpError(packet: Packet, l4: number, end: number): boolean {
  if (l4 + ICMP_BYTES > end) return false;
  const type = packet.u8(l4);
  return type === 3 || type === 11 || type === 12;
}

/** Takes signed words: above 2^31 a number that is passed on would be an object. */
function slotOf(source: number, target: number, protocol: number, ports: number): number {
  return (finish(mix(mix(mix(mix(0, source), target), ports), protocol)) >>> 0) % SLOTS;
}

function portsOf(option: unknown): Uint8Array | undefined {
  const ports = list(option);
  if (ports.length === 0) return undefined;
  const isServed = new Uint8Array(0x10000);
  for (const text of ports) {
    const port = Number(text);
    if (!Number.isInteger(port) || port < 1 || port > 0xffff) {
      invalid('ports', `${String(text)} is not a port`, "Give numbers from 1 to 65535: '80,443'.");
    }
    isServed[port] = 1;
  }
  return isServed;
}

function backendsOf(option: unknown, ours: readonly Uint8Array[]): Backends {
  const backends = list(option).map(backendOf);
  if (backends.length === 0 || backends.length > MAX_BACKENDS) {
    invalid('backends', `there are ${backends.length}`, `Give 1 to ${MAX_BACKENDS} MAC addresses.`);
  }
  const names = backends.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) invalid('backends', `${twice} is there twice`);
  const isLocal = backends.map(({ mac }) => ours.some((own) => own.every((byte, i) => byte === mac[i])));
  return {
    macs: backends.map(({ mac }) => mac),
    isLocal: Uint8Array.from(isLocal, Number),
    table: maglevTable(names),
  };
}

function backendOf(option: unknown): { name: string; mac: Uint8Array } {
  const text = String(option);
  const [, name, address = ''] = /^(?:([^@]+)@)?(.*)$/.exec(text) ?? [];
  const mac = macBytes(address);
  if (mac === undefined || (mac[0]! & 1) !== 0) {
    return invalid(
      'backends',
      `${text} is not a backend`,
      "Give '02:00:00:00:00:05' or '10.0.0.5@02:00:00:00:00:05'.",
    );
  }
  return { name: name ?? mac.join(':'), mac };
}

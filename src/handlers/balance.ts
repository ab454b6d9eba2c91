/**
 * A load balancer: spreads the connections to a virtual IPv4 address over backends. With `mode: 'nat'` they may be anywhere: see
 * balance-nat.ts. What follows is about the default, `mode: 'direct'`, for backends in the same Ethernet.
 *
 * It works by direct return: a packet leaves with the backend's MAC address, and is otherwise unchanged. The backend has
 * the virtual address on its loopback and replies to the client itself. It must not answer or send ARP for that address,
 * or clients send to it directly: on Linux set `net.ipv4.conf.all.arp_ignore` to 1 and `arp_announce` to 2.
 *
 * It keeps no state: a Maglev table maps addresses, protocol and ports to the backend, and is the same in all workers and
 * on both paths. So a connection keeps its backend over a failover, the death of a worker and a restart, and nearly always
 * when another backend is added or removed.
 *
 * - All fragments of a packet go to one backend, by addresses and protocol, because only the first has ports. That may not
 *   be the backend of unfragmented packets with the same ports.
 * - ICMP errors go to the backend of the packet that they report on, so path MTU discovery works.
 * - A packet that comes from its own backend would loop, so it is dropped. Packets with the virtual address, a group or
 *   our own MAC address as source are dropped too.
 * - The machine may be a backend itself: packets for a backend with the MAC address of one of its ports pass to its stack,
 *   which needs the virtual address too. Transmitted, they would come back to the port. So all members of a group can have
 *   the same options. (With `host: 'off'` there is no stack: `dropped.noHost`.)
 * - It does not check whether backends are alive. To change the list, open the port again.
 *
 * Copy from it: a hash of its own, because `burst.hash` is 0 with one queue; a table that `create` builds once.
 *
 * ```ts
 * import type { Handler, HandlerContext, Packet, Verdict } from 'twinpath/handler';
 * import { DROP, Flow, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler, HandlerContext, TickingHandler } from '../handler/handler.ts';
import { DROP, PASS, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { has, hostAddresses } from '../net/addresses.ts';
import { Flow, int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { macBytes, normalizeMac } from '../net/mac.ts';
import { flag, invalid, oneOf } from '../validation.ts';
import { answersArp } from './arp.ts';
import { createNat } from './balance-nat.ts';
import { servedPorts, slotOf } from './balance-options.ts';
import { MAX_BACKENDS, maglevTable } from './maglev.ts';
import { checkNames, list, otherwiseOf } from './options.ts';

const ICMP_BYTES = 8;
const NAT_ONLY = ['source', 'sourcePorts', 'idle'] as const;
const NAMES = ['vip', 'backends', 'ports', 'mode', ...NAT_ONLY, 'arp', 'otherwise'];

interface Backends {
  readonly macs: readonly Uint8Array[];
  /** By index of `macs`: 1 for the machine itself. */
  readonly isLocal: Uint8Array;
  /** By hash: an index of `macs`. */
  readonly table: Uint16Array;
}

/**
 * @param options `mode`: 'direct' (default) or 'nat'.
 *   `vip`: one or several virtual addresses.
 *   `backends`: 1 to 512 MAC addresses, or name@mac. The hash uses the name (an IP address for example), so the backend
 *   keeps its connections with another network card.
 *   By NAT each is an IP address, with a port ('10.0.0.5:8080') or not, and with the MAC address ('10.0.0.5@02:…') or not.
 *   `ports`: TCP and UDP ports to balance; default all packets to the address. NAT needs them.
 *   `source` (NAT): addresses that backends see, default the first virtual address; the machine's, or routed to it.
 *   `sourcePorts` (NAT): range of ports at these, default '10240-32767'. A connection takes one, and they are divided among queues.
 *   `idle` (NAT): seconds after which a TCP connection without packets is forgotten, 10 to 1000000, default 3600.
 *   `arp`: whether to answer ARP requests for the virtual address, default true.
 *   `otherwise`: 'pass' (default) gives other packets to the machine, 'drop' drops them. Packets of the machine go out in
 *   both cases.
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, context: HandlerContext): Handler | TickingHandler {
  const { macs } = context;
  checkNames('balance', options, NAMES);
  const mode = oneOf('mode', (options.mode ?? 'direct') as 'direct' | 'nat', ['direct', 'nat']);
  const other = mode === 'nat' ? undefined : NAT_ONLY.find((name) => options[name] !== undefined);
  if (other !== undefined) invalid(other, 'only balance by NAT has it', "Add mode: 'nat'.");
  const vips = hostAddresses('vip', list(options.vip));
  if (vips.length === 0) invalid('vip', 'balance has no address', "Give it: { vip: '10.77.0.100' }.");
  const arp = flag('arp', options.arp ?? true);
  const otherwise = otherwiseOf(options, 'pass');
  if (mode === 'nat') return createNat(options, { vips, arp, otherwise }, context);
  const balancer = new Balancer(vips, servedPorts(options.ports), backendsOf(options.backends, macs));
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
  /** By port: 1 if it is balanced; undefined if all are. */
  readonly #ports: Uint8Array | undefined;
  readonly #backends: Backends;
  /** Slot of the current packet in the table. */
  #slot = 0;
  /** Whether the current packet has a virtual address as source. */
  #isFromVip = false;

  constructor(vips: Int32Array, ports: Uint8Array | undefined, backends: Backends) {
    this.#vips = vips;
    this.#ports = ports;
    this.#backends = backends;
  }

  /** Whether the packet is to be balanced. If so, call `send` next. */
  serves(packet: Packet, flow: Flow, mac: Uint8Array): boolean {
    if (flow.addressBytes !== 4 || !packet.dstEquals(mac)) return false;
    const { addresses, protocol, l4 } = flow;
    const vip = int32At(packet, addresses + 4);
    if (!has(this.#vips, vip)) return false;
    const source = int32At(packet, addresses);
    this.#isFromVip = has(this.#vips, source);
    if (protocol === Protocol.ICMP && l4 >= 0 && isIcmpError(packet, l4, flow.end)) {
      return this.#servesError(packet, l4 + ICMP_BYTES, flow.end, vip);
    }
    if (protocol !== Protocol.TCP && protocol !== Protocol.UDP) {
      this.#slot = slotOf(source, vip, protocol, 0);
      return this.#ports === undefined;
    }
    this.#slot = slotOf(source, vip, protocol, flow.fragment ? 0 : int32At(packet, l4));
    return this.#ports === undefined || flow.fragment || this.#ports[flow.to] === 1;
  }

  /** Sends the packet to its backend. */
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

  /** The packet at `inner` was a backend's reply: its addresses and ports, exchanged, name the slot. */
  #servesError(packet: Packet, inner: number, end: number, vip: number): boolean {
    if (inner + IPV4_BYTES > end || int32At(packet, inner + 12) !== vip) return false;
    const protocol = packet.u8(inner + 9);
    const client = int32At(packet, inner + 16);
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

function backendsOf(option: unknown, ours: readonly Uint8Array[]): Backends {
  const backends = list(option).map(backendOf);
  if (backends.length === 0 || backends.length > MAX_BACKENDS) {
    invalid('backends', `there are ${backends.length}`, `Give 1 to ${MAX_BACKENDS} MAC addresses.`);
  }
  const names = backends.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) invalid('backends', `${twice} is listed twice`);
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
  const normal = normalizeMac(address);
  const mac = normal === undefined ? undefined : macBytes(normal);
  if (mac === undefined || (mac[0]! & 1) !== 0) {
    return invalid(
      'backends',
      `${text} is not a backend`,
      "Give '02:00:00:00:00:05' or '10.0.0.5@02:00:00:00:00:05'.",
    );
  }
  return { name: name ?? mac.join(':'), mac };
}

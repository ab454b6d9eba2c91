/**
 * A load balancer: spreads the connections to a virtual IPv4 address over backends. With `mode: 'nat'` and `mode: 'vxlan'` they may
 * be anywhere: see balance-nat.ts and balance-vxlan.ts. What follows is about the default, `mode: 'direct'`, for backends in the same Ethernet.
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
 * - It does not check whether backends are alive. The list may change while it runs; a connection then keeps its backend as
 *   long as that is in the list, but for the few that the table moves.
 *
 * Copy from it: a hash of its own, because `burst.hash` is 0 with one queue; a table that `create` builds once.
 *
 * ```ts
 * import type { HandlerContext, HandlerObject, Packet, Verdict } from 'twinpath/handler';
 * import { DROP, Flow, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import type { HandlerContext, HandlerObject } from '../handler/handler.ts';
import { DROP, PASS, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { hostAddresses } from '../net/addresses.ts';
import { Flow } from '../net/flow.ts';
import { macBytes, normalizeMac } from '../net/mac.ts';
import { flag, invalid, oneOf } from '../validation.ts';
import { answersArp } from './arp.ts';
import { createNat, type NatSettings } from './balance-nat.ts';
import { servedPorts } from './balance-options.ts';
import { Tunnel } from './balance-vxlan.ts';
import { MAX_BACKENDS, maglevTable } from './maglev.ts';
import { checkNames, list, otherwiseOf, requireSame } from './options.ts';
import { VirtualService } from './virtual-service.ts';

const MODES = ['direct', 'nat', 'vxlan'] as const;
/** Options that not all modes have. */
const ONLY: Readonly<Record<string, readonly string[]>> = {
  source: ['nat', 'vxlan'],
  sourcePorts: ['nat'],
  idle: ['nat'],
  vni: ['vxlan'],
  vxlanPort: ['vxlan'],
};
const NAMES = ['vip', 'backends', 'ports', 'mode', ...Object.keys(ONLY), 'arp', 'otherwise'];

interface Backends {
  readonly macs: readonly Uint8Array[];
  /** By index of `macs`: 1 for the machine itself. */
  readonly isLocal: Uint8Array;
  /** By hash: an index of `macs`. */
  readonly table: Uint16Array;
}

/**
 * @param options `mode`: 'direct' (default), 'nat' or 'vxlan'.
 *   `vip`: one or several virtual addresses.
 *   `backends`: 1 to 512 MAC addresses, or name@mac. The hash uses the name (an IP address for example), so the backend
 *   keeps its connections with another network card.
 *   By NAT each is an IP address, with a port ('10.0.0.5:8080') or not, and with the MAC address ('10.0.0.5@02:…') or not. By
 *   VXLAN it is an IP address with the MAC address of the VXLAN device there.
 *   `ports`: TCP and UDP ports to balance; default all packets to the address. NAT needs them.
 *   `source` (NAT): addresses that backends see, default the first virtual address; the machine's, or routed to it. VXLAN: the source
 *   address of the tunnels.
 *   `sourcePorts` (NAT): range of ports at these, default '10240-32767'. A connection takes one, and they are divided among queues.
 *   `vni`, `vxlanPort` (VXLAN): of the tunnels, default 1 and 4789.
 *   `idle` (NAT): seconds after which a TCP connection without packets is forgotten, 10 to 1000000, default 3600.
 *   `arp`: whether to answer ARP requests for the virtual address, default true.
 *   `otherwise`: 'pass' (default) gives other packets to the machine, 'drop' drops them. Packets of the machine go out in
 *   both cases.
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, context: HandlerContext): HandlerObject {
  const { macs } = context;
  const first = commonOf(options);
  if (first.mode === 'nat') return createNat(options, first, commonOf, context);
  let now = stateless(options, first, macs);
  const flow = new Flow();

  return {
    handle: (burst) => {
      const { service, balancer, vips, arp, otherwise } = now;
      for (let i = 0; i < burst.length; i++) {
        if (burst.path[i] === Path.HOST) {
          burst.verdict[i] = TX;
          continue;
        }
        const packet = burst.packet(i);
        const mac = macs[burst.port[i]!]!;
        burst.verdict[i] = otherwise;
        if (flow.read(packet)) {
          if (service.serves(packet, flow, mac)) burst.verdict[i] = balancer.send(packet, flow, mac);
        } else if (arp && flow.type >= 0 && answersArp(packet, flow.l3, mac, vips)) burst.verdict[i] = TX;
      }
    },
    configure: (changed) => {
      requireSame('balance', { mode: first.mode }, { mode: changed.mode ?? 'direct' }, ['mode']);
      const next = stateless(changed, commonOf(changed), macs);
      return () => {
        now = next;
      };
    },
  };
}

/** What every mode has. @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID */
function commonOf(options: Record<string, unknown>): NatSettings & { readonly mode: (typeof MODES)[number] } {
  checkNames('balance', options, NAMES);
  const mode = oneOf('mode', (options.mode ?? 'direct') as (typeof MODES)[number], MODES);
  const other = Object.keys(ONLY).find((name) => options[name] !== undefined && !ONLY[name]!.includes(mode));
  if (other !== undefined) invalid(other, `it is for mode ${ONLY[other]!.join(' or ')}`);
  const vips = hostAddresses('vip', list(options.vip));
  if (vips.length === 0) invalid('vip', 'balance has no address', "Give it: { vip: '10.77.0.100' }.");
  const arp = flag('arp', options.arp ?? true);
  return { mode, vips, arp, otherwise: otherwiseOf(options, 'pass') };
}

/** What the modes without state have. */
interface Stateless extends NatSettings {
  readonly service: VirtualService;
  readonly balancer: Balancer | Tunnel;
}

function stateless(
  options: Record<string, unknown>,
  common: ReturnType<typeof commonOf>,
  macs: readonly Uint8Array[],
): Stateless {
  const { mode, vips } = common;
  const service = new VirtualService(vips, servedPorts(options.ports));
  const balancer =
    mode === 'vxlan'
      ? new Tunnel(options, vips, service)
      : new Balancer(service, backendsOf(options.backends, macs));
  return { ...common, service, balancer };
}

class Balancer {
  readonly #service: VirtualService;
  readonly #backends: Backends;

  constructor(service: VirtualService, backends: Backends) {
    this.#service = service;
    this.#backends = backends;
  }

  /** Sends the packet to its backend. */
  send(packet: Packet, _flow: Flow, mac: Uint8Array): Verdict {
    const { macs, isLocal, table } = this.#backends;
    const i = table[this.#service.slot]!;
    const backend = macs[i]!;
    if (packet.srcEquals(backend) || packet.srcEquals(mac) || (packet.u8(6) & 1) !== 0) return DROP;
    if (this.#service.isFromVip) return DROP;
    if (isLocal[i] === 1) return PASS;
    packet.write(0, backend);
    packet.write(6, mac);
    return TX;
  }
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

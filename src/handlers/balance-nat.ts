/**
 * `balance` by NAT (`mode: 'nat'`): for networks that forward by IP address, such as a virtual network of Azure.
 *
 * A client's packet goes on to a backend, from a source address and port of the balancer, so that the backend's reply comes back here
 * without any route or address at the backend. The reply goes to the client from the virtual address. A new connection gets the
 * backend that the Maglev table has for it, and keeps it, also when the list of backends is another.
 *
 * - TCP and UDP over IPv4. The first fragment of a packet for a served port, and segments of unknown connections, are dropped. Later
 *   fragments do not show whose they are, and are for the machine.
 * - Packets from its own addresses, and from those that no host has, are dropped: they would come round again.
 * - Connections are in memory that all workers share: they survive a failover and the death of any worker.
 * - A backend sees the balancer's address and not the client's.
 * - Without a MAC address of its own, a backend's packets go back to where the client's packet came from: a router.
 */
import type { HandlerContext, TickingHandler } from '../handler/handler.ts';
import { DROP, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { adjust32, adjustUdp32 } from '../headers/adjust.ts';
import { TCP_BYTES, TcpFlag, UDP_BYTES } from '../headers/transport.ts';
import { Path } from '../memory/layout.ts';
import { has, hostAddresses, isHost } from '../net/addresses.ts';
import { Flow, int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { Ipv4Field } from '../net/ipv4.ts';
import { FlowKey } from '../state/flow-key.ts';
import { invalid, wholeNumber } from '../validation.ts';
import { answersArp } from './arp.ts';
import { ipBackends, servedPorts, slotOf } from './balance-options.ts';
import { MAX_BACKENDS, maglevTable } from './maglev.ts';
import { isOver, NatConnections, State, Word } from './nat-connections.ts';
import { list, requireSame } from './options.ts';

const { TCP, UDP } = Protocol;
const { CHECKSUM } = Ipv4Field;
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
const { SYN, ACK, RST, FIN } = TcpFlag;
/** Below the ports that Linux gives its own connections (ip_local_port_range), which come to the same address. */
const SOURCE_PORTS = '10240-32767';
const IDLE_SECONDS = 3600;
/** Options that connections in the shared memory depend on. */
const FIXED = ['mode', 'vip', 'ports', 'source', 'sourcePorts', 'idle'];

const NO_MAC = new Uint8Array(6);

/** Entries that are looked at for their time: in each burst, and in each tick. */
const SWEPT_IN_BURST = 16;
const SWEPT_IN_TICK = 1024;
const TICK_MILLIS = 100;

export interface NatSettings {
  readonly vips: Int32Array;
  readonly arp: boolean;
  readonly otherwise: Verdict;
}

/**
 * @param options see `create` in balance.ts
 * @param first those that every mode has, and `check` reads them from other options
 * @throws TwinpathError ERR_OPTION_INVALID
 */
export function createNat(
  options: Record<string, unknown>,
  first: NatSettings,
  check: (options: Record<string, unknown>) => NatSettings,
  context: HandlerContext,
): TickingHandler {
  const { macs, clock } = context;
  const { vips } = first;
  let now = first;
  const nat = new Nat(options, vips, context);
  const addresses = Int32Array.from(new Set([...vips, ...nat.sources]));
  const flow = new Flow();
  return {
    handle: (burst) => {
      clock.update();
      nat.sweep(SWEPT_IN_BURST);
      const { arp, otherwise } = now;
      const { backends } = nat;
      for (let i = 0; i < burst.length; i++) {
        if (burst.path[i] === Path.HOST) {
          burst.verdict[i] = TX;
          continue;
        }
        const packet = burst.packet(i);
        const mac = macs[burst.port[i]!]!;
        burst.verdict[i] = otherwise;
        if (flow.read(packet)) burst.verdict[i] = nat.decide(packet, flow, mac, otherwise, backends);
        else if (arp && flow.type >= 0 && answersArp(packet, flow.l3, mac, addresses)) burst.verdict[i] = TX;
      }
    },
    tick: () => {
      clock.update();
      nat.sweep(SWEPT_IN_TICK);
    },
    tickMillis: TICK_MILLIS,
    configure: (changed) => {
      requireSame('balance by NAT', options, changed, FIXED);
      const next = check(changed);
      const apply = nat.prepare(changed.backends);
      return () => {
        now = next;
        apply();
      };
    },
  };
}

interface Backends {
  readonly addresses: Int32Array;
  /** 0: the port that the client asked for. */
  readonly ports: Uint16Array;
  readonly macs: readonly (Uint8Array | undefined)[];
  /** By hash: an index of the others. */
  readonly table: Uint16Array;
  /** By address: an index of the others. */
  readonly indices: ReadonlyMap<number, number>;
}

class Nat {
  readonly sources: Int32Array;
  readonly #vips: Int32Array;
  readonly #isServed: Uint8Array;
  #backends: Backends;
  readonly #connections: NatConnections;
  readonly #key = new FlowKey();

  constructor(options: Record<string, unknown>, vips: Int32Array, context: HandlerContext) {
    const isServed = servedPorts(options.ports) ?? noPorts();
    const sources = options.source === undefined ? vips.subarray(0, 1) : sourceAddresses(options.source);
    const idle = wholeNumber('idle', options.idle ?? IDLE_SECONDS, 10, 1_000_000, 'a number of seconds');
    this.sources = sources;
    this.#vips = vips;
    this.#isServed = isServed;
    this.#backends = this.#read(options.backends);
    const ports = sourcePorts(options.sourcePorts ?? SOURCE_PORTS, isServed);
    this.#connections = new NatConnections(context, { sources, ports, idleMillis: idle * 1000 });
  }

  /** For new connections. */
  get backends(): Backends {
    return this.#backends;
  }

  /** Gets other backends ready, for new connections. Returns what puts them in place. @throws ERR_OPTION_INVALID */
  prepare(option: unknown): () => void {
    const backends = this.#read(option);
    return () => {
      this.#backends = backends;
    };
  }

  #read(option: unknown): Backends {
    const own = Int32Array.of(...this.#vips, ...this.sources);
    const backends = ipBackends(option, MAX_BACKENDS, own);
    return {
      addresses: Int32Array.from(backends, ({ address }) => address),
      ports: Uint16Array.from(backends, ({ port }) => port),
      macs: backends.map(({ mac }) => mac),
      table: maglevTable(backends.map(({ name }) => name)),
      indices: new Map(backends.map(({ address }, i) => [address, i])),
    };
  }

  sweep(count: number): void {
    this.#connections.sweep(count);
  }

  /** @param flow has read the packet */
  decide(packet: Packet, flow: Flow, mac: Uint8Array, otherwise: Verdict, backends: Backends): Verdict {
    const { addresses, addressBytes, protocol, l4, to, fragment } = flow;
    if (addressBytes !== 4 || !packet.dstEquals(mac)) return otherwise;
    if (protocol !== TCP && protocol !== UDP) return otherwise;
    // A later fragment does not show whose it is. The machine never gets the first of one that is ours.
    if (to < 0) return otherwise;
    const header = protocol === TCP ? TCP_BYTES : UDP_BYTES;
    if (!fragment && l4 + header > flow.end) return otherwise;
    const target = int32At(packet, addresses + 4);
    if (this.#isServed[to] === 1 && has(this.#vips, target)) {
      return fragment ? DROP : this.#toBackend(packet, flow, mac, backends);
    }
    const source = this.sources.indexOf(target);
    if (source < 0 || !this.#connections.findBySource(source, to)) return otherwise;
    return fragment ? DROP : this.#toClient(packet, flow, mac, otherwise);
  }

  #toBackend(packet: Packet, flow: Flow, mac: Uint8Array, backends: Backends): Verdict {
    const connections = this.#connections;
    const { protocol, l4 } = flow;
    const flags = protocol === TCP ? packet.u8(l4 + 13) : SYN;
    if (packet.srcEquals(mac) || (packet.u8(6) & 1) !== 0) return DROP;
    const client = int32At(packet, flow.addresses);
    if (!isHost(client) || has(this.#vips, client) || has(this.sources, client)) return DROP;
    const begins = (flags & (SYN | ACK | RST)) === SYN;
    this.#key.read(packet, flow);
    let state = protocol;
    if (connections.find(this.#key)) {
      state = connections.get(Word.STATE);
      if (begins && isOver(state)) state = protocol; // the client uses its port again
    } else {
      if (!begins || !connections.open(this.#key)) return DROP;
      this.#begin(packet, flow, backends);
    }
    if (protocol === UDP) {
      if ((state & State.ANSWERED) !== 0) state |= State.ESTABLISHED;
    } else {
      if ((flags & ACK) !== 0 && this.#isAnswered(state, int32At(packet, l4 + 8))) state |= State.ESTABLISHED;
      if ((flags & FIN) !== 0) state |= State.CLIENT_FIN;
      state = (flags & RST) === 0 ? state & ~State.CLIENT_RESET : state | State.CLIENT_RESET;
    }
    connections.set(Word.CLIENT_MAC, int32At(packet, 6));
    connections.set(Word.CLIENT_MAC_END, packet.u16(10));
    this.#address(packet, backends);
    connections.go(state);
    const backend = connections.get(Word.BACKEND);
    const ports = (connections.sourcePort << 16) | connections.get(Word.BACKEND_PORT);
    translate(packet, flow, connections.source, backend, ports);
    packet.write(6, mac);
    return TX;
  }

  /** Whether the backend has answered, and this number acknowledges its SYN. */
  #isAnswered(state: number, acknowledgement: number): boolean {
    return (state & State.ANSWERED) !== 0 && acknowledgement === this.#connections.get(Word.ACKNOWLEDGED);
  }

  #toClient(packet: Packet, flow: Flow, mac: Uint8Array, otherwise: Verdict): Verdict {
    const connections = this.#connections;
    const { protocol, l4, addresses, from } = flow;
    let state = connections.get(Word.STATE);
    const isOfBackend =
      int32At(packet, addresses) === connections.get(Word.BACKEND) &&
      from === connections.get(Word.BACKEND_PORT) &&
      (state & 0xff) === protocol;
    if (!isOfBackend) return otherwise;
    if (protocol === UDP) state |= State.ANSWERED;
    else {
      const flags = packet.u8(l4 + 13);
      const bytes = flow.end - l4 - (packet.u8(l4 + 12) >>> 4) * 4;
      if ((flags & (SYN | ACK)) === (SYN | ACK)) {
        connections.set(Word.ACKNOWLEDGED, (int32At(packet, l4 + 4) + 1) | 0);
        state |= State.ANSWERED;
      } else if (bytes > 0 && (flags & RST) === 0) {
        // A backend sends data only when it has verified the client: by its acknowledgement, or its cookie (RFC 7413).
        state |= State.ESTABLISHED;
      }
      if ((flags & FIN) !== 0) state |= State.BACKEND_FIN;
      state = (flags & RST) === 0 ? state & ~State.BACKEND_RESET : state | State.BACKEND_RESET;
    }
    connections.go(state);
    const ports = connections.get(Word.CLIENT_PORTS);
    const swapped = (ports << 16) | (ports >>> 16);
    translate(packet, flow, connections.get(Word.VIP), connections.get(Word.CLIENT), swapped);
    packet.setU32(0, connections.get(Word.CLIENT_MAC));
    packet.setU16(4, connections.get(Word.CLIENT_MAC_END));
    packet.write(6, mac);
    return TX;
  }

  /** Sets the words of a new connection but its state. */
  #begin(packet: Packet, { addresses, protocol, l4, to }: Flow, backends: Backends): void {
    const connections = this.#connections;
    const client = int32At(packet, addresses);
    const vip = int32At(packet, addresses + 4);
    const ports = int32At(packet, l4);
    const index = backends.table[slotOf(client, vip, protocol, ports)]!;
    connections.set(Word.CLIENT, client);
    connections.set(Word.CLIENT_PORTS, ports);
    connections.set(Word.VIP, vip);
    connections.set(Word.BACKEND, backends.addresses[index]!);
    connections.set(Word.BACKEND_PORT, backends.ports[index]! || to);
    connections.set(Word.BACKEND_INDEX, index);
  }

  /**
   * Writes the destination MAC address: the backend's, or that of the router from which the packet came. The connection keeps the
   * backend's, for any worker, when the list no longer has it.
   */
  #address(packet: Packet, { addresses, macs, indices }: Backends): void {
    const connections = this.#connections;
    const backend = connections.get(Word.BACKEND);
    let index = connections.get(Word.BACKEND_INDEX);
    if (addresses[index] !== backend) {
      index = indices.get(backend) ?? -1; // the list is another than when the connection began
      if (index >= 0) connections.set(Word.BACKEND_INDEX, index);
    }
    if (index >= 0) {
      const mac = macs[index] ?? NO_MAC;
      packet.write(0, mac);
      connections.set(Word.BACKEND_MAC, int32At(packet, 0));
      connections.set(Word.BACKEND_MAC_END, packet.u16(4));
      if (mac !== NO_MAC) return;
    } else {
      const first = connections.get(Word.BACKEND_MAC);
      const last = connections.get(Word.BACKEND_MAC_END);
      if ((first | last) !== 0) {
        packet.setU32(0, first);
        packet.setU16(4, last);
        return;
      }
    }
    packet.setU32(0, int32At(packet, 6));
    packet.setU16(4, packet.u16(10));
  }
}

function noPorts(): never {
  return invalid('ports', 'balance by NAT needs the ports that it serves', "Give them: { ports: '80,443' }.");
}

/** An address twice would be two sources, and what comes back names only one of them. */
function sourceAddresses(option: unknown): Int32Array {
  const texts = list(option);
  if (texts.length === 0) invalid('source', 'it has no address');
  const twice = texts.find((text, i) => texts.indexOf(text) !== i);
  if (twice !== undefined) invalid('source', `${String(twice)} is listed twice`);
  return hostAddresses('source', texts);
}

/** Writes both addresses and both ports, and adjusts both checksums. */
function translate(packet: Packet, flow: Flow, source: number, target: number, ports: number): void {
  const { l3, l4, addresses } = flow;
  const [oldSource, oldTarget] = [int32At(packet, addresses), int32At(packet, addresses + 4)];
  const oldPorts = int32At(packet, l4);
  const check = l3 + CHECKSUM;
  adjust32(packet, check, oldSource, source);
  adjust32(packet, check, oldTarget, target);
  if (flow.protocol === TCP) {
    adjust32(packet, l4 + TCP_CHECKSUM, oldSource, source);
    adjust32(packet, l4 + TCP_CHECKSUM, oldTarget, target);
    adjust32(packet, l4 + TCP_CHECKSUM, oldPorts, ports);
  } else {
    adjustUdp32(packet, l4 + UDP_CHECKSUM, oldSource, source);
    adjustUdp32(packet, l4 + UDP_CHECKSUM, oldTarget, target);
    adjustUdp32(packet, l4 + UDP_CHECKSUM, oldPorts, ports);
  }
  packet.setU32(addresses, source);
  packet.setU32(addresses + 4, target);
  packet.setU32(l4, ports);
}

/** The ports of a range, without those that are served. */
function sourcePorts(option: unknown, isServed: Uint8Array): Uint16Array {
  const [, first, last] = /^(\d+)-(\d+)$/.exec(String(option)) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (!(from >= 1 && from <= to && to <= 0xffff)) {
    return invalid(
      'sourcePorts',
      `${String(option)} is not a range of ports`,
      `Give it as '${SOURCE_PORTS}'.`,
    );
  }
  const ports = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  return Uint16Array.from(ports.filter((port) => isServed[port] === 0));
}

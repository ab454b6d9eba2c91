/**
 * The tests that the primitives of pcap-filter(7) stand for, on Ethernet. Which bytes are looked at, and in which order, is that
 * of libpcap 1.10 (gencode.c): a load outside a packet that is cut off ends a filter. Pure; any thread.
 */
import { EtherType } from '../../net/ethernet.ts';
import { Op } from './machine.ts';
import { and, type Condition, type Instruction, not, or } from './program.ts';

export type Direction = 'src' | 'dst' | 'either' | 'both';

const REVERSE_ARP = 0x8035;
/** The tag of QinQ before 802.1ad. */
const OLD_SERVICE_VLAN = 0x9100;

/** Numbers of IP protocols. */
export const Protocol = {
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  esp: 50,
  ah: 51,
  icmp6: 58,
  sctp: 132,
} as const;
export type ProtocolName = keyof typeof Protocol;
const FRAGMENT = 44;
const PORTED = [Protocol.sctp, Protocol.tcp, Protocol.udp] as const;

/** From a network header of IPv6 to what is behind it. */
const IPV6_BYTES = 40;

const LOADS = { 1: Op.LOAD1, 2: Op.LOAD2, 4: Op.LOAD4 } as const;

const test = (code: readonly Instruction[], operation: number, k: number): Condition => ({
  kind: 'test',
  code,
  test: [operation, k | 0],
});

const all = (...conditions: Condition[]): Condition => conditions.reduce(and);
const any = (...conditions: Condition[]): Condition => conditions.reduce(or);

/** Joins what is asked of a source and of a destination. */
function directed(direction: Direction, src: () => Condition, dst: () => Condition): Condition {
  if (direction === 'src') return src();
  if (direction === 'dst') return dst();
  return direction === 'both' ? and(src(), dst()) : or(src(), dst());
}

/** `size` bytes at `at`, masked, equal `value`. */
function equal(size: 1 | 2 | 4, at: number, value: number, mask = 0xffffffff): Condition {
  const load: Instruction[] = [[LOADS[size], at]];
  if (mask >>> 0 !== 0xffffffff) load.push([Op.AND, mask | 0]);
  return test(load, Op.EQUAL, value);
}

/** The primitives behind the VLAN tags that the filter has named so far. */
export class Primitives {
  /** Bytes from the frame's start to the network header, and to the type before it. */
  #network = 14;
  #type = 12;

  /** Where the network header is. */
  get network(): number {
    return this.#network;
  }

  etherType(type: number): Condition {
    return equal(2, this.#type, type);
  }

  /** All that follows is behind one more tag. @param id any, if it is undefined */
  vlan(id: number | undefined): Condition {
    const tag = any(
      this.etherType(OLD_SERVICE_VLAN),
      this.etherType(EtherType.VLAN),
      this.etherType(EtherType.SERVICE_VLAN),
    );
    const tagged = id === undefined ? tag : and(tag, equal(2, this.#network, id, 0xfff));
    this.#network += 4;
    this.#type += 4;
    return tagged;
  }

  /** A word that is a condition by itself: `ip`, `tcp` … */
  abbreviation(name: 'ip' | 'ip6' | 'arp' | 'rarp' | ProtocolName): Condition {
    switch (name) {
      case 'ip':
        return this.etherType(EtherType.IPV4);
      case 'ip6':
        return this.etherType(EtherType.IPV6);
      case 'arp':
        return this.etherType(EtherType.ARP);
      case 'rarp':
        return this.etherType(REVERSE_ARP);
      case 'icmp':
      case 'igmp':
        return this.protocol4(Protocol[name]);
      case 'icmp6':
        return this.protocol6(Protocol.icmp6);
      default:
        return this.protocol(Protocol[name]);
    }
  }

  protocol(number: number): Condition {
    return or(this.protocol4(number), this.protocol6(number));
  }

  protocol4(number: number): Condition {
    return and(this.abbreviation('ip'), equal(1, this.#network + 9, number));
  }

  /** Looks behind one fragment header, and behind no other extension header. */
  protocol6(number: number): Condition {
    const next = this.#network + 6;
    const behind = and(equal(1, next, FRAGMENT), equal(1, this.#network + IPV6_BYTES, number));
    return and(this.abbreviation('ip6'), or(equal(1, next, number), behind));
  }

  /** @param among of which protocol: without it of IPv4, ARP and RARP */
  host4(
    address: number,
    mask: number,
    direction: Direction,
    among?: 'ip' | 'arp' | 'rarp' | undefined,
  ): Condition {
    const of = (protocol: 'ip' | 'arp' | 'rarp', src: number, dst: number): Condition => {
      const at = (offset: number) => (): Condition =>
        and(this.abbreviation(protocol), equal(4, this.#network + offset, address, mask));
      return directed(direction, at(src), at(dst));
    };
    const conditions = { ip: of('ip', 12, 16), arp: of('arp', 14, 24), rarp: of('rarp', 14, 24) };
    return among === undefined ? any(conditions.ip, conditions.arp, conditions.rarp) : conditions[among];
  }

  /** @param address four words */
  host6(address: Int32Array, bits: number, direction: Direction): Condition {
    const at = (offset: number) => (): Condition => {
      const words = Array.from(address, (word, i) => {
        const set = Math.min(Math.max(bits - 32 * i, 0), 32);
        const mask = set === 0 ? 0 : -1 << (32 - set);
        return equal(4, this.#network + offset + 4 * i, word, mask >>> 0);
      });
      return all(this.abbreviation('ip6'), ...words);
    };
    return directed(direction, at(8), at(24));
  }

  /** @param address six bytes */
  etherHost(address: Uint8Array, direction: Direction): Condition {
    const view = new DataView(address.buffer, address.byteOffset);
    const at = (offset: number) => (): Condition =>
      and(equal(4, offset + 2, view.getUint32(2)), equal(2, offset, view.getUint16(0)));
    return directed(direction, at(6), at(0));
  }

  /** @param protocol without it TCP, UDP and SCTP */
  port(from: number, to: number, direction: Direction, protocol?: number | undefined): Condition {
    const protocols = protocol === undefined ? PORTED : [protocol];
    const at =
      (load: readonly Instruction[], k: number) =>
      (offset: number): Condition => {
        const code: Instruction[] = [...load, [load.length > 0 ? Op.LOAD2_X : Op.LOAD2, k + offset]];
        return from === to
          ? test(code, Op.EQUAL, from)
          : and(test(code, Op.AT_LEAST, from), not(test(code, Op.GREATER, to)));
      };
    const ports = (place: (offset: number) => Condition): Condition =>
      directed(
        direction,
        () => place(0),
        () => place(2),
      );
    const header: Instruction = [Op.HEADER, this.#network];
    const over6 = protocols.map((number) =>
      and(this.nextHeader6(number), ports(at([], this.#network + IPV6_BYTES))),
    );
    const over4 = protocols.map((number) =>
      all(equal(1, this.#network + 9, number), this.firstFragment(), ports(at([header], this.#network))),
    );
    return or(and(this.abbreviation('ip6'), any(...over6)), and(this.abbreviation('ip'), any(...over4)));
  }

  /** Of IPv6, the next header's number right behind the fixed header. */
  nextHeader6(number: number): Condition {
    return equal(1, this.#network + 6, number);
  }

  /** Of IPv4: later fragments have no header of TCP or the like. */
  firstFragment(): Condition {
    return not(test([[Op.LOAD2, this.#network + 6]], Op.BITS, 0x1fff));
  }

  broadcast(): Condition {
    return this.etherHost(new Uint8Array(6).fill(0xff), 'dst');
  }

  multicast(protocol?: 'ip' | 'ip6' | undefined): Condition {
    if (protocol === undefined) return test([[Op.LOAD1, 0]], Op.BITS, 1);
    if (protocol === 'ip6') return and(this.abbreviation('ip6'), equal(1, this.#network + 24, 0xff));
    return and(this.abbreviation('ip'), test([[Op.LOAD1, this.#network + 16]], Op.AT_LEAST, 224));
  }

  less(length: number): Condition {
    return not(test([[Op.LENGTH, 0]], Op.GREATER, length));
  }

  greater(length: number): Condition {
    return test([[Op.LENGTH, 0]], Op.AT_LEAST, length);
  }
}

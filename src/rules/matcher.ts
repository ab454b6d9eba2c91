/**
 * The meaning of flow rules, in its plainest form: it reads each packet with the parser of src/net, and tries one rule after
 * the other. The kernel's programs (kernel/classifier.ts) must agree with it on every packet.
 *
 * Any thread. It may allocate: no packet of a port on real devices passes through it.
 */
import { ETHERNET_BYTES, isTag, VLAN_TAG_BYTES } from '../net/ethernet.ts';
import { Flow, type PacketBytes } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { MAX_TAGS, type Prefix, type Range, type Rule, type RuleSet } from './rule.ts';

/** Position of the flags byte in a TCP header. */
const FLAGS = 13;
const VLAN_ID = 0xfff;

export interface Verdict {
  readonly action: 'handler' | 'kernel' | 'drop';
  /** Positions, in the user's list, of the rules that count the packet. */
  readonly matched: readonly number[];
  /** Whether the packet was dropped for its number of tags: no rule was tried. */
  readonly overtagged: boolean;
}

export class Matcher {
  readonly #set: RuleSet;
  readonly #flow = new Flow();

  constructor(set: RuleSet) {
    this.#set = set;
  }

  match(packet: PacketBytes): Verdict {
    const tags = vlanIds(packet);
    if (tags.length > MAX_TAGS) return { action: 'drop', matched: [], overtagged: true };
    const isIp = this.#flow.read(packet);
    const matched: number[] = [];
    for (const rule of this.#set.rules) {
      if (!this.#matches(rule, packet, tags[0], isIp)) continue;
      matched.push(rule.index);
      if (rule.action !== 'count') return { action: rule.action, matched, overtagged: false };
    }
    return { action: this.#set.otherwise, matched, overtagged: false };
  }

  #matches(rule: Rule, packet: PacketBytes, tag: number | undefined, isIp: boolean): boolean {
    const { etherType, vlan } = rule;
    if (etherType !== undefined && this.#flow.type !== etherType) return false;
    if (vlan === 'none' && tag !== undefined) return false;
    if (typeof vlan === 'number' && tag !== vlan) return false;
    return !asksForIp(rule) || (isIp && this.#matchesIp(rule, packet));
  }

  #matchesIp(rule: Rule, packet: PacketBytes): boolean {
    const { addresses, addressBytes, protocol, from, to, fragment, l4 } = this.#flow;
    const { srcPort, dstPort, port } = rule;
    const version = addressBytes === 4 ? 4 : 6;
    const isLater = fragment && l4 < 0;
    if (rule.version !== undefined && rule.version !== version) return false;
    if (rule.protocol !== undefined && rule.protocol !== protocol) return false;
    if (rule.src !== undefined && !isInAny(rule.src, packet, addresses, addressBytes)) return false;
    if (rule.dst !== undefined && !isInAny(rule.dst, packet, addresses + addressBytes, addressBytes))
      return false;
    if (srcPort !== undefined && !isIn(srcPort, from)) return false;
    if (dstPort !== undefined && !isIn(dstPort, to)) return false;
    if (port !== undefined && !isIn(port, from) && !isIn(port, to)) return false;
    if (rule.tcpFlags !== undefined && !this.#hasFlags(rule.tcpFlags, packet)) return false;
    if (rule.fragment === 'any' && !fragment) return false;
    if (rule.fragment === 'later' && !isLater) return false;
    return rule.fragment !== 'none' || !fragment;
  }

  #hasFlags(
    { value, mask }: { readonly value: number; readonly mask: number },
    packet: PacketBytes,
  ): boolean {
    const { protocol, l4, end } = this.#flow;
    if (protocol !== Protocol.TCP || l4 < 0 || l4 + FLAGS + 1 > end) return false;
    return (packet.view.getUint8(packet.offset + l4 + FLAGS) & mask) === value;
  }
}

/** The IDs of all complete VLAN tags, the outermost first. */
function vlanIds({ view, offset, length }: PacketBytes): number[] {
  const ids: number[] = [];
  let l3 = ETHERNET_BYTES;
  while (l3 <= length && isTag(view.getUint16(offset + l3 - 2)) && l3 + VLAN_TAG_BYTES <= length) {
    ids.push(view.getUint16(offset + l3) & VLAN_ID);
    l3 += VLAN_TAG_BYTES;
  }
  return ids;
}

function asksForIp({
  version,
  protocol,
  src,
  dst,
  srcPort,
  dstPort,
  port,
  tcpFlags,
  fragment,
}: Rule): boolean {
  return [version, protocol, src, dst, srcPort, dstPort, port, tcpFlags, fragment].some(
    (field) => field !== undefined,
  );
}

/** A packet that shows no port has -1. */
function isIn({ first, last }: Range, port: number): boolean {
  return port >= first && port <= last;
}

function isInAny(
  prefixes: readonly Prefix[],
  packet: PacketBytes,
  at: number,
  addressBytes: number,
): boolean {
  const address = new Uint8Array(
    packet.view.buffer,
    packet.view.byteOffset + packet.offset + at,
    addressBytes,
  );
  return prefixes.some((prefix) => prefix.address.length === addressBytes && hasPrefix(address, prefix));
}

function hasPrefix(address: Uint8Array, { address: network, bits }: Prefix): boolean {
  return address.every((byte, i) => {
    const counts = Math.min(Math.max(bits - 8 * i, 0), 8);
    return ((byte ^ network[i]!) & (0xff00 >> counts) & 0xff) === 0;
  });
}

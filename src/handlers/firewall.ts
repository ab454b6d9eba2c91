/**
 * A packet filter between the network and the machine's own stack: what may come in goes to the stack, what
 * the stack sends goes out.
 *
 * Rules look like '10.0.0.0/8', 'tcp/22', '10.1.0.0/16:tcp/443' (firewall-rules.ts has the grammar). For what
 * comes from outside, prefixes are sources and ports are destinations:
 *
 * 1. what matches `deny` is dropped;
 * 2. what matches `allow` is passed;
 * 3. for the rest `otherwise` holds: 'drop' if there is an `allow` list, 'pass' if there is none.
 *
 * What the machine sends goes out untouched, but for what matches `out`, which is dropped; there, prefixes are
 * destinations. Such packets are seen with `host: 'inline'` only.
 *
 * - It keeps no state: a reply to the machine's own connection is a packet like any other. With an `allow`
 *   list, allow replies by the range of local ports: 'tcp/32768-60999', 'udp/32768-60999' and 'icmp'.
 *   A machine that has its address by DHCP needs 'udp/68' as well, or loses it.
 * - ARP and IPv6 neighbour discovery always pass: without them there is nobody to talk to.
 * - A later fragment has no ports, and an IPv6 packet may hide its protocol: `deny` and `out` then drop what
 *   they might mean, `allow` passes only what it means for certain.
 * - Packets that contradict themselves, by a length or a version, are dropped.
 *
 * Copy from it: rules compiled once; a filter that leaves the packet alone and only decides.
 *
 * ```ts
 * import type { Handler, Packet, Verdict } from 'twinpath/handler';
 * import { DROP, EtherType, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler } from '../datapath/handler.ts';
import { EtherType, type Packet, Protocol } from '../datapath/packet.ts';
import { DROP, PASS, TX, type Verdict } from '../datapath/verdict.ts';
import { Path } from '../memory/layout.ts';
import { NO, RuleList, YES } from './firewall-rules.ts';
import { Flow } from './flow.ts';
import { list, onlyKnown, otherwiseOf } from './options.ts';

/** ICMPv6 types of neighbour discovery, router solicitation to redirect: RFC 4861, section 4. */
const FIRST_DISCOVERY = 133;
const LAST_DISCOVERY = 137;

/**
 * @param options `allow`, `deny`, `out`: rules, as arrays or as text with commas or spaces.
 *   `otherwise`: 'pass' or 'drop', for what comes in and matches no rule
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>): Handler {
  onlyKnown('firewall', options, ['allow', 'deny', 'out', 'otherwise']);
  const allowed = list(options.allow);
  const allow = new RuleList('allow', allowed);
  const deny = new RuleList('deny', list(options.deny));
  const out = new RuleList('out', list(options.out));
  const otherwise = otherwiseOf(options, allowed.length > 0 ? 'drop' : 'pass');
  const flow = new Flow();

  const incoming = (packet: Packet): Verdict => {
    if (!flow.read(packet)) return withoutAddresses(flow.type, otherwise);
    if (isDiscovery(packet, flow)) return PASS;
    const { addresses, addressBytes, protocol, to } = flow;
    if (deny.match(packet, addresses, addressBytes, protocol, to) !== NO) return DROP;
    return allow.match(packet, addresses, addressBytes, protocol, to) === YES ? PASS : otherwise;
  };

  /** The stack is trusted to send what it means: only `out` holds, for what can be read. */
  const outgoing = (packet: Packet): Verdict => {
    if (!flow.read(packet) || isDiscovery(packet, flow)) return TX;
    const { addresses, addressBytes, protocol, to } = flow;
    return out.match(packet, addresses + addressBytes, addressBytes, protocol, to) === NO ? TX : DROP;
  };

  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      const packet = burst.packet(i);
      burst.verdict[i] = burst.path[i] === Path.HOST ? outgoing(packet) : incoming(packet);
    }
  };
}

function withoutAddresses(type: number, otherwise: Verdict): Verdict {
  if (type === EtherType.ARP) return PASS;
  return type < 0 || type === EtherType.IPV4 || type === EtherType.IPV6 ? DROP : otherwise;
}

function isDiscovery(packet: Packet, { protocol, l4, end, addressBytes }: Flow): boolean {
  if (addressBytes !== 16 || protocol !== Protocol.ICMPV6 || l4 < 0 || l4 >= end) return false;
  const type = packet.u8(l4);
  return type >= FIRST_DISCOVERY && type <= LAST_DISCOVERY;
}

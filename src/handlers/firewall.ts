/**
 * A packet filter between the network and the machine's own stack: it passes permitted packets to the stack, and transmits
 * the packets of the stack.
 *
 * Rules look like '10.0.0.0/8', 'tcp/22', '10.1.0.0/16:tcp/443' (firewall-rules.ts has the grammar). For packets from the
 * network, a prefix is a source and a port is a destination:
 *
 * 1. packets that match `deny` are dropped;
 * 2. packets that match `allow` pass;
 * 3. `otherwise` decides about the rest: by default 'drop' with an `allow` list, and 'pass' without one.
 *
 * Packets of the machine that match `out` are dropped; there a prefix is a destination. Others go out unchanged. A handler
 * gets packets of the machine only with `host: 'inline'`.
 *
 * - It keeps no state: a reply to the machine's own connection needs a rule too. With an `allow` list, allow replies by the
 *   range of local ports: 'tcp/32768-60999', 'udp/32768-60999' and 'icmp'. A machine with a DHCP address also needs
 *   'udp/68', or it loses the address.
 * - ARP and IPv6 neighbour discovery always pass: without them no communication is possible.
 * - IP is found after any number of VLAN tags, as in the kernel. Other headers may hide it from a rule (LLC/SNAP, the tags
 *   of QinQ before 802.1ad): such a frame is dropped if there is a `deny` rule, or for packets of the machine an `out` rule.
 * - It does not look into tunnels.
 * - A later fragment has no ports, and more than eight extension headers hide the protocol of an IPv6 packet. `deny` and
 *   `out` then drop a packet that may match, and `allow` passes only a packet that certainly matches. So a rule with a port
 *   drops all later fragments of its protocol.
 * - No fragment can overwrite the ports of another: Linux does not reassemble fragments that overlap (RFC 5722;
 *   ip_frag_queue for IPv4).
 * - Packets with contradictory lengths or versions are dropped, and first fragments that end before their ports.
 *
 * Copy from it: rules compiled once; a filter that only decides and does not change the packet.
 *
 * ```ts
 * import type { HandlerObject, Packet, Verdict } from 'twinpath/handler';
 * import { DROP, EtherType, Flow, PASS, Path, Protocol, TX } from 'twinpath/handler';
 * ```
 */
import type { HandlerObject } from '../handler/handler.ts';
import { DROP, PASS, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { EtherType, isPreStandardTag, isTag, LOWEST_TYPE } from '../net/ethernet.ts';
import { Flow } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { NO, RuleList, YES } from './firewall-rules.ts';
import { checkNames, list, otherwiseOf } from './options.ts';

/** ICMPv6 types of neighbour discovery, router solicitation to redirect: RFC 4861, section 4. */
const FIRST_DISCOVERY = 133;
const LAST_DISCOVERY = 137;

/** LLC addresses (IEEE 802.2) of IP and of SNAP, and bytes of LLC and SNAP together. */
const LLC_IP = 0x06;
const LLC_SNAP = 0xaaaa;
const LLC_SNAP_BYTES = 8;
/** Organisations of SNAP that an EtherType follows: RFC 1042, and IEEE 802.1H. */
const ENCAPSULATED = 0x000000;
const BRIDGED = 0x0000f8;

/**
 * @param options `allow`, `deny`, `out`: rules, as arrays or as text with commas or spaces.
 *   `otherwise`: 'pass' or 'drop' packets from the network that match no rule
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>): HandlerObject {
  let policy = policyOf(options);
  const flow = new Flow();

  const incoming = (packet: Packet, allow: RuleList, deny: RuleList, otherwise: Verdict): Verdict => {
    if (!flow.read(packet)) {
      if (flow.type === EtherType.ARP) return PASS;
      if (flow.type < 0 || isBroken(flow)) return DROP;
      return !deny.isEmpty && mayHideIp(packet, flow) ? DROP : otherwise;
    }
    if (isDiscovery(packet, flow)) return PASS;
    const { addresses, addressBytes, protocol, to } = flow;
    if (deny.match(packet, addresses, addressBytes, protocol, to) !== NO) return DROP;
    return allow.match(packet, addresses, addressBytes, protocol, to) === YES ? PASS : otherwise;
  };

  /** Guests and containers of the machine may send anything, so a packet that `out` may match is dropped too. */
  const outgoing = (packet: Packet, out: RuleList): Verdict => {
    if (!flow.read(packet)) {
      return !out.isEmpty && (isBroken(flow) || mayHideIp(packet, flow)) ? DROP : TX;
    }
    if (isDiscovery(packet, flow)) return TX;
    const { addresses, addressBytes, protocol, to } = flow;
    return out.match(packet, addresses + addressBytes, addressBytes, protocol, to) === NO ? TX : DROP;
  };

  return {
    handle: (burst) => {
      const { allow, deny, out, otherwise } = policy;
      for (let i = 0; i < burst.length; i++) {
        const packet = burst.packet(i);
        burst.verdict[i] =
          burst.path[i] === Path.HOST ? outgoing(packet, out) : incoming(packet, allow, deny, otherwise);
      }
    },
    configure: (changed) => {
      const next = policyOf(changed);
      return () => {
        policy = next;
      };
    },
  };
}

interface Policy {
  readonly allow: RuleList;
  readonly deny: RuleList;
  readonly out: RuleList;
  readonly otherwise: Verdict;
}

function policyOf(options: Record<string, unknown>): Policy {
  checkNames('firewall', options, ['allow', 'deny', 'out', 'otherwise']);
  const allowed = list(options.allow);
  return {
    allow: new RuleList('allow', allowed),
    deny: new RuleList('deny', list(options.deny)),
    out: new RuleList('out', list(options.out)),
    otherwise: otherwiseOf(options, allowed.length > 0 ? 'drop' : 'pass'),
  };
}

/** Whether a packet that `read` refused has the type of IP, or ends inside a VLAN tag. */
function isBroken({ type }: Flow): boolean {
  return type === EtherType.IPV4 || type === EtherType.IPV6 || isTag(type);
}

/**
 * Whether IP may follow that a receiver other than Linux finds, such as a switch, or a guest of this machine: CERT
 * VU#855201 lists some.
 */
function mayHideIp(packet: Packet, { type, l3 }: Flow): boolean {
  if (type >= LOWEST_TYPE) return isPreStandardTag(type);
  if (packet.length < l3 + LLC_SNAP_BYTES) return false;
  // The lowest bits say "group" and "response".
  if ((packet.u8(l3) & 0xfe) === LLC_IP) return true;
  if ((packet.u16(l3) & 0xfefe) !== LLC_SNAP) return false;
  const organisation = (packet.u16(l3 + 3) << 8) | packet.u8(l3 + 5);
  return organisation === ENCAPSULATED || organisation === BRIDGED;
}

function isDiscovery(packet: Packet, { protocol, l4, end, addressBytes }: Flow): boolean {
  if (addressBytes !== 16 || protocol !== Protocol.ICMPV6 || l4 < 0 || l4 >= end) return false;
  const type = packet.u8(l4);
  return type >= FIRST_DISCOVERY && type <= LAST_DISCOVERY;
}

/**
 * Flow rules: which packets a port's handler gets, which stay with the kernel, and which are dropped before either.
 *
 * A {@link FlowRule} is what a user writes, as an object or as text (text.ts); a {@link Rule} is the same after all checks
 * (check.ts). matcher.ts has the meaning in its plainest form; kernel/classifier.ts compiles the same for the kernel. A test
 * compares the three. docs/rules.md is the page for users.
 */

/**
 * What becomes of a packet that matches:
 * - `handler`: the port's handler gets it.
 * - `kernel`: the machine's own stack gets it, as if there were no port. It never reaches JavaScript.
 * - `drop`: the kernel drops it.
 * - `count`: the rule counts it, and the next rule is tried.
 */
export type RuleAction = (typeof ACTIONS)[number];
export const ACTIONS = ['handler', 'kernel', 'drop', 'count'] as const;

/** A port number, or the first and last of a range. */
export type PortRange = number | readonly [first: number, last: number];

/** A rule as an object. A packet matches if it matches every field; a rule without any matches all packets. */
export interface FlowRule {
  readonly action: RuleAction;
  /** Rules with a lower number come first, others in the order of the list. 0 to 65535, default 1000. */
  readonly priority?: number;
  /** EtherType after all VLAN tags, 0x600 to 0xffff: 0x0800 is IPv4. */
  readonly etherType?: number;
  /** VLAN ID of the outermost tag, 0 to 4095; 'none': the packet has no tag. */
  readonly vlan?: number | 'none';
  /** Version of IP. */
  readonly ip?: 4 | 6;
  /** Number of the protocol above IP, 0 to 255, or its name. */
  readonly protocol?: number | ProtocolName;
  /** Prefixes of the source address: '10.0.0.0/8', '2001:db8::1'. A list matches if one of its prefixes does. */
  readonly src?: string | readonly string[];
  /** Prefixes of the destination address. */
  readonly dst?: string | readonly string[];
  /** Port of TCP or UDP. */
  readonly srcPort?: PortRange;
  readonly dstPort?: PortRange;
  /** Source or destination port. */
  readonly port?: PortRange;
  /** TCP flags that are set, and of which: 'syn/syn,ack' is SYN without ACK. */
  readonly tcpFlags?: string;
  /**
   * 'any': fragments of IP packets. 'later': those that do not show the header above IP, so all but the first. 'none': IP
   * packets that are no fragments.
   */
  readonly fragment?: FragmentMatch;
}

export type FragmentMatch = (typeof FRAGMENTS)[number];
export const FRAGMENTS = ['any', 'later', 'none'] as const;

/** IANA protocol numbers by name. */
export const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;
export type ProtocolName = keyof typeof PROTOCOLS;

/** By name in texts; the bits of the flags byte of a TCP header (RFC 9293, RFC 3168). */
export const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ece: 64, cwr: 128 } as const;

export interface Prefix {
  /** In network order, 4 or 16 bytes; those after `bits` are 0. */
  readonly address: Uint8Array;
  readonly bits: number;
}

export interface Range {
  readonly first: number;
  readonly last: number;
}

/** A rule whose fields have been checked; undefined fields match all packets. */
export interface Rule {
  /** Position in the user's list. */
  readonly index: number;
  readonly action: RuleAction;
  readonly etherType: number | undefined;
  readonly vlan: number | 'none' | undefined;
  readonly version: 4 | 6 | undefined;
  readonly protocol: number | undefined;
  readonly src: readonly Prefix[] | undefined;
  readonly dst: readonly Prefix[] | undefined;
  readonly srcPort: Range | undefined;
  readonly dstPort: Range | undefined;
  readonly port: Range | undefined;
  readonly tcpFlags: { readonly value: number; readonly mask: number } | undefined;
  readonly fragment: FragmentMatch | undefined;
}

/** What a packet that matches no rule gets. */
export type DefaultAction = 'handler' | 'kernel';

/** Rules as a user gave them. Plain data. */
export interface GivenRules {
  readonly rules: readonly (string | FlowRule)[];
  readonly otherwise: DefaultAction;
}

/** Checked rules. */
export interface RuleSet {
  /** In the order in which they are tried. */
  readonly rules: readonly Rule[];
  readonly otherwise: DefaultAction;
}

/**
 * A packet with more VLAN tags is dropped and counted, whatever the rules are: a rule for an address behind the tags must
 * not be avoided by one more tag (CERT VU#855201). IEEE 802.1Q networks have at most two or three.
 */
export const MAX_TAGS = 8;

/**
 * Rules of the firewall: a tiny grammar, and lists of them compiled to typed arrays.
 *
 * ```
 *   rule   =  prefix | what | prefix ":" what
 *   prefix =  "any", or an IPv4 or IPv6 address, with "/bits" or without
 *   what   =  "icmp" | ("tcp" | "udp") ["/" port ["-" port]]
 * ```
 *
 * `10.0.0.0/8`, `tcp/22`, `10.1.0.0/16:tcp/443`, `udp/1000-2000`, `2001:db8::/32:icmp`. A rule without a prefix applies to
 * both versions of IP; `icmp` is ICMPv6 for IPv6. A packet matches a list if it matches any of its rules; their order does
 * not matter.
 */
import type { Packet } from '../handler/packet.ts';
import { ipv4Number, ipv6Bytes, wordsOf } from '../net/addresses.ts';
import { int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { invalid } from '../validation.ts';

/** Result of matching a list. MAYBE: it depends on a port or protocol that the packet does not show. */
export const NO = 0;
export const YES = 1;
export const MAYBE = 2;
export type Match = typeof NO | typeof YES | typeof MAYBE;

const ANY = -1;

interface Rule {
  /** 4 or 16; 0 without a prefix. */
  readonly addressBytes: number;
  readonly network: Int32Array;
  readonly mask: Int32Array;
  readonly what: string;
  readonly first: number;
  readonly last: number;
}

/** The rules of one list for one version of IP. Each packet is compared with all of them. */
class Table {
  readonly #count: number;
  /** 32-bit words of an address. */
  readonly #words: number;
  readonly #networks: Int32Array;
  readonly #masks: Int32Array;
  readonly #protocols: Int16Array;
  readonly #firsts: Int32Array;
  readonly #lasts: Int32Array;

  constructor(all: readonly Rule[], addressBytes: 4 | 16) {
    const rules = all.filter((rule) => rule.addressBytes === 0 || rule.addressBytes === addressBytes);
    this.#count = rules.length;
    this.#words = addressBytes / 4;
    this.#networks = new Int32Array(rules.length * this.#words);
    this.#masks = new Int32Array(rules.length * this.#words);
    rules.forEach(({ network, mask }, i) => {
      this.#networks.set(network, i * this.#words);
      this.#masks.set(mask, i * this.#words);
    });
    const icmp = addressBytes === 4 ? Protocol.ICMP : Protocol.ICMPV6;
    const numbers: Record<string, number> = { tcp: Protocol.TCP, udp: Protocol.UDP, icmp };
    this.#protocols = Int16Array.from(rules, ({ what }) => numbers[what] ?? ANY);
    this.#firsts = Int32Array.from(rules, ({ first }) => first);
    this.#lasts = Int32Array.from(rules, ({ last }) => last);
  }

  match(packet: Packet, address: number, protocol: number, port: number): Match {
    let found: Match = NO;
    for (let i = 0; i < this.#count; i++) {
      const wanted = this.#protocols[i]!;
      if (wanted !== ANY && protocol >= 0 && protocol !== wanted) continue;
      if (!this.#isIn(packet, address, i)) continue;
      const hasPorts = this.#firsts[i]! !== ANY;
      if ((wanted !== ANY && protocol < 0) || (hasPorts && port < 0)) found = MAYBE;
      else if (!hasPorts || (port >= this.#firsts[i]! && port <= this.#lasts[i]!)) return YES;
    }
    return found;
  }

  #isIn(packet: Packet, address: number, rule: number): boolean {
    const words = this.#words;
    for (let k = 0; k < words; k++) {
      const at = rule * words + k;
      if ((int32At(packet, address + 4 * k) & this.#masks[at]!) !== this.#networks[at]) return false;
    }
    return true;
  }
}

export class RuleList {
  readonly isEmpty: boolean;
  readonly #ipv4: Table;
  readonly #ipv6: Table;

  /**
   * @param option name of the list, for errors
   * @throws TwinpathError ERR_OPTION_INVALID, naming the rule
   */
  constructor(option: string, texts: readonly unknown[]) {
    const rules = texts.map((text) => ruleOf(option, String(text)));
    this.isEmpty = rules.length === 0;
    this.#ipv4 = new Table(rules, 4);
    this.#ipv6 = new Table(rules, 16);
  }

  /**
   * @param address position of the address to compare with prefixes
   * @param protocol -1 if unknown
   * @param port -1 if the packet has none, or it is unknown
   */
  match(packet: Packet, address: number, addressBytes: number, protocol: number, port: number): Match {
    return (addressBytes === 4 ? this.#ipv4 : this.#ipv6).match(packet, address, protocol, port);
  }
}

function ruleOf(option: string, text: string): Rule {
  // An address contains no letters or slashes that could begin a protocol.
  const form = /^(?:(any)|([\da-f.:]+?(?:\/\d+)?))?(?:(?:^|:)(icmp|tcp|udp)(?:\/(\d+)(?:-(\d+))?)?)?$/i;
  const [, any, prefix, what = '', first, last = first] = form.exec(text) ?? [];
  const isEmpty = any === undefined && prefix === undefined && what === '';
  if (isEmpty || (what.toLowerCase() === 'icmp' && first !== undefined)) refuse(option, text);
  const ports = { first: portOf(option, text, first), last: portOf(option, text, last) };
  if (ports.first > ports.last) refuse(option, text);
  return { ...prefixOf(option, text, prefix), what: what.toLowerCase(), ...ports };
}

function portOf(option: string, text: string, digits: string | undefined): number {
  if (digits === undefined) return ANY;
  return Number(digits) <= 0xffff ? Number(digits) : refuse(option, text);
}

function prefixOf(
  option: string,
  text: string,
  prefix: string | undefined,
): Pick<Rule, 'addressBytes' | 'network' | 'mask'> {
  if (prefix === undefined) return { addressBytes: 0, network: new Int32Array(0), mask: new Int32Array(0) };
  const [address, digits] = prefix.split('/');
  const number = ipv4Number(address!);
  const words =
    number === undefined ? wordsOf(ipv6Bytes(address!) ?? new Uint8Array(0)) : Int32Array.of(number);
  const bits = digits === undefined ? words.length * 32 : Number(digits);
  if (words.length === 0 || bits > words.length * 32) return refuse(option, text);
  const mask = words.map((_, k) => maskOf(Math.min(Math.max(bits - 32 * k, 0), 32)));
  const network = words.map((word, k) => word & mask[k]!);
  if (network.some((word, k) => word !== words[k])) {
    invalid(option, `${text} has bits after its prefix of ${bits}`, 'Give the network, or only the address.');
  }
  return { addressBytes: words.length * 4, network, mask };
}

/** The upper `bits` of 32. A shift by 32 would shift by 0. */
function maskOf(bits: number): number {
  return bits === 0 ? 0 : -1 << (32 - bits);
}

function refuse(option: string, text: string): never {
  const hint = "Examples of rules: '10.0.0.0/8', 'tcp/22', '2001:db8::/32:udp/1000-2000', 'icmp' and 'any'.";
  return invalid(option, `${text} is not a rule`, hint);
}

/**
 * Rules as text, for the command line and for reading:
 *
 * ```
 *   rule     = ["priority" N] {match} ["to"] action
 *   action   = "handler" | "kernel" | "drop" | "count"
 *   match    = "ether" "type" (N | "ipv4" | "ipv6" | "arp")
 *            | "vlan" (N | "none")
 *            | "ip" | "ip6" | "tcp" | "udp" | "icmp" | "icmp6" | "proto" N
 *            | ("src" | "dst") prefixes
 *            | ["src" | "dst"] "port" N ["-" N]
 *            | "flags" FLAGS ["/" FLAGS]
 *            | "fragment" ("any" | "later" | "none")
 *   prefixes = PREFIX | "in" "{" PREFIX {"," PREFIX} "}"
 * ```
 *
 * `udp dst port 53 to handler`, `src in {10.0.0.0/8, 2001:db8::/32} drop`, `tcp flags syn/syn,ack count`. Words may be
 * separated by any white space; numbers may be hexadecimal (0x88cc). Pure; any thread.
 */
import { EtherType } from '../net/ethernet.ts';
import { invalid, nearest } from '../validation.ts';
import { looksLikePrefix } from './prefix.ts';
import { ACTIONS, type FlowRule, FRAGMENTS, type PortRange, PROTOCOLS, type RuleAction } from './rule.ts';

const TYPES = { ipv4: EtherType.IPV4, ipv6: EtherType.IPV6, arp: EtherType.ARP } as const;
const NAMES = Object.keys(PROTOCOLS) as (keyof typeof PROTOCOLS)[];
/** Words that may begin a match or an action. */
const FIRST = [
  ...[...NAMES, 'priority', 'ether', 'vlan', 'ip', 'ip6', 'proto', 'src', 'dst', 'port', 'flags', 'fragment'],
  ...['to', ...ACTIONS],
];

/**
 * The rule in a text. check.ts checks its values.
 *
 * @param option names the rule in errors
 * @throws ERR_OPTION_INVALID, which quotes the rule and the word
 */
export function ruleOfText(option: string, text: string): FlowRule {
  return new RuleReader(option, text).read();
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class RuleReader {
  readonly #option: string;
  readonly #text: string;
  readonly #words: readonly string[];
  readonly #rule: Mutable<Partial<FlowRule>> = {};
  #at = 0;

  constructor(option: string, text: string) {
    this.#option = option;
    this.#text = text;
    this.#words = text.replaceAll(/[{}]/g, ' $& ').split(/\s+/).filter(Boolean);
  }

  read(): FlowRule {
    if (this.#words.length === 0) invalid(this.#option, 'it is empty', "As 'udp dst port 53 to handler'.");
    while (this.#rule.action === undefined) {
      if (this.#at === this.#words.length) this.#refuse('it has no action at its end', ['to', ...ACTIONS]);
      this.#match(this.#next());
    }
    if (this.#at < this.#words.length) this.#refuseWord('stands after the action, which ends a rule');
    return this.#rule as FlowRule;
  }

  #match(word: string): void {
    if (word === 'priority') this.#set('priority', this.#number('a priority'));
    else if (word === 'ether') this.#etherType();
    else if (word === 'vlan')
      this.#set('vlan', this.#takes('none') ? 'none' : this.#number('a VLAN ID', 'none'));
    else if (word === 'ip' || word === 'ip6') this.#set('ip', word === 'ip' ? 4 : 6);
    else if (isOne(word, NAMES)) this.#set('protocol', word);
    else if (word === 'proto') this.#set('protocol', this.#number('a protocol number'));
    else if (word === 'src' || word === 'dst') this.#end(word);
    else if (word === 'port') this.#set('port', this.#range());
    else if (word === 'flags') this.#set('tcpFlags', this.#value('TCP flags, as syn/syn,ack'));
    else if (word === 'fragment') this.#set('fragment', this.#oneOf(FRAGMENTS));
    else if (word === 'to') this.#set('action', this.#oneOf(ACTIONS));
    else if (isOne(word, ACTIONS)) this.#set('action', word as RuleAction);
    else {
      this.#at--;
      if (looksLikePrefix(word)) this.#refuseWord('stands without "src" or "dst" before it');
      this.#refuseWord('is not known here', FIRST);
    }
  }

  #etherType(): void {
    this.#oneOf(['type']);
    const names = Object.keys(TYPES) as (keyof typeof TYPES)[];
    const word = this.#words[this.#at] ?? '';
    const isName = isOne(word, names);
    if (isName) this.#at++;
    this.#set('etherType', isName ? TYPES[word] : this.#number('an EtherType', ...names));
  }

  #end(which: 'src' | 'dst'): void {
    if (this.#takes('port')) this.#set(which === 'src' ? 'srcPort' : 'dstPort', this.#range());
    else this.#set(which, this.#takes('in') ? this.#list() : this.#prefix('port', 'in'));
  }

  #list(): string[] {
    this.#oneOf(['{']);
    const close = this.#words.indexOf('}', this.#at);
    if (close < 0) return this.#refuse('its list has no end', ['}']);
    const found = this.#words
      .slice(this.#at, close)
      .join(' ')
      .split(/[\s,]+/)
      .filter(Boolean);
    this.#at = close + 1;
    const wrong = found.find((prefix) => !looksLikePrefix(prefix));
    if (wrong !== undefined) this.#refuse(`"${wrong}" in its list is not a prefix`);
    return found;
  }

  #prefix(...others: string[]): string {
    const word = this.#words[this.#at] ?? '';
    if (!looksLikePrefix(word)) this.#refuseWord('is not a prefix', others, ['a prefix, as 10.0.0.0/8']);
    return this.#next();
  }

  #range(): PortRange {
    const word = this.#words[this.#at] ?? '';
    const [, first, last] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(word) ?? [];
    if (first === undefined) this.#refuseWord('is not a port', [], ['a port, as 53 or 1000-2000']);
    this.#at++;
    return last === undefined ? Number(first) : [Number(first), Number(last)];
  }

  #number(what: string, ...words: string[]): number {
    const word = this.#words[this.#at] ?? '';
    if (!/^(\d{1,8}|0x[\da-f]{1,8})$/i.test(word)) this.#refuseWord(`is not ${what}`, words, ['a number']);
    this.#at++;
    return Number(word);
  }

  #value(what: string): string {
    if (this.#at === this.#words.length) this.#refuse('it ends too early', [], [what]);
    return this.#next();
  }

  #oneOf<const T extends string>(allowed: readonly T[]): T {
    const word = this.#words[this.#at] ?? '';
    if (!isOne(word, allowed)) return this.#refuseWord('is not known here', allowed);
    this.#at++;
    return word;
  }

  #takes(word: string): boolean {
    if (this.#words[this.#at] !== word) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    return this.#words[this.#at++]!;
  }

  #set<K extends keyof FlowRule>(field: K, value: FlowRule[K]): void {
    if (this.#rule[field] !== undefined) {
      this.#at--;
      this.#refuseWord(`says ${field} a second time`);
    }
    this.#rule[field] = value;
  }

  /** Refuses the word that comes next, or the end. */
  #refuseWord(what: string, words: readonly string[] = [], values: readonly string[] = []): never {
    const word = this.#words[this.#at];
    if (word === undefined) return this.#refuse('it ends too early', words, values);
    const near = nearest(word, words);
    const detail = `"${word}", its word ${this.#at + 1}, ${what}`;
    return near === undefined
      ? this.#refuse(detail, words, values)
      : this.#fail(detail, `Did you mean "${near}"?`);
  }

  #refuse(detail: string, words: readonly string[] = [], values: readonly string[] = []): never {
    const allowed = [...values, ...words];
    return this.#fail(detail, allowed.length > 0 ? `Allowed here: ${allowed.join(', ')}.` : undefined);
  }

  #fail(detail: string, hint: string | undefined): never {
    return invalid(this.#option, `in "${shortened(this.#text)}", ${detail}`, hint);
  }
}

function isOne<T extends string>(word: string, words: readonly T[]): word is T {
  return (words as readonly string[]).includes(word);
}

/** A list of prefixes may be long. */
function shortened(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/**
 * The language of filters: a subset of pcap-filter(7), with the grammar of libpcap (grammar.y). `and` and `or` have the same
 * precedence and are taken from left to right; a value without a word before it takes the words of the value before:
 * `tcp port 80 or 443`.
 *
 * Pure; any thread.
 */
import { ipv4Number, ipv6Bytes, wordsOf } from '../../net/addresses.ts';
import { macBytes } from '../../net/mac.ts';
import { nearest } from '../../validation.ts';
import {
  bytesOf,
  comparison,
  INDEXED,
  type Indexed,
  negative,
  number,
  operationOf,
  type Sum,
} from './arithmetic.ts';
import { misplaced, type Token, tokensOf } from './lexer.ts';
import { Op } from './machine.ts';
import { CONSTANTS, UNKNOWN_HERE } from './names.ts';
import { type Direction, Primitives, Protocol, type ProtocolName } from './primitives.ts';
import { and, type Condition, not, or } from './program.ts';

const PROTOCOLS = ['ether', 'ip', 'ip6', 'arp', 'rarp', ...Object.keys(Protocol)];
const KINDS = ['host', 'net', 'port', 'portrange', 'proto'] as const;
type Kind = (typeof KINDS)[number];
const DIRECTIONS = ['src', 'dst'];
const RELATIONS = ['=', '!=', '<', '>', '<=', '>='];
const OPERATORS: Readonly<Record<string, number>> = {
  '+': Op.ADD,
  '-': Op.SUBTRACT,
  '*': Op.MULTIPLY,
  '/': Op.DIVIDE,
  '&': Op.AND,
  '|': Op.OR,
  '<<': Op.LEFT,
  '>>': Op.RIGHT,
};
/** From the weakest to the strongest. */
const PRECEDENCE = [
  ['|', '&'],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/'],
];
/** Words that may begin a condition. */
const FIRST = [
  ...PROTOCOLS,
  ...KINDS,
  ...DIRECTIONS,
  'not',
  'less',
  'greater',
  'len',
  'vlan',
  'broadcast',
  'multicast',
];
/** Brackets inside brackets. */
const MAX_DEPTH = 64;

/** The words before a value. */
interface Qualifiers {
  readonly protocol: string | undefined;
  readonly direction: Direction | undefined;
  readonly kind: Kind;
  /** For an error. */
  readonly token: Token;
}

/** @throws ERR_OPTION_INVALID, which names the place */
export function parseFilter(text: string): Condition {
  return new FilterReader(text).read();
}

class FilterReader {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  readonly #primitives = new Primitives();
  #at = 0;
  #depth = 0;
  /** Of the value before; undefined where there is none that another value could follow. */
  #qualifiers: Qualifiers | undefined;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokensOf(text);
  }

  read(): Condition {
    const condition = this.#expression();
    const { kind, text } = this.#token;
    if (kind !== 'end')
      this.#refuse(text === ')' ? 'no bracket is open' : '"and" or "or" must come before it');
    return condition;
  }

  get #token(): Token {
    return this.#tokens[this.#at]!;
  }

  #refuse(why: string, token = this.#token, hint?: string): never {
    return misplaced(this.#text, token.at, token.text, why, hint);
  }

  #is(text: string, ahead = 0): boolean {
    const token = this.#tokens[this.#at + ahead];
    return token !== undefined && (token.kind === 'word' || token.kind === 'mark') && token.text === text;
  }

  #isOneOf(texts: readonly string[], ahead = 0): boolean {
    return texts.some((text) => this.#is(text, ahead));
  }

  #skip(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#at++;
    return true;
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.#refuse('the brackets are too deep');
    const result = read();
    this.#depth--;
    return result;
  }

  #expect(text: string): void {
    if (!this.#skip(text)) this.#refuse(`"${text}" must be here`);
  }

  #expression(): Condition {
    let condition = this.#term();
    for (;;) {
      const joins = this.#skip('and') ? and : this.#skip('or') ? or : undefined;
      if (joins === undefined) return condition;
      condition = joins(condition, this.#isValueNext() ? this.#value(this.#last()) : this.#term());
    }
  }

  /** The qualifiers of the value before. */
  #last(): Qualifiers {
    return this.#qualifiers ?? this.#refuse('a word such as host, net or port must come before it');
  }

  /** Whether a value follows, perhaps in brackets or behind `not`, that takes the qualifiers of the one before. */
  #isValueNext(): boolean {
    let ahead = 0;
    while (this.#isOneOf(['(', 'not'], ahead)) ahead++;
    const { kind, text } = this.#tokens[this.#at + ahead]!;
    if (kind === 'address' || kind === 'address6' || kind === 'mac') return true;
    if (kind === 'word')
      return text.startsWith('\\') || (this.#isName(text) && this.#qualifiers !== undefined);
    if (kind !== 'number') return false;
    do ahead++;
    while (this.#is(')', ahead));
    return !this.#isOneOf([...RELATIONS, ...Object.keys(OPERATORS)], ahead);
  }

  #isName(text: string): boolean {
    return !FIRST.includes(text) && !(text in CONSTANTS) && !UNKNOWN_HERE.includes(text);
  }

  #term(): Condition {
    return this.#nested(() => {
      if (this.#skip('not')) return not(this.#term());
      if (!this.#is('(')) return this.#primitive();
      if (this.#isSumInBrackets()) return this.#relation();
      // What follows the bracket takes the qualifiers from before it.
      const before = this.#qualifiers;
      this.#at++;
      const condition = this.#expression();
      this.#expect(')');
      this.#qualifiers = before;
      return condition;
    });
  }

  /** Whether an operator or a relation follows the bracket that opens here. */
  #isSumInBrackets(): boolean {
    let open = 0;
    for (let ahead = 0; this.#at + ahead < this.#tokens.length; ahead++) {
      if (this.#is('(', ahead)) open++;
      else if (this.#is(')', ahead) && --open === 0)
        return this.#isOneOf([...RELATIONS, ...Object.keys(OPERATORS)], ahead + 1);
    }
    return false;
  }

  #primitive(): Condition {
    const token = this.#token;
    const { kind, text } = token;
    if (kind === 'end') this.#refuse('a condition must be here');
    if (kind === 'number' || text === '-' || text === 'len' || text in CONSTANTS) return this.#relation();
    if (kind !== 'word') {
      const hint = kind === 'mark' ? undefined : 'Write a word such as host, net or port before it.';
      this.#refuse('a condition must be here', token, hint);
    }
    if (PROTOCOLS.includes(text) && this.#is('[', 1)) return this.#relation();
    if (UNKNOWN_HERE.includes(text)) this.#refuse('this part of pcap-filter(7) is not taken');
    if (!FIRST.includes(text)) {
      const near = nearest(text, FIRST);
      this.#refuse('it is no word of filters', token, near && `Did you mean "${near}"?`);
    }
    return this.#simple() ?? this.#qualified();
  }

  /** Conditions that no value may follow; undefined if it is none. */
  #simple(): Condition | undefined {
    const primitives = this.#primitives;
    const alone = (words: number, make: () => Condition): Condition => {
      this.#at += words;
      this.#qualifiers = undefined;
      return make();
    };
    if (this.#is('less')) return alone(1, () => primitives.less(this.#number('a length')));
    if (this.#is('greater')) return alone(1, () => primitives.greater(this.#number('a length')));
    if (this.#is('vlan')) return alone(1, () => primitives.vlan(this.#vlanId()));
    const protocol = PROTOCOLS.includes(this.#token.text) ? this.#token : undefined;
    const words = protocol === undefined ? 0 : 1;
    if (this.#is('broadcast', words)) {
      if (protocol !== undefined && protocol.text !== 'ether')
        this.#refuse('only "ether broadcast" is taken: a filter knows no netmask');
      return alone(words + 1, () => primitives.broadcast());
    }
    if (this.#is('multicast', words)) {
      const of = protocol?.text ?? 'ether';
      if (of !== 'ether' && of !== 'ip' && of !== 'ip6') this.#refuse('it can follow ether, ip and ip6');
      return alone(words + 1, () => primitives.multicast(of === 'ether' ? undefined : of));
    }
    if (protocol === undefined || this.#isOneOf([...KINDS, ...DIRECTIONS], 1)) return undefined;
    if (protocol.text === 'ether')
      this.#refuse('host, src, dst, proto, broadcast, multicast or [ must follow it');
    return alone(1, () => primitives.abbreviation(protocol.text as ProtocolName));
  }

  #vlanId(): number | undefined {
    if (this.#token.kind !== 'number' && !(this.#is('(') && this.#tokens[this.#at + 1]!.kind === 'number'))
      return undefined;
    const token = this.#token;
    const id = this.#number('a VLAN ID');
    return id <= 0xfff ? id : this.#refuse('a VLAN ID is at most 4095', token);
  }

  /** `[ether|ip|…] [src|dst|…] [host|net|port|portrange|proto] value`. */
  #qualified(): Condition {
    const token = this.#token;
    const protocol = PROTOCOLS.includes(token.text) ? token.text : undefined;
    if (protocol !== undefined) this.#at++;
    const direction = this.#direction();
    const kind = KINDS.find((word) => this.#is(word));
    if (kind !== undefined) this.#at++;
    if (kind === 'proto' && direction !== undefined) this.#refuse('a protocol has no src and dst', token);
    this.#qualifiers = { protocol, direction, kind: kind ?? 'host', token };
    return this.#value(this.#qualifiers);
  }

  #direction(): Direction | undefined {
    for (const first of DIRECTIONS) {
      if (!this.#skip(first)) continue;
      const second = first === 'src' ? 'dst' : 'src';
      const joins = this.#is('or') ? 'either' : this.#is('and') ? 'both' : undefined;
      if (joins === undefined || !this.#is(second, 1)) return first as Direction;
      this.#at += 2;
      return joins;
    }
    return undefined;
  }

  /** A value, or several in brackets, that the qualifiers are of. */
  #value(qualifiers: Qualifiers): Condition {
    return this.#nested(() => {
      if (this.#skip('not')) return not(this.#value(qualifiers));
      if (!this.#skip('(')) return this.#single(qualifiers);
      let condition = this.#value(qualifiers);
      for (;;) {
        const joins = this.#skip('and') ? and : this.#skip('or') ? or : undefined;
        if (joins === undefined) break;
        condition = joins(condition, this.#value(qualifiers));
      }
      this.#expect(')');
      return condition;
    });
  }

  #single(qualifiers: Qualifiers): Condition {
    switch (qualifiers.kind) {
      case 'host':
      case 'net':
        return this.#address(qualifiers);
      case 'port':
      case 'portrange':
        return this.#ports(qualifiers);
      case 'proto':
        return this.#protocol(qualifiers);
    }
  }

  #address({ protocol, direction = 'either', kind, token: before }: Qualifiers): Condition {
    const primitives = this.#primitives;
    const token = this.#token;
    if (token.kind === 'mac') {
      if (protocol !== 'ether' || kind === 'net')
        this.#refuse('a MAC address follows "ether host", "ether src" or "ether dst"');
      this.#at++;
      const bytes = token.text.split(/[:-]/).map((byte) => byte.padStart(2, '0'));
      return primitives.etherHost(macBytes(bytes.join(':')), direction);
    }
    if (protocol === 'ether') this.#refuse('a MAC address must be here');
    if (token.kind === 'address6') {
      if (protocol !== undefined && protocol !== 'ip6')
        this.#refuse(`it is an IPv6 address, behind "${protocol}"`, token);
      return this.#address6(direction, kind);
    }
    if (token.kind !== 'address' && !(token.kind === 'number' && kind === 'net')) {
      const hint = token.kind === 'word' ? 'Names are not looked up: give the address.' : undefined;
      this.#refuse('an address must be here', token, hint);
    }
    if (protocol !== undefined && protocol !== 'ip' && protocol !== 'arp' && protocol !== 'rarp')
      this.#refuse(`"${protocol}" has no IPv4 addresses`, before);
    const { address, mask } = this.#network(kind);
    return primitives.host4(address, mask, direction, protocol);
  }

  /** An IPv4 address with its mask. */
  #network(kind: Kind): { address: number; mask: number } {
    const token = this.#token;
    this.#at++;
    const parts = token.text.split('.');
    if (parts.some((part) => part.length > 1 && part.startsWith('0')))
      this.#refuse('a part begins with 0', token);
    const whole = [...parts, ...Array(4 - parts.length).fill('0')].join('.');
    const address = ipv4Number(whole) ?? this.#refuse('it is not an IPv4 address', token);
    if (kind !== 'net') {
      if (parts.length < 4) this.#refuse('an address has four parts', token, 'Or write "net" before it.');
      if (this.#isOneOf(['/', 'mask']))
        this.#refuse('it can follow a network', this.#token, 'Write "net" instead of "host".');
      return { address, mask: 0xffffffff };
    }
    let mask = parts.length === 4 ? 0xffffffff : (-1 << (32 - 8 * parts.length)) >>> 0;
    const given = this.#token;
    if (this.#skip('/')) {
      const bits = this.#number('a number of bits');
      if (bits > 32) this.#refuse('an IPv4 address has 32 bits', this.#tokens[this.#at - 1]);
      mask = bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0;
    } else if (this.#skip('mask')) {
      const text = this.#token;
      mask =
        (text.kind === 'address' ? ipv4Number(text.text) : undefined) ??
        this.#refuse('a mask such as 255.255.255.0 must be here');
      this.#at++;
    }
    if ((address & ~mask) !== 0)
      this.#refuse('the address has bits outside its mask', given.at > token.at ? token : given);
    return { address, mask };
  }

  #address6(direction: Direction, kind: Kind): Condition {
    const token = this.#token;
    const bytes = ipv6Bytes(token.text) ?? this.#refuse('it is not an IPv6 address');
    this.#at++;
    let bits = 128;
    if (this.#is('/')) {
      if (kind !== 'net')
        this.#refuse('it can follow a network', this.#token, 'Write "net" instead of "host".');
      this.#at++;
      bits = this.#number('a number of bits');
      if (bits > 128) this.#refuse('an IPv6 address has 128 bits', this.#tokens[this.#at - 1]);
    }
    const outside = bytes.some((byte, i) => (byte & (0xff >> Math.min(Math.max(bits - 8 * i, 0), 8))) !== 0);
    if (outside) this.#refuse('the address has bits outside its prefix', token);
    return this.#primitives.host6(wordsOf(bytes), bits, direction);
  }

  #ports({ protocol, direction = 'either', kind, token: before }: Qualifiers): Condition {
    if (protocol !== undefined && protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp')
      this.#refuse('ports are of tcp, udp and sctp', before);
    const number = protocol === undefined ? undefined : Protocol[protocol];
    const token = this.#token;
    const range = kind === 'portrange' && /^(\d+)-(\d+)$/.exec(token.text);
    if (range) {
      this.#at++;
      const ends = [Number(range[1]), Number(range[2])].sort((a, b) => a - b) as [number, number];
      if (ends[1] > 0xffff) this.#refuse('a port is at most 65535', token);
      return this.#primitives.port(...ends, direction, number);
    }
    if (token.kind === 'word') {
      const hint =
        kind === 'portrange' ? 'Give it as 6000-6008.' : 'Names are not looked up: give the number.';
      this.#refuse('a port must be here', token, hint);
    }
    const port = this.#number('a port');
    if (port > 0xffff) this.#refuse('a port is at most 65535', token);
    return this.#primitives.port(port, port, direction, number);
  }

  #protocol({ protocol, token: before }: Qualifiers): Condition {
    const primitives = this.#primitives;
    const token = this.#token;
    const value = this.#number('the number of a protocol');
    if (protocol === 'ether') {
      // Below are lengths of 802.3; the two numbers are also looked for behind SNAP.
      if (value <= 1500 || value > 0xffff || value === 0x809b || value === 0x80f3)
        this.#refuse('this type is not taken', token, 'Compare the bytes: ether[12:2] = 0x….');
      return primitives.etherType(value);
    }
    if (value > 0xff) this.#refuse('the number of a protocol of IP is at most 255', token);
    if (protocol === undefined) return primitives.protocol(value);
    if (protocol === 'ip') return primitives.protocol4(value);
    if (protocol === 'ip6') return primitives.protocol6(value);
    return this.#refuse('"proto" can follow ether, ip and ip6', before);
  }

  #number(what: string): number {
    if (this.#skip('(')) {
      const value = this.#nested(() => this.#number(what));
      this.#expect(')');
      return value;
    }
    const { kind, value } = this.#token;
    if (kind !== 'number') this.#refuse(`${what} must be here`);
    this.#at++;
    return value;
  }

  /** A comparison of two sums. */
  #relation(): Condition {
    const first = this.#token;
    const left = this.#sum();
    const relation = this.#token;
    if (!this.#isOneOf(RELATIONS)) this.#refuse('a comparison must be here: =, !=, <, >, <= or >=');
    this.#at++;
    const right = this.#sum();
    this.#qualifiers = undefined;
    const [test, negated] = {
      '=': [Op.EQUAL, false],
      '!=': [Op.EQUAL, true],
      '>': [Op.GREATER, false],
      '<=': [Op.GREATER, true],
      '>=': [Op.AT_LEAST, false],
      '<': [Op.AT_LEAST, true],
    }[relation.text] as [number, boolean];
    return comparison(test, left, right, negated) ?? this.#refuse('the sum has too many parts', first);
  }

  /** @param level of {@link PRECEDENCE} */
  #sum(level = 0): Sum {
    const operators = PRECEDENCE[level];
    if (operators === undefined) return this.#nested(() => this.#factor());
    let sum = this.#sum(level + 1);
    while (this.#isOneOf(operators)) {
      const token = this.#token;
      this.#at++;
      const right = this.#sum(level + 1);
      const operation = OPERATORS[token.text]!;
      if (right.kind === 'number') {
        if (operation === Op.DIVIDE && right.value === 0) this.#refuse('it divides by zero', token);
        const shifts = operation === Op.LEFT || operation === Op.RIGHT;
        if (shifts && right.value >>> 0 > 31) this.#refuse('it shifts by more than 31 bits', token);
      }
      sum = operationOf(operation, sum, right);
    }
    return sum;
  }

  #factor(): Sum {
    const token = this.#token;
    const { kind, text, value } = token;
    this.#at++;
    if (text === '-') return negative(this.#nested(() => this.#factor()));
    if (text === '(') {
      const sum = this.#sum();
      this.#expect(')');
      return sum;
    }
    if (kind === 'number') return number(value);
    if (text === 'len') return { kind: 'length' };
    if (text in CONSTANTS) return number(CONSTANTS[text]!);
    if (!this.#is('[') || !(INDEXED as readonly string[]).includes(text)) {
      const part = PROTOCOLS.includes(text)
        ? 'its bytes cannot be named'
        : 'a number, or bytes such as ip[8], must be here';
      this.#refuse(part, token);
    }
    return this.#bytes(text as Indexed);
  }

  #bytes(of: Indexed): Sum {
    this.#at++;
    const at = this.#token;
    const index = this.#sum();
    if (index.kind === 'number' && (index.value < 0 || index.value > 0xffff))
      this.#refuse('no packet has such a byte', at);
    let size: number = 1;
    if (this.#skip(':')) {
      const token = this.#token;
      size = this.#number('a number of bytes');
      if (size !== 1 && size !== 2 && size !== 4) this.#refuse('it must be 1, 2 or 4 bytes', token);
    }
    this.#expect(']');
    return bytesOf(this.#primitives, of, index, size as 1 | 2 | 4);
  }
}

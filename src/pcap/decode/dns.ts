/** DNS messages (RFC 1035), as far as their records are shown: addresses and names. */
import { IPv4Addr, IPv6Addr } from './addresses.ts';

const HEADER = 12;
/** Labels of the longest name. A pointer leads backwards only, so that a name ends. */
const MAX_LABELS = 128;
const TYPES: Readonly<Record<number, string>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  6: 'SOA',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
};
const CLASSES: Readonly<Record<number, string>> = { 1: 'IN', 2: 'CS', 3: 'CH', 4: 'HS' };

/** Something in the message is cut, or makes no sense. */
class Damage extends Error {}

export class DnsFlags {
  readonly isResponse: boolean;
  readonly opcode: number;
  readonly isAuthority: boolean;
  readonly isTruncated: boolean;
  readonly isRecursionDesired: boolean;
  /** Spelt as the programs that read it expect. */
  readonly isRecursionAvailible: boolean;
  readonly z: number;
  readonly responseCode: number;

  constructor(word: number) {
    this.isResponse = (word & 0x8000) !== 0;
    this.opcode = (word >> 11) & 15;
    this.isAuthority = (word & 0x0400) !== 0;
    this.isTruncated = (word & 0x0200) !== 0;
    this.isRecursionDesired = (word & 0x0100) !== 0;
    this.isRecursionAvailible = (word & 0x0080) !== 0;
    this.z = (word >> 4) & 7;
    this.responseCode = word & 15;
  }

  toString(): string {
    const all = Object.entries(this).map(([name, value]) => `${name}:${value}`);
    return `{ ${all.join(' ')} }`;
  }
}

export class DNSRR {
  name = '';
  type = 0;
  class = 0;
  ttl: number | null = null;
  rdlength: number | null = null;
  /** An address or a name; null of other types. */
  rdata: IPv4Addr | IPv6Addr | string | null = null;
  readonly is_question: boolean;

  constructor(isQuestion: boolean) {
    this.is_question = isQuestion;
  }

  toString(): string {
    const type = TYPES[this.type] ?? `Unknown (${this.type})`;
    const question = `${this.name} ${type} ${CLASSES[this.class] ?? `Unknown (${this.class})`}`;
    return this.is_question ? question : `${question} ${this.ttl} ${this.rdata}`;
  }
}

export class DNSRRSet {
  readonly rrs: DNSRR[] = [];

  toString(): string {
    return this.rrs.join(', ');
  }
}

export class DNS {
  header: DnsFlags | null = null;
  question = new DNSRRSet();
  answer = new DNSRRSet();
  authority = new DNSRRSet();
  additional = new DNSRRSet();
  id = 0;
  qdcount = 0;
  ancount = 0;
  nscount = 0;
  arcount = 0;
  /** What is wrong with the message: the records before it are there. */
  _error: string | undefined;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;

  /** Reads a message from its first byte on. Never throws: see {@link DNS._error}. */
  decode(bytes: Buffer, offset = 0): this {
    this.#bytes = bytes;
    this.#at = offset;
    try {
      this.#read();
    } catch (error) {
      if (!(error instanceof Damage)) throw error;
      this._error = error.message;
    }
    return this;
  }

  toString(): string {
    if (this.header === null) return ` DNS ${this._error}`;
    const sets = {
      question: this.question,
      answer: this.answer,
      authority: this.authority,
      additional: this.additional,
    };
    const lines = Object.entries(sets)
      .filter(([, { rrs }]) => rrs.length > 0)
      .map(([name, set]) => `\n  ${name}:${set}`);
    return ` DNS ${this.header}${lines.join('')}`;
  }

  #read(): void {
    const from = this.#take(HEADER);
    const word = (i: number): number => this.#bytes.readUInt16BE(from + 2 * i);
    this.id = word(0);
    this.header = new DnsFlags(word(1));
    [this.qdcount, this.ancount, this.nscount, this.arcount] = [word(2), word(3), word(4), word(5)];
    this.#records(this.question, this.qdcount, true);
    this.#records(this.answer, this.ancount, false);
    this.#records(this.authority, this.nscount, false);
    this.#records(this.additional, this.arcount, false);
  }

  #records(set: DNSRRSet, count: number, isQuestion: boolean): void {
    for (let i = 0; i < count; i++) {
      const record = new DNSRR(isQuestion);
      record.name = this.#name();
      const at = this.#take(4);
      record.type = this.#bytes.readUInt16BE(at);
      record.class = this.#bytes.readUInt16BE(at + 2);
      if (!isQuestion) this.#data(record);
      set.rrs.push(record);
    }
  }

  #data(record: DNSRR): void {
    const head = this.#take(6);
    record.ttl = this.#bytes.readUInt32BE(head);
    const length = this.#bytes.readUInt16BE(head + 4);
    record.rdlength = length;
    const at = this.#take(length);
    const { type } = record;
    if (type === 1 && length === IPv4Addr.BYTES) record.rdata = new IPv4Addr(this.#bytes, at);
    else if (type === 28 && length === IPv6Addr.BYTES) record.rdata = new IPv6Addr(this.#bytes, at);
    else if (type === 2 || type === 5 || type === 12) record.rdata = this.#nameAt(at)[0];
  }

  #name(): string {
    const [name, end] = this.#nameAt(this.#at);
    this.#at = end;
    return name;
  }

  /** The name at an offset, and the offset behind it. */
  #nameAt(start: number): [name: string, end: number] {
    const bytes = this.#bytes;
    const labels: string[] = [];
    let end = -1;
    for (let at = start, least = start; labels.length < MAX_LABELS; ) {
      const length = bytes[at];
      if (length === undefined) throw new Damage(`a name is cut at byte ${at}`);
      if (length === 0) return [labels.join('.'), end < 0 ? at + 1 : end];
      if (length >= 0xc0) {
        const to = ((length & 0x3f) << 8) | (bytes[at + 1] ?? 0xff);
        if (end < 0) end = at + 2;
        if (to >= least) throw new Damage(`a name leads forwards at byte ${at}`);
        at = to;
        least = to;
        continue;
      }
      if (length > 63 || at + 1 + length > bytes.length)
        throw new Damage(`a label is too long at byte ${at}`);
      labels.push(bytes.toString('latin1', at + 1, at + 1 + length));
      at += 1 + length;
    }
    throw new Damage(`a name has more than ${MAX_LABELS} labels at byte ${start}`);
  }

  /** The offset of the next bytes, which are taken. */
  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) throw new Damage(`it is cut at byte ${this.#bytes.length}`);
    this.#at += count;
    return at;
  }
}

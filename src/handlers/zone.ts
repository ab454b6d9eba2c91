/**
 * Reads a zone file: a small subset of the master files of RFC 1035, section 5.
 *
 * ```
 *   $ORIGIN example.org.          ; the first one names the zone: the server answers for it and all names below
 *   $TTL 300                      ; seconds, for the records that follow without a time of their own
 *   @           A      203.0.113.1
 *   www    60   IN A   203.0.113.2    ; relative to the origin
 *               AAAA   2001:db8::2    ; the name of the line above
 *   ftp         CNAME  www
 * ```
 *
 * Names have letters, digits, '-' and '_'. Times are plain seconds, and the same for all records of one name and type (RFC
 * 2181, 5.2). A repeated record counts once (RFC 2181, 5). Escapes, wildcards, parentheses, other record types and
 * anything else are errors, which name the line. Any thread; allocates.
 */
import { TwinpathError } from '../errors.ts';
import { ipv4Number, ipv6Bytes } from '../net/addresses.ts';

export interface ZoneRecord {
  /** Lower case, absolute: 'www.example.org.'. */
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'CNAME';
  readonly ttl: number;
  /** The address in network order; empty for a CNAME. */
  readonly data: Uint8Array;
  /** Target of a CNAME; '' for other types. */
  readonly target: string;
  /** From 1. */
  readonly line: number;
}

export interface Zone {
  /** The name of the zone itself. */
  readonly origin: string;
  readonly records: readonly ZoneRecord[];
}

const DEFAULT_TTL = 3600;
/** RFC 2181, section 8. */
const MAX_TTL = 2 ** 31 - 1;
const MAX_LABEL = 63;
/** Bytes of a name in a message: a length before each label, and a 0 (RFC 1035, 2.3.4). */
const MAX_NAME = 255;
/** Most CNAMEs in a row: more would rarely fit an answer. */
const MAX_CHAIN = 8;

/**
 * @param source names the text in errors: a file's path, or the option
 * @throws TwinpathError ERR_OPTION_INVALID, naming the line
 */
export function parseZone(text: string, source: string): Zone {
  const reader = new ZoneReader(source);
  text.split(/\r?\n/).forEach((line, i) => {
    reader.read(line.replace(/;.*/, ''), i + 1);
  });
  return reader.zone();
}

/** Whether a name equals `origin` or is below it. */
export function isBelow(name: string, origin: string): boolean {
  return origin === '.' || name === origin || name.endsWith(`.${origin}`);
}

class ZoneReader {
  readonly #source: string;
  readonly #records: ZoneRecord[] = [];
  /** By name and type: the first record, and the data of all records. */
  readonly #sets = new Map<string, { first: ZoneRecord; data: Set<string> }>();
  #zone = '';
  #origin = '';
  #ttl = DEFAULT_TTL;
  #owner = '';
  #line = 0;

  constructor(source: string) {
    this.#source = source;
  }

  read(text: string, line: number): void {
    this.#line = line;
    const words = text.split(/\s+/).filter((word) => word !== '');
    if (words.length === 0) return;
    if (words[0]!.startsWith('$')) this.#readDirective(words);
    else this.#readRecord(words, /^\s/.test(text));
  }

  zone(): Zone {
    if (this.#zone === '')
      this.#fail('$ORIGIN is missing', "Begin with a line such as '$ORIGIN example.org.'.");
    this.#checkAliases();
    return { origin: this.#zone, records: this.#records };
  }

  #readDirective([directive, value, ...rest]: string[]): void {
    if (value === undefined || rest.length > 0) this.#fail(`${directive} takes one value`);
    switch (directive!.toUpperCase()) {
      case '$TTL':
        this.#ttl = this.#ttlOf(value);
        return;
      case '$ORIGIN':
        this.#origin = this.#nameOf(value);
        if (this.#zone === '') this.#zone = this.#origin;
        return;
      default:
        this.#fail(`${directive} is not known`, 'Known are $ORIGIN and $TTL.');
    }
  }

  #readRecord(words: string[], isContinued: boolean): void {
    if (!isContinued) this.#owner = this.#nameOf(words.shift()!);
    if (this.#owner === '') this.#fail('the record has no name, and no line above it has one');
    if (!isBelow(this.#owner, this.#zone)) {
      this.#fail(`${this.#owner} is not in the zone ${this.#zone}`, 'The first $ORIGIN names the zone.');
    }
    let ttl = this.#ttl;
    // RFC 1035, 5.1: time and class in either order.
    for (let word = words[0]; word !== undefined; word = words[0]) {
      if (/^\d+$/.test(word)) ttl = this.#ttlOf(word);
      else if (word.toUpperCase() !== 'IN') break;
      words.shift();
    }
    const [type, value, ...rest] = words;
    if (type === undefined) this.#fail('the record has no type');
    if (value === undefined || rest.length > 0) this.#fail(`${type} takes one value`);
    this.#add({ name: this.#owner, ttl, line: this.#line, ...this.#dataOf(type, value) });
  }

  #add(record: ZoneRecord): void {
    const { name, type, ttl } = record;
    const data = type === 'CNAME' ? record.target : record.data.join();
    const set = this.#sets.get(`${type} ${name}`);
    if (set === undefined) this.#sets.set(`${type} ${name}`, { first: record, data: new Set([data]) });
    else {
      if (set.first.ttl !== ttl) {
        this.#fail(
          `${name} has ${type === 'CNAME' ? 'a' : 'an'} ${type} record of ${ttl} seconds here and one of ${set.first.ttl} in line ${set.first.line}`,
          'All records of one name and type have the same time (RFC 2181, 5.2).',
        );
      }
      if (set.data.has(data)) return;
      set.data.add(data);
    }
    this.#records.push(record);
  }

  #dataOf(type: string, value: string): Pick<ZoneRecord, 'type' | 'data' | 'target'> {
    switch (type.toUpperCase()) {
      case 'A': {
        const address = ipv4Number(value);
        if (address === undefined) this.#fail(`${value} is not an IPv4 address`);
        const data = Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
        return { type: 'A', data, target: '' };
      }
      case 'AAAA': {
        const data = ipv6Bytes(value);
        if (data === undefined) this.#fail(`${value} is not an IPv6 address`);
        return { type: 'AAAA', data, target: '' };
      }
      case 'CNAME':
        return { type: 'CNAME', data: new Uint8Array(0), target: this.#nameOf(value) };
      default:
        return this.#fail(`records of type ${type} are not supported`, 'Supported are A, AAAA and CNAME.');
    }
  }

  #ttlOf(word: string): number {
    const seconds = /^\d+$/.test(word) ? Number(word) : Number.NaN;
    if (seconds <= MAX_TTL) return seconds;
    return this.#fail(`${word} is not a time in seconds`, `Give 0 to ${MAX_TTL}.`);
  }

  #nameOf(word: string): string {
    const isAbsolute = word.endsWith('.');
    if (!isAbsolute && this.#origin === '') {
      this.#fail(`${word} is relative and no $ORIGIN precedes it`, 'An absolute name ends with a dot.');
    }
    if (word === '@') return this.#origin;
    const suffix = this.#origin === '.' ? '.' : `.${this.#origin}`;
    const name = (isAbsolute ? word : word + suffix).toLowerCase();
    if (name === '.') return name;
    for (const label of name.slice(0, -1).split('.')) {
      if (label.length > MAX_LABEL) this.#fail(`a part of ${word} has more than ${MAX_LABEL} characters`);
      if (/^[\da-z_-]+$/.test(label)) continue;
      const hint =
        label === '*' ? 'Wildcards are not supported.' : "Names have letters, digits, '-', '_' and dots.";
      this.#fail(`${word} is not a name`, hint);
    }
    if (name.length + 1 > MAX_NAME) this.#fail(`${word} is longer than ${MAX_NAME} bytes`);
    return name;
  }

  /** A name with a CNAME must have no other records (RFC 1034, 3.6.2), and CNAMEs must not form a circle. */
  #checkAliases(): void {
    const aliases = new Map<string, ZoneRecord>();
    const owners = new Map<string, number>();
    for (const record of this.#records) {
      owners.set(record.name, (owners.get(record.name) ?? 0) + 1);
      if (record.type === 'CNAME') aliases.set(record.name, record);
    }
    for (const record of aliases.values()) {
      this.#line = record.line;
      if (record.name === this.#zone) this.#fail('the zone itself cannot have a CNAME');
      if (owners.get(record.name)! > 1) {
        this.#fail(`${record.name} has a CNAME and so can have no other record`);
      }
      let length = 0;
      for (let next: ZoneRecord | undefined = record; next !== undefined; next = aliases.get(next.target)) {
        if (++length > MAX_CHAIN) {
          this.#fail(`the CNAME of ${record.name} leads to more than ${MAX_CHAIN} others, or in a circle`);
        }
      }
    }
  }

  #fail(detail: string, hint?: string): never {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: this.#source,
      detail: `line ${this.#line}: ${detail}`,
      hint,
    });
  }
}

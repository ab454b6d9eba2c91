/**
 * All answers of a zone, made before the first query.
 *
 * An answer depends on the name and type of the question, and its position in the message only on the name's length. So
 * the bytes after the question, including compression pointers, are always the same: there is one array per name and kind
 * of question. A hash over the name in the packet finds it. Each worker makes one object; `find` allocates nothing.
 */
import type { Packet } from '../handler/packet.ts';
import { finishHash, mixHash } from '../net/flow.ts';
import { HEADER_BYTES, QUESTION_BYTES } from './dns-sections.ts';
import { isBelow, type Zone, type ZoneRecord } from './zone.ts';

/** Response codes: RFC 1035, 4.1.1; BAD_VERSION is RFC 6891's and needs an OPT record. */
export const Code = {
  NO_ERROR: 0,
  FORMAT_ERROR: 1,
  NAME_ERROR: 3,
  NOT_IMPLEMENTED: 4,
  REFUSED: 5,
  BAD_VERSION: 16,
} as const;

export interface Answer {
  /** A {@link Code}. */
  readonly code: number;
  /** Whether the name is in the zone. */
  readonly authoritative: boolean;
  /** Records in the answer section, and in the authority section. */
  readonly answers: number;
  readonly authorities: number;
  /** Both sections, which follow the question. */
  readonly bytes: Uint8Array;
}

const Type = { A: 1, CNAME: 5, SOA: 6, AAAA: 28, IXFR: 251, AXFR: 252, ANY: 255 } as const;
const CLASS_IN = 1;

const POINTER = 0xc000;
const MAX_NAME = 255;

/** Seconds that resolvers may cache a negative answer (RFC 2308). */
const NEGATIVE_TTL = 300;
/** Numbers of the start-of-authority record, which only secondary servers use. */
const SOA_TIMES = [1, 3600, 600, 86_400, NEGATIVE_TTL];

/** Kinds of question that have different answers. */
const KINDS = ['A', 'AAAA', 'ANY', 'CNAME', 'SOA', 'OTHER'] as const;
type Kind = (typeof KINDS)[number];

const emptyAnswer = (code: number): Answer => ({
  code,
  authoritative: false,
  answers: 0,
  authorities: 0,
  bytes: new Uint8Array(0),
});
export const REFUSED = emptyAnswer(Code.REFUSED);

export class DnsAnswers {
  /** All names in the format of messages, in lower case. */
  readonly #names: Uint8Array;
  readonly #starts: Int32Array;
  readonly #lengths: Uint8Array;
  /** Open addressing: index of a name, or -1; at most half full. */
  readonly #slots: Int32Array;
  /** By index of the name and {@link KINDS}. */
  readonly #answers: Answer[];
  /** NXDOMAIN answers, by the length of the name. */
  readonly #nameErrors: Answer[];
  readonly #origin: Uint8Array;

  constructor(zone: Zone) {
    const names = [...namesOf(zone)];
    const wires = names.map(wireName);
    this.#origin = wireName(zone.origin);
    this.#names = Uint8Array.from(wires.flatMap((wire) => [...wire]));
    this.#lengths = Uint8Array.from(wires, (wire) => wire.length);
    this.#starts = new Int32Array(wires.length);
    for (let i = 1; i < wires.length; i++) this.#starts[i] = this.#starts[i - 1]! + wires[i - 1]!.length;
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(2 * wires.length))).fill(-1);
    wires.forEach((wire, i) => {
      let slot = finishHash(wire.reduce(mixHash, 0));
      while (this.#slots[slot & (this.#slots.length - 1)] !== -1) slot++;
      this.#slots[slot & (this.#slots.length - 1)] = i;
    });
    const writer = new AnswerWriter(zone, new Set(names));
    this.#answers = names.flatMap((name) => KINDS.map((kind) => writer.write(name, kind)));
    this.#nameErrors = Array.from({ length: MAX_NAME + 1 }, (_, bytes) =>
      writer.nameError(Math.max(bytes, this.#origin.length)),
    );
  }

  /**
   * The answer to a question for class IN.
   *
   * @param at position of the name, which is complete and uncompressed and has `bytes` bytes with its final 0
   */
  find(packet: Packet, at: number, bytes: number, type: number): Answer {
    if (type === Type.AXFR || type === Type.IXFR) return REFUSED;
    let hash = 0;
    for (let i = 0; i < bytes; i++) hash = mixHash(hash, lower(packet.u8(at + i)));
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = finishHash(hash) & mask; slots[slot] !== -1; slot = (slot + 1) & mask) {
      const i = slots[slot]!;
      if (bytes === this.#lengths[i] && this.#equals(packet, at, bytes, this.#names, this.#starts[i]!)) {
        return this.#answers[i * KINDS.length + kindOf(type)]!;
      }
    }
    return this.#isBelow(packet, at, bytes) ? this.#nameErrors[bytes]! : REFUSED;
  }

  #equals(packet: Packet, at: number, bytes: number, names: Uint8Array, start: number): boolean {
    for (let i = 0; i < bytes; i++) if (lower(packet.u8(at + i)) !== names[start + i]) return false;
    return true;
  }

  /** Whether the name ends with the zone's name, at the start of a label. */
  #isBelow(packet: Packet, at: number, bytes: number): boolean {
    const origin = this.#origin;
    const from = at + bytes - origin.length;
    let label = at;
    while (label < from) label += packet.u8(label) + 1;
    return label === from && this.#equals(packet, from, origin.length, origin, 0);
  }
}

/** Leaves lengths of labels unchanged: they are less than any letter. */
function lower(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}

function kindOf(type: number): number {
  switch (type) {
    case Type.A:
      return 0;
    case Type.AAAA:
      return 1;
    case Type.ANY:
      return 2;
    case Type.CNAME:
      return 3;
    case Type.SOA:
      return 4;
    default:
      return 5;
  }
}

/** All existing names: those with records, and all between them and the zone's name (RFC 8020). */
function namesOf({ origin, records }: Zone): Set<string> {
  const names = new Set([origin]);
  for (const { name } of records) {
    for (let at = name; at !== origin; at = at.slice(at.indexOf('.') + 1) || '.') names.add(at);
  }
  return names;
}

/** 'a.bc.' as 1 a 2 b c 0. */
function wireName(name: string): Uint8Array {
  const labels = name.split('.').filter((label) => label !== '');
  return Uint8Array.from([...labels.flatMap((label) => [label.length, ...Buffer.from(label)]), 0]);
}

const be16 = (value: number): number[] => [(value >> 8) & 255, value & 255];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value)];

/** Writes the sections after the question, for each name and kind. */
class AnswerWriter {
  readonly #zone: Zone;
  readonly #names: ReadonlySet<string>;
  readonly #records = new Map<string, ZoneRecord[]>();

  constructor(zone: Zone, names: ReadonlySet<string>) {
    this.#zone = zone;
    this.#names = names;
    for (const record of zone.records) {
      this.#records.set(record.name, [...(this.#records.get(record.name) ?? []), record]);
    }
  }

  write(name: string, kind: Kind): Answer {
    const nameBytes = wireName(name).length;
    const start = HEADER_BYTES + nameBytes + QUESTION_BYTES;
    const bytes: number[] = [];
    let answers = 0;
    let found = 0;
    // A record's owner is the question's name or the target of the CNAME before it: a pointer in both cases.
    let owner = HEADER_BYTES;
    const add = (type: number, ttl: number, data: ArrayLike<number>): void => {
      bytes.push(...recordOf(owner, type, ttl, data));
      answers++;
    };
    const finished = (code: number): Answer => {
      const isNegative = code === Code.NAME_ERROR || found === 0;
      const soa = isNegative ? this.#soa(nameBytes) : [];
      return {
        code,
        authoritative: true,
        answers,
        authorities: isNegative ? 1 : 0,
        bytes: Uint8Array.from([...bytes, ...soa]),
      };
    };
    let at = name;
    for (let alias = this.#aliasOf(at); alias !== undefined; alias = this.#aliasOf(at)) {
      const data = wireName(alias.target);
      add(Type.CNAME, alias.ttl, data);
      owner = start + bytes.length - data.length;
      at = alias.target;
      if (kind === 'CNAME' || kind === 'ANY' || !isBelow(at, this.#zone.origin)) found = 1;
      if (found === 1) return finished(Code.NO_ERROR);
      if (!this.#names.has(at)) return finished(Code.NAME_ERROR);
    }
    for (const record of this.#records.get(at) ?? []) {
      if (kind !== record.type && kind !== 'ANY') continue;
      add(Type[record.type], record.ttl, record.data);
      found++;
    }
    if (kind === 'SOA' && at === this.#zone.origin) {
      bytes.push(...this.#soa(nameBytes, owner));
      answers++;
      found++;
    }
    return finished(Code.NO_ERROR);
  }

  nameError(nameBytes: number): Answer {
    const bytes = Uint8Array.from(this.#soa(nameBytes));
    return { code: Code.NAME_ERROR, authoritative: true, answers: 0, authorities: 1, bytes };
  }

  #aliasOf(name: string): ZoneRecord | undefined {
    return this.#records.get(name)?.find(({ type }) => type === 'CNAME');
  }

  /** The record that a negative answer must have (RFC 2308). The question's name ends with the zone's. */
  #soa(nameBytes: number, owner?: number): number[] {
    const origin = HEADER_BYTES + nameBytes - wireName(this.#zone.origin).length;
    const mailbox = [...wireName('hostmaster.').slice(0, -1), ...be16(POINTER | origin)];
    const data = [...be16(POINTER | origin), ...mailbox, ...SOA_TIMES.flatMap(be32)];
    return recordOf(owner ?? origin, Type.SOA, NEGATIVE_TTL, data);
  }
}

function recordOf(owner: number, type: number, ttl: number, data: ArrayLike<number>): number[] {
  const head = [...be16(POINTER | owner), ...be16(type), ...be16(CLASS_IN), ...be32(ttl)];
  return [...head, ...be16(data.length), ...Array.from(data)];
}

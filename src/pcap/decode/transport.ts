/** TCP (RFC 9293) and UDP (RFC 768). */
import { DNS } from './dns.ts';
import { bytesOf, type Emitter, inner, type Span } from './layer.ts';

const TCP_BYTES = 20;
const UDP_BYTES = 8;
const DNS_PORT = 53;

export class TCPFlags {
  readonly nonce: boolean;
  readonly cwr: boolean;
  readonly ece: boolean;
  readonly urg: boolean;
  readonly ack: boolean;
  readonly psh: boolean;
  readonly rst: boolean;
  readonly syn: boolean;
  readonly fin: boolean;

  /** @param bits the low nine bits of the two bytes with the header's length */
  constructor(bits: number) {
    const has = (bit: number): boolean => (bits & bit) !== 0;
    this.nonce = has(0x100);
    this.cwr = has(0x80);
    this.ece = has(0x40);
    this.urg = has(0x20);
    this.ack = has(0x10);
    this.psh = has(8);
    this.rst = has(4);
    this.syn = has(2);
    this.fin = has(1);
  }

  toString(): string {
    const { cwr, ece, urg, ack, psh, rst, syn, fin } = this;
    const set = Object.entries({ c: cwr, e: ece, u: urg, a: ack, p: psh, r: rst, s: syn, f: fin });
    return `[${set
      .filter(([, is]) => is)
      .map(([letter]) => letter)
      .join('')}]`;
  }
}

const Kind = { END: 0, NOP: 1, MSS: 2, SCALE: 3, SACK_OK: 4, SACK: 5, TIMESTAMP: 8 } as const;

export class TCPOptions {
  mss: number | null = null;
  window_scale: number | null = null;
  sack_ok: boolean | null = null;
  /** Pairs: from, to. */
  sack: [number, number][] | null = null;
  timestamp: number | null = null;
  echo: number | null = null;

  /** Reads options up to the end mark, or one that is cut. */
  constructor({ bytes, at, end }: Span) {
    for (let next = at; next < end; ) {
      const kind = bytes[next]!;
      if (kind === Kind.END) return;
      if (kind === Kind.NOP) {
        next++;
        continue;
      }
      const length = bytes[next + 1] ?? 0;
      if (length < 2 || next + length > end) return;
      this.#read(bytes, kind, next + 2, length - 2);
      next += length;
    }
  }

  #read(bytes: Buffer, kind: number, at: number, length: number): void {
    if (kind === Kind.MSS && length === 2) this.mss = bytes.readUInt16BE(at);
    if (kind === Kind.SCALE && length === 1) this.window_scale = bytes[at]!;
    if (kind === Kind.SACK_OK && length === 0) this.sack_ok = true;
    if (kind === Kind.SACK) {
      this.sack = [];
      for (let pair = 0; pair + 8 <= length; pair += 8)
        this.sack.push([bytes.readUInt32BE(at + pair), bytes.readUInt32BE(at + pair + 4)]);
    }
    if (kind === Kind.TIMESTAMP && length === 8) {
      this.timestamp = bytes.readUInt32BE(at);
      this.echo = bytes.readUInt32BE(at + 4);
    }
  }

  toString(): string {
    const { mss, window_scale: scale, sack_ok: ok, sack } = this;
    const all = [
      mss === null ? '' : `mss:${mss}`,
      scale === null ? '' : `scale:${scale}(${2 ** scale})`,
      ok === null ? '' : 'sack_ok',
      sack === null || sack.length === 0 ? '' : `sack:${sack.join(' ')}`,
    ].filter((text) => text !== '');
    return all.length === 0 ? '[.]' : `[${all.join(' ')}]`;
  }
}

export class TCP {
  readonly sport: number;
  readonly dport: number;
  readonly seqno: number;
  readonly ackno: number;
  /** Bytes. */
  readonly headerLength: number;
  readonly flags: TCPFlags;
  readonly windowSize: number;
  readonly checksum: number;
  readonly urgentPointer: number;
  readonly options: TCPOptions;
  /** null without data. */
  readonly data: Buffer | null;
  /** Bytes of {@link data}. */
  readonly dataLength: number;

  private constructor(span: Span) {
    const { bytes, at } = span;
    const word = bytes.readUInt16BE(at + 12);
    this.sport = bytes.readUInt16BE(at);
    this.dport = bytes.readUInt16BE(at + 2);
    this.seqno = bytes.readUInt32BE(at + 4);
    this.ackno = bytes.readUInt32BE(at + 8);
    this.headerLength = (word >> 12) * 4;
    this.flags = new TCPFlags(word & 0x1ff);
    this.windowSize = bytes.readUInt16BE(at + 14);
    this.checksum = bytes.readUInt16BE(at + 16);
    this.urgentPointer = bytes.readUInt16BE(at + 18);
    this.options = new TCPOptions(inner(span, TCP_BYTES, this.headerLength - TCP_BYTES));
    const data = inner(span, Math.max(TCP_BYTES, this.headerLength));
    this.dataLength = bytesOf(data);
    this.data = this.dataLength === 0 ? null : bytes.subarray(data.at, data.end);
  }

  static read(span: Span, emitter: Emitter): TCP | null {
    if (bytesOf(span) < TCP_BYTES) return null;
    const tcp = new TCP(span);
    emitter?.emit('tcp', tcp);
    return tcp;
  }

  toString(): string {
    const { sport, dport, seqno, ackno, flags, windowSize, checksum, options, dataLength } = this;
    return `${sport}->${dport} seq ${seqno} ack ${ackno} flags ${flags} win ${windowSize} csum ${checksum} ${options} len ${dataLength}`;
  }
}

export class UDP {
  readonly sport: number;
  readonly dport: number;
  /** Bytes with the header, as the header says. */
  readonly length: number;
  readonly checksum: number;
  readonly data: Buffer;

  private constructor(span: Span) {
    const { bytes, at } = span;
    this.sport = bytes.readUInt16BE(at);
    this.dport = bytes.readUInt16BE(at + 2);
    this.length = bytes.readUInt16BE(at + 4);
    this.checksum = bytes.readUInt16BE(at + 6);
    const data = inner(span, UDP_BYTES, this.length - UDP_BYTES);
    this.data = bytes.subarray(data.at, data.end);
  }

  static read(span: Span, emitter: Emitter): UDP | null {
    if (bytesOf(span) < UDP_BYTES) return null;
    const udp = new UDP(span);
    emitter?.emit('udp', udp);
    return udp;
  }

  toString(): string {
    const { sport, dport, length, data } = this;
    const dns = sport === DNS_PORT || dport === DNS_PORT ? new DNS().decode(data) : undefined;
    return `UDP ${sport}->${dport} len ${length}${dns === undefined ? '' : dns}`;
  }
}

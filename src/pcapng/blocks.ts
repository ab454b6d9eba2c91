/**
 * The pcapng format as it is read, draft-ietf-opsawg-pcapng. A file has sections, each with its byte order and its interfaces.
 * Blocks of kinds that say nothing of packets are left out, however long they are.
 */
import type { ByteSource } from './byte-source.ts';
import {
  type CapturedPacket,
  type CaptureFormat,
  MAX_CAPTURED,
  NANOS_PER_SECOND,
  withoutFcs,
} from './captured-packet.ts';
import {
  BlockType,
  BYTE_ORDER_MAGIC,
  Direction,
  InterfaceOption,
  MAJOR,
  OPTION_END,
  PacketOption,
  padded,
} from './format.ts';

/** The Packet Block, which the Enhanced Packet Block has replaced. */
const OBSOLETE_PACKET = 2;
/** `if_fcslen`. The draft says bits and its example bytes; writers have both. */
const FCS_LENGTH = 13;

/** Type and length before the body, and the length again behind it. */
const HEAD = 8;
const TAIL = 4;
const SECTION_FIXED = 16;
const INTERFACE_FIXED = 8;
const ENHANCED_FIXED = 20;
const SIMPLE_FIXED = 4;

/** The most bytes of a block with packets or an interface: the longest packet, and 128 KiB of options. */
const MAX_BLOCK = MAX_CAPTURED + 128 * 1024;
/** A file of nothing but interfaces must not fill the memory. */
const MAX_INTERFACES = 65_536;
const MAX_NANOS = 2n ** 64n - 1n;
/** Unless `if_tsresol` says otherwise. */
const MICROSECONDS = 6;

interface Interface {
  readonly linkType: number;
  /** 0: no limit. */
  readonly snapLength: number;
  readonly fcs: number;
  /** Nanoseconds are ticks times `multiply` by `divide`, plus `offset`. */
  readonly multiply: bigint;
  readonly divide: bigint;
  readonly offset: bigint;
}

export class PcapngFormat implements CaptureFormat {
  readonly name = 'pcapng';
  readonly #source: ByteSource;
  #little = true;
  #interfaces: Interface[] = [];

  /** Reads the first section's header. @throws ERR_CAPTURE_FILE */
  constructor(source: ByteSource) {
    this.#source = source;
    this.#section();
  }

  next(): CapturedPacket | undefined {
    const source = this.#source;
    for (;;) {
      const { offset } = source;
      if (!source.has(HEAD)) return source.left === 0 ? undefined : source.truncated(offset, 'a block');
      const type = source.view.getUint32(source.at, this.#little);
      if (type === BlockType.SECTION_HEADER) {
        this.#section();
        continue;
      }
      const length = this.#lengthOf(offset, 0);
      switch (type) {
        case BlockType.INTERFACE_DESCRIPTION:
          this.#whole(offset, length, INTERFACE_FIXED);
          this.#describe(offset, length);
          break;
        case BlockType.ENHANCED_PACKET:
        case OBSOLETE_PACKET: {
          this.#whole(offset, length, ENHANCED_FIXED);
          return this.#packet(offset, length, type === OBSOLETE_PACKET);
        }
        case BlockType.SIMPLE_PACKET:
          this.#whole(offset, length, SIMPLE_FIXED);
          return this.#simple(offset, length);
        default:
          this.#leaveOut(offset, length);
      }
    }
  }

  /** Reads a section's header and leaves out its options. */
  #section(): void {
    const source = this.#source;
    const { offset } = source;
    if (!source.has(HEAD + SECTION_FIXED)) source.truncated(offset, "a section's header");
    const { view, at } = source;
    const little = view.getUint32(at + HEAD, true) === BYTE_ORDER_MAGIC;
    if (!little && view.getUint32(at + HEAD, false) !== BYTE_ORDER_MAGIC)
      source.damaged(offset + HEAD, 'no byte order of pcapng');
    this.#little = little;
    const major = view.getUint16(at + HEAD + 4, little);
    if (major !== MAJOR) source.damaged(offset + HEAD + 4, `version ${major} of pcapng; known is ${MAJOR}`);
    const length = this.#lengthOf(offset, SECTION_FIXED);
    this.#interfaces = [];
    this.#leaveOut(offset, length);
  }

  /** The length of the block at the source's place, checked. */
  #lengthOf(offset: number, fixed: number): number {
    const { view, at } = this.#source;
    const length = view.getUint32(at + 4, this.#little);
    if (length % 4 !== 0 || length < HEAD + fixed + TAIL)
      this.#source.damaged(offset + 4, `a block of ${length} bytes`);
    return length;
  }

  /** Has the whole block in the buffer, and checks its second length. */
  #whole(offset: number, length: number, fixed: number): void {
    const source = this.#source;
    if (length < HEAD + fixed + TAIL) source.damaged(offset + 4, `a block of ${length} bytes of its type`);
    if (length > MAX_BLOCK)
      source.damaged(offset + 4, `a block of ${length} bytes; ${MAX_BLOCK} is the most for its type`);
    if (!source.has(length)) source.truncated(offset, 'a block');
    this.#checkTail(offset, source.at + length - TAIL, length);
  }

  #leaveOut(offset: number, length: number): void {
    const source = this.#source;
    if (!source.skip(length - TAIL) || !source.has(TAIL)) source.truncated(offset, 'a block');
    this.#checkTail(offset, source.at, length);
    source.at += TAIL;
  }

  #checkTail(offset: number, at: number, length: number): void {
    const again = this.#source.view.getUint32(at, this.#little);
    if (again !== length)
      this.#source.damaged(offset + length - TAIL, `a block of ${length} bytes that ends as one of ${again}`);
  }

  #describe(offset: number, length: number): void {
    const source = this.#source;
    if (this.#interfaces.length === MAX_INTERFACES)
      source.damaged(offset, `more than ${MAX_INTERFACES} interfaces`);
    const { view, at } = source;
    let [resolution, seconds, fcs] = [MICROSECONDS, 0n, 0];
    this.#options(offset, HEAD + INTERFACE_FIXED, length, (code, value, bytes) => {
      if (code === InterfaceOption.TIME_RESOLUTION && bytes >= 1) resolution = view.getUint8(value);
      if (code === InterfaceOption.TIME_OFFSET && bytes >= 8) seconds = view.getBigInt64(value, this.#little);
      if (code === FCS_LENGTH && bytes >= 1) fcs = view.getUint8(value);
    });
    this.#interfaces.push({
      linkType: view.getUint16(at + HEAD, this.#little),
      snapLength: view.getUint32(at + HEAD + 4, this.#little),
      fcs: fcs < 16 ? fcs : fcs >> 3,
      ...unitOf(resolution),
      offset: seconds * NANOS_PER_SECOND,
    });
    source.at += length;
  }

  #packet(offset: number, length: number, obsolete: boolean): CapturedPacket {
    const source = this.#source;
    const little = this.#little;
    const { view, at } = source;
    const number = obsolete ? view.getUint16(at + HEAD, little) : view.getUint32(at + HEAD, little);
    const from = this.#interfaceOf(offset, number);
    const ticks = (BigInt(view.getUint32(at + 12, little)) << 32n) | BigInt(view.getUint32(at + 16, little));
    const captured = view.getUint32(at + 20, little);
    const original = Math.max(view.getUint32(at + 24, little), captured);
    const data = HEAD + ENHANCED_FIXED;
    this.#checkCaptured(offset + 20, captured, length - data - TAIL);
    let flags = 0;
    this.#options(offset, data + padded(captured), length, (code, value, bytes) => {
      if (code === PacketOption.FLAGS && bytes >= 4) flags = view.getUint32(value, little);
    });
    const nanos = (ticks * from.multiply) / from.divide + from.offset;
    source.at += length;
    // Bits 5 to 8 of the flags: bytes of the frame check sequence of this packet.
    const fcs = (flags >> 5) & 15 || from.fcs;
    return {
      interface: number,
      linkType: from.linkType,
      nanos: nanos < 0n ? 0n : nanos > MAX_NANOS ? MAX_NANOS : nanos,
      data: source.bytes.subarray(at + data, at + data + withoutFcs(captured, original, fcs)),
      length: Math.max(0, original - fcs),
      direction: direction(flags & 3),
    };
  }

  /** It has no time, and belongs to the first interface, which says how many bytes were captured at most. */
  #simple(offset: number, length: number): CapturedPacket {
    const source = this.#source;
    const { view, at } = source;
    const { linkType, snapLength, fcs } = this.#interfaceOf(offset, 0);
    const original = view.getUint32(at + HEAD, this.#little);
    const captured = snapLength === 0 ? original : Math.min(original, snapLength);
    const data = HEAD + SIMPLE_FIXED;
    this.#checkCaptured(offset + HEAD, captured, length - data - TAIL);
    source.at += length;
    return {
      interface: 0,
      linkType,
      nanos: undefined,
      data: source.bytes.subarray(at + data, at + data + withoutFcs(captured, original, fcs)),
      length: Math.max(0, original - fcs),
      direction: Direction.UNKNOWN,
    };
  }

  #interfaceOf(offset: number, number: number): Interface {
    const found = this.#interfaces[number];
    if (found !== undefined) return found;
    return this.#source.damaged(
      offset + HEAD,
      `a packet of interface ${number}; the section has described ${this.#interfaces.length} before it`,
    );
  }

  #checkCaptured(offset: number, captured: number, room: number): void {
    if (captured <= MAX_CAPTURED && captured <= room) return;
    this.#source.damaged(offset, `a packet with ${captured} captured bytes in a block with room for ${room}`);
  }

  /** Calls `visit` with the index of each option's value. @param from first byte of the options in the block */
  #options(
    offset: number,
    from: number,
    length: number,
    visit: (code: number, value: number, bytes: number) => void,
  ): void {
    const source = this.#source;
    const { view } = source;
    const end = source.at + length - TAIL;
    for (let at = source.at + from; at + 4 <= end; ) {
      const code = view.getUint16(at, this.#little);
      const bytes = view.getUint16(at + 2, this.#little);
      if (code === OPTION_END) return;
      if (at + 4 + bytes > end)
        source.damaged(offset + at - source.at, `an option of ${bytes} bytes, more than its block has`);
      visit(code, at + 4, bytes);
      at += 4 + padded(bytes);
    }
  }
}

/** The unit of time stamps by `if_tsresol`: a negative power of ten, or of two if the highest bit is set. */
function unitOf(resolution: number): Pick<Interface, 'multiply' | 'divide'> {
  const power = resolution & 0x7f;
  if (resolution > 0x7f) return { multiply: NANOS_PER_SECOND, divide: 1n << BigInt(power) };
  if (power <= 9) return { multiply: 10n ** BigInt(9 - power), divide: 1n };
  return { multiply: 1n, divide: 10n ** BigInt(power - 9) };
}

/** 3 is not assigned. */
const direction = (bits: number): number =>
  bits === Direction.INBOUND || bits === Direction.OUTBOUND ? bits : Direction.UNKNOWN;

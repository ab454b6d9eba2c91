/**
 * The pcap format, draft-ietf-opsawg-pcap: a header of 24 bytes, then for each packet its time, its two lengths, and its bytes.
 * All in the byte order of the machine that wrote the file, which the first word tells.
 */
import type { ByteSource } from './byte-source.ts';
import {
  type CapturedPacket,
  type CaptureFormat,
  MAX_CAPTURED,
  NANOS_PER_SECOND,
  withoutFcs,
} from './captured-packet.ts';
import { Direction } from './format.ts';

/** The first word of a file, by the unit of its time stamps. */
export const MICROSECOND_MAGIC = 0xa1b2c3d4;
export const NANOSECOND_MAGIC = 0xa1b23c4d;

const HEADER = 24;
const RECORD = 16;
/** In the last word of the header: the link type, and whether and how many bytes of frame check sequence each packet has. */
const LINK_TYPE = 0xffff;
const HAS_FCS = 0x0400_0000;

/** Whether a file that begins with these four bytes is one of this format. */
export function isClassic(view: DataView, at: number): boolean {
  return [true, false].some((little) => isMagic(view.getUint32(at, little)));
}

const isMagic = (word: number): boolean => word === MICROSECOND_MAGIC || word === NANOSECOND_MAGIC;

export class ClassicFormat implements CaptureFormat {
  readonly name = 'pcap';
  readonly #source: ByteSource;
  readonly #little: boolean;
  /** Nanoseconds in a unit of the time stamps. */
  readonly #unit: bigint;
  readonly #linkType: number;
  /** Bytes of frame check sequence at the end of each packet. */
  readonly #fcs: number;

  /** Reads the header. @throws ERR_CAPTURE_FILE */
  constructor(source: ByteSource) {
    this.#source = source;
    if (!source.has(HEADER)) source.truncated(0, 'the header of a pcap file');
    const { view, at } = source;
    this.#little = isMagic(view.getUint32(at, true));
    this.#unit = view.getUint32(at, this.#little) === NANOSECOND_MAGIC ? 1n : 1000n;
    const major = view.getUint16(at + 4, this.#little);
    const minor = view.getUint16(at + 6, this.#little);
    // Before 2.4 some writers had the two lengths of a packet the other way round.
    if (major !== 2 || minor < 4) source.damaged(4, `version ${major}.${minor} of pcap; known is 2.4`);
    const link = view.getUint32(at + 20, this.#little);
    this.#linkType = link & LINK_TYPE;
    this.#fcs = (link & HAS_FCS) === 0 ? 0 : 2 * (link >>> 28);
    source.at += HEADER;
  }

  next(): CapturedPacket | undefined {
    const source = this.#source;
    const { offset } = source;
    if (!source.has(RECORD)) return source.left === 0 ? undefined : source.truncated(offset, 'a packet');
    const little = this.#little;
    const { view, at } = source;
    const captured = view.getUint32(at + 8, little);
    const original = view.getUint32(at + 12, little);
    if (captured > MAX_CAPTURED)
      source.damaged(offset + 8, `a packet with ${captured} captured bytes; ${MAX_CAPTURED} is the most`);
    const nanos =
      BigInt(view.getUint32(at, little)) * NANOS_PER_SECOND +
      BigInt(view.getUint32(at + 4, little)) * this.#unit;
    if (!source.has(RECORD + captured)) source.truncated(offset, 'a packet');
    const from = source.at + RECORD;
    source.at = from + captured;
    // A writer may have been wrong about the second length: a packet is not shorter than what is there of it.
    const length = Math.max(original, captured) - this.#fcs;
    return {
      interface: 0,
      linkType: this.#linkType,
      nanos,
      data: source.bytes.subarray(from, from + withoutFcs(captured, Math.max(original, captured), this.#fcs)),
      length: Math.max(length, 0),
      direction: Direction.UNKNOWN,
    };
  }
}

/**
 * Writes the blocks of a pcapng file, as bytes. A file is a {@link sectionHeader}, then an {@link interfaceDescription} for each
 * interface, before the first packet that names it; interfaces are numbered from 0 in the order of their descriptions. Packets
 * follow in any order, and {@link interfaceStatistics} at the end.
 *
 * Little-endian, which every reader takes. Time stamps are nanoseconds since 1970. Pure; any thread.
 */
import {
  BlockType,
  BYTE_ORDER_MAGIC,
  ETHERNET,
  InterfaceOption,
  MAJOR,
  MINOR,
  NANOSECONDS,
  OPTION_COMMENT,
  OPTION_END,
  PacketOption,
  padded,
  SectionOption,
  StatisticsOption,
  VerdictType,
} from './format.ts';
import { Options } from './options.ts';

/** Bytes of a block around its body: type, length, and length again. */
const FRAME = 12;

/** Who has written the file. */
export interface Section {
  readonly hardware?: string;
  readonly os?: string;
  readonly application?: string;
  readonly comment?: string;
}

/** An interface whose packets the file has. */
export interface Interface {
  readonly name?: string;
  readonly description?: string;
  /** The filter that chose the packets, in the language of pcap-filter(7). */
  readonly filter?: string;
  /** Six bytes. */
  readonly mac?: Uint8Array;
  /** Bits a second. */
  readonly speed?: bigint;
  /** LINKTYPE_… Default Ethernet. */
  readonly linkType?: number;
  /** The most bytes of a packet that the file has; 0, the default: all. */
  readonly snapLength?: number;
}

export interface PacketRecord {
  /** Number of the interface. */
  readonly interface: number;
  /** Nanoseconds since 1970, 0 to 2^64 - 1. */
  readonly nanos: bigint;
  /** The bytes that were captured: all, or the first ones. */
  readonly data: Uint8Array;
  /** Bytes of the packet itself. Default: those of `data`. */
  readonly length?: number;
  /** One of `Direction`. Default: not written. */
  readonly direction?: number;
  /** Packets of this interface that are missing between the one before and this. Default: not written. */
  readonly dropCount?: number;
  /** Number of the queue. Default: not written. */
  readonly queue?: number;
  /** One of `XdpAction`. Default: not written. */
  readonly verdict?: number;
}

/** Counters of an interface. What is absent is not written. */
export interface InterfaceStatistics {
  readonly interface: number;
  /** When they were read: nanoseconds since 1970. */
  readonly nanos: bigint;
  readonly start?: bigint;
  readonly end?: bigint;
  readonly received?: bigint;
  /** Packets that passed the filter and are not in the file, because the reader was too slow. */
  readonly dropped?: bigint;
  readonly accepted?: bigint;
  readonly delivered?: bigint;
  readonly comment?: string;
}

export function sectionHeader({ hardware, os, application, comment }: Section = {}): Uint8Array {
  const options = new Options()
    .text(OPTION_COMMENT, comment)
    .text(SectionOption.HARDWARE, hardware)
    .text(SectionOption.OS, os)
    .text(SectionOption.APPLICATION, application);
  return block(BlockType.SECTION_HEADER, 16, options, (view) => {
    view.setUint32(8, BYTE_ORDER_MAGIC, true);
    view.setUint16(12, MAJOR, true);
    view.setUint16(14, MINOR, true);
    view.setBigInt64(16, -1n, true); // the section's length is not known
  });
}

export function interfaceDescription(description: Interface = {}): Uint8Array {
  const { name, description: text, filter, mac, speed, linkType = ETHERNET, snapLength = 0 } = description;
  const options = new Options().text(InterfaceOption.NAME, name).text(InterfaceOption.DESCRIPTION, text);
  if (mac !== undefined) options.raw(InterfaceOption.MAC, mac);
  options.u64(InterfaceOption.SPEED, speed).raw(InterfaceOption.TIME_RESOLUTION, Uint8Array.of(NANOSECONDS));
  // Its first byte says what follows: 0 is a filter as text.
  if (filter !== undefined) options.text(InterfaceOption.FILTER, `\0${filter}`);
  return block(BlockType.INTERFACE_DESCRIPTION, 8, options, (view) => {
    view.setUint16(8, linkType, true);
    view.setUint32(12, snapLength, true);
  });
}

export function interfaceStatistics(statistics: InterfaceStatistics): Uint8Array {
  const options = new Options()
    .text(OPTION_COMMENT, statistics.comment)
    .time(StatisticsOption.START, statistics.start)
    .time(StatisticsOption.END, statistics.end)
    .u64(StatisticsOption.RECEIVED, statistics.received)
    .u64(StatisticsOption.DROPPED, statistics.dropped)
    .u64(StatisticsOption.ACCEPTED, statistics.accepted)
    .u64(StatisticsOption.DELIVERED, statistics.delivered);
  return block(BlockType.INTERFACE_STATISTICS, 12, options, (view) => {
    view.setUint32(8, statistics.interface, true);
    putTime(view, 12, statistics.nanos);
  });
}

/** A packet: an Enhanced Packet Block. */
export function enhancedPacket(packet: PacketRecord): Uint8Array {
  const bytes = new Uint8Array(enhancedPacketBytes(packet));
  putEnhancedPacket(packet, new DataView(bytes.buffer), 0);
  return bytes;
}

/** Bytes of a packet's block. */
export function enhancedPacketBytes(packet: PacketRecord): number {
  const { direction, dropCount, queue, verdict } = packet;
  const options =
    (direction === undefined ? 0 : 8) +
    (dropCount === undefined ? 0 : 12) +
    (queue === undefined ? 0 : 8) +
    (verdict === undefined ? 0 : 16);
  return FRAME + 20 + padded(packet.data.length) + (options === 0 ? 0 : options + 4);
}

/** Writes the block into a buffer that has room for it. Returns the offset behind. */
export function putEnhancedPacket(packet: PacketRecord, view: DataView, at: number): number {
  const { data, length = data.length, direction, dropCount, queue, verdict } = packet;
  const bytes = enhancedPacketBytes(packet);
  view.setUint32(at, BlockType.ENHANCED_PACKET, true);
  view.setUint32(at + 4, bytes, true);
  view.setUint32(at + 8, packet.interface, true);
  putTime(view, at + 12, packet.nanos);
  view.setUint32(at + 20, data.length, true);
  view.setUint32(at + 24, length, true);
  const target = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  target.set(data, at + 28);
  let end = at + 28 + data.length;
  for (const after = at + 28 + padded(data.length); end < after; ) target[end++] = 0;
  const first = end;
  if (direction !== undefined) end = putHead(view, end, PacketOption.FLAGS, 4, direction);
  if (dropCount !== undefined) {
    end = putHead(view, end, PacketOption.DROP_COUNT, 8, dropCount >>> 0);
    view.setUint32(end, Math.floor(dropCount / 2 ** 32), true);
    end += 4;
  }
  if (queue !== undefined) end = putHead(view, end, PacketOption.QUEUE, 4, queue);
  if (verdict !== undefined) {
    // The type and a 64-bit value: nine bytes, and three of padding.
    end = putHead(view, end, PacketOption.VERDICT, 9, VerdictType.XDP | (verdict << 8));
    view.setUint32(end, 0, true);
    view.setUint32(end + 4, 0, true);
    end += 8;
  }
  if (end > first) {
    view.setUint32(end, OPTION_END, true);
    end += 4;
  }
  view.setUint32(end, bytes, true);
  return end + 4;
}

/** An option's head and the first four bytes of its value. Returns the offset behind these. */
function putHead(view: DataView, at: number, code: number, length: number, value: number): number {
  view.setUint16(at, code, true);
  view.setUint16(at + 2, length, true);
  view.setUint32(at + 4, value, true);
  return at + 8;
}

/** The high word first, in either byte order. */
function putTime(view: DataView, at: number, nanos: bigint): void {
  view.setUint32(at, Number(nanos >> 32n), true);
  view.setUint32(at + 4, Number(nanos & 0xffffffffn), true);
}

/** A block with `body` bytes of fixed fields, which `fill` writes, from offset 8. */
function block(type: number, body: number, options: Options, fill: (view: DataView) => void): Uint8Array {
  const length = FRAME + body + options.bytes;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  fill(view);
  options.put(view, 8 + body);
  view.setUint32(length - 4, length, true);
  return bytes;
}

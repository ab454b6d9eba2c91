/** A packet of a capture file, and what its two formats have in common. */

/** A packet of a file. The fields have the names of the writer's `PacketRecord`. */
export interface CapturedPacket {
  /** Number of its interface in the section, from 0. */
  readonly interface: number;
  /** LINKTYPE_… of the interface; 1 is Ethernet. */
  readonly linkType: number;
  /** Nanoseconds since 1970, 0 to 2^64 - 1. undefined: the file has none for it. */
  readonly nanos: bigint | undefined;
  /** Its captured bytes, without frame check sequence. Valid until the next packet is read: the buffer is used again. */
  readonly data: Uint8Array;
  /** Bytes that the packet had, without frame check sequence: more than those of `data` if the capture cut it. */
  readonly length: number;
  /** One of `Direction`. */
  readonly direction: number;
}

/** A parser of one format. */
export interface CaptureFormat {
  readonly name: 'pcap' | 'pcapng';
  /** The next packet; undefined at the end of the file. @throws ERR_CAPTURE_FILE */
  next(): CapturedPacket | undefined;
}

/** The most bytes of a captured packet that a reader accepts, as libpcap's MAXIMUM_SNAPLEN. */
export const MAX_CAPTURED = 262_144;

export const NANOS_PER_SECOND = 1_000_000_000n;

/** How many of the `captured` bytes belong to the packet, if its last `fcs` bytes are the frame check sequence. */
export const withoutFcs = (captured: number, length: number, fcs: number): number =>
  Math.max(0, Math.min(captured, length - fcs));

/**
 * Delivered packets as the application gets them: a burst of packets where they are in the shared memory, and a packet that the
 * application keeps. Belongs to the thread that opened the port.
 */
import { PacketView } from './handler/packet-view.ts';
import type { DeliveryTable } from './memory/delivery-ring.ts';
import { PATH_NAMES } from './memory/layout.ts';
import type { Memory } from './memory/shared.ts';
import type { PathKey } from './statistics.ts';

/** The most packets of a burst: its descriptors fit the first-level cache, and a step costs a nanosecond a packet. */
export const MAX_DELIVERED = 256;

/** A packet that a handler delivered, copied. The application owns it: no other thread uses its memory. */
export interface DeliveredPacket {
  /** From the Ethernet header on, without frame check sequence. */
  readonly data: Buffer;
  /** The queue whose worker delivered it. */
  readonly queue: number;
  /** The path that received it; 'host' is the machine's own stack. */
  readonly path: PathKey;
  /** RSS hash; 0 if none was computed. */
  readonly hash: number;
  /** When the worker delivered it: nanoseconds since 1970 of the machine's clock. Packets of one burst of its have the same. */
  readonly timestamp: bigint;
  /** Metadata 'time': when the device received it, in nanoseconds of the device's clock; 0n not known. */
  readonly time: bigint;
}

/**
 * A burst of delivered packets, as a struct of arrays: entry `i` of each, up to {@link length}, belongs to packet `i`. No object
 * is made for a packet.
 *
 * The packets are where the worker has received them, and the object is used again: all of it is good until the next step of the
 * iteration, when the frames go back to the worker. What the application keeps it copies ({@link copy}).
 */
export class DeliveredBurst implements DeliveryTable {
  /** Packets in this burst, at least 1. */
  length = 0;
  /** The queue whose worker delivered them. */
  queue = 0;
  /** Offset of each packet's first byte in {@link memory}. */
  readonly offset = new Int32Array(MAX_DELIVERED);
  /** Bytes of each packet, without the frame check sequence. */
  readonly bytes = new Int32Array(MAX_DELIVERED);
  /** RSS hash; 0 if none was computed. */
  readonly hash = new Int32Array(MAX_DELIVERED);
  /** Path that received it: `Path.SYNTHETIC` 1, `Path.VF` 2, `Path.HOST` 3. */
  readonly path = new Uint8Array(MAX_DELIVERED);
  /** Metadata 'rule': 1 + index of the flow rule that gave it to the handler; 0 none, or not known. */
  readonly rule = new Int32Array(MAX_DELIVERED);
  /** Metadata 'checksum': 1 if the device has verified the checksum, 0 if that is not known. */
  readonly checksum = new Uint8Array(MAX_DELIVERED);
  /** When the worker delivered it: nanoseconds since 1970 of the machine's clock. Packets of one burst of its have the same. */
  readonly timestamp = new BigUint64Array(MAX_DELIVERED);
  /** Metadata 'time': when the device received it, in nanoseconds of the device's clock; 0 not known. */
  readonly time = new BigUint64Array(MAX_DELIVERED);
  /** The shared memory with all packets. Only the bytes of this burst's packets are the application's. */
  readonly memory: Uint8Array;
  /** The same for numbers: `view.getUint16(offset[i] + 12)` is the EtherType. */
  readonly view: DataView;
  readonly #shown: PacketView;

  constructor(memory: Memory) {
    this.memory = memory.bytes;
    this.view = memory.view;
    this.#shown = new PacketView(memory, this);
  }

  /** The i-th packet as one reused view, checked and big-endian: good until the next call. @throws RangeError */
  packet(i: number): PacketView {
    return this.#shown.moveTo(i);
  }

  /** The bytes of the i-th packet in place, as a new view: good until the next step. */
  data(i: number): Uint8Array {
    const at = this.offset[i]!;
    return this.memory.subarray(at, at + this.bytes[i]!);
  }

  /** A copy of the i-th packet, which the application may keep. */
  copy(i: number): DeliveredPacket {
    return {
      data: Buffer.from(this.data(i)),
      queue: this.queue,
      path: PATH_NAMES[this.path[i]!] as PathKey,
      hash: this.hash[i]!,
      timestamp: this.timestamp[i]!,
      time: this.time[i]!,
    };
  }
}

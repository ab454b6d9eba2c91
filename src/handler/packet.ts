/**
 * A packet of a burst: its bytes, and its metadata where the handler's port has some (memory/metadata.ts).
 *
 * Belongs to the worker thread.
 */
import { MetadataBit, TAG_ORDER } from '../memory/metadata.ts';
import type { Memory } from '../memory/shared.ts';
import { type PacketTable, PacketView } from './packet-view.ts';

/** The arrays of a {@link Burst}, as a type of its own to keep imports one way. */
export interface MetadataTable extends PacketTable {
  readonly hash: Int32Array;
  readonly offload: Int32Array;
  readonly tag: Int32Array;
  readonly rule: Int32Array;
  readonly time: BigUint64Array;
  readonly checksum: Uint8Array;
  /** `MetadataBit`s. */
  readonly metadata: number;
}

function notAskedFor(name: string): TypeError {
  return new TypeError(`the port has no metadata '${name}': the handler module exports no such name`);
}

/**
 * One packet of a burst: a checked, big-endian view of its bytes. {@link Burst.packet} returns it.
 *
 * The worker moves one such object from packet to packet, so a handler must not keep it. Worker thread only.
 */
export class Packet extends PacketView {
  declare protected readonly burst: MetadataTable;
  /** Of a packet that is being made. */
  #offload = 0;
  #tag = 0;

  constructor(memory: Memory, burst: MetadataTable) {
    super(memory, burst);
  }

  override moveToFrame(offset: number, length: number): this {
    this.#offload = 0;
    this.#tag = 0;
    return super.moveToFrame(offset, length);
  }

  /** The RSS hash: `burst.hash`; 0 none. */
  get hash(): number {
    return this.index < 0 ? 0 : this.burst.hash[this.index]! >>> 0;
  }

  /** When the device received it, in nanoseconds of the device's clock; 0n not known. Metadata 'time'. Allocates. */
  get time(): bigint {
    return this.index < 0 ? 0n : this.burst.time[this.index]!;
  }

  /** Position in the port's list of the flow rule that gave it to the handler; -1 none, or not known. Metadata 'rule'. */
  get rule(): number {
    return this.index < 0 ? -1 : this.burst.rule[this.index]! - 1;
  }

  /** Whether the device has verified its checksum; false if that is not known. Metadata 'checksum'. */
  get checksumVerified(): boolean {
    return this.index >= 0 && this.burst.checksum[this.index] === 1;
  }

  /**
   * What is left to do before the packet can be sent; 0 nothing. As an order it is `CHECKSUM_UNFINISHED` or an `offloadWord`: the
   * port writes the checksums of TCP or UDP and of IPv4, or cuts the packet into segments with such checksums. Metadata
   * 'offload', but for a packet that {@link Burst.send} makes.
   */
  get offload(): number {
    return this.index < 0 ? this.#offload : this.burst.offload[this.index]!;
  }

  /** @throws TypeError if the port has no metadata 'offload' */
  set offload(word: number) {
    if (this.index < 0) {
      this.#offload = word;
      return;
    }
    if ((this.burst.metadata & MetadataBit.OFFLOAD) === 0) throw notAskedFor('offload');
    this.burst.offload[this.index] = word;
  }

  /** The tag that {@link insertTag} has ordered, or 0. */
  get tag(): number {
    return this.index < 0 ? this.#tag : this.burst.tag[this.index]!;
  }

  /**
   * Has the port insert an 802.1Q tag in front of all others when the packet's verdict is carried out. The packet's bytes stay
   * as they are until then. Metadata 'tag', but for a packet that {@link Burst.send} makes.
   *
   * @param control priority (3 bits), drop eligible (1), VLAN ID (12)
   * @throws TypeError if the port has no metadata 'tag'
   */
  insertTag(control: number): void {
    const tag = TAG_ORDER | (control & 0xffff);
    if (this.index < 0) {
      this.#tag = tag;
      return;
    }
    if ((this.burst.metadata & MetadataBit.TAG) === 0) throw notAskedFor('tag');
    this.burst.tag[this.index] = tag;
  }
}

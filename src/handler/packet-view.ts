/**
 * The bytes of a packet, as a handler sees them: a checked, big-endian view of the shared memory. packet.ts adds what is known
 * about the packet.
 *
 * {@link Burst.packet} moves one object per worker from packet to packet, so nothing is allocated, and a handler must not
 * keep it. It reads `offset` and `bytes` of the burst when it moves, and writes them when it changes the length or start.
 *
 * - Positions count from the packet's first byte. Each access is one compare with the length and one load. Out of bounds
 *   it throws a RangeError, which drops the packet and is counted. A throw takes microseconds: if hostile traffic can
 *   cause it, check `length` first.
 * - A packet is in a frame (`geometry.frameSize` bytes) with free room on both sides, which `prepend` and `length` use.
 * - The content of that room, and of a frame from `send()`, is undefined.
 *
 * Belongs to the worker thread. The bytes are the kernel's before the burst and after the verdict.
 */
import { RESERVED } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { ETHERNET_BYTES, networkOffset } from '../net/ethernet.ts';

/** Arrays of a burst. */
export interface PacketTable {
  readonly length: number;
  readonly offset: Int32Array;
  readonly bytes: Int32Array;
}

const MAC_BYTES = 6;
/** A copy: V8 loads and checks an imported constant with every use. */
const MIN_BYTES = ETHERNET_BYTES;

/** Up to here a loop is faster than TypedArray.set, which takes 20 ns at least. */
const SHORT_COPY = 16;

/** Kept out of the accessors, so that V8 inlines them. */
function outside(at: number, count: number, length: number): RangeError {
  return new RangeError(`${count} bytes at ${at} are not in a packet of ${length} bytes`);
}

export class PacketView {
  /** The whole shared memory, where this packet starts at `offset`. Unchecked: a write may go anywhere. */
  declare readonly view: DataView;
  declare protected readonly burst: PacketTable;
  declare private readonly words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #frames: number;
  readonly #framesEnd: number;
  readonly #frameSize: number;
  #index = -1;
  #start = 0;
  #length = 0;

  constructor(memory: Memory, burst: PacketTable) {
    this.burst = burst;
    this.view = memory.view;
    this.words = memory.words;
    this.#bytes = memory.bytes;
    this.#frames = memory.layout.frames;
    this.#framesEnd = memory.layout.frames + memory.layout.framesBytes;
    this.#frameSize = memory.layout.geometry.frameSize;
    this.#start = memory.layout.frames;
  }

  /**
   * Shows packet `i` of the burst.
   *
   * @throws RangeError if the burst has no such packet
   */
  moveTo(i: number): this {
    const { burst } = this;
    if (i >>> 0 >= burst.length) throw new RangeError(`packet ${i} is not in a burst of ${burst.length}`);
    this.#index = i;
    this.#start = burst.offset[i]!;
    this.#length = burst.bytes[i]!;
    return this;
  }

  /**
   * Shows `length` bytes of a frame outside the burst.
   *
   * @throws RangeError if they do not fit the frame
   */
  moveToFrame(offset: number, length: number): this {
    this.#index = -1;
    this.#start = offset;
    this.#length = 0;
    this.length = length;
    return this;
  }

  /** Number in the burst; -1 for none, or for a packet that is being made. */
  get index(): number {
    return this.#index;
  }

  /** Shows nothing of the burst any more. */
  leave(): void {
    this.#index = -1;
  }

  /** Of the first byte, in the shared memory: as in `burst.offset`. */
  get offset(): number {
    return this.#start;
  }

  /** Bytes, without the frame check sequence. */
  get length(): number {
    return this.#length;
  }

  /**
   * Cuts the end off, or makes room there.
   *
   * @throws RangeError if the frame has no such room
   */
  set length(length: number) {
    // A packet of the machine's own stack is in a buffer without free room.
    const room = this.#isInFrame ? this.#frameSize - RESERVED - this.headroom : this.#length;
    if (length >>> 0 > room) {
      throw new RangeError(`a packet of ${length} bytes does not fit the ${room} left of its frame`);
    }
    this.#length = length >>> 0;
    this.#writeBack();
  }

  /** Bytes of the frame before the packet, for `prepend`. 0 for a packet of the host. */
  get headroom(): number {
    if (!this.#isInFrame) return 0;
    return ((this.#start - this.#frames) & (this.#frameSize - 1)) - RESERVED;
  }

  /**
   * Moves the start `count` bytes towards the start of the frame; the new bytes are undefined.
   *
   * @throws RangeError if `headroom` is less
   */
  prepend(count: number): this {
    if (count >>> 0 > this.headroom) {
      throw new RangeError(`${count} bytes do not fit the headroom of ${this.headroom}`);
    }
    this.#start -= count >>> 0;
    this.#length += count >>> 0;
    this.#writeBack();
    return this;
  }

  /**
   * Cuts the first `count` bytes off; they become headroom.
   *
   * @throws RangeError if the packet is shorter
   */
  trimFront(count: number): this {
    if (count >>> 0 > this.#length) throw outside(0, count, this.#length);
    this.#start += count >>> 0;
    this.#length -= count >>> 0;
    this.#writeBack();
    return this;
  }

  /**
   * The byte at `at`, 0 to 255.
   *
   * @param at bytes from the packet's first byte
   * @throws RangeError if the packet has no such byte
   */
  u8(at: number): number {
    const i = at >>> 0;
    if (i > this.#length - 1) throw outside(at, 1, this.#length);
    return this.view.getUint8(this.#start + i);
  }

  /**
   * The 16-bit big-endian field at `at`, 0 to 65535.
   *
   * @param at bytes from the packet's first byte; need not be aligned
   * @throws RangeError if the field is not inside the packet
   */
  u16(at: number): number {
    const i = at >>> 0;
    if (i > this.#length - 2) throw outside(at, 2, this.#length);
    return this.view.getUint16(this.#start + i);
  }

  /**
   * The 32-bit big-endian field at `at`, 0 to 2^32 - 1.
   *
   * @param at bytes from the packet's first byte; need not be aligned
   * @throws RangeError if the field is not inside the packet
   */
  u32(at: number): number {
    const i = at >>> 0;
    if (i > this.#length - 4) throw outside(at, 4, this.#length);
    return this.view.getUint32(this.#start + i);
  }

  /**
   * Writes one byte.
   *
   * @param at bytes from the packet's first byte
   * @param value its low 8 bits are written
   * @throws RangeError if the packet has no such byte
   */
  setU8(at: number, value: number): void {
    const i = at >>> 0;
    if (i > this.#length - 1) throw outside(at, 1, this.#length);
    this.view.setUint8(this.#start + i, value);
  }

  /**
   * Writes a 16-bit big-endian field. Checksums that cover it are the caller's: see {@link update16}.
   *
   * @param at bytes from the packet's first byte; need not be aligned
   * @param value its low 16 bits are written
   * @throws RangeError if the field is not inside the packet
   */
  setU16(at: number, value: number): void {
    const i = at >>> 0;
    if (i > this.#length - 2) throw outside(at, 2, this.#length);
    this.view.setUint16(this.#start + i, value);
  }

  /**
   * Writes a 32-bit big-endian field. Checksums that cover it are the caller's: see {@link update32}.
   *
   * @param at bytes from the packet's first byte; need not be aligned
   * @param value its low 32 bits are written
   * @throws RangeError if the field is not inside the packet
   */
  setU32(at: number, value: number): void {
    const i = at >>> 0;
    if (i > this.#length - 4) throw outside(at, 4, this.#length);
    this.view.setUint32(this.#start + i, value);
  }

  /**
   * Position of the network header: behind the addresses, any number of VLAN tags (802.1Q and 802.1ad) and the type, as
   * the kernel finds it. A tag that the packet's end cuts off is not skipped.
   *
   * @throws RangeError if the packet is shorter than an Ethernet header
   */
  get l3(): number {
    if (this.#length < MIN_BYTES) throw outside(0, MIN_BYTES, this.#length);
    return networkOffset(this.view, this.#start, this.#length);
  }

  /**
   * The protocol at {@link l3}; below 0x600 it is an 802.3 length.
   *
   * @throws RangeError if the packet is shorter than an Ethernet header
   */
  get etherType(): number {
    return this.u16(this.l3 - 2);
  }

  /**
   * Exchanges the source and destination MAC addresses.
   *
   * @throws RangeError if the packet is shorter than 12 bytes
   */
  swapMacs(): void {
    if (this.#length < 2 * MAC_BYTES) throw outside(0, 2 * MAC_BYTES, this.#length);
    const start = this.#start;
    if ((start & 3) !== 0) {
      this.#swapUnaligned(start);
      return;
    }
    // Three words rather than eight fields, in the machine's byte order, and no DataView: each store to one makes V8
    // reload its constants.
    const { words } = this;
    const at = start >> 2;
    const first = words[at]!;
    const second = words[at + 1]!;
    const third = words[at + 2]!;
    words[at] = (second >>> 16) | (third << 16);
    words[at + 1] = (third >>> 16) | (first << 16);
    words[at + 2] = (first >>> 16) | (second << 16);
  }

  #swapUnaligned(start: number): void {
    const view = this.view;
    const high = view.getUint32(start, true);
    const low = view.getUint16(start + 4, true);
    view.setUint32(start, view.getUint32(start + 6, true), true);
    view.setUint16(start + 4, view.getUint16(start + 10, true), true);
    view.setUint32(start + 6, high, true);
    view.setUint16(start + 10, low, true);
  }

  /**
   * Whether the destination MAC address is this one.
   *
   * @param mac six bytes
   * @throws RangeError if the packet is shorter than 6 bytes
   */
  dstEquals(mac: Uint8Array): boolean {
    if (this.#length < MAC_BYTES) throw outside(0, MAC_BYTES, this.#length);
    const bytes = this.#bytes;
    const start = this.#start;
    for (let i = 0; i < MAC_BYTES; i++) if (bytes[start + i] !== mac[i]) return false;
    return true;
  }

  /**
   * Whether the source MAC address is this one.
   *
   * @param mac six bytes
   * @throws RangeError if the packet is shorter than 12 bytes
   */
  srcEquals(mac: Uint8Array): boolean {
    if (this.#length < 2 * MAC_BYTES) throw outside(MAC_BYTES, MAC_BYTES, this.#length);
    const bytes = this.#bytes;
    const start = this.#start + MAC_BYTES;
    for (let i = 0; i < MAC_BYTES; i++) if (bytes[start + i] !== mac[i]) return false;
    return true;
  }

  /**
   * Whether the destination MAC address is a group: multicast or broadcast.
   *
   * @throws RangeError if the packet is empty
   */
  get isGroup(): boolean {
    return (this.u8(0) & 1) !== 0;
  }

  /**
   * Overwrites bytes from `at` on.
   *
   * @throws RangeError if they do not fit the packet
   */
  write(at: number, source: Uint8Array): void {
    const i = at >>> 0;
    const count = source.length;
    if (i > this.#length - count) throw outside(at, count, this.#length);
    const bytes = this.#bytes;
    const start = this.#start + i;
    if (count > SHORT_COPY) bytes.set(source, start);
    else for (let k = 0; k < count; k++) bytes[start + k] = source[k]!;
  }

  /**
   * Copies the whole packet to `target` from `at` on. Allocates a view (30 ns).
   *
   * @returns bytes copied
   * @throws RangeError if `target` has no room
   */
  copyTo(target: Uint8Array, at = 0): number {
    target.set(this.bytes(), at);
    return this.#length;
  }

  /** The packet's bytes in place, as a new view: for slow paths and tests. Invalid once the frame has another owner. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#start + this.#length);
  }

  get #isInFrame(): boolean {
    return this.#start < this.#framesEnd;
  }

  #writeBack(): void {
    if (this.#index < 0) return;
    this.burst.offset[this.#index] = this.#start;
    this.burst.bytes[this.#index] = this.#length;
  }
}

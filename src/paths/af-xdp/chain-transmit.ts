/**
 * The transmit side of an AF_XDP socket whose packets may be chains: memory/chains.ts. The descriptors of a packet are
 * adjacent, and name the chunks of one frame: the first from the packet's start on, the others whole.
 *
 * Everything that is counted in slots stays so: staged, unsent and passed-over descriptors, the words for a successor. A
 * packet belongs to its last descriptor: the kernel has sent it if it has read that one, and its frame comes home with the
 * completion of that one. A chain is completed in order, or at once (xsk_cq_submit_addr_locked). The start and the bytes of
 * the packet are in a word for each frame, `places`, so that one descriptor tells the whole packet: a kick may end in the
 * middle of one, and the slots before may be used again. The word is written before the slots.
 *
 * A packet that would fit a chunk and lies across two is moved to the start of its frame. Then a device without chains can
 * send it, and others need one descriptor for it.
 *
 * Belongs to the worker thread.
 */
import {
  CHUNK,
  CHUNK_ROOM,
  CHUNK_SHIFT,
  CONTINUED,
  DescriptorWord,
  PIECES_SHIFT,
  placeBytes,
  placeOf,
  placeStart,
} from '../../memory/chains.ts';
import type { FramePool } from '../../memory/frames.ts';
import { HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { BurstArray } from '../../memory/wasm-abi.ts';
import { ETHERNET_BYTES } from '../../net/ethernet.ts';
import type { SegmentSender } from '../segments.ts';
import { type XskKernel, XskTransmitter } from './transmit.ts';

/** TX of handler/handler.ts, which is below this folder. */
const VERDICT_TX = 1;

export class ChainTransmitter extends XskTransmitter {
  readonly #frameBytes: Uint8Array;
  readonly #places: number;
  readonly #frameShift: number;
  readonly #frameMask: number;
  /** The slots that a packet may need, as a shift. */
  readonly #slotsShift: number;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    kernel: XskKernel,
    segments?: Pick<SegmentSender, 'send'>,
  ) {
    super(memory, pool, address, kernel, segments);
    this.#frameBytes = memory.bytes;
    this.#places = memory.layout.places >> 2;
    this.#frameShift = 31 - Math.clz32(pool.frameSize);
    this.#frameMask = -pool.frameSize;
    this.#slotsShift = memory.slot(address).chains === 1 ? PIECES_SHIFT : 0;
  }

  override room(wanted: number): number {
    return super.room(wanted << this.#slotsShift) >> this.#slotsShift;
  }

  override push(offset: number, bytes: number): void {
    let address = offset - this.frames;
    if (bytes <= CHUNK_ROOM && (address & (CHUNK - 1)) + bytes > CHUNK) {
      address = (address & this.#frameMask) + HEADROOM;
      this.#frameBytes.copyWithin(this.frames + address, offset, offset + bytes);
    }
    const words = this.words;
    if ((address & (CHUNK - 1)) + bytes <= CHUNK) {
      const slot = this.ring.slot(this.staged);
      this.#remember(address, bytes);
      words[slot] = address;
      words[slot + DescriptorWord.upper] = 0;
      words[slot + DescriptorWord.bytes] = bytes;
      words[slot + DescriptorWord.options] = 0;
      this.staged++;
    } else {
      this.write(this.end, address, bytes);
      const slots = this.slotsFor(address, bytes);
      this.staged += slots;
      this.repeated += slots - 1;
    }
    this.stagedBytes += bytes;
    const cursor = this.end;
    words[this.givingAt] = cursor;
    this.pool.setOwner(address, this.owner);
    words[this.stagedAt] = cursor;
  }

  override pushBurst(burst: number, from: number, to: number, maxPacketBytes: number): number {
    const words = this.words;
    const offsets = (burst + BurstArray.offset) >> 2;
    const lengths = (burst + BurstArray.bytes) >> 2;
    const verdicts = burst + BurstArray.verdict;
    const end = from + this.room(to - from);
    let i = from;
    for (; i < end && this.#frameBytes[verdicts + i] === VERDICT_TX; i++) {
      const bytes = words[lengths + i]!;
      if (bytes < ETHERNET_BYTES || bytes > maxPacketBytes) break;
      this.push(words[offsets + i]!, bytes);
    }
    return i - from;
  }

  override get inFlight(): number {
    return this.pool.owners.countOwnedBy(this.owner);
  }

  override get completing(): number {
    let frames = 0;
    this.eachCompleted(() => frames++);
    return frames;
  }

  override eachCompleted(visit: (address: number) => void): void {
    super.eachCompleted((address) => {
      if (this.#isLast(address)) visit(address);
    });
  }

  protected override free(count: number): number {
    let freed = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.completion.slot(i);
      const address = this.words[slot]!;
      if (this.isPassedOver(slot) || !this.#isLast(address)) continue;
      this.pool.put(address);
      freed++;
    }
    return freed;
  }

  protected override packetsBefore(cursor: number, slots: number): number {
    let packets = 0;
    for (let i = 1; i <= slots; i++) if (this.endsPacket(this.ring.slotAt(cursor - i))) packets++;
    return packets;
  }

  protected override endsPacket(slot: number): boolean {
    return (this.words[slot + DescriptorWord.options]! & CONTINUED) === 0;
  }

  protected override packetAt(slot: number): number {
    const address = this.words[slot]!;
    return (address & this.#frameMask) + placeStart(this.#place(address));
  }

  protected override lengthAt(slot: number): number {
    return placeBytes(this.#place(this.words[slot]!));
  }

  protected override slotsFor(address: number, bytes: number): number {
    return ((address + bytes - 1) >>> CHUNK_SHIFT) - (address >>> CHUNK_SHIFT) + 1;
  }

  protected override packetEnd(cursor: number): number {
    let end = cursor;
    while (!this.endsPacket(this.ring.slotAt(end))) end = (end + 1) | 0;
    return (end + 1) | 0;
  }

  protected override write(cursor: number, address: number, bytes: number): void {
    const words = this.words;
    this.#remember(address, bytes);
    const end = address + bytes;
    for (let at = address, to = cursor; at < end; to = (to + 1) | 0) {
      const next = Math.min(end, (at & -CHUNK) + CHUNK);
      const slot = this.ring.slotAt(to);
      words[slot] = at;
      words[slot + DescriptorWord.upper] = 0;
      words[slot + DescriptorWord.bytes] = next - at;
      words[slot + DescriptorWord.options] = next < end ? CONTINUED : 0;
      at = next;
    }
  }

  override moved(slot: number, address: number): void {
    this.#remember(address, this.words[slot + DescriptorWord.bytes]!);
    super.moved(slot, address);
  }

  #remember(address: number, bytes: number): void {
    this.words[this.#places + (address >>> this.#frameShift)] = placeOf(address, bytes);
  }

  #place(address: number): number {
    return this.words[this.#places + (address >>> this.#frameShift)]!;
  }

  /** Whether that is the address of the packet's last chunk, and not of one before. */
  #isLast(address: number): boolean {
    const place = this.#place(address);
    const last = placeStart(place) + placeBytes(place) - 1;
    return last >>> CHUNK_SHIFT === placeStart(address) >>> CHUNK_SHIFT;
  }
}

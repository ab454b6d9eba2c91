/**
 * The receive side of an AF_XDP socket whose packets may be chains: memory/chains.ts. A packet in several frames is copied
 * into the first of them, behind its beginning: one copy of all but the first chunk. A packet of one chunk costs a look at
 * its options. Belongs to the worker thread.
 *
 * A worker may die between any two statements. The descriptors stay in the ring until the packet is released, and the frames
 * of a chain but the first stay the ring's, unchanged. So a successor that receives the packet again makes the copy again:
 * it begins behind what the first descriptor says. Packets that were handled and not released have their first frame
 * elsewhere; the successor frees the others, and writes {@link GONE} to the options of their first descriptor.
 *
 * Linux publishes a chain whole (net/xdp/xsk.c, __xsk_rcv). Of one that is not, nothing is received until the rest has come.
 */
import { FrameOwner } from '../../memory/bit-fields.ts';
import { CONTINUED, DescriptorWord, placeStart } from '../../memory/chains.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { FramePool } from '../../memory/frames.ts';
import { IN_PLACE_BURST, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { BurstArray } from '../../memory/wasm-abi.ts';
import { ReceiveRing } from '../descriptor-rings.ts';
import type { BurstArrays } from '../path.ts';

/** In the options of a packet's first descriptor: all its frames have other owners, its slots are only passed over. */
const GONE = 1 << 29;

/** Descriptors of one burst, at most: as many as a dead worker may have had in hand. */
const MOST = IN_PLACE_BURST;

export class ChainReceiveRing extends ReceiveRing {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #base: number;
  /** Slots of what was received. */
  #slots = 0;
  /** Whether some of these are not packets of one chunk. */
  #chained = false;

  constructor(memory: Memory, pool: FramePool, address: QueueAddress) {
    super(memory, address);
    const { port, queue, path } = address;
    this.#words = memory.words;
    this.#bytes = memory.bytes;
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#base = memory.layout.frames;
  }

  override ready(max: number): number {
    const words = this.#words;
    const { ring } = this;
    const slots = ring.peek(MOST);
    let packets = 0;
    for (let i = 0; packets < max && i < slots; packets++) {
      i = words[ring.slot(i) + DescriptorWord.options] === 0 ? i + 1 : this.#end(i, slots);
      if (i < 0) break;
    }
    return packets;
  }

  override receive({ at }: BurstArrays, max: number): number {
    const words = this.#words;
    const { ring } = this;
    const offsets = (at + BurstArray.offset) >> 2;
    const lengths = (at + BurstArray.bytes) >> 2;
    const slots = ring.peek(MOST);
    let packets = 0;
    let total = 0;
    let i = 0;
    while (packets < max && i < slots) {
      const slot = ring.slot(i);
      let bytes = words[slot + DescriptorWord.bytes]!;
      if (words[slot + DescriptorWord.options] === 0) i++;
      else {
        const end = this.#end(i, slots);
        if (end < 0) break;
        bytes = this.#take(i, end);
        i = end;
        this.#chained = true;
        if (bytes === 0) continue;
      }
      words[offsets + packets] = this.#base + words[slot]!;
      words[lengths + packets] = bytes;
      total += bytes;
      packets++;
    }
    this.#slots = i;
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += total;
    return packets;
  }

  override release(): void {
    if (this.#slots === 0) return;
    if (this.#chained) {
      this.#freeRests(this.#slots);
      this.#clearMarks(this.#slots);
    }
    this.ring.release(this.#slots);
    this.#slots = 0;
    this.#chained = false;
  }

  override frames(slots: number): number {
    let frames = 0;
    for (let i = 0; i < slots; ) {
      const end = this.#endOrAll(i, slots);
      if ((this.#options(i) & GONE) === 0) frames += end - i;
      i = end;
    }
    return frames;
  }

  override eachFrame(words: Int32Array, visit: (address: number) => void): void {
    const { ring } = this;
    const slots = ring.pending();
    for (let i = 0; i < slots; ) {
      const end = this.#endOrAll(i, slots);
      if ((this.#options(i) & GONE) !== 0) i = end;
      for (; i < end; i++) visit(words[ring.slot(i)]!);
    }
  }

  /**
   * Marks the packets that a dead worker had handled: its successor must not receive them again. Packets that it had not
   * handled may be between them, so they stay where they are.
   */
  override recover(words: Int32Array, pool: FramePool, owner: number): void {
    const { ring } = this;
    const slots = ring.peek(MOST);
    for (let i = 0; i < slots; ) {
      const end = this.#end(i, slots);
      if (end < 0) break;
      if ((this.#options(i) & GONE) === 0 && pool.ownerOf(words[ring.slot(i)]!) !== owner) {
        for (let rest = i + 1; rest < end; rest++) {
          const address = words[ring.slot(rest)]!;
          // Only its owner: the stack is built anew, see `FrameOwners.recover`.
          if (pool.ownerOf(address) === owner) pool.setOwner(address, FrameOwner.NONE);
        }
        this.#mark(i, GONE | (this.#options(i) & CONTINUED));
      }
      i = end;
    }
    let gone = 0;
    while (gone < slots && (this.#options(gone) & GONE) !== 0) gone = this.#end(gone, slots);
    if (gone === 0) return;
    this.#clearMarks(gone);
    ring.release(gone);
  }

  #options(i: number): number {
    return this.#words[this.ring.slot(i) + DescriptorWord.options]!;
  }

  #mark(i: number, options: number): void {
    this.#words[this.ring.slot(i) + DescriptorWord.options] = options;
  }

  /** Slot behind the packet that begins in slot `i`; -1 if not all of it is among these `slots`. */
  #end(i: number, slots: number): number {
    for (let at = i; at < slots; at++) if ((this.#options(at) & CONTINUED) === 0) return at + 1;
    return -1;
  }

  #endOrAll(i: number, slots: number): number {
    const end = this.#end(i, slots);
    return end < 0 ? slots : end;
  }

  /** Makes the chain in these slots one packet. Returns its bytes; 0 if there is none to be handled. */
  #take(i: number, end: number): number {
    const options = this.#options(i);
    if ((options & GONE) !== 0) return 0;
    const words = this.#words;
    const { ring } = this;
    const first = ring.slot(i);
    let total = 0;
    for (let at = i; at < end; at++) total += words[ring.slot(at) + DescriptorWord.bytes]!;
    if (total > this.#pool.frameSize - placeStart(words[first]!)) {
      for (let at = i; at < end; at++) this.#pool.put(words[ring.slot(at)]!);
      this.#mark(i, GONE | (options & CONTINUED));
      this.#doubles[this.#counter.rxTooLong]!++;
      return 0;
    }
    let to = this.#base + words[first]! + words[first + DescriptorWord.bytes]!;
    for (let at = i + 1; at < end; at++) {
      const slot = ring.slot(at);
      const from = this.#base + words[slot]!;
      const bytes = words[slot + DescriptorWord.bytes]!;
      this.#bytes.copyWithin(to, from, from + bytes);
      to += bytes;
    }
    this.#doubles[this.#counter.rxGathered]!++;
    return total;
  }

  /**
   * Before the slots are released. Kernels before Linux 6.6 write no options (xskq_prod_reserve_desc), so a mark would pass over
   * every later packet in its slot. They have no chains either, so those may keep theirs.
   */
  #clearMarks(slots: number): void {
    for (let i = 0; i < slots; i++) if (this.#options(i) === GONE) this.#mark(i, 0);
  }

  /** Frees the frames of these chains but the first of each, which were passed on. */
  #freeRests(slots: number): void {
    for (let i = 0; i < slots; ) {
      const end = this.#end(i, slots);
      if ((this.#options(i) & GONE) === 0)
        for (let rest = i + 1; rest < end; rest++) this.#pool.put(this.#words[this.ring.slot(rest)]!);
      i = end;
    }
  }
}

/**
 * A tap queue driven by plain reads and writes, where io_uring is refused. Worker only.
 *
 * Frames wait for packets on the pool's own stack: a burst of reads fills the topmost ones, which leave
 * the stack when they are received. Writes complete at once. So this path never holds a frame between
 * two bursts, and its fill, completion and in-flight counts are 0.
 */

import { Errno } from '../../errors.ts';
import { SPAN_BYTES } from '../../kernel/abi.ts';
import type { Shim } from '../../kernel/shim.ts';
import { addressOf } from '../../kernel/shim.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { FramePool, PathLedger } from '../../memory/frames.ts';
import { Holder, holderTag } from '../../memory/holder.ts';
import { BURST, HEADROOM, type PathId, PathSlot } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { roomOf } from '../frame-room.ts';
import type { PathQueue } from '../path.ts';
import { SegmentSender } from '../segments.ts';

/** Whether a write that ended in this says nothing of the next: no room or memory for it, or the tap is down just now. */
const isOfPacket = (result: number): boolean =>
  result === Errno.EAGAIN || result === Errno.ENOBUFS || result === Errno.ENOMEM || result === Errno.EIO;

export class PlainQueue implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  readonly fd: number;
  readonly backlog = false;

  readonly #shim: Shim;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #frames: number;
  /** The address of the frames; `#bytes` keeps them alive. */
  readonly #base: number;
  readonly #bytes: Uint8Array;
  readonly #segments: SegmentSender | undefined;
  readonly #reads = new Int32Array((BURST * SPAN_BYTES) / 4);
  readonly #writes = new Int32Array((BURST * SPAN_BYTES) / 4);
  #held = 0;
  #staged = 0;

  constructor(shim: Shim, memory: Memory, pool: FramePool, port: number, queue: number, path: PathId) {
    const { layout, words, bytes, doubles } = memory;
    this.path = path;
    this.tag = holderTag(queue, port, path);
    this.fd = words[(layout.slot(port, queue, path) + PathSlot.fd) >> 2]!;
    this.#shim = shim;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#frames = layout.frames;
    this.#bytes = bytes;
    this.#segments = SegmentSender.of(shim, memory, { port, queue, path });
    this.#base = addressOf(this.#bytes) + layout.frames;
  }

  /** Reads what is there: the kernel does not tell how much that is without a read. */
  ready(max: number): number {
    if (this.#held > 0) return Math.min(this.#held, max);
    const spans = this.#reads;
    const room = Math.min(max, BURST, this.#pool.count);
    for (let i = 0; i < room; i++) {
      spans[2 * i] = this.#pool.peek(i) + HEADROOM;
      spans[2 * i + 1] = roomOf(this.#pool.frameSize);
    }
    this.#doubles[this.#counter.kicks]!++;
    const count = this.#shim.readBurst(this.fd, this.#base, spans, room);
    if (count < 0) {
      this.#doubles[this.#counter.rxErrors]!++;
      return 0;
    }
    for (let i = 0; i < count; i++) this.#pool.give(spans[2 * i]!, Holder.FILL | this.tag);
    this.#pool.remove(count);
    this.#held = count;
    return count;
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    const spans = this.#reads;
    const count = Math.min(this.ready(max), max);
    const room = roomOf(this.#pool.frameSize);
    let packets = 0;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const length = spans[2 * i + 1]!;
      if (length >= room) {
        this.#pool.put(spans[2 * i]!);
        this.#doubles[this.#counter.rxTooLong]!++;
        continue;
      }
      offset[packets] = this.#frames + spans[2 * i]!;
      bytes[packets] = length;
      packets++;
      total += length;
    }
    // The rest moves to the front: it happens only when the caller takes less than was read.
    spans.copyWithin(0, 2 * count, 2 * this.#held);
    this.#held -= count;
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += total;
    return packets;
  }

  release(): void {}

  room(wanted: number): number {
    return Math.min(wanted, BURST - this.#staged);
  }

  push(offset: number, bytes: number): void {
    const at = 2 * this.#staged++;
    this.#writes[at] = offset - this.#frames;
    this.#writes[at + 1] = bytes;
    this.#pool.give(offset - this.#frames, Holder.TX | this.tag);
    this.#doubles[this.#counter.txBytes]! += bytes;
  }

  sendSegment(offset: number, bytes: number, offload: number): boolean {
    if (this.#segments === undefined) return false;
    this.flush();
    return this.#segments.send(offset, bytes, offload);
  }

  flush(): number {
    const count = this.#staged;
    if (count === 0) return 0;
    const spans = this.#writes;
    this.#doubles[this.#counter.txPosted]! += count;
    let done = 0;
    let failure = 0;
    while (done < count) {
      this.#doubles[this.#counter.kicks]!++;
      const rest = done === 0 ? spans : spans.subarray(2 * done);
      const written = this.#shim.writeBurst(this.fd, this.#base, rest, count - done);
      if (written >= 0) {
        done += written;
        this.#doubles[this.#counter.txPackets]! += written;
        continue;
      }
      // The kernel refused this one packet; those behind it get their own chance.
      done++;
      this.#doubles[this.#counter.txErrors]!++;
      if (!isOfPacket(written)) failure = written;
    }
    for (let i = 0; i < count; i++) this.#pool.put(spans[2 * i]!);
    this.#staged = 0;
    if (failure < 0) this.#doubles[this.#counter.kickErrors]!++;
    return failure;
  }

  complete(): void {}

  refill(): void {}

  inFlight(): number {
    return this.#staged;
  }

  /** What was pushed since the last flush: nothing else ever waits. */
  takeBack(visit: (offset: number, bytes: number) => void): number {
    const count = this.#staged;
    this.#staged = 0;
    this.#doubles[this.#counter.txPosted]! += count;
    this.#doubles[this.#counter.txRescued]! += count;
    for (let i = 0; i < count; i++) visit(this.#frames + this.#writes[2 * i]!, this.#writes[2 * i + 1]!);
    return count;
  }

  ledger(): PathLedger {
    return { fill: 0, rx: this.#held, tx: this.#staged, completing: 0 };
  }

  enumerate(visit: (address: number) => void): void {
    for (let i = 0; i < this.#held; i++) visit(this.#reads[2 * i]! & -this.#pool.frameSize);
    for (let i = 0; i < this.#staged; i++) visit(this.#writes[2 * i]! & -this.#pool.frameSize);
  }

  detach(): void {}
}

/**
 * A tap queue driven by plain reads and writes, for kernels that refuse io_uring. Worker only.
 *
 * A burst of reads fills the next frames of the pool, which leave the pool only when a packet was read. Writes complete at
 * once. So this path holds no frame between two bursts, and its fill, completion and in-flight counts are 0.
 *
 * A packet that does not fit its frame is received alone, in pieces: see long-packets.ts.
 */

import { Errno } from '../../errors.ts';
import type { Shim } from '../../kernel/shim.ts';
import { addressOf } from '../../kernel/shim.ts';
import { SPAN_BYTES } from '../../memory/abi.ts';
import { FrameOwner, ownerTag } from '../../memory/bit-fields.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { PathLedger } from '../../memory/frame-owners.ts';
import type { FramePool } from '../../memory/frames.ts';
import { BURST, HEADROOM, type PathId, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { AttachedPath, AttachedTransmitter } from '../attached-path.ts';
import type { BurstArrays, Receiver } from '../path.ts';
import { SegmentSender } from '../segments.ts';
import { LongPackets } from './long-packets.ts';
import { ReadPairs } from './read-pairs.ts';
import { TapFrames } from './tap-frames.ts';

/** Whether the next write may succeed after this result: no room or memory for the packet, or the tap is down for now. */
const isPassing = (result: number): boolean =>
  result === Errno.EAGAIN || result === Errno.ENOBUFS || result === Errno.ENOMEM || result === Errno.EIO;

export class PlainQueue implements AttachedPath, Receiver, AttachedTransmitter {
  readonly rx: Receiver = this;
  readonly tx: AttachedTransmitter = this;
  readonly path: PathId;
  readonly tag: number;
  readonly fd: number;
  readonly backlog = false;

  readonly #shim: Shim;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #frames: number;
  /** Address of the frames, and the bytes from there on; `#bytes` keeps the memory alive. */
  readonly #base: number;
  readonly #room: number;
  /** Address of the shared memory. */
  readonly #memoryBase: number;
  readonly #bytes: Uint8Array;
  readonly #segments: SegmentSender | undefined;
  readonly #tapFrames: TapFrames;
  readonly #pairs: ReadPairs;
  readonly #long: LongPackets;
  /** Frames that packets were read into, and the lengths of the packets. */
  readonly #reads = new Int32Array(BURST);
  readonly #lengths = new Int32Array(BURST);
  readonly #writes = new Int32Array((BURST * SPAN_BYTES) / 4);
  /** Packets read and not received, from the `#next`-th on. */
  #held = 0;
  #next = 0;
  #staged = 0;

  constructor(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress) {
    const { layout, bytes, doubles } = memory;
    const { port, queue, path } = address;
    this.path = path;
    this.tag = ownerTag(queue, port, path);
    this.fd = memory.slot(address).fd;
    this.#shim = shim;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#frames = layout.frames;
    this.#bytes = bytes;
    this.#segments = SegmentSender.of(shim, memory, address);
    this.#base = addressOf(bytes) + layout.frames;
    this.#room = bytes.byteLength - layout.frames;
    this.#memoryBase = addressOf(bytes);
    this.#tapFrames = new TapFrames(memory, pool, address);
    this.#pairs = new ReadPairs(memory, address);
    this.#pairs.begin();
    this.#long = new LongPackets(memory, this.#tapFrames, this.#pairs, address);
  }

  /** Reads packets: only a read shows how many there are. */
  ready(max: number): number {
    if (this.#held > 0) return Math.min(this.#held, max);
    const reads = this.#reads;
    const room = Math.min(max, BURST, this.#pool.count);
    for (let i = 0; i < room; i++) {
      const address = this.#pool.peek(i);
      reads[i] = address;
      this.#pairs.point(i, this.#frames + address + this.#tapFrames.start);
    }
    this.#doubles[this.#counter.kicks]!++;
    const count = this.#shim.readPairs(
      this.fd,
      this.#memoryBase,
      this.#bytes.byteLength,
      this.#pairs.at,
      this.#lengths,
      room,
    );
    if (count < 0) {
      this.#doubles[this.#counter.rxErrors]!++;
      return 0;
    }
    for (let i = 0; i < count; i++) this.#pool.setOwner(reads[i]!, FrameOwner.FILL | this.tag);
    this.#pool.remove(count);
    this.#held = count;
    this.#next = 0;
    return count;
  }

  receive({ offset, bytes }: BurstArrays, max: number): number {
    const count = Math.min(this.ready(max), max);
    const { longFrom, prefix } = this.#tapFrames;
    let packets = 0;
    let total = 0;
    let i = this.#next;
    for (const end = i + count; i < end; i++) {
      const length = this.#lengths[i]!;
      if (length >= longFrom) {
        if (packets > 0) break;
        if (this.#long.isOpen || this.#long.open(this.#reads[i]!, i, length)) {
          this.#passOver(i);
          return this.#long.take(offset, bytes, max);
        }
        this.#tapFrames.unfilled(this.#reads[i]!, length);
        continue;
      }
      offset[packets] = this.#frames + this.#reads[i]! + HEADROOM;
      bytes[packets] = length - prefix;
      packets++;
      total += length - prefix;
    }
    this.#passOver(i);
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += total;
    return packets;
  }

  /** The packets before the i-th are received, or freed. */
  #passOver(i: number): void {
    this.#held -= i - this.#next;
    this.#next = i;
  }

  /** A long packet is received with its last piece. */
  release(): void {
    if (this.#long.isOpen && this.#long.release()) this.#passOver(this.#next + 1);
  }

  room(wanted: number): number {
    return Math.min(wanted, BURST - this.#staged);
  }

  push(offset: number, bytes: number): void {
    const at = 2 * this.#staged++;
    this.#writes[at] = offset - this.#frames;
    this.#writes[at + 1] = bytes;
    this.#pool.setOwner(offset - this.#frames, FrameOwner.TX | this.tag);
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
      const written = this.#shim.writeBurst(this.fd, this.#base, this.#room, rest, count - done);
      if (written >= 0) {
        done += written;
        this.#doubles[this.#counter.txPackets]! += written;
        continue;
      }
      // The kernel refused this packet. The next ones are tried.
      done++;
      this.#doubles[this.#counter.txErrors]!++;
      if (!isPassing(written)) failure = written;
    }
    for (let i = 0; i < count; i++) this.#pool.put(spans[2 * i]!);
    this.#staged = 0;
    if (failure < 0) this.#doubles[this.#counter.kickErrors]!++;
    return failure;
  }

  complete(): void {}

  refill(): void {}

  /** Packets pushed since the last flush: no others wait. */
  reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
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
    for (let i = 0; i < this.#held; i++) visit(this.#reads[this.#next + i]!);
    for (let i = 0; i < this.#staged; i++) visit(this.#writes[2 * i]! & -this.#pool.frameSize);
  }

  detach(): void {}
}

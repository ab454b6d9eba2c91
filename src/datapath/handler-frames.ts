/** Frames for packets that the handler makes itself with `burst.send`. */
import type { FrameSource } from '../handler/burst.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { segmentBytes } from '../memory/offload.ts';
import { ETHERNET_BYTES } from '../net/ethernet.ts';
import type { PathQueue } from '../paths/path.ts';
import type { Scope } from './scope.ts';
import type { TransmitOffloads } from './transmit-offloads.ts';

/** The path that transmits, and its longest packet. */
interface Outgoing {
  readonly out: PathQueue | undefined;
  readonly limit: number;
  takeFrame(): number;
  put(offset: number): void;
  /** A packet was given to that path. */
  sent(offset: number, length: number): void;
}

export class HandlerFrames implements FrameSource {
  readonly #outgoing: Outgoing;
  readonly #offloads: TransmitOffloads;
  readonly #pool: FramePool;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  /** Transmit slots that the handler's own loop may be writing to. */
  #held = 0;
  /** Packets posted meanwhile, offset and length of each: they follow the packets of the loop. */
  readonly #posted: number[] = [];

  constructor({ memory, pool, port, queue }: Scope, outgoing: Outgoing, offloads: TransmitOffloads) {
    this.#outgoing = outgoing;
    this.#offloads = offloads;
    this.#pool = pool;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
  }

  take(): number {
    if (this.#pool.count > 0) return this.#outgoing.takeFrame();
    this.#doubles[this.#counter.sendRefused]!++;
    return -1;
  }

  post(offset: number, length: number, offload: number, tag: number): boolean {
    if (segmentBytes(offload) !== 0) return this.#postCut(offset, length, offload, tag);
    if ((offload | tag) === 0) return this.#postWhole(offset, length);
    const offloads = this.#offloads;
    if (!offloads.apply(offset, length, offload, tag)) return this.#refuse(offset);
    return this.#postWhole(offloads.offset, offloads.length);
  }

  #postWhole(offset: number, length: number): boolean {
    const { limit } = this.#outgoing;
    if (length < ETHERNET_BYTES || length > limit || !this.#hasRoom(1)) return this.#refuse(offset);
    this.#stage(offset, length);
    this.#doubles[this.#counter.sent]!++;
    return true;
  }

  /** Sends all of the packet's frames, or none. */
  #postCut(offset: number, length: number, offload: number, tag: number): boolean {
    const offloads = this.#offloads;
    const pieces = offloads.beginCut(offset, length, offload, tag, this.#outgoing.limit);
    if (pieces === 0 || pieces > this.#pool.count || !this.#hasRoom(pieces)) return this.#refuse(offset);
    for (let i = 0; i < pieces; i++) {
      offloads.writePiece(i, this.#outgoing.takeFrame(), tag);
      this.#stage(offloads.offset, offloads.length);
    }
    this.put(offset);
    this.#doubles[this.#counter.sent]!++;
    this.#doubles[this.#counter.segments]! += pieces - 1;
    return true;
  }

  #hasRoom(packets: number): boolean {
    const { out } = this.#outgoing;
    const room = this.#held + this.#posted.length / 2 + packets;
    return out !== undefined && out.tx.room(room) >= room;
  }

  #stage(offset: number, length: number): void {
    if (this.#held > 0) this.#posted.push(offset, length);
    else this.#push(offset, length);
  }

  #push(offset: number, length: number): void {
    this.#outgoing.out!.tx.push(offset, length);
    this.#outgoing.sent(offset, length);
  }

  #refuse(offset: number): false {
    this.#doubles[this.#counter.sendRefused]!++;
    this.put(offset);
    return false;
  }

  put(offset: number): void {
    this.#outgoing.put(offset);
  }

  /** The handler's own loop begins, which may fill so many transmit slots. */
  hold(slots: number): void {
    this.#held = slots;
  }

  /** The loop has ended, and its packets are staged. */
  release(): void {
    this.#held = 0;
    const posted = this.#posted;
    for (let i = 0; i < posted.length; i += 2) this.#push(posted[i]!, posted[i + 1]!);
    posted.length = 0;
  }
}

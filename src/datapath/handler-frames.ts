/** Frames for packets that the handler makes itself with `burst.send`. */
import type { FrameSource } from '../handler/burst.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { ETHERNET_BYTES } from '../net/ethernet.ts';
import type { PathQueue } from '../paths/path.ts';
import type { Scope } from './scope.ts';

/** The path that transmits, and its longest packet. */
interface Outgoing {
  readonly out: PathQueue | undefined;
  readonly limit: number;
  takeFrame(): number;
  put(offset: number): void;
}

export class HandlerFrames implements FrameSource {
  readonly #outgoing: Outgoing;
  readonly #pool: FramePool;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  /** Transmit slots that the handler's own loop may be writing to. */
  #held = 0;
  /** Packets posted meanwhile, offset and length of each: they follow the packets of the loop. */
  readonly #posted: number[] = [];

  constructor({ memory, pool, port, queue }: Scope, outgoing: Outgoing) {
    this.#outgoing = outgoing;
    this.#pool = pool;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
  }

  take(): number {
    if (this.#pool.count > 0) return this.#outgoing.takeFrame();
    this.#doubles[this.#counter.sendRefused]!++;
    return -1;
  }

  post(offset: number, length: number): boolean {
    const { out, limit } = this.#outgoing;
    const room = this.#held + this.#posted.length / 2 + 1;
    if (out === undefined || length < ETHERNET_BYTES || length > limit || out.tx.room(room) < room) {
      this.#doubles[this.#counter.sendRefused]!++;
      this.put(offset);
      return false;
    }
    if (this.#held > 0) this.#posted.push(offset, length);
    else out.tx.push(offset, length);
    this.#doubles[this.#counter.sent]!++;
    return true;
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
    for (let i = 0; i < posted.length; i += 2) this.#outgoing.out!.tx.push(posted[i]!, posted[i + 1]!);
    posted.length = 0;
  }
}

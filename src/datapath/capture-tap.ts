/**
 * Copies the packets of one queue of one port that captures ask for, on the worker. A received packet is copied before the
 * handler has it, because a handler may change it, and gets its verdict afterwards; a sent one once it is given to its path.
 * Records are published at the end of a round.
 *
 * A packet never waits for a reader: without room in the ring it is counted, and goes on. Belongs to the worker thread.
 */
import { type Matcher, matcherOf } from '../capture/filter/matcher.ts';
import { Counter, counterAt, INTERFACES, interfaceOf } from '../capture/interfaces.ts';
import { RecordSender } from '../capture/records.ts';
import type { Burst } from '../handler/burst.ts';
import type { CaptureOrder } from '../memory/capture-orders.ts';
import { BURST, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';

/** One capture on one queue. */
class QueueCapture {
  readonly #order: CaptureOrder;
  readonly #memory: Memory;
  readonly #matches: Matcher;
  readonly #sender: RecordSender;
  readonly #counters: readonly number[];
  /** By interface: packets missed since the last record. */
  readonly #missed = new Int32Array(INTERFACES.length);
  /** The records of the burst that the handler has, -1 for a packet without one. */
  readonly #records = new Int32Array(BURST).fill(-1);
  #seconds = 0;
  #nanos = -1;

  constructor(memory: Memory, capture: number, queue: number, order: CaptureOrder) {
    this.#order = order;
    this.#memory = memory;
    this.#matches = matcherOf(order.program, memory.bytes);
    this.#sender = new RecordSender(memory, capture, queue);
    this.#counters = INTERFACES.map((_, number) => counterAt(memory, capture, queue, number));
  }

  received({ offset, bytes }: Burst, count: number, path: PathId): void {
    const number = interfaceOf(path, 0);
    for (let i = 0; i < count; i++) this.#records[i] = this.#copy(number, offset[i]!, bytes[i]!);
  }

  /** The handler has decided on the first `count` packets of the burst. */
  decided({ verdict }: Burst, count: number): void {
    const records = this.#records;
    for (let i = 0; i < count; i++) if (records[i]! >= 0) this.#sender.decide(records[i]!, verdict[i]!);
    records.copyWithin(0, count);
  }

  sent(offset: number, length: number, path: PathId): void {
    this.#copy(interfaceOf(path, 1), offset, length);
  }

  commit(): void {
    this.#nanos = -1;
    this.#sender.commit();
  }

  #copy(number: number, offset: number, length: number): number {
    const { doubles } = this.#memory;
    const counter = this.#counters[number]!;
    doubles[counter + Counter.SEEN]!++;
    if (!this.#matches(offset, length)) return -1;
    const { id, snapLength } = this.#order;
    const copied = Math.min(length, snapLength);
    const record = this.#sender.push(id, offset, copied, length, number, this.#missed[number]!);
    if (record < 0) {
      doubles[counter + Counter.MISSED]!++;
      this.#missed[number]!++;
      return -1;
    }
    this.#missed[number] = 0;
    if (this.#nanos < 0) [this.#seconds, this.#nanos] = process.hrtime(); // once a round
    this.#sender.stamp(record, this.#seconds, this.#nanos);
    return record;
  }
}

export class CaptureTap {
  readonly #memory: Memory;
  readonly #captures: readonly QueueCapture[];

  /** @param orders of this port, by number of the capture */
  constructor(memory: Memory, queue: number, orders: readonly (CaptureOrder | undefined)[]) {
    this.#memory = memory;
    this.#captures = orders.flatMap((order, capture) =>
      order === undefined ? [] : [new QueueCapture(this.#memory, capture, queue, order)],
    );
  }

  /** Whether there is nothing to copy for. */
  get isIdle(): boolean {
    return this.#captures.length === 0;
  }

  /** Before the handler gets the first `count` packets of the burst, which came by `path`. */
  received(burst: Burst, count: number, path: PathId): void {
    for (const capture of this.#captures) capture.received(burst, count, path);
  }

  /** After it has decided on the first `count` of them; the others move to the front. */
  decided(burst: Burst, count: number): void {
    for (const capture of this.#captures) capture.decided(burst, count);
  }

  /** A packet was given to a path. */
  sent(offset: number, length: number, path: PathId): void {
    for (const capture of this.#captures) capture.sent(offset, length, path);
  }

  /** At the end of a round: publishes what was copied. */
  commit(): void {
    for (const capture of this.#captures) capture.commit();
  }
}

/** A path queue over the four rings of an AF_XDP socket. Worker only. */
import { Errno } from '../../errors.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { FramePool } from '../../memory/frames.ts';
import { type QueueAddress, Reader } from '../../memory/layout.ts';
import { ringOperationsOf } from '../../memory/ring-operations.ts';
import type { Memory } from '../../memory/shared.ts';
import { RingQueue } from '../ring-queue.ts';
import type { SegmentSender } from '../segments.ts';
import { type OtherEnd, XskTransmitter } from './transmit.ts';

export class XskQueue extends RingQueue<XskTransmitter> {
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #kick: (fd: number) => number;
  readonly #wake: (fd: number) => number;
  /** A driver that sends and receives by itself has not been told of the fill ring yet. */
  #untold: boolean;

  /** @param ringOps other than the thread's: for tests */
  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    end: OtherEnd,
    segments?: Pick<SegmentSender, 'send'>,
    ringOps = ringOperationsOf(memory),
  ) {
    super(memory, pool, address, new XskTransmitter(memory, pool, address, end, segments, ringOps), ringOps);
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, address.port, address.queue, address.path);
    this.#kick = end.kick;
    this.#wake = end.wake ?? (() => 0);
    this.#untold = memory.slot(address).reader !== Reader.ASKED;
  }

  override refill(): void {
    super.refill();
    if (this.fill.pending() === 0) return;
    // A driver that finds the ring empty asks to be told when it is not.
    if (this.fill.needWakeup) {
      this.#doubles[this.#counter.kicks]!++;
      this.#wake(this.fd);
    } else if (this.#untold) this.#tellFirst();
  }

  /**
   * Some drivers do not ask where they find the ring empty first, when they set up their own (igb_alloc_rx_buffers_zc), and
   * then the kernel wakes them for the transmit ring alone, as it may at first (xp_assign_dev): they look at both. One whose
   * device is down finds the frames when it comes up.
   */
  #tellFirst(): void {
    this.#doubles[this.#counter.kicks]!++;
    const result = this.#kick(this.fd);
    this.#untold = result === Errno.EAGAIN || result === Errno.EBUSY;
  }
}

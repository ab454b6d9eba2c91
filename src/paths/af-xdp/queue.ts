/** A path queue over the four rings of an AF_XDP socket. Worker only. */
import { Errno } from '../../errors.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { FramePool } from '../../memory/frames.ts';
import { type QueueAddress, Reader } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { ReceiveRing } from '../descriptor-rings.ts';
import { RingQueue } from '../ring-queue.ts';
import type { SegmentSender } from '../segments.ts';
import { type XskKernel, XskTransmitter } from './transmit.ts';

export class XskQueue extends RingQueue<XskTransmitter> {
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #kick: (fd: number) => number;
  readonly #wake: (fd: number) => number;
  /** A zero-copy driver has not been kicked for the fill ring yet. */
  #needsFirstKick: boolean;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    kernel: XskKernel,
    segments?: Pick<SegmentSender, 'send'>,
    tx = new XskTransmitter(memory, pool, address, kernel, segments),
    rx?: ReceiveRing,
  ) {
    super(memory, pool, address, tx, rx);
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, address.port, address.queue, address.path);
    this.#kick = kernel.kick;
    this.#wake = kernel.wake ?? (() => 0);
    this.#needsFirstKick = memory.slot(address).reader !== Reader.ASKED;
  }

  override refill(): void {
    super.refill();
    if (this.fill.pending() === 0) return;
    // A driver that has found the ring empty sets the flag.
    if (this.fill.needWakeup) {
      this.#doubles[this.#counter.kicks]!++;
      this.#wake(this.fd);
    } else if (this.#needsFirstKick) this.#kickFirst();
  }

  /**
   * Some drivers set no flag when they first find the ring empty, while they set up their own rings
   * (igb_alloc_rx_buffers_zc). The kernel may then accept a wake-up for the transmit ring only (xp_assign_dev), in which
   * these drivers read both rings. A driver whose device is down finds the frames when the device comes up.
   */
  #kickFirst(): void {
    this.#doubles[this.#counter.kicks]!++;
    const result = this.#kick(this.fd);
    this.#needsFirstKick = result === Errno.EAGAIN || result === Errno.EBUSY;
  }
}

/**
 * The transmit side of an AF_XDP socket: a ring that the kernel reads in a kick (copy mode) or its driver reads by itself
 * (zero-copy). The result of a kick decides what happens next: see {@link isPassing}. Belongs to the worker thread.
 */
import { Errno } from '../../errors.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import type { FramePool } from '../../memory/frames.ts';
import { type QueueAddress, Reader } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { COMPLETE, RingTransmitter } from '../ring-queue.ts';
import type { SegmentSender } from '../segments.ts';
import { DriverDown, DriverDrain, Drops, type Millis, Stall } from '../stall.ts';
import { RecallRing } from './recall-ring.ts';

/**
 * Whether a kick that ended in this may be repeated, with the same ring. EAGAIN: the kernel's batch or the driver's queue is
 * full, or completions must be taken first. ENOBUFS, ENOMEM: no memory for a socket buffer. EBUSY, with zero-copy: the driver
 * is being reconfigured. (ENETDOWN may mean that too, for a while: `DriverDown` in stall.ts.) All others mean that the device
 * is gone, or that a security module forbids it (EPERM), or that the packet at the head of the ring is refused (EINVAL):
 * the packets in the ring then take another path.
 */
const isPassing = (result: number): boolean =>
  result >= 0 ||
  result === Errno.EAGAIN ||
  result === Errno.ENOBUFS ||
  result === Errno.ENOMEM ||
  result === Errno.EBUSY;

/** The kernel's side of a queue's sockets, or a model of it. */
export interface XskKernel {
  /** Has it read the transmit ring of a socket. 0 or more, or a negative errno. */
  readonly kick: (fd: number) => number;
  /** Has a driver that waits for frames, and not for time, read the fill ring. */
  readonly wake?: (fd: number) => number;
  /** The clock for {@link Stall} and the like; without it a path never fails for taking nothing. */
  readonly millis?: Millis;
  /** Descriptors that it ever passed over, if it does not report how far it has read: see recall.ts. */
  readonly passedOver?: ((fd: number) => number) | undefined;
  /** Wakes the supervisor: the slot's `doubt` word asks whether the device has a link. */
  readonly doubted?: () => void;
}

export class XskTransmitter extends RingTransmitter {
  readonly #bytes: Uint8Array;
  readonly #slot: PathSlot;
  readonly #droppedAt: number;
  readonly #kick: () => number;
  readonly #segments: Pick<SegmentSender, 'send'> | undefined;
  /** Copy mode: the kernel reads the transmit ring inside a kick, and only there. */
  readonly #copies: boolean;
  /** Only if the kernel does not report how far it has read. */
  readonly #recall: RecallRing | undefined;
  readonly #stall: Stall | undefined;
  /** Copy mode only. */
  readonly #drops: Drops | undefined;
  /** Zero-copy only. */
  readonly #down: DriverDown | undefined;
  readonly #drain = new DriverDrain();
  /** The errno of a kick that failed for good: packets only wait to be taken back. */
  #dead = 0;
  /** The result of the last kick that concerned no packet. */
  #lastResult = 0;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    { kick, millis, passedOver, doubted = () => {} }: XskKernel,
    segments?: Pick<SegmentSender, 'send'>,
  ) {
    super(memory, pool, address);
    const slot = memory.slot(address);
    const { fd } = slot;
    this.#bytes = memory.bytes;
    this.#slot = slot;
    this.#droppedAt = slot.at('bounces');
    this.#kick = () => kick(fd);
    this.#segments = segments;
    this.#copies = slot.reader === Reader.ASKED;
    this.#stall = millis && new Stall(millis);
    const doubt = { words: memory.words, at: slot.at('doubt'), asked: doubted };
    if (millis && this.#copies) this.#drops = new Drops(millis, doubt);
    else if (millis) this.#down = new DriverDown(millis, doubt);
    if (this.#copies && passedOver !== undefined) {
      const calls = {
        kick: this.#kick,
        passedOver: () => passedOver(fd),
        complete: () => this.complete(),
      };
      this.#recall = new RecallRing(memory, pool, address, slot, this, this.completion, calls, this.#drops);
    }
  }

  override room(wanted: number): number {
    if (this.#down?.isDown) return 0;
    return super.room(this.#recall === undefined ? wanted : this.#recall.room(wanted));
  }

  /** Only once the kernel has read all packets before: in copy mode the device has those when the kick returns. */
  sendSegment(offset: number, bytes: number, offload: number): boolean {
    if (this.#segments === undefined) return false;
    return this.#isDrained() && this.#segments.send(offset, bytes, offload);
  }

  override flush(): number {
    if (this.#dead < 0) {
      this.publish();
      return this.#dead;
    }
    const recall = this.#recall;
    if (recall?.isPending && !recall.settle()) return this.#fail(Errno.EBUSY);
    this.publish();
    if (!this.backlog) return 0;
    if (this.ring.needWakeup && !recall?.isBusy) {
      this.doubles[this.counter.kicks]!++;
      const before = this.ring.consumed;
      const result = this.#kick();
      if (result === Errno.EBUSY && this.#copies) {
        this.words[this.#droppedAt]!++;
        const retries = recall === undefined ? this.#retryDropped(before) : recall.retryDropped(before);
        if (!retries) return this.#fail(result);
      } else if (result === Errno.ENETDOWN && this.#down !== undefined) {
        if (this.#down.hasFailed()) return this.#fail(result);
        return 0;
      } else if (!isPassing(result)) return this.#fail(result);
      else this.#lastResult = result;
    }
    this.#down?.clear();
    this.backlog = this.unsent() > 0;
    if (recall !== undefined) recall.isExact = !this.backlog;
    if (this.#stall === undefined) return 0;
    if (!this.backlog) this.#stall.clear();
    else if (this.#stall.hasFailed(this.#progress)) {
      return this.#fail(this.#lastResult < 0 ? this.#lastResult : Errno.ETIMEDOUT);
    }
    return 0;
  }

  override complete(): void {
    const count = this.completion.peek(COMPLETE);
    if (count === 0) return;
    const frames = this.free(count);
    this.completion.release(count);
    // The kernel completes a packet that the device dropped, too.
    const dropped = Math.min(this.words[this.#droppedAt]!, frames);
    this.words[this.#droppedAt]! -= dropped;
    this.doubles[this.counter.txPackets]! += frames - dropped;
  }

  override get inFlight(): number {
    return this.#recall === undefined ? super.inFlight : this.pool.owners.countOwnedBy(this.owner);
  }

  override get completing(): number {
    const pending = this.completion.pending();
    let frames = pending;
    for (let i = 0; i < pending; i++) if (this.isPassedOver(this.completion.slot(i))) frames--;
    return frames;
  }

  /**
   * For zero-copy: a packet that the driver has begun to read cannot be taken back. So the driver may finish first, as long
   * as it makes progress.
   */
  settled(order: number, leaves: boolean, waited: number): boolean {
    if (!leaves || this.#slot.reader !== Reader.DRIVER) return true;
    // Later packets, from other ports of this worker, wait to be taken back.
    if (this.#drain.isNew(order)) this.flush();
    this.complete();
    if (this.ring.cursor === this.completion.cursor) return true;
    return this.#drain.isOver(order, this.#progress, waited);
  }

  override reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    this.publish(); // another port may have forwarded packets since the last flush
    if (!this.#copies) this.invalidateUnread();
    this.#recall?.reclaim();
    return super.reclaimUnsent(visit);
  }

  override eachCompleted(visit: (address: number) => void): void {
    if (this.#recall?.isExact === false) this.#recall.settle();
    const count = this.completion.pending();
    for (let i = 0; i < count; i++) {
      const slot = this.completion.slot(i);
      if (!this.isPassedOver(slot)) visit(this.words[slot]!);
    }
  }

  /** While it is unknown which packets the kernel has read, all count as read. */
  override eachUnsent(visit: (address: number) => void): void {
    if (!this.#recall?.isBusy) super.eachUnsent(visit);
  }

  override recover(): void {
    this.passOverCompleted();
    if (this.#recall === undefined) this.resume();
    else this.#recall.recover();
    if (!this.#recall?.isBusy) this.passOverSent();
    if (this.#left > 0 && this.ring.pending() === 0) this.#recall!.repeat();
    // The worker that died was taking packets back from a path that is left: no driver may be kicked to read invalid descriptors.
    const left = !this.#copies && this.unsent() > 0 && this.isInvalid(this.firstUnsent);
    if (left) this.#dead = Errno.ENETDOWN;
    this.backlog = this.unsent() > 0;
  }

  /** Frees the frames of the oldest completions. A descriptor that was taken back frees none. Returns how many. */
  protected free(count: number): number {
    let freed = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.completion.slot(i);
      if (this.isPassedOver(slot)) continue;
      this.pool.put(this.words[slot]!);
      freed++;
    }
    return freed;
  }

  /** Whether that entry of the completion ring, a word index, frees no frame. */
  protected isPassedOver(slot: number): boolean {
    return this.#recall?.isPassedOver(slot) === true;
  }

  protected override unsent(): number {
    return this.#left > 0 ? this.#left : super.unsent();
  }

  protected override get firstUnsent(): number {
    return this.#left > 0 ? this.#recall!.first : super.firstUnsent;
  }

  protected override passOver(): void {
    if (this.#left > 0) this.#recall!.drop();
    else super.passOver();
  }

  /** The path takes no more packets. */
  #fail(result: number): number {
    this.doubles[this.counter.kickErrors]!++;
    this.#dead = result;
    return result;
  }

  /** Another number whenever a packet has moved. Completions count too: a kernel may not report how far it has read. */
  get #progress(): number {
    if (this.#recall !== undefined) return this.#recall.progress;
    const completed = this.completion.cursor + this.completion.pending();
    return (this.ring.consumed + this.words[this.consumedAt]! + completed) | 0;
  }

  /** Packets that were taken back and are not in the ring again. */
  get #left(): number {
    return this.#recall === undefined ? 0 : this.#recall.left;
  }

  /** Kicks until the kernel has read everything, or reads no more: it reads 32 packets a kick. */
  #isDrained(): boolean {
    if (this.staged === 0 && !this.backlog) return true;
    for (let before = -1; ; ) {
      if (this.flush() < 0) return false;
      if (this.#recall?.isExact === false) this.#recall.settle();
      const unsent = this.unsent();
      if (unsent === 0) return true;
      if (unsent === before) return false;
      before = unsent;
    }
  }

  /**
   * EBUSY: the device dropped the last packet that the kernel read, and the kernel completed it all the same
   * (net/xdp/xsk.c, __xsk_generic_xmit: NET_XMIT_DROP). A device does so when it is overrun, and from the moment when it
   * loses its carrier, or starts to go down, until it reports that. The packet is sent again, as a copy in the same place:
   * its own frame comes back through the completion ring. The ring may be rewritten, since in copy mode the kernel reads it
   * only inside our kick. A packet that is always dropped, for example because the other end has a smaller MTU, is given up
   * after a while: see stall.ts.
   *
   * NB: the kernel publishes its cursor at the end of a kick only if it sent something. If it did not, it
   * has taken exactly one packet, whatever the published cursor says (it may be one of an earlier kick).
   *
   * @param before the published cursor before the kick
   * @returns false if the device has failed
   */
  #retryDropped(before: number): boolean {
    const words = this.words;
    const tx = this.ring;
    const pool = this.pool;
    tx.pending();
    const after = tx.consumed;
    const known = words[this.consumedAt]!;
    const first = ((known - before) | 0) > 0 ? known : before;
    const taken = ((after - first) | 0) > 0 ? after : this.packetEnd(first);
    words[this.consumedAt] = taken | 0;
    const dropped = tx.slotAt(taken - 1);
    const address = this.packetAt(dropped);
    const length = this.lengthAt(dropped);
    const slots = this.slotsFor(address, length);
    const decision = this.#drops?.decide((taken - 1) | 0, taken - 1 + slots) ?? 'retry';
    if (decision === 'lost' || tx.reserve(slots) < slots || pool.count === 0) {
      this.doubles[this.counter.txErrors]!++;
      return decision !== 'failed';
    }
    const offset = this.frames + address;
    const home = pool.peek(0) + (address & (pool.frameSize - 1));
    this.#bytes.copyWithin(this.frames + home, offset, offset + length);
    for (let cursor = tx.cursor; cursor !== (taken | 0); cursor = (cursor - 1) | 0) {
      const to = tx.slotAt(cursor - 1 + slots);
      const from = tx.slotAt(cursor - 1);
      words.copyWithin(to, from, from + 4);
    }
    this.write(taken, home, length);
    pool.setOwner(home, this.owner);
    this.mark(tx.cursor + slots);
    tx.commit(slots);
    pool.remove(1);
    this.doubles[this.counter.txRetried]!++;
    this.doubles[this.counter.txPosted]!++;
    return decision !== 'failed';
  }
}

/**
 * The way out of an AF_XDP socket: a transmit ring that a kernel reads, in a kick (copy mode) or by its driver (zero-copy).
 * What a kick answers says what to do next: see {@link isPassing}.
 */
import { Errno } from '../../errors.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import type { FramePool } from '../../memory/frames.ts';
import { BURST, type QueueAddress, Reader } from '../../memory/layout.ts';
import { ringOperationsOf } from '../../memory/ring-operations.ts';
import { type Memory, nowNanos } from '../../memory/shared.ts';
import { SETTLE_NANOS } from '../attached-path.ts';
import { type Answer, Recall } from '../recall.ts';
import { COMPLETE, RingTransmitter } from '../ring-queue.ts';
import type { SegmentSender } from '../segments.ts';
import { Absence, type Millis, Refusals, Stall } from '../stall.ts';

/**
 * Packets that may wait in the ring of a kernel which does not always say how far it has read: those of which that is not
 * known are few then. A worker wants room for a burst, and the kernel reads half of one in a kick.
 */
const UNTOLD = 2 * BURST;

/**
 * A driver that has sent nothing for so long has stopped: it reads its ring in bursts of some microseconds, when it is
 * kicked or has sent something. Nanoseconds.
 */
const STILL = 5e6;

/**
 * Whether a kick that ended in this may be repeated, with what is in the ring. EAGAIN: the kernel's batch or the driver's
 * queue is full, or completions must be taken first. ENOBUFS, ENOMEM: no memory for a socket buffer. EBUSY, where the
 * driver sends by itself: it is being reconfigured. (ENETDOWN may mean that too, for a while: `Absence` in stall.ts.) All
 * others say that the device is gone, or will not have us (EPERM, of a security module), or does not like the packet at
 * the head of the ring (EINVAL): what is there goes by another path.
 */
const isPassing = (result: number): boolean =>
  result >= 0 ||
  result === Errno.EAGAIN ||
  result === Errno.ENOBUFS ||
  result === Errno.ENOMEM ||
  result === Errno.EBUSY;

/** Who reads the rings that a queue writes to: the kernel, or what plays it. */
export interface OtherEnd {
  /** Has it read the transmit ring of a socket. 0 or more, or a negative errno. */
  readonly kick: (fd: number) => number;
  /** Has it read the fill ring, where it waits for frames and not for time. */
  readonly wake?: (fd: number) => number;
  /** The clock by which a path fails that takes nothing; without one it has all the time in the world. */
  readonly millis?: Millis;
  /** Descriptors that it has passed over, ever, where it does not say how far it has read: see recall.ts. */
  readonly passedOver?: ((fd: number) => number) | undefined;
  /** Tells the coordinator that the slot's `doubt` word asks whether the device has a link. */
  readonly doubted?: () => void;
}

export class XskTransmitter extends RingTransmitter {
  readonly #bytes: Uint8Array;
  readonly #slot: PathSlot;
  readonly #bouncesAt: number;
  readonly #kick: () => number;
  readonly #segments: Pick<SegmentSender, 'send'> | undefined;
  /** Whether the kernel reads the transmit ring inside our kick, and only there: copy mode. */
  readonly #copies: boolean;
  /** Where the kernel does not say how far it has read. */
  readonly #recall: Recall | undefined;
  /** Whether it has read all that is before `unsent`, and nothing behind. */
  #exact = true;
  readonly #stall: Stall | undefined;
  readonly #refusals: Refusals | undefined;
  /** Of a driver that sends by itself. */
  readonly #absence: Absence | undefined;
  /** The errno of a kick that failed for good: what is pushed waits to be taken back. */
  #dead = 0;
  /** What the last kick that said nothing of a packet ended in. */
  #answer = 0;
  /** Copies of packets of which one has bounced, by slot. */
  readonly #kept = new Map<number, Uint8Array>();
  /** The kernel is asked, and has not answered yet: it is given nothing until it has. */
  #asking = false;
  /** Of a driver that is left: the order to leave it, how far it had got, and since when. */
  #order = 0;
  #sending = 0;
  #movedAt = 0;

  /** @param ringOps other than the thread's: for tests */
  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    { kick, millis, passedOver, doubted = () => {} }: OtherEnd,
    segments?: Pick<SegmentSender, 'send'>,
    ringOps = ringOperationsOf(memory),
  ) {
    super(memory, pool, address, ringOps);
    const slot = memory.slot(address);
    const { fd } = slot;
    this.#bytes = memory.bytes;
    this.#slot = slot;
    this.#bouncesAt = slot.at('bounces');
    this.#kick = () => kick(fd);
    this.#segments = segments;
    this.#copies = slot.reader === Reader.ASKED;
    if (this.#copies && passedOver !== undefined) {
      this.#recall = new Recall(memory, slot, this.ring, this.completion, {
        kick: this.#kick,
        passedOver: () => passedOver(fd),
        complete: () => this.complete(),
      });
    }
    this.#stall = millis && new Stall(millis);
    const doubt = { words: memory.words, at: slot.at('doubt'), asked: doubted };
    if (millis && this.#copies) this.#refusals = new Refusals(millis, doubt);
    else if (millis) this.#absence = new Absence(millis, doubt);
  }

  override room(wanted: number): number {
    if (this.#absence?.away) return 0;
    if (this.#recall === undefined) return super.room(wanted);
    if (this.#left > 0 || this.#asking) return 0;
    const waiting = this.ring.pending() + this.staged;
    return super.room(Math.max(0, Math.min(wanted, UNTOLD - waiting)));
  }

  /** Only once the kernel has taken what was pushed before: in copy mode that is with the device when a kick returns. */
  sendSegment(offset: number, bytes: number, offload: number): boolean {
    if (this.#segments === undefined) return false;
    return this.#drained() && this.#segments.send(offset, bytes, offload);
  }

  override flush(): number {
    if (this.#dead < 0) {
      this.publish();
      return this.#dead;
    }
    if ((this.#asking || this.#left > 0) && !this.#settle()) return this.#fail(Errno.EBUSY);
    this.publish();
    if (!this.backlog) return 0;
    if (this.ring.needWakeup && !this.#asking) {
      this.doubles[this.counter.kicks]!++;
      const before = this.ring.consumed;
      const result = this.#kick();
      if (result === Errno.EBUSY && this.#copies) {
        this.words[this.#bouncesAt]!++;
        if (this.#recall !== undefined) this.#keepCopies(this.#recall, before);
        const goesOn = this.#recall === undefined ? this.#bounced(before) : this.#bouncedUntold(this.#recall);
        if (!goesOn) return this.#fail(result);
      } else if (result === Errno.ENETDOWN && this.#absence !== undefined) {
        if (this.#absence.lasts()) return this.#fail(result);
        return 0;
      } else if (!isPassing(result)) return this.#fail(result);
      else this.#answer = result;
    }
    this.#absence?.clear();
    this.backlog = this.unsent() > 0;
    this.#exact = this.#recall === undefined || !this.backlog;
    if (this.#stall === undefined) return 0;
    if (!this.backlog) this.#stall.clear();
    else if (this.#stall.waits(this.#moved)) {
      return this.#fail(this.#answer < 0 ? this.#answer : Errno.ETIMEDOUT);
    }
    return 0;
  }

  override complete(): void {
    const count = this.completion.peek(COMPLETE);
    if (count === 0) return;
    const frames = this.#free(count);
    this.completion.release(count);
    // A bounced packet is completed too, without having been sent.
    const bounced = Math.min(this.words[this.#bouncesAt]!, frames);
    this.words[this.#bouncesAt]! -= bounced;
    this.doubles[this.counter.txPackets]! += frames - bounced;
  }

  override get inFlight(): number {
    return this.#recall === undefined ? super.inFlight : this.pool.owners.countOwnedBy(this.owner);
  }

  override get completing(): number {
    const pending = this.completion.pending();
    let frames = pending;
    for (let i = 0; i < pending; i++) if (this.#recall?.isPassedOver(this.completion.slot(i))) frames--;
    return frames;
  }

  /**
   * Of a driver that sends by itself: what it has begun to read cannot be taken back, so that is first waited for, as long
   * as it gets on.
   */
  settled(order: number, leaves: boolean, waited: number): boolean {
    if (!leaves || this.#slot.reader !== Reader.DRIVER) return true;
    const begins = order !== this.#order;
    // What is given to the path from now on, by other ports of this worker, waits to be taken back.
    if (begins) this.flush();
    this.complete();
    if (this.ring.cursor === this.completion.cursor) return true;
    const now = nowNanos();
    const sending = this.#moved;
    if (begins || sending !== this.#sending) {
      this.#order = order;
      this.#sending = sending;
      this.#movedAt = now;
    }
    return now - this.#movedAt >= STILL || waited >= SETTLE_NANOS;
  }

  override reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    this.publish(); // another port may have forwarded packets since the last flush
    if (!this.#copies) this.invalidateUnread();
    if (this.#recall?.bounced) this.#bouncedUntold(this.#recall, true);
    else this.#ask(true);
    return super.reclaimUnsent(visit);
  }

  override eachCompleted(visit: (address: number) => void): void {
    if (!this.#exact) this.#settle();
    const count = this.completion.pending();
    for (let i = 0; i < count; i++) {
      const slot = this.completion.slot(i);
      if (!this.#recall?.isPassedOver(slot)) visit(this.words[slot]!);
    }
  }

  /** While it is not known what the kernel has taken, all of it counts as taken. */
  override eachUnsent(visit: (address: number) => void): void {
    if (!this.#asking) super.eachUnsent(visit);
  }

  override recover(): void {
    this.passOverCompleted();
    if (this.#recall === undefined) this.resume();
    else this.#resumeRecall(this.#recall);
    if (!this.#asking) this.passOverSent();
    if (this.#left > 0 && this.ring.pending() === 0) this.#repeat();
    // That worker was taking packets back, with the path left: no driver may be asked to read invalid descriptors.
    const left = !this.#copies && this.unsent() > 0 && this.isInvalid(this.firstUnsent);
    if (left) this.#dead = Errno.ENETDOWN;
    this.backlog = this.unsent() > 0;
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

  /** The path takes nothing any more. */
  #fail(result: number): number {
    this.doubles[this.counter.kickErrors]!++;
    this.#dead = result;
    return result;
  }

  /**
   * Another number whenever a packet has moved. Completions count as well: a kernel may not tell how far it has read.
   */
  get #moved(): number {
    if (this.#recall !== undefined) return this.#recall.moved;
    const completed = this.completion.cursor + this.completion.pending();
    return (this.ring.consumed + this.words[this.consumedAt]! + completed) | 0;
  }

  /** Frees the frames of the oldest completions. Descriptors that were taken back may be among them: theirs are elsewhere. */
  #free(count: number): number {
    const recall = this.#recall;
    let freed = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.completion.slot(i);
      if (recall?.isPassedOver(slot)) continue;
      this.pool.put(this.words[slot]!);
      freed++;
    }
    return freed;
  }

  /** Kicks until the kernel has taken everything, or takes no more: it takes 32 packets a kick. */
  #drained(): boolean {
    if (this.staged === 0 && !this.backlog) return true;
    for (let before = -1; ; ) {
      if (this.flush() < 0) return false;
      if (this.#recall !== undefined && !this.#exact) this.#settle();
      const unsent = this.unsent();
      if (unsent === 0) return true;
      if (unsent === before) return false;
      before = unsent;
    }
  }

  /** Packets that were taken back and are not in the ring again. */
  get #left(): number {
    return this.#recall === undefined ? 0 : this.#recall.left;
  }

  /** Learns what the kernel has not sent, where it does not say so by itself. @param last the path is left: see recall.ts */
  #ask(last = false): Answer | undefined {
    if (this.#recall === undefined) return undefined;
    const answer = this.#recall.take(last);
    this.#asking = answer === 'busy' && !last;
    if (!this.#asking) this.words[this.consumedAt] = this.ring.cursor; // all before is read, or taken back
    return answer;
  }

  /**
   * The same, and puts it into the ring once more: then what is in there is exactly what was not sent.
   *
   * @returns false if it is time to give the device up instead
   */
  #settle(): boolean {
    this.publish();
    if (this.#recall?.bounced) return this.#bouncedUntold(this.#recall);
    if (this.#ask() === 'passed') {
      this.#refusals?.moved(this.#left);
      this.#repeat();
    }
    return true;
  }

  #repeat(): void {
    const recall = this.#recall!;
    while (recall.left > 0) this.repeat(this.ring.slotAt(recall.first));
    this.publish();
    recall.done();
    this.#exact = true;
  }

  /**
   * EBUSY: the device dropped the packet the kernel took last, and the kernel completed it all the same
   * (net/xdp/xsk.c, __xsk_generic_xmit: NET_XMIT_DROP). That is how a device answers between losing its
   * carrier, or starting to go down, and saying so; or when it is overrun. The packet goes again, in its
   * old place: a copy, because its frame comes home by the completion ring. The ring may be rewritten
   * since in copy mode the kernel reads it only inside our kick. A packet that is always dropped, by a device whose
   * other end has a smaller MTU say, is given up after a while: see stall.ts.
   *
   * NB: the kernel publishes its cursor at the end of a kick only if it sent something. If it did not, it
   * has taken exactly one packet, whatever the published cursor says (it may be one of an earlier kick).
   *
   * @returns false if it is time to give the device up instead
   */
  #bounced(before: number): boolean {
    const words = this.words;
    const tx = this.ring;
    const pool = this.pool;
    tx.pending();
    const after = tx.consumed;
    const told = words[this.consumedAt]!;
    const first = ((told - before) | 0) > 0 ? told : before;
    const taken = ((after - first) | 0) > 0 ? after : first + 1;
    words[this.consumedAt] = taken | 0;
    const sentence = this.#refusals?.judge((taken - 1) | 0, taken) ?? 'again';
    if (sentence === 'lost' || tx.reserve(1) < 1 || pool.count === 0) {
      this.doubles[this.counter.txErrors]!++;
      return sentence !== 'failed';
    }
    const dropped = tx.slotAt(taken - 1);
    const offset = this.frames + words[dropped]!;
    const length = words[dropped + 2]!;
    const home = pool.peek(0) + (words[dropped]! & (pool.frameSize - 1));
    this.#bytes.copyWithin(this.frames + home, offset, offset + length);
    for (let cursor = tx.cursor; cursor !== (taken | 0); cursor = (cursor - 1) | 0) {
      const to = tx.slotAt(cursor);
      const from = tx.slotAt(cursor - 1);
      words.copyWithin(to, from, from + 4);
    }
    const slot = tx.slotAt(taken);
    words[slot] = home;
    words[slot + 1] = 0;
    words[slot + 2] = length;
    words[slot + 3] = 0;
    pool.setOwner(home, this.owner);
    this.mark(tx.cursor + 1);
    tx.commit(1);
    pool.remove(1);
    this.doubles[this.counter.txRetried]!++;
    this.doubles[this.counter.txPosted]!++;
    return sentence !== 'failed';
  }

  /**
   * The same where the kernel does not say which packet that was: the last that it has taken. What it has not taken goes
   * into the ring once more, and that packet before it.
   */
  #bouncedUntold(recall: Recall, last = false): boolean {
    const words = this.words;
    const pool = this.pool;
    const answer = this.#ask(last);
    if (this.#asking) return true;
    recall.bounced = false;
    const passed = answer === 'passed';
    const end = this.ring.cursor;
    const dropped = ((recall.left > 0 ? recall.first : end) - 1) | 0;
    // A device that is down, or left, takes nothing: the packet is the first that is taken back.
    const sentence = passed ? (this.#refusals?.judge(dropped, end) ?? 'again') : 'again';
    const slot = this.ring.slotAt(dropped);
    const packet = this.#kept.get(slot);
    if (sentence === 'lost' || packet === undefined || pool.count === 0) {
      this.doubles[this.counter.txErrors]!++;
    } else {
      const home = pool.peek(0) + (words[slot]! & (pool.frameSize - 1));
      this.#bytes.set(packet, this.frames + home);
      words[slot] = home;
      recall.prepend();
      pool.setOwner(home, this.owner);
      pool.remove(1);
      this.doubles[this.counter.txRetried]!++;
      this.doubles[this.counter.txPosted]!++;
    }
    this.#kept.clear();
    if (passed) this.#repeat();
    return sentence !== 'failed';
  }

  /**
   * Copies all packets of which one has bounced, from the cursor before that kick on: its frame comes home before the
   * kernel has said which it was. A worker that dies meanwhile takes that one along.
   */
  #keepCopies(recall: Recall, before: number): void {
    const words = this.words;
    recall.bounced = true;
    this.#kept.clear();
    for (let cursor = before; cursor !== this.ring.cursor; cursor = (cursor + 1) | 0) {
      const slot = this.ring.slotAt(cursor);
      const offset = this.frames + words[slot]!;
      this.#kept.set(slot, this.#bytes.slice(offset, offset + words[slot + 2]!));
    }
  }

  /** Where a worker took packets back last, those that it had staged are the first of them, and were posted before. */
  #resumeRecall(recall: Recall): void {
    if (recall.bounced) this.doubles[this.counter.txErrors]!++; // that worker had the copy of it
    recall.bounced = false;
    const { isLast } = recall;
    if (isLast) this.#ask(); // if that worker died before it had written down what it had found
    this.resume(isLast);
    if (!isLast) this.#ask();
  }
}

/**
 * A path queue over four rings of AF_XDP's shape: the kernel's own, or, on the memory path, rings whose
 * other end is a thread. They differ in the kick alone.
 */

import { Errno } from '../errors.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../memory/counters.ts';
import type { FramePool, PathLedger } from '../memory/frames.ts';
import { Holder, holderTag } from '../memory/holder.ts';
import { kernelsOf } from '../memory/kernels.ts';
import { BURST, type PathId, Reader, Ring, type RingId } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Consumer, Producer, type RingPlace } from '../memory/ring.ts';
import type { Memory } from '../memory/shared.ts';
import type { PathQueue } from './path.ts';
import { type Answer, Recall } from './recall.ts';
import { ReceiveRing } from './receive-ring.ts';
import type { SegmentSender } from './segments.ts';
import { Absence, type Millis, Refusals, Stall } from './stall.ts';
import { TransmitRing } from './transmit-ring.ts';
import { Turn } from './turn.ts';

/** Refill in batches: one release per this many frames, and the kernel never runs dry meanwhile. */
const REFILL = 32;

/**
 * Packets that may wait in the ring of a kernel which does not always say how far it has read: those of which that is not
 * known are few then. A worker wants room for a burst, and the kernel reads half of one in a kick.
 */
const UNTOLD = 2 * BURST;

/** Completions taken back at once. */
const COMPLETE = 256;

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

/** Who reads the rings that a queue writes to: the kernel, or a thread. */
export interface OtherEnd {
  /** Has it read the transmit ring of a socket. 0 or more, or a negative errno. */
  readonly kick: (fd: number) => number;
  /** Has it read the fill ring, where it waits for frames and not for time. */
  readonly wake?: (fd: number) => number;
  /** The clock by which a path fails that takes nothing; without one it has all the time in the world. */
  readonly millis?: Millis;
  /** Descriptors that it has passed over, ever, where it does not say how far it has read: see recall.ts. */
  readonly passedOver?: ((fd: number) => number) | undefined;
}

export class RingQueue implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  readonly fd: number;
  readonly turn: Turn;
  backlog = false;

  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #frames: number;
  readonly #consumedAt: number;
  readonly #bouncesAt: number;
  readonly #kick: () => number;
  readonly #wake: (fd: number) => number;
  readonly #fill: Producer;
  readonly #in: ReceiveRing;
  readonly #rx: Consumer;
  readonly #out: TransmitRing;
  readonly #tx: Producer;
  readonly #completion: Consumer;
  readonly #segments: Pick<SegmentSender, 'send'> | undefined;
  /** Whether the kernel reads the transmit ring inside our kick, and only there: copy mode. */
  readonly #copies: boolean;
  /** A driver that sends and receives by itself has not been told of the fill ring yet. */
  #untold: boolean;
  /** Where the kernel does not say how far it has read. */
  readonly #recall: Recall | undefined;
  /** Whether it has read all that is before `#unsent`, and nothing behind. */
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

  /** @param kernels other than the thread's: for tests */
  constructor(
    memory: Memory,
    pool: FramePool,
    port: number,
    queue: number,
    path: PathId,
    { kick, wake, millis, passedOver }: OtherEnd,
    segments?: Pick<SegmentSender, 'send'>,
    kernels = kernelsOf(memory),
  ) {
    const { layout, words, bytes, doubles } = memory;
    const address = { port, queue, path };
    const slot = memory.slot(address);
    const place = (ring: RingId): RingPlace => ringPlace(memory, address, ring);
    this.path = path;
    this.tag = holderTag(queue, port, path);
    this.fd = slot.fd;
    this.#words = words;
    this.#bytes = bytes;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#frames = layout.frames;
    this.#consumedAt = slot.at('consumed');
    this.#bouncesAt = slot.at('bounces');
    this.#kick = () => kick(this.fd);
    this.#wake = wake ?? (() => 0);
    this.#fill = new Producer(words, place(Ring.FILL));
    this.#in = new ReceiveRing(memory, address, place(Ring.RX), kernels);
    this.#rx = this.#in.ring;
    this.#out = new TransmitRing(memory, pool, address, this.tag, place(Ring.TX), kernels);
    this.#tx = this.#out.ring;
    this.#completion = new Consumer(words, place(Ring.COMPLETION));
    this.#segments = segments;
    this.#copies = slot.reader === Reader.ASKED;
    this.#untold = !this.#copies;
    if (this.#copies && passedOver !== undefined) {
      const asking = {
        ...{ kick: this.#kick, passedOver: () => passedOver(this.fd), complete: () => this.complete() },
      };
      this.#recall = new Recall(memory, slot, this.#tx, this.#completion, asking);
    }
    this.#stall = millis && new Stall(millis);
    const doubtAt = slot.at('doubt');
    if (millis && this.#copies) this.#refusals = new Refusals(millis, words, doubtAt);
    else if (millis) this.#absence = new Absence(millis, words, doubtAt);
    this.turn = new Turn(memory, address, this.#in, this.#out);
    this.#resume();
  }

  ready(max: number): number {
    return this.#rx.peek(max);
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    return this.#in.receive(offset, bytes, max);
  }

  receiveBurst(burst: number, max: number): number {
    return this.#in.receiveBurst(burst, max);
  }

  release(): void {
    this.#in.release();
  }

  room(wanted: number): number {
    if (this.#absence?.away) return 0;
    if (this.#recall === undefined) return this.#out.room(wanted);
    if (this.#left > 0 || this.#asking) return 0;
    const waiting = this.#tx.pending() + this.#out.staged;
    return this.#out.room(Math.max(0, Math.min(wanted, UNTOLD - waiting)));
  }

  push(offset: number, bytes: number): void {
    this.#out.push(offset, bytes);
  }

  pushBurst(burst: number, from: number, to: number, longest: number): number {
    return this.#out.pushBurst(burst, from, to, longest);
  }

  /** Only once the kernel has taken what was pushed before: in copy mode that is with the device when a kick returns. */
  sendSegment(offset: number, bytes: number, offload: number): boolean {
    if (this.#segments === undefined) return false;
    return this.#drained() && this.#segments.send(offset, bytes, offload);
  }

  flush(): number {
    if (this.#dead < 0) {
      this.#publish();
      return this.#dead;
    }
    if ((this.#asking || this.#left > 0) && !this.#settle()) return this.#fail(Errno.EBUSY!);
    this.#publish();
    if (!this.backlog) return 0;
    if (this.#tx.needWakeup && !this.#asking) {
      this.#doubles[this.#counter.kicks]!++;
      const before = this.#tx.consumed;
      const result = this.#kick();
      if (result === Errno.EBUSY && this.#copies) {
        this.#words[this.#bouncesAt]!++;
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
    this.backlog = this.#unsent() > 0;
    this.#exact = this.#recall === undefined || !this.backlog;
    if (this.#stall === undefined) return 0;
    if (!this.backlog) this.#stall.clear();
    else if (this.#stall.waits(this.#moved)) {
      return this.#fail(this.#answer < 0 ? this.#answer : Errno.ETIMEDOUT!);
    }
    return 0;
  }

  takeDoubt(): boolean {
    return (this.#refusals ?? this.#absence)?.takeDoubt() ?? false;
  }

  complete(): void {
    const count = this.#completion.peek(COMPLETE);
    if (count === 0) return;
    const frames = this.#recall === undefined ? this.#free(count) : this.#freeSent(this.#recall, count);
    this.#completion.release(count);
    // A bounced packet is completed too, without having been sent.
    const bounced = Math.min(this.#words[this.#bouncesAt]!, frames);
    this.#words[this.#bouncesAt]! -= bounced;
    this.#doubles[this.#counter.txPackets]! += frames - bounced;
  }

  refill(): void {
    const away = (this.#fill.cursor - this.#rx.cursor) | 0;
    const lacking = this.#fill.entries - away;
    if (lacking >= REFILL) this.#offer(lacking);
    if (this.#fill.pending() === 0) return;
    // A driver that finds the ring empty asks to be told when it is not.
    if (this.#fill.needWakeup) {
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
    const result = this.#kick();
    this.#untold = result === Errno.EAGAIN || result === Errno.EBUSY;
  }

  /** Gives the kernel up to so many frames for what arrives. */
  #offer(most: number): void {
    const words = this.#words;
    const pool = this.#pool;
    const count = Math.min(this.#fill.reserve(most), pool.count);
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const slot = this.#fill.slot(i);
      words[slot] = address;
      words[slot + 1] = 0;
      pool.give(address, Holder.FILL | this.tag);
    }
    this.#fill.commit(count);
    pool.remove(count);
  }

  inFlight(): number {
    if (this.#recall !== undefined) return this.#pool.held(Holder.TX | this.tag);
    return (this.#tx.cursor + this.#out.staged - this.#completion.cursor) | 0;
  }

  sending(): number | undefined {
    return this.#tx.cursor === this.#completion.cursor ? undefined : this.#moved;
  }

  takeBack(visit: (offset: number, bytes: number) => void): number {
    this.#publish(); // another port may have forwarded packets since the last flush
    if (!this.#copies) this.#out.spoil();
    const words = this.#words;
    if (this.#recall?.bounced) this.#bouncedUntold(this.#recall, true);
    else this.#ask(true);
    const count = this.#unsent();
    for (let i = 0; i < count; i++) {
      const slot = this.#tx.slotAt(this.#firstUnsent);
      visit(this.#frames + words[slot]!, words[slot + 2]!);
      this.#pass(); // lest a worker that dies here have it taken back again
    }
    this.#doubles[this.#counter.txRescued]! += count;
    this.backlog = false;
    return count;
  }

  ledger(): PathLedger {
    const rx = this.#rx.pending();
    const completing = this.#completing();
    return {
      fill: ((this.#fill.cursor - this.#rx.cursor) | 0) - rx,
      rx,
      tx: this.inFlight() - completing,
      completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    if (!this.#exact) this.#settle();
    const words = this.#words;
    const mask = -this.#pool.frameSize;
    const walk = (count: number, slotOf: (i: number) => number): void => {
      for (let i = 0; i < count; i++) visit(words[slotOf(i)]! & mask);
    };
    walk(this.#rx.pending(), (i) => this.#rx.slot(i));
    const completed = this.#completion.pending();
    for (let i = 0; i < completed; i++) {
      const slot = this.#completion.slot(i);
      if (!this.#recall?.isPassedOver(slot)) visit(words[slot]! & mask);
    }
    walk(this.#fill.pending(), (i) => this.#fill.pendingSlot(i));
    // While it is not known what the kernel has taken, all of it counts as taken.
    if (!this.#asking) walk(this.#unsent(), (i) => this.#tx.slotAt(this.#firstUnsent + i));
  }

  /** Takes back all that the kernel has completed: what is left when the socket is closed counts as unknown. */
  detach(): void {
    for (let left = this.#completion.entries; left > 0 && this.#completion.pending() > 0; left -= COMPLETE) {
      this.complete();
    }
  }

  /** The path takes nothing any more. */
  #fail(result: number): number {
    this.#doubles[this.#counter.kickErrors]!++;
    this.#dead = result;
    return result;
  }

  /**
   * Another number whenever a packet has moved. Completions count as well: a kernel may not tell how far it has read.
   */
  get #moved(): number {
    if (this.#recall !== undefined) return this.#recall.moved;
    const completed = this.#completion.cursor + this.#completion.pending();
    return (this.#tx.consumed + this.#words[this.#consumedAt]! + completed) | 0;
  }

  #free(count: number): number {
    for (let i = 0; i < count; i++) this.#pool.put(this.#words[this.#completion.slot(i)]!);
    return count;
  }

  /** The same where descriptors that were taken back may be among them: their frames are elsewhere. */
  #freeSent(recall: Recall, count: number): number {
    let freed = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.#completion.slot(i);
      if (recall.isPassedOver(slot)) continue;
      this.#pool.put(this.#words[slot]!);
      freed++;
    }
    return freed;
  }

  /** Entries of the completion ring whose frames come home. */
  #completing(): number {
    const pending = this.#completion.pending();
    let frames = pending;
    for (let i = 0; i < pending; i++) if (this.#recall?.isPassedOver(this.#completion.slot(i))) frames--;
    return frames;
  }

  #publish(): void {
    if (this.#out.publish() > 0) this.backlog = true;
  }

  /** Kicks until the kernel has taken everything, or takes no more: it takes 32 packets a kick. */
  #drained(): boolean {
    if (this.#out.staged === 0 && !this.backlog) return true;
    for (let before = -1; ; ) {
      if (this.flush() < 0) return false;
      if (this.#recall !== undefined && !this.#exact) this.#settle();
      const unsent = this.#unsent();
      if (unsent === 0) return true;
      if (unsent === before) return false;
      before = unsent;
    }
  }

  /** Packets that were taken back and are not in the ring again. */
  get #left(): number {
    return this.#recall === undefined ? 0 : this.#recall.left;
  }

  /** Published packets the kernel has not taken; where it does not say so, no fewer. */
  #unsent(): number {
    if (this.#left > 0) return this.#left;
    const pending = this.#tx.pending();
    const ahead = (this.#words[this.#consumedAt]! - this.#tx.consumed) | 0;
    return ahead > 0 ? pending - ahead : pending;
  }

  /** Cursor of the oldest of them, as of the last {@link #unsent}. */
  get #firstUnsent(): number {
    if (this.#left > 0) return this.#recall!.first;
    const told = this.#words[this.#consumedAt]!;
    return ((told - this.#tx.consumed) | 0) > 0 ? told : this.#tx.consumed;
  }

  /** The oldest of them is not this path's any more. */
  #pass(): void {
    if (this.#left > 0) this.#recall!.drop();
    else this.#words[this.#consumedAt] = (this.#firstUnsent + 1) | 0;
  }

  /** Learns what the kernel has not sent, where it does not say so by itself. @param last the path is left: see recall.ts */
  #ask(last = false): Answer | undefined {
    if (this.#recall === undefined) return undefined;
    const answer = this.#recall.take(last);
    this.#asking = answer === 'busy' && !last;
    if (!this.#asking) this.#words[this.#consumedAt] = this.#tx.cursor; // all before is read, or taken back
    return answer;
  }

  /**
   * The same, and puts it into the ring once more: then what is in there is exactly what was not sent.
   *
   * @returns false if it is time to give the device up instead
   */
  #settle(): boolean {
    this.#publish();
    if (this.#recall?.bounced) return this.#bouncedUntold(this.#recall);
    if (this.#ask() === 'passed') {
      this.#refusals?.moved(this.#left);
      this.#repeat();
    }
    return true;
  }

  #repeat(): void {
    const recall = this.#recall!;
    while (recall.left > 0) this.#out.repeat(this.#tx.slotAt(recall.first));
    this.#publish();
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
    const words = this.#words;
    const tx = this.#tx;
    const pool = this.#pool;
    tx.pending();
    const after = tx.consumed;
    const told = words[this.#consumedAt]!;
    const first = ((told - before) | 0) > 0 ? told : before;
    const taken = ((after - first) | 0) > 0 ? after : first + 1;
    words[this.#consumedAt] = taken | 0;
    const sentence = this.#refusals?.judge((taken - 1) | 0, taken) ?? 'again';
    if (sentence === 'lost' || tx.reserve(1) < 1 || pool.count === 0) {
      this.#doubles[this.#counter.txErrors]!++;
      return sentence !== 'failed';
    }
    const dropped = tx.slotAt(taken - 1);
    const offset = this.#frames + words[dropped]!;
    const length = words[dropped + 2]!;
    const home = pool.peek(0) + (words[dropped]! & (pool.frameSize - 1));
    this.#bytes.copyWithin(this.#frames + home, offset, offset + length);
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
    pool.give(home, Holder.TX | this.tag);
    this.#out.mark(tx.cursor + 1);
    tx.commit(1);
    pool.remove(1);
    this.#doubles[this.#counter.txRetried]!++;
    this.#doubles[this.#counter.txPosted]!++;
    return sentence !== 'failed';
  }

  /**
   * The same where the kernel does not say which packet that was: the last that it has taken. What it has not taken goes
   * into the ring once more, and that packet before it.
   */
  #bouncedUntold(recall: Recall, last = false): boolean {
    const words = this.#words;
    const pool = this.#pool;
    const answer = this.#ask(last);
    if (this.#asking) return true;
    recall.bounced = false;
    const passed = answer === 'passed';
    const end = this.#tx.cursor;
    const dropped = ((recall.left > 0 ? recall.first : end) - 1) | 0;
    // A device that is down, or left, takes nothing: the packet is the first that is taken back.
    const sentence = passed ? (this.#refusals?.judge(dropped, end) ?? 'again') : 'again';
    const slot = this.#tx.slotAt(dropped);
    const packet = this.#kept.get(slot);
    if (sentence === 'lost' || packet === undefined || pool.count === 0) {
      this.#doubles[this.#counter.txErrors]!++;
    } else {
      const home = pool.peek(0) + (words[slot]! & (pool.frameSize - 1));
      this.#bytes.set(packet, this.#frames + home);
      words[slot] = home;
      recall.prepend();
      pool.give(home, Holder.TX | this.tag);
      pool.remove(1);
      this.#doubles[this.#counter.txRetried]!++;
      this.#doubles[this.#counter.txPosted]!++;
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
    const words = this.#words;
    recall.bounced = true;
    this.#kept.clear();
    for (let cursor = before; cursor !== this.#tx.cursor; cursor = (cursor + 1) | 0) {
      const slot = this.#tx.slotAt(cursor);
      const offset = this.#frames + words[slot]!;
      this.#kept.set(slot, this.#bytes.slice(offset, offset + words[slot + 2]!));
    }
  }

  /**
   * After a worker's death: publishes the packets it had staged (they were decided), and passes over
   * ring entries whose frames it had already passed on, taken back or freed: they are no longer this path's.
   */
  #resume(): void {
    const held = Holder.TX | this.tag;
    const isHeld = (): boolean =>
      this.#pool.holder(this.#words[this.#tx.slotAt(this.#firstUnsent)]!) === held;
    this.#passOver(this.#completion, held);
    if (this.#recall === undefined) this.#out.resume();
    else this.#resumeRecall(this.#recall);
    while (!this.#asking && this.#unsent() > 0 && !isHeld()) this.#pass();
    if (this.#left > 0 && this.#tx.pending() === 0) this.#repeat();
    // That worker was taking packets back, with the path left: no driver may be asked to read what is spoiled.
    const left = !this.#copies && this.#unsent() > 0 && this.#out.isSpoiled(this.#firstUnsent);
    if (left) this.#dead = Errno.ENETDOWN!;
    this.backlog = this.#unsent() > 0;
    this.#in.keepUnhandled(this.#pool, Holder.FILL | this.tag);
  }

  /** Where a worker took packets back last, those that it had staged are the first of them, and were posted before. */
  #resumeRecall(recall: Recall): void {
    if (recall.bounced) this.#doubles[this.#counter.txErrors]!++; // that worker had the copy of it
    recall.bounced = false;
    const { isLast } = recall;
    if (isLast) this.#ask(); // if that worker died before it had written down what it had found
    this.#out.resume(isLast);
    if (!isLast) this.#ask();
  }

  #passOver(ring: Consumer, holder: number): void {
    while (ring.peek(1) === 1) {
      if (this.#pool.holder(this.#words[ring.slot(0)]!) === holder) break;
      ring.release(1);
    }
  }
}

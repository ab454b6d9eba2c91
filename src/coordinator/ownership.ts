/**
 * Orders to the workers of one port: which path they transmit on, which paths they poll, which they reclaim.
 *
 * An order is one word per queue, stored for all queues at once. The worker acknowledges it by storing the same word. Epochs
 * count up, so the acknowledgement of a later order also acknowledges the earlier ones. A reclaim that a worker has not
 * acknowledged yet stays in every later order. Supervisor's thread only: it outlives each coordinator.
 */
import { ringDoorbell } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
import { ownerEpoch, ownerReclaim, ownerWord, pathBit } from '../memory/bit-fields.ts';
import type { QueueBlock } from '../memory/blocks.ts';
import type { Journal, Reason } from '../memory/journal.ts';
import { PATH_NAMES, Path, type PathId } from '../memory/layout.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import type { ReportedEvent } from '../port-events.ts';

/** The start of a failover, which is written to the journal when the workers have carried it out. */
interface Pending {
  readonly epoch: number;
  readonly from: PathId;
  readonly to: PathId;
  readonly reason: Reason;
  readonly detectedNanos: number;
  readonly orderedNanos: number;
  /** Queues whose record is still to be written. */
  readonly queues: Set<number>;
}

interface Waiter {
  readonly epoch: number;
  readonly resolve: () => void;
}

/** Epochs have 24 bits; b is not before a if the difference is in the lower half. */
const reached = (a: number, b: number): boolean => ((b - a) & 0xffffff) < 0x800000;

export class Ownership {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #journal: Journal;
  readonly #port: number;
  readonly #report: (event: ReportedEvent) => void;
  #epoch = 0;
  #owner: PathId = Path.NONE;
  #attached = 0;
  #reclaim = 0;
  readonly #abandoned = new Set<number>();
  #waiters: Waiter[] = [];
  #pending: Pending[] = [];

  constructor(
    shim: Shim,
    memory: Memory,
    journal: Journal,
    port: number,
    report: (event: ReportedEvent) => void,
  ) {
    this.#shim = shim;
    this.#memory = memory;
    this.#journal = journal;
    this.#port = port;
    this.#report = report;
  }

  get owner(): PathId {
    return this.#owner;
  }

  /** Has the workers poll one more path. */
  attach(path: PathId): Promise<void> {
    this.#attached |= pathBit(path);
    return this.#order();
  }

  /** Has the workers transmit on `path`, which is attached. */
  setOwner(path: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    return this.#switch(path, reason, detectedNanos);
  }

  /** Has the workers leave `gone` and transmit on `next`, in one order. */
  detach(gone: PathId, next: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    this.#attached &= ~pathBit(gone);
    return this.#switch(next, reason, detectedNanos);
  }

  /** Has the workers reclaim the frames of a path whose kernel objects are closed. */
  reclaim(path: PathId): Promise<void> {
    this.#reclaim |= pathBit(path);
    return this.#order();
  }

  /** Resolves when the workers have carried out every order so far. */
  settled(): Promise<void> {
    return this.#acknowledged(this.#epoch);
  }

  /** The queue's worker is dead and is not replaced: no thread can touch any more what an order frees. */
  abandon(queue: number): void {
    this.#abandoned.add(queue);
    this.#acknowledgeFor(queue);
    this.check();
  }

  /** Checks for acknowledgements. Called when a worker rang. */
  check(): void {
    const { queues } = this.#memory.layout.geometry;
    let last = this.#epoch;
    for (let queue = 0; queue < queues; queue++) {
      const ack = this.#ack(queue);
      if (!reached(last, ownerEpoch(ack))) last = ownerEpoch(ack);
      this.#record(queue, ownerEpoch(ack));
    }
    for (const waiter of this.#waiters) if (reached(waiter.epoch, last)) waiter.resolve();
    this.#waiters = this.#waiters.filter((waiter) => !reached(waiter.epoch, last));
  }

  #switch(next: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    const from = this.#owner;
    this.#owner = next;
    const orderedNanos = nowNanos();
    const done = this.#order();
    if (from !== next) {
      const { queues } = this.#memory.layout.geometry;
      const all = new Set(Array.from({ length: queues }, (_, queue) => queue));
      this.#pending.push({
        epoch: this.#epoch,
        from,
        to: next,
        reason,
        detectedNanos,
        orderedNanos,
        queues: all,
      });
    }
    return done;
  }

  #order(): Promise<void> {
    const { queues } = this.#memory.layout.geometry;
    const { words } = this.#memory;
    this.#epoch = (this.#epoch + 1) & 0xffffff;
    const word = ownerWord(this.#epoch, this.#owner, this.#attached, this.#reclaim);
    for (let queue = 0; queue < queues; queue++) {
      Atomics.store(words, this.#block(queue).at('owner'), word);
    }
    for (let queue = 0; queue < queues; queue++) ringDoorbell(this.#shim, this.#memory, queue);
    for (const queue of this.#abandoned) this.#acknowledgeFor(queue);
    return this.#acknowledged(this.#epoch);
  }

  #acknowledgeFor(queue: number): void {
    const { words } = this.#memory;
    const block = this.#block(queue);
    Atomics.store(words, block.at('ack'), Atomics.load(words, block.at('owner')));
  }

  #acknowledged(epoch: number): Promise<void> {
    const promise = new Promise<void>((resolve) => this.#waiters.push({ epoch, resolve }));
    this.check();
    return promise.then(() => {
      const { queues } = this.#memory.layout.geometry;
      let common = this.#reclaim;
      for (let queue = 0; queue < queues; queue++) common &= ownerReclaim(this.#ack(queue));
      this.#reclaim &= ~common; // every worker has done these
    });
  }

  #ack(queue: number): number {
    return Atomics.load(this.#memory.words, this.#block(queue).at('ack'));
  }

  #block(queue: number): QueueBlock {
    return this.#memory.queue(this.#port, queue);
  }

  /** Writes the journal records of the switches that this queue has carried out, and reports them. */
  #record(queue: number, epoch: number): void {
    const { switchBegan, switchEnded, drained, rescued } = this.#block(queue);
    for (const pending of this.#pending) {
      if (!pending.queues.has(queue) || !reached(pending.epoch, epoch)) continue;
      pending.queues.delete(queue);
      const event = this.#journal.append({
        port: this.#port,
        queue,
        from: PATH_NAMES[pending.from],
        to: PATH_NAMES[pending.to],
        reason: pending.reason,
        detectedNanos: pending.detectedNanos,
        orderedNanos: pending.orderedNanos,
        beganNanos: switchBegan,
        endedNanos: switchEnded,
        drained,
        rescued,
      });
      this.#report({ kind: 'path', event });
    }
    this.#pending = this.#pending.filter((pending) => pending.queues.size > 0);
  }
}

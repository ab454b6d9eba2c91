/**
 * Carries out the coordinator's orders for one queue of one port: which paths it polls, and which it transmits on.
 *
 * The owner word is loaded once a round. When it differs from what was last put into effect, the round is the switch:
 * read-copy-update with the burst as the quiescent state. The coordinator frees nothing before the acknowledgement.
 */

import { ownerAttached, ownerPath, ownerReclaim, pathBit } from '../memory/bit-fields.ts';
import type { QueueBlock } from '../memory/blocks.ts';
import { pathCounters } from '../memory/counters.ts';
import { ownerTag } from '../memory/frame-owner.ts';
import { BURST, Path, type PathId, type QueueAddress, Reader, SLOT_PATHS } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import { attach } from '../paths/attach.ts';
import { NO_ARRIVALS, type PathQueue, SETTLE_NANOS } from '../paths/path.ts';
import type { HandoffRings } from '../paths/proxy-queue.ts';
import type { Dispatch } from './dispatch.ts';
import type { Scope } from './scope.ts';

interface SwitchContext extends Scope {
  /** Tells the coordinator to look: an order was carried out, or a kick failed. */
  readonly notifyCoordinator: () => void;
}

/** The poll loop, whose paths change. */
interface Polling {
  readonly dispatch: Dispatch;
  readonly softwareRss: HandoffRings | undefined;
  readonly paths: readonly PathQueue[];
  arrange(synthetic: PathQueue | undefined, vf: PathQueue | undefined, host: PathQueue | undefined): void;
  pollPath(path: PathQueue, most: number, anyway?: boolean): number;
}

export class OwnerSwitch {
  readonly #context: SwitchContext;
  readonly #port: Polling;
  readonly #words: Int32Array;
  readonly #block: QueueBlock;
  readonly #ownerAt: number;
  /** The attached paths, by their number. */
  readonly #queues: (PathQueue | undefined)[] = [undefined, undefined, undefined, undefined];
  #seen: number;
  /** When the order was seen that is being carried out; 0 if none is. */
  #began = 0;

  constructor(context: SwitchContext, port: Polling) {
    const { memory, queue } = context;
    this.#context = context;
    this.#port = port;
    this.#words = memory.words;
    this.#block = memory.queue(context.port, queue);
    this.#ownerAt = this.#block.at('owner');
    this.#seen = Atomics.load(this.#words, this.#block.at('ack'));
  }

  /** Whether an order waits for transmissions. */
  get waits(): boolean {
    return this.#began !== 0;
  }

  /** Paths that the last worker had attached, by what it acknowledged. */
  get acknowledged(): PathId[] {
    return SLOT_PATHS.filter((path) => ownerAttached(this.#seen) & pathBit(path));
  }

  adopt(path: PathQueue): void {
    this.#queues[path.path] = path;
    this.#arrange();
  }

  /** Transmits by the path that the last worker had acknowledged. */
  resume(): void {
    this.#port.dispatch.out = this.#queues[ownerPath(this.#seen)];
  }

  /** Looks for an order, and carries it out. False while that has to wait for transmissions on the old path. */
  obey(): boolean {
    const word = Atomics.load(this.#words, this.#ownerAt);
    return word === this.#seen || this.#change(word);
  }

  /** ENETDOWN or ENXIO say that the device is gone before rtnetlink does: told once per attachment. */
  kickFailed(path: PathId, errno: number): void {
    const at = this.#block.kickErrnoAt(path);
    if (this.#words[at] !== 0) return;
    Atomics.store(this.#words, at, errno);
    this.#context.notifyCoordinator();
  }

  #change(word: number): boolean {
    const { dispatch } = this.#port;
    if (this.#began === 0) this.#began = nowNanos();
    const began = this.#began;
    const staying = ownerAttached(word);
    this.#reclaim(ownerReclaim(word));
    this.#attachNew(staying);
    const before = dispatch.out;
    const after = this.#queues[ownerPath(word)];
    for (const path of this.#port.paths) {
      const leaves = (staying & pathBit(path.path)) === 0;
      const gives = path === before && before !== after;
      if (!gives && path.fd === NO_ARRIVALS) continue; // nothing waits in it but what others forwarded
      if ((leaves || gives) && !this.#isSettled(path, word, leaves)) return false;
    }
    dispatch.out = after;
    let rescued = 0;
    let drained = 0;
    for (const path of this.#port.paths) {
      if (staying & pathBit(path.path) || path.path === Path.HOST) continue;
      rescued += this.#rescue(path);
      drained += this.#drain(path);
      path.tx.complete();
      path.detach();
      this.#queues[path.path] = undefined;
    }
    this.#leaveHost(staying);
    this.#arrange();
    this.#acknowledge(word, began, drained, rescued);
    return true;
  }

  /** Whether another path may send what follows. A path that stays and works has sent all before that. */
  #isSettled(path: PathQueue, word: number, leaves: boolean): boolean {
    const { tx } = path;
    const waited = nowNanos() - this.#began;
    if (!leaves) {
      tx.flush();
      tx.complete();
      if (path.ledger().tx > 0 && waited < SETTLE_NANOS) return false;
    }
    return tx.settled === undefined || tx.settled(word, leaves, waited);
  }

  /** The host path is left last: what the others drained may still pass by it. */
  #leaveHost(staying: number): void {
    const host = this.#queues[Path.HOST];
    if (host === undefined || staying & pathBit(Path.HOST)) return;
    host.tx.flush();
    host.tx.complete();
    host.detach();
    this.#queues[Path.HOST] = undefined;
  }

  /** Takes back what the kernel has not taken of a path's transmit ring, in order. */
  #rescue({ path, tx }: PathQueue): number {
    const { dispatch } = this.#port;
    if (this.#context.memory.slot(this.#address(path)).reader === Reader.NONE) {
      tx.flush(); // what was forwarded or made since the last round
      return 0;
    }
    const count = tx.reclaimUnsent((offset, bytes) => dispatch.resend(offset, bytes));
    dispatch.out?.tx.flush();
    return count;
  }

  /** Handles what has already arrived by a path that goes. Its mapped ring outlives its socket. */
  #drain(path: PathQueue): number {
    const { dispatch } = this.#port;
    let drained = 0;
    // Bounded: a broken ring must not hold the queue. Twice what any ring holds while the way out has no room,
    // then as much again whether it has or not: what finds none is dropped, and counted.
    const patient = 2 * (this.#context.memory.layout.geometry.ringEntries / BURST);
    for (let round = 0; round < 2 * patient; round++) {
      if (path.rx.ready(BURST) === 0) break;
      drained += Math.max(this.#port.pollPath(path, BURST, round >= patient), 0);
      dispatch.out?.tx.flush();
      dispatch.out?.tx.complete();
    }
    return drained;
  }

  #reclaim(paths: number): void {
    const { memory, pool, port, queue } = this.#context;
    for (const path of SLOT_PATHS) {
      if ((paths & pathBit(path)) === 0) continue;
      const found = pool.reclaim(ownerTag(queue, port, path));
      memory.doubles[pathCounters(memory, port, queue, path).txUnknown]! += found.tx;
    }
  }

  #attachNew(staying: number): void {
    for (const path of SLOT_PATHS) {
      if ((staying & pathBit(path)) === 0 || this.#queues[path] !== undefined) continue;
      this.#words[this.#block.kickErrnoAt(path)] = 0;
      const attached = attach(this.#context, this.#address(path), this.#port.softwareRss);
      if (attached === undefined) continue;
      attached.refill();
      attached.tx.flush();
      this.#queues[path] = attached;
    }
    this.#arrange();
  }

  #arrange(): void {
    this.#port.arrange(this.#queues[Path.SYNTHETIC], this.#queues[Path.VF], this.#queues[Path.HOST]);
  }

  #acknowledge(word: number, began: number, drained: number, rescued: number): void {
    const block = this.#block;
    block.drained = drained;
    block.rescued = rescued;
    block.switchBegan = began;
    block.switchEnded = nowNanos();
    this.#seen = word;
    this.#began = 0;
    Atomics.store(this.#words, block.at('ack'), word);
    this.#context.notifyCoordinator();
  }

  #address(path: PathId): QueueAddress {
    const { port, queue } = this.#context;
    return { port, queue, path };
  }
}

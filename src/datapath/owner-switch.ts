/**
 * Carries out the supervisor's orders for one queue of one port: which paths it polls, and on which it transmits.
 *
 * An order is an owner word that differs from the last acknowledged one. The round that finds it is the switch:
 * read-copy-update with the burst as the quiescent state. Nothing is freed before the acknowledgement.
 */

import { ownerAttached, ownerPath, ownerReclaim, ownerTag, pathBit } from '../memory/bit-fields.ts';
import type { QueueBlock } from '../memory/blocks.ts';
import { pathCounters } from '../memory/counters.ts';
import { BURST, Path, type PathId, type QueueAddress, Reader, SLOT_PATHS } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import { attach } from '../paths/attach.ts';
import { type AttachedPath, NO_ARRIVALS, SETTLE_NANOS } from '../paths/attached-path.ts';
import type { HandoffRings } from '../paths/proxy-queue.ts';
import type { Dispatch } from './dispatch.ts';
import type { Scope } from './scope.ts';

interface SwitchContext extends Scope {
  /** Wakes the supervisor: an order was carried out, or a kick failed. */
  readonly notifySupervisor: () => void;
}

/** The poll loop, whose paths change. */
interface Polling {
  readonly dispatch: Dispatch;
  readonly softwareRss: HandoffRings | undefined;
  readonly paths: readonly AttachedPath[];
  arrange(paths: readonly (AttachedPath | undefined)[]): void;
  pollPath(path: AttachedPath, most: number, anyway?: boolean): number;
}

export class OwnerSwitch {
  readonly #context: SwitchContext;
  readonly #port: Polling;
  readonly #words: Int32Array;
  readonly #block: QueueBlock;
  /** The attached paths, by number. */
  readonly #queues: (AttachedPath | undefined)[] = [undefined, undefined, undefined, undefined];
  #acknowledged: number;
  /** When the order was seen that is being carried out; 0 if none is. */
  #began = 0;

  constructor(context: SwitchContext, port: Polling) {
    const { memory, queue } = context;
    this.#context = context;
    this.#port = port;
    this.#words = memory.words;
    this.#block = memory.queue(context.port, queue);
    this.#acknowledged = Atomics.load(this.#words, this.#block.at('ack'));
  }

  /** Whether an order waits for transmissions. */
  get waits(): boolean {
    return this.#began !== 0;
  }

  /** The last order that is in effect: an owner word. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** The paths that the last worker had attached, by the order that it acknowledged. */
  get acknowledgedPaths(): PathId[] {
    return SLOT_PATHS.filter((path) => ownerAttached(this.#acknowledged) & pathBit(path));
  }

  /** When a worker starts: polls a path that the last worker had attached. */
  adopt(path: AttachedPath): void {
    this.#queues[path.path] = path;
    this.#port.arrange(this.#queues);
  }

  /** After that: transmits on the path that owned the queue. */
  resume(): void {
    this.#port.dispatch.out = this.#queues[ownerPath(this.#acknowledged)];
  }

  /** A kick failed: ENETDOWN or ENXIO report a lost device before rtnetlink does. Reported once per attachment. */
  kickFailed(path: PathId, errno: number): void {
    const at = this.#block.kickErrnoAt(path);
    if (this.#words[at] !== 0) return;
    Atomics.store(this.#words, at, errno);
    this.#context.notifySupervisor();
  }

  /** Carries out an order. False while it has to wait for transmissions on the old path: then again in the next round. */
  carryOut(word: number): boolean {
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
      if (!gives && path.fd === NO_ARRIVALS) continue; // only packets that others forwarded wait in it
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
    this.#port.arrange(this.#queues);
    this.#acknowledge(word, began, drained, rescued);
    return true;
  }

  /** Whether another path may send the packets that follow. A path that stays and works has sent all before that. */
  #isSettled(path: AttachedPath, word: number, leaves: boolean): boolean {
    const { tx } = path;
    const waited = nowNanos() - this.#began;
    if (!leaves) {
      tx.flush();
      tx.complete();
      if (path.ledger().tx > 0 && waited < SETTLE_NANOS) return false;
    }
    return tx.settled === undefined || tx.settled(word, leaves, waited);
  }

  /** The host path is left last, because packets drained from the others may go there. */
  #leaveHost(staying: number): void {
    const host = this.#queues[Path.HOST];
    if (host === undefined || staying & pathBit(Path.HOST)) return;
    host.tx.flush();
    host.tx.complete();
    host.detach();
    this.#queues[Path.HOST] = undefined;
  }

  /** Takes back the packets of a path's transmit ring that the kernel has not taken, in order. */
  #rescue({ path, tx }: AttachedPath): number {
    const { dispatch } = this.#port;
    if (this.#context.memory.slot(this.#address(path)).reader === Reader.NONE) {
      tx.flush(); // packets forwarded or made since the last round
      return 0;
    }
    const count = tx.reclaimUnsent((offset, bytes) => dispatch.resend(offset, bytes));
    dispatch.out?.tx.flush();
    return count;
  }

  /** Handles the packets that have arrived by a path that is left. Its mapped ring outlives its socket. */
  #drain(path: AttachedPath): number {
    const { dispatch } = this.#port;
    let drained = 0;
    // Bounded, so that a broken ring does not hold the queue: twice the packets of a ring while the other path has no
    // room, then as many again in any case. A packet without room is dropped, and counted.
    const rounds = 2 * (this.#context.memory.layout.geometry.ringEntries / BURST);
    for (let round = 0; round < 2 * rounds; round++) {
      if (path.rx.ready(BURST) === 0) break;
      drained += Math.max(this.#port.pollPath(path, BURST, round >= rounds), 0);
      dispatch.out?.tx.flush();
      dispatch.out?.tx.complete();
    }
    return drained;
  }

  #reclaim(paths: number): void {
    const { memory, pool, port, queue } = this.#context;
    for (const path of SLOT_PATHS) {
      if ((paths & pathBit(path)) === 0) continue;
      const found = pool.owners.reclaim(ownerTag(queue, port, path));
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
    this.#port.arrange(this.#queues);
  }

  #acknowledge(word: number, began: number, drained: number, rescued: number): void {
    const block = this.#block;
    block.drained = drained;
    block.rescued = rescued;
    block.switchBegan = began;
    block.switchEnded = nowNanos();
    this.#acknowledged = word;
    this.#began = 0;
    Atomics.store(this.#words, block.at('ack'), word);
    this.#context.notifySupervisor();
  }

  #address(path: PathId): QueueAddress {
    const { port, queue } = this.#context;
    return { port, queue, path };
  }
}

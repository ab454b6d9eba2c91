/**
 * In-place mode: a handler's own loop moves packets from the receive ring of the path that owns the queue to its transmit
 * ring, see paths/in-place-rings.ts. This file calls that loop.
 */

import type { Burst } from '../handler/burst.ts';
import type { InPlaceHandler } from '../handler/handler.ts';
import { FAILED } from '../handler/handler.ts';
import { queueCounters } from '../memory/counters.ts';
import { BURST, type PathId } from '../memory/layout.ts';
import type { AttachedPath } from '../paths/attached-path.ts';
import type { InPlaceRings } from '../paths/in-place-rings.ts';
import type { HandlerCall } from './handler-call.ts';
import type { HandlerFrames } from './handler-frames.ts';
import type { Scope } from './scope.ts';

/** Carries out the verdicts on the packets that are left in the burst. */
interface Settling {
  settle(count: number): void;
}

export class InPlace {
  readonly #burst: Burst;
  readonly #port: number;
  readonly #doubles: Float64Array;
  readonly #bursts: number;
  readonly #loop: InPlaceHandler | undefined;
  readonly #dispatch: Settling;
  readonly #frames: HandlerFrames;
  readonly #call: HandlerCall;

  constructor(
    { memory, burst, port, queue, inPlace }: Scope & { readonly inPlace?: InPlaceHandler | undefined },
    dispatch: Settling,
    frames: HandlerFrames,
    call: HandlerCall,
  ) {
    this.#burst = burst;
    this.#port = port;
    this.#doubles = memory.doubles;
    this.#bursts = queueCounters(memory, port, queue).bursts;
    this.#loop = inPlace;
    this.#dispatch = dispatch;
    this.#frames = frames;
    this.#call = call;
  }

  /** Handles up to `most` packets. Returns how many, with those that a trap drops. */
  run(path: AttachedPath, rings: InPlaceRings, most: number): number {
    const count = rings.begin(most);
    if (count === 0) return 0;
    this.#doubles[this.#bursts]!++;
    this.#frames.hold(count);
    this.#call.begin(path.path, count, true);
    let trapped = false;
    try {
      this.#loop!(this.#frames, rings.at, rings.from, rings.to, count);
    } catch (error) {
      this.#call.report(error);
      trapped = true;
    }
    this.#call.end();
    const { done } = rings;
    const left = rings.end();
    if (left > 0) this.#settleLeft(left, path.path);
    this.#frames.release();
    path.rx.release();
    return trapped ? done + this.#dropFailed(path, count - done) : done;
  }

  /** Carries out the verdicts on the packets that the loop has left in the burst. */
  #settleLeft(count: number, path: PathId): void {
    const burst = this.#burst;
    burst.open(count);
    burst.port.fill(this.#port, 0, count);
    burst.path.fill(path, 0, count);
    this.#dispatch.settle(count);
  }

  /** Drops the packets in which the handler has trapped: up to a burst, as a trap outside this mode does. */
  #dropFailed({ rx }: AttachedPath, most: number): number {
    const burst = this.#burst;
    const count = rx.receive(burst, Math.min(most, BURST));
    burst.open(count);
    burst.verdict.fill(FAILED, 0, count);
    this.#dispatch.settle(count);
    rx.release();
    return count;
  }
}

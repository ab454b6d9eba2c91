/**
 * Which of two attached paths is handled first, so that a flow that the host moves from one to the other does not
 * overtake itself. The host moves it at a moment that nobody here can see.
 *
 * The path that carries the traffic is the older, since the next move is away from it. A round looks at the newer
 * path's ring first, then handles the older path's packets, and only then those that were already in the newer one:
 * whatever is handled of the newer path was there before the older one was found empty.
 *
 * A path carries the traffic once it has brought {@link SETTLED} packets and the other one none. Packets are counted
 * and not rounds: a worker that is short of CPU time makes few rounds, perhaps one from one move to the next.
 *
 * Where other workers hand over what came to them by the newer path, that waits as well until the older one is empty.
 *
 * Kept: with at least that many packets of the new path handled between two moves, no flow is handled out of the order
 * in which the paths have delivered it to one worker; nor one that comes to this worker by the older path and to another
 * by the newer. The other way round, what another worker has not handed over yet cannot be waited for.
 */
import { BURST, IN_PLACE_BURST, type PathId } from '../memory/layout.ts';
import type { PathQueue, Receiver } from '../paths/path.ts';

/**
 * Packets of the older path in one round, at most. A round looks at ten words of other threads; with one burst in each
 * this takes a fifth of the time of packets that are in memory.
 */
const ROUND = IN_PLACE_BURST;

/** Packets of the older path after which the newer one gets its turn all the same: a full ring. */
const PATIENCE = 32 * BURST;

/** Rounds after which what another worker has handed over gets its turn all the same. */
const PATIENT_ROUNDS = 256;

/**
 * Packets in a row that make the newer path the older. Fewer than a busy worker finds at once, and more than the
 * broadcasts and first packets of flows that come by the synthetic path while a VF carries the others.
 */
export const SETTLED = 16;

/** Handles up to `most` packets of a path and returns how many; -1 if there is no room to send them on. */
export type Pump<P> = (path: P, most: number) => number;

interface Polled {
  readonly path: PathId;
  readonly rx: Pick<Receiver, 'ready' | 'isEmpty'>;
}

/** One object for each (port, worker). Belongs to the worker thread. */
export class PathOrder<P extends Polled = PathQueue> {
  readonly #pump: Pump<P>;
  #older: P | undefined;
  #newer: P | undefined;
  /** Packets of the older path handled while the newer one had some. */
  #skipped = 0;
  /** Packets of the newer path handled since the older one brought its last. */
  #brought = 0;
  /** Rounds in which something that was handed over had to wait. */
  #held = 0;

  constructor(pump: Pump<P>) {
    this.#pump = pump;
  }

  /** The attached paths, after every change of them. Two that stay keep their order; a VF that has come is the newer. */
  arrange(synthetic: P | undefined, vf: P | undefined): void {
    if (synthetic !== undefined && vf !== undefined) {
      if (this.#older === vf && this.#newer === synthetic) return;
      if (this.#older === synthetic && this.#newer === vf) return;
    }
    this.#older = synthetic ?? vf;
    this.#newer = synthetic === undefined ? undefined : vf;
    this.#skipped = this.#brought = 0;
  }

  /** One round. Returns the packets handled. */
  poll(): number {
    const older = this.#older;
    const newer = this.#newer;
    if (older === undefined) return 0;
    const waiting = newer === undefined ? 0 : newer.rx.ready(BURST);
    const pumped = this.#pump(older, ROUND);
    let handled = Math.max(pumped, 0);
    for (let more = pumped; more >= BURST && handled < ROUND; ) {
      more = this.#pump(older, ROUND - handled);
      handled += Math.max(more, 0);
    }
    if (handled > 0) this.#brought = 0;
    if (waiting === 0) return handled;
    // NB: less than a burst does not mean that the older path is empty: a tap hands over in portions, and
    // what does not fit on the way out stays where it is.
    this.#skipped += handled;
    const empty = isEmpty(older);
    if (!empty && this.#skipped <= PATIENCE) return handled;
    this.#skipped = 0;
    const brought = Math.max(this.#pump(newer!, waiting), 0);
    if (empty) this.#brought += brought;
    if (this.#brought >= SETTLED) this.#swap();
    return handled + brought;
  }

  /** Whether what another worker has handed over, which came by that path, is to wait for this round. */
  holds(path: PathId): boolean {
    const older = this.#older;
    if (older === undefined || path !== this.#newer?.path) return false;
    if (isEmpty(older) || ++this.#held > PATIENT_ROUNDS) {
      this.#held = 0;
      return false;
    }
    return true;
  }

  /** The newer path carries the traffic: the next move is away from it. */
  #swap(): void {
    const older = this.#older;
    this.#older = this.#newer;
    this.#newer = older;
    this.#brought = 0;
  }
}

const isEmpty = ({ rx }: Polled): boolean => (rx.isEmpty === undefined ? rx.ready(1) === 0 : rx.isEmpty());

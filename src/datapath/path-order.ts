/**
 * The order in which two attached paths are polled, so that a flow that the host moves from one to the other is not
 * reordered. The moment of a move is unknown here.
 *
 * The active path carries the traffic, so the next move is away from it. A round reads the joining path's ring first, then
 * handles the active path's packets, and then only those that were already in the joining one: every packet handled of
 * the joining path was there before the active one was found empty.
 *
 * The joining path becomes the active one once it has brought {@link SETTLED} packets and the other one none. Packets are
 * counted and not rounds: a worker that is short of CPU time makes few rounds, perhaps one between two moves.
 *
 * Packets that other workers received by the joining path and hand over also wait until the active one is empty.
 *
 * Guarantee: with at least that many packets of the new path handled between two moves, the packets of a flow are handled
 * in the order in which the paths have delivered them to one worker; and also if they come to this worker by the active path
 * and to another by the joining path. In the opposite case the order may change: packets that another worker has not handed
 * over yet are unknown here.
 */
import { BURST, IN_PLACE_BURST, type PathId } from '../memory/layout.ts';
import type { PathQueue, Receiver } from '../paths/path.ts';

/**
 * The most packets of the active path in one round. A round reads ten words of other threads, which takes a fifth of the
 * time of packets in memory if each round handles one burst.
 */
const POLL_BUDGET = IN_PLACE_BURST;

/** Packets of the active path after which the joining one is polled in any case: a full ring. */
const STARVATION_LIMIT = 32 * BURST;

/** Rounds after which handed-over packets are handled in any case. */
const HANDOFF_ROUNDS = 256;

/**
 * Packets in a row that make the joining path the active path: fewer than a busy worker finds at once, and more than the
 * broadcasts and first packets of flows that come by the synthetic path while a VF carries the rest.
 */
export const SETTLED = 16;

/** Handles up to `most` packets of a path and returns how many; -1 if there is no room to transmit them. */
export type PollPath<P> = (path: P, most: number) => number;

interface Polled {
  readonly path: PathId;
  readonly rx: Pick<Receiver, 'ready'>;
}

/** One object for each (port, worker). Belongs to the worker thread. */
export class PathOrder<P extends Polled = PathQueue> {
  readonly #pollPath: PollPath<P>;
  #active: P | undefined;
  #joining: P | undefined;
  /** Packets of the active path handled while the joining one also had some. */
  #skipped = 0;
  /** Packets of the joining path handled since the active one brought its last. */
  #brought = 0;
  /** Rounds in which handed-over packets had to wait. */
  #held = 0;

  constructor(pollPath: PollPath<P>) {
    this.#pollPath = pollPath;
  }

  /** The attached paths have changed. Two that stay keep their order; a new VF is the joining path. */
  arrange(synthetic: P | undefined, vf: P | undefined): void {
    if (synthetic !== undefined && vf !== undefined) {
      if (this.#active === vf && this.#joining === synthetic) return;
      if (this.#active === synthetic && this.#joining === vf) return;
    }
    this.#active = synthetic ?? vf;
    this.#joining = synthetic === undefined ? undefined : vf;
    this.#skipped = this.#brought = 0;
  }

  /** One round. Returns the packets handled. */
  poll(): number {
    const active = this.#active;
    const joining = this.#joining;
    if (active === undefined) return 0;
    const waiting = joining === undefined ? 0 : joining.rx.ready(BURST);
    const polled = this.#pollPath(active, POLL_BUDGET);
    let handled = Math.max(polled, 0);
    for (let more = polled; more >= BURST && handled < POLL_BUDGET; ) {
      more = this.#pollPath(active, POLL_BUDGET - handled);
      handled += Math.max(more, 0);
    }
    if (handled > 0) this.#brought = 0;
    if (waiting === 0) return handled;
    // NB: less than a burst does not mean that the active path is empty: a tap delivers in portions, and packets stay in
    // the ring while there is no room to transmit them.
    this.#skipped += handled;
    const empty = isEmpty(active);
    if (!empty && this.#skipped <= STARVATION_LIMIT) return handled;
    this.#skipped = 0;
    const brought = Math.max(this.#pollPath(joining!, waiting), 0);
    if (empty) this.#brought += brought;
    if (this.#brought >= SETTLED) this.#swap();
    return handled + brought;
  }

  /** Whether packets that another worker received by that path and handed over wait in this round. */
  holds(path: PathId): boolean {
    const active = this.#active;
    if (active === undefined || path !== this.#joining?.path) return false;
    if (isEmpty(active) || ++this.#held > HANDOFF_ROUNDS) {
      this.#held = 0;
      return false;
    }
    return true;
  }

  /** The joining path carries the traffic: the next move is away from it. */
  #swap(): void {
    const active = this.#active;
    this.#active = this.#joining;
    this.#joining = active;
    this.#brought = 0;
  }
}

const isEmpty = ({ rx }: Polled): boolean => rx.ready(1, true) === 0;

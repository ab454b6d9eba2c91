/**
 * The coordinator's end of a port's {@link Ownership}, which the supervisor holds: it gives the orders, and learns when the
 * workers have carried them out. Coordinator thread only.
 */
import { ownerAttached, ownerPath, pathBit } from '../memory/bit-fields.ts';
import type { Reason } from '../memory/journal.ts';
import type { PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { PathOrder } from './path-orders.ts';

/** Sends an order to the supervisor. Resolves when the workers have carried out every order so far. */
export type SendOrder = (order: PathOrder) => Promise<void>;

export class OwnershipClient {
  readonly #words: Int32Array;
  /** Of the first queue: every order is for all queues. */
  readonly #ownerAt: number;
  readonly #send: SendOrder;
  /** As ordered, whether carried out yet or not. */
  #attached: number;

  constructor(memory: Memory, port: number, send: SendOrder) {
    this.#words = memory.words;
    this.#ownerAt = memory.queue(port, 0).at('owner');
    this.#send = send;
    this.#attached = ownerAttached(this.#word);
  }

  /** The path that the workers are to transmit on, by the last order that the supervisor has given. */
  get owner(): PathId {
    return ownerPath(this.#word);
  }

  /** Whether the workers are to poll the path, by the orders of this coordinator and the last one. */
  isAttached(path: PathId): boolean {
    return (this.#attached & pathBit(path)) !== 0;
  }

  /** Has the workers poll one more path. @param key of its endpoint */
  attach(path: PathId, key: number): Promise<void> {
    this.#attached |= pathBit(path);
    return this.#send({ kind: 'attach', path, key });
  }

  /** The path is armed: the supervisor leaves it when it loses its link. */
  ready(path: PathId): void {
    void this.#send({ kind: 'ready', path });
  }

  /** Has the workers transmit on `path`, if they still poll it. */
  setOwner(path: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    return this.#send({ kind: 'own', path, reason, detectedNanos });
  }

  /** Has the workers leave a path, and transmit on the other one if they can. */
  detach(path: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    this.left(path);
    return this.#send({ kind: 'detach', path, reason, detectedNanos });
  }

  /** The supervisor has ordered the workers off the path by itself. */
  left(path: PathId): void {
    this.#attached &= ~pathBit(path);
  }

  /** Has the workers reclaim the frames of a path whose kernel objects are closed. */
  reclaim(path: PathId): Promise<void> {
    return this.#send({ kind: 'reclaim', path });
  }

  /** Resolves when the workers have carried out every order so far. */
  settled(): Promise<void> {
    return this.#send({ kind: 'settle' });
  }

  get #word(): number {
    return Atomics.load(this.#words, this.#ownerAt);
  }
}

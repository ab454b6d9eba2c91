/**
 * The lease of a queue: which thread may touch it. One word in shared memory, so that two never do.
 *
 * Workers have numbers, from 1 up. The supervisor grants the lease to one by storing its number; that worker takes it by
 * storing the number negated. A grant can be revoked as long as it is not taken: one compare-exchange wins. A worker that
 * has the lease looks at the word now and then and leaves the queue, between two rounds, when it was taken from it.
 */
import type { Memory } from '../memory/shared.ts';

const leaseOf = ({ workers }: Memory, queue: number): number => workers[queue]!.at('lease');

/** Supervisor: `worker` may serve the queue from now on, and no other. */
export function grantLease(memory: Memory, queue: number, worker: number): void {
  const at = leaseOf(memory, queue);
  Atomics.store(memory.words, at, worker);
  Atomics.notify(memory.words, at);
}

/** Supervisor: false if the worker has taken the lease already, and serves. */
export function revokeLease(memory: Memory, queue: number, worker: number): boolean {
  const at = leaseOf(memory, queue);
  Atomics.compareExchange(memory.words, at, worker, 0);
  return Atomics.load(memory.words, at) !== -worker;
}

/** Supervisor: has the worker that serves leave the queue; wake it then. */
export function endLease(memory: Memory, queue: number): void {
  Atomics.store(memory.words, leaseOf(memory, queue), 0);
}

/** Worker: waits until the lease is granted, and takes it. The thread is ended if it never is. */
export function takeLease(memory: Memory, queue: number, worker: number): void {
  const at = leaseOf(memory, queue);
  for (;;) {
    const found = Atomics.compareExchange(memory.words, at, worker, -worker);
    if (found === worker) return;
    Atomics.wait(memory.words, at, found);
  }
}

/** Worker: whether it may still serve the queue. */
export function hasLease(memory: Memory, queue: number, worker: number): boolean {
  return Atomics.load(memory.words, leaseOf(memory, queue)) === -worker;
}

/**
 * The lease of a queue: which thread may serve it. One word in shared memory, so that two threads never do.
 *
 * Workers have numbers, from 1 up. The supervisor grants the lease by storing a worker's number; that worker takes it by
 * storing the number negated. A grant can be revoked until it is taken: one compare-exchange wins. A worker that has the
 * lease reads the word now and then, and leaves the queue between two rounds when it no longer has it.
 */
import type { Memory } from '../memory/shared.ts';

const leaseOf = ({ workers }: Memory, queue: number): number => workers[queue]!.at('lease');

/** Supervisor: from now on only `worker` may serve the queue. */
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

/** Supervisor: makes the worker leave the queue; the caller wakes it. */
export function endLease(memory: Memory, queue: number): void {
  Atomics.store(memory.words, leaseOf(memory, queue), 0);
}

/** Worker: waits until the lease is granted, and takes it. A thread that never gets it is ended. */
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
